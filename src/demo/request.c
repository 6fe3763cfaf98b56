#include "demo/request.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

static int	 line_parse(struct request *, const char *, const char *);
static int	 field_apply(struct request *, struct slice, struct slice);
static bool	 list_has(struct slice, const char *);
static bool	 length_parse(struct slice, size_t *);
static int	 chunk_size(const char **, const char *, size_t *);

bool
slice_is(struct slice s, const char *text)
{
	return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

bool
slice_is_word(struct slice s, const char *text)
{
	return s.n == strlen(text) && strncasecmp(s.p, text, s.n) == 0;
}

bool
slice_starts(struct slice s, const char *text)
{
	return s.n >= strlen(text) && memcmp(s.p, text, strlen(text)) == 0;
}

struct slice
slice_of(const char *text)
{
	return (struct slice){ text, strlen(text) };
}

int
request_parse(const char *p, size_t n, struct request *r)
{
	const char	*end = n < 4 ? NULL : memmem(p, n, "\r\n\r\n", 4);
	const char	*line;
	struct slice	 at, name, value;
	int		 status;

	if (end == NULL)
		return n >= REQUEST_HEAD_MAX ? -431 : 0;
	*r = (struct request){ .head = (size_t)(end - p) + 4 };
	line = memchr(p, '\n', r->head);
	if (r->head > REQUEST_HEAD_MAX)
		return -431;
	if (memchr(p, '\0', r->head) != NULL || line_parse(r, p, line) < 0)
		return -400;

	r->fields = (struct slice){ line + 1, (size_t)(end + 2 - (line + 1)) };
	for (at = r->fields; request_field(&at, &name, &value);)
		if ((status = field_apply(r, name, value)) < 0)
			return status;
	/* Both framings at once are how requests are smuggled (RFC 9112 section 6.1). */
	if (r->chunked && r->length > 0)
		return -400;
	return 1;
}

/* "POST /v1/chat/completions HTTP/1.1" */
static int
line_parse(struct request *r, const char *p, const char *end)
{
	const char	*space = memchr(p, ' ', (size_t)(end - p));
	const char	*second;

	if (space == NULL || space == p)
		return -1;
	second = memchr(space + 1, ' ', (size_t)(end - space - 1));
	if (second == NULL || end - second < 10 || memcmp(second, " HTTP/1.", 8) != 0)
		return -1;
	r->method = (struct slice){ p, (size_t)(space - p) };
	r->target = (struct slice){ space + 1, (size_t)(second - space - 1) };
	r->close = second[8] == '0';
	return 0;
}

bool
request_field(struct slice *at, struct slice *name, struct slice *value)
{
	const char	*end = at->n == 0 ? NULL : memchr(at->p, '\n', at->n);
	const char	*colon;

	if (end == NULL)
		return false;
	colon = memchr(at->p, ':', (size_t)(end - at->p));
	*name = (struct slice){ at->p, colon == NULL ? 0 : (size_t)(colon - at->p) };
	*value = (struct slice){ colon == NULL ? at->p : colon + 1, 0 };
	value->n = (size_t)(end - value->p);
	while (value->n > 0 && strchr(" \t", *value->p) != NULL) {
		value->p++;
		value->n--;
	}
	while (value->n > 0 && strchr(" \t\r", value->p[value->n - 1]) != NULL)
		value->n--;
	at->n -= (size_t)(end + 1 - at->p);
	at->p = end + 1;
	return true;
}

static int
field_apply(struct request *r, struct slice name, struct slice value)
{
	if (name.n == 0)
		return -400;
	if (slice_is_word(name, "content-length"))
		return !length_parse(value, &r->length) ? -400 :
		    r->length > REQUEST_BODY_MAX ? -413 : 0;
	if (slice_is_word(name, "transfer-encoding")) {
		r->chunked = slice_is_word(value, "chunked");
		return r->chunked ? 0 : -501;
	}
	if (slice_is_word(name, "connection")) {
		if (list_has(value, "close"))
			r->close = true;
		else if (list_has(value, "keep-alive"))
			r->close = false;
	} else if (slice_is_word(name, "expect"))
		r->expects = slice_is_word(value, "100-continue");
	return 0;
}

static bool
list_has(struct slice list, const char *word)
{
	size_t	 n = strlen(word);

	for (size_t i = 0; i + n <= list.n; i++)
		if (strncasecmp(list.p + i, word, n) == 0 &&
		    (i == 0 || strchr(" ,\t", list.p[i - 1]) != NULL) &&
		    (i + n == list.n || strchr(" ,\t", list.p[i + n]) != NULL))
			return true;
	return false;
}

static bool
length_parse(struct slice s, size_t *length)
{
	*length = 0;
	if (s.n == 0 || s.n > 12)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		*length = *length * 10 + (size_t)(s.p[i] - '0');
	}
	return true;
}

int
request_body(const struct request *r, char *p, size_t n, struct slice *body, size_t *used)
{
	const char	*at = p + r->head, *end = p + n;
	size_t		 total = 0, size;
	int		 got;

	if (!r->chunked) {
		*body = (struct slice){ at, r->length };
		*used = r->head + r->length;
		return n >= *used;
	}

	/* Measured first, moved after: a chunk that is still missing must find the bytes as they came. */
	while ((got = chunk_size(&at, end, &size)) > 0 && size > 0) {
		if ((total += size) > REQUEST_BODY_MAX)
			return -413;
		if ((size_t)(end - at) < size + 2)
			return 0;
		if (memcmp(at + size, "\r\n", 2) != 0)
			return -400;
		at += size + 2;
	}
	if (got <= 0)
		return got;
	if (end - at < 2)
		return 0;
	/* Trailers are of no use to anyone here. */
	if (memcmp(at, "\r\n", 2) != 0)
		return -400;
	*used = (size_t)(at + 2 - p);

	*body = (struct slice){ p + r->head, 0 };
	for (at = p + r->head; chunk_size(&at, end, &size) > 0 && size > 0; at += size + 2) {
		memmove(p + r->head + body->n, at, size);
		body->n += size;
	}
	return 1;
}

/* Reads "1f;ext\r\n"; 1, 0 when the line is not whole, -400. */
static int
chunk_size(const char **at, const char *end, size_t *size)
{
	const char	*nl = memchr(*at, '\n', (size_t)(end - *at));
	const char	*p = *at;

	if (nl == NULL)
		return end - p > 256 ? -400 : 0;
	for (*size = 0; p < nl && p - *at < 8; p++) {
		int	 c = *p | 0x20;

		if (*p >= '0' && *p <= '9')
			*size = *size * 16 + (size_t)(*p - '0');
		else if (c >= 'a' && c <= 'f')
			*size = *size * 16 + (size_t)(c - 'a' + 10);
		else
			break;
	}
	if (p == *at || strchr(";\r \t", *p) == NULL)
		return -400;
	*at = nl + 1;
	return 1;
}
