#include "io/record.h"

enum { RECORD_BEGIN = 1, RECORD_PARAMS = 4, RECORD_STDIN = 5 };

static bool	 header_pass(struct record *);
static size_t	 content_pass(struct record *, const unsigned char *, size_t);
static bool	 pairs_pass(struct record *, const unsigned char *, size_t);

bool
record_pass(struct record *r, const void *data, size_t n)
{
	const unsigned char	*p = data;
	size_t			 step;

	while (n > 0) {
		if (r->content > 0) {
			if ((step = content_pass(r, p, n)) == 0)
				return false;
		} else if (r->padding > 0) {
			step = n < r->padding ? n : r->padding;
			r->padding -= (unsigned)step;
		} else {
			step = 1;
			r->beyond = r->ended;
			r->head[r->nhead++] = *p;
			if (r->nhead == sizeof r->head && !header_pass(r))
				return false;
		}
		p += step;
		n -= step;
	}
	return true;
}

bool
record_is_over(const struct record *r)
{
	return r->ended && !r->beyond && r->padding == 0;
}

size_t
record_rest(const struct record *r)
{
	if (r->content > 0 || r->padding > 0)
		return r->content + r->padding;
	return sizeof r->head - r->nhead;
}

/* Section 3.3: version, type, request id, content length, padding length, reserved. */
static bool
header_pass(struct record *r)
{
	unsigned	 id = (unsigned)r->head[2] << 8 | r->head[3];

	r->nhead = 0;
	r->content = (unsigned)r->head[4] << 8 | r->head[5];
	r->padding = r->head[6];

	/*
	 * Id 0 is a management record.  No web server in use sends one, and
	 * libfcgi's answer to repeated names would run over its buffer.
	 */
	if (id == 0)
		return false;
	/*
	 * Where libfcgi turns from one stream to the next it forgets that padding is to come, and would read it as
	 * records that have not been looked at here.  An empty record and one of 8 bytes need none.
	 */
	if (r->padding > 0 && (r->head[1] == RECORD_BEGIN || (r->head[1] == RECORD_PARAMS && r->content == 0)))
		return false;
	if (r->head[1] == RECORD_BEGIN && !r->begun) {
		r->begun = true;
		r->id = id;
	}
	if (r->head[1] == RECORD_STDIN && id == r->id && r->content == 0)
		r->ended = true;
	return true;
}

/* The bytes of content taken; 0: not acceptable. */
static size_t
content_pass(struct record *r, const unsigned char *p, size_t n)
{
	unsigned	 id = (unsigned)r->head[2] << 8 | r->head[3];

	if (n > r->content)
		n = r->content;
	r->content -= (unsigned)n;
	if (r->head[1] == RECORD_PARAMS && id == r->id && !pairs_pass(r, p, n))
		return 0;
	return n;
}

/* Section 3.4: each length is one byte, or four with the highest bit set; a pair may be spread over records. */
static bool
pairs_pass(struct record *r, const unsigned char *p, size_t n)
{
	while (n > 0) {
		if (r->skip > 0) {
			size_t	 step = n < r->skip ? n : (size_t)r->skip;

			r->skip -= step;
			p += step;
			n -= step;
			continue;
		}
		if (r->more > 0) {
			r->length = r->length << 8 | *p;
			r->more--;
		} else {
			r->more = (*p & 0x80) != 0 ? 3 : 0;
			r->length = *p & 0x7f;
		}
		p++;
		n--;
		if (r->more > 0)
			continue;

		/* A length is whole: refused before libfcgi allocates it. */
		r->bytes += r->length;
		if (r->bytes > RECORD_PARAMS_BYTES)
			return false;
		if (!r->named) {
			/* The value's length comes before the name's bytes. */
			r->named = true;
			r->name = r->length;
			if (++r->pairs > RECORD_PARAMS_MAX)
				return false;
			continue;
		}
		r->named = false;
		r->skip = (uint64_t)r->name + r->length;
	}
	return true;
}
