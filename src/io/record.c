#include "io/record.h"

enum { RECORD_BEGIN = 1, RECORD_PARAMS = 4, RECORD_STDIN = 5 };

#define VERSION		1
#define BEGIN_BYTES	8

static bool	 header_pass(struct record *);
static bool	 is_ours(const struct record *, unsigned id);
static bool	 libfcgi_agrees(const struct record *);
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

/*
 * Section 3.3: version, type, request id, content length, padding length, reserved.
 *
 * Id 0 is a management record.  No web server in use sends one, and libfcgi's answer to repeated names would run
 * over its buffer.
 */
static bool
header_pass(struct record *r)
{
	unsigned	 id = (unsigned)r->head[2] << 8 | r->head[3];

	r->nhead = 0;
	r->content = (unsigned)r->head[4] << 8 | r->head[5];
	r->padding = r->head[6];
	if (id == 0 || !libfcgi_agrees(r))
		return false;
	if (!is_ours(r, id) && (r->stray += sizeof r->head + r->content + r->padding) > RECORD_STRAY_BYTES)
		return false;
	if (r->head[1] == RECORD_BEGIN && !r->begun) {
		r->begun = true;
		r->id = id;
	}
	if (r->head[1] == RECORD_PARAMS && id == r->id && r->content == 0)
		r->known = true;
	if (r->head[1] == RECORD_STDIN && id == r->id && r->content == 0)
		r->ended = true;
	return true;
}

/*
 * Will libfcgi see the same records from here on?  It calls another version, or a beginning of another length, an
 * error, by which it takes the parameters for ended, and their rest for records; and where it turns from one
 * stream to the next it forgets the padding that is to come.  An empty record and one of 8 bytes need none.
 */
static bool
libfcgi_agrees(const struct record *r)
{
	if (r->head[0] != VERSION)
		return false;
	if (r->head[1] == RECORD_BEGIN)
		return r->content == BEGIN_BYTES && r->padding == 0;
	return r->head[1] != RECORD_PARAMS || r->content > 0 || r->padding == 0;
}

/* The next piece of the request: its beginning, then parameters, then the body. */
static bool
is_ours(const struct record *r, unsigned id)
{
	if (!r->begun)
		return r->head[1] == RECORD_BEGIN;
	return id == r->id && !r->ended && r->head[1] == (r->known ? RECORD_STDIN : RECORD_PARAMS);
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
			return r->much = true, false;
		if (!r->named) {
			/* The value's length comes before the name's bytes. */
			r->named = true;
			r->name = r->length;
			if (++r->pairs > RECORD_PARAMS_MAX)
				return r->much = true, false;
			continue;
		}
		r->named = false;
		r->skip = (uint64_t)r->name + r->length;
	}
	return true;
}
