#include "io/sse.h"

#include <assert.h>
#include <string.h>

#define BOM	"\xef\xbb\xbf"

static size_t	 line_part(const char *, size_t);
static bool	 line_done(struct sse *);
static void	 field(struct sse *, const char *name, size_t, const char *value, size_t);
static bool	 dispatch(struct sse *);
static void	 forget(struct sse *);

void
sse_open(struct sse *s, size_t max)
{
	memset(s, 0, sizeof *s);
	s->max = max;
	s->retry_ms = -1;
}

void
sse_restart(struct sse *s)
{
	forget(s);
	buf_clear(&s->line);
	s->cr = s->begun = false;
}

void
sse_close(struct sse *s)
{
	buf_free(&s->line);
	buf_free(&s->data);
	buf_free(&s->event);
	buf_free(&s->id);
}

int
sse_take(struct sse *s, const char **p, size_t *n)
{
	if (s->taken)
		forget(s);
	while (*n > 0) {
		size_t	 part = line_part(*p, *n);
		char	 end;

		if (part > 0) {
			if (part > s->max || s->line.n + s->data.n > s->max - part)
				return -1;
			buf_add(&s->line, *p, part);
			s->cr = false;
			*p += part;
			*n -= part;
			continue;
		}

		/* CR, LF or CRLF end a line; the two bytes may come in two pieces. */
		end = **p;
		++*p;
		--*n;
		if (end == '\n' && s->cr) {
			s->cr = false;
			continue;
		}
		s->cr = end == '\r';
		if (line_done(s))
			return 1;
	}
	return 0;
}

/* Bytes before the next CR or LF. */
static size_t
line_part(const char *p, size_t n)
{
	const char	*lf = memchr(p, '\n', n), *cr;

	n = lf != NULL ? (size_t)(lf - p) : n;
	cr = memchr(p, '\r', n);
	return cr != NULL ? (size_t)(cr - p) : n;
}

/* HTML section 9.2.6, "interpreting an event stream".  Whether an event is complete. */
static bool
line_done(struct sse *s)
{
	const char	*line, *colon, *value;
	size_t		 n, name;

	if (!s->begun && s->line.n >= 3 && memcmp(s->line.p, BOM, 3) == 0)
		buf_drop(&s->line, 3);
	s->begun = true;
	line = buf_text(&s->line);
	n = s->line.n;
	if (n == 0)
		return dispatch(s);

	colon = memchr(line, ':', n);
	name = colon != NULL ? (size_t)(colon - line) : n;
	value = colon != NULL ? colon + 1 : line + n;
	if (value < line + n && *value == ' ')
		value++;
	if (name > 0)			/* else a comment */
		field(s, line, name, value, (size_t)(line + n - value));
	buf_clear(&s->line);
	return false;
}

static void
field(struct sse *s, const char *name, size_t n, const char *value, size_t size)
{
	if (n == 4 && memcmp(name, "data", 4) == 0) {
		if (s->has_data)
			buf_char(&s->data, '\n');
		buf_add(&s->data, value, size);
		s->has_data = true;
	} else if (n == 5 && memcmp(name, "event", 5) == 0) {
		buf_clear(&s->event);
		buf_add(&s->event, value, size);
	} else if (n == 2 && memcmp(name, "id", 2) == 0 && memchr(value, '\0', size) == NULL) {
		buf_clear(&s->id);
		buf_add(&s->id, value, size);
	} else if (n == 5 && memcmp(name, "retry", 5) == 0 && size > 0 && size < 10) {
		int64_t	 ms = 0;

		/* Digits alone, or it is ignored. */
		for (size_t i = 0; i < size && ms >= 0; i++)
			ms = value[i] >= '0' && value[i] <= '9' ? ms * 10 + value[i] - '0' : -1;
		s->retry_ms = ms >= 0 ? ms : s->retry_ms;
	}
}

/* An event without any data line is none. */
static bool
dispatch(struct sse *s)
{
	if (!s->has_data)
		forget(s);
	s->taken = s->has_data;
	return s->has_data;
}

/* The id stays: it is the last one seen. */
static void
forget(struct sse *s)
{
	buf_clear(&s->data);
	buf_clear(&s->event);
	s->has_data = s->taken = false;
}

static void
put_line(struct buf *b, const char *name, const char *value)
{
	buf_str(b, name);
	buf_str(b, value);
	buf_char(b, '\n');
}

void
sse_put(struct buf *b, const char *event, const char *id, const char *json)
{
	/* A line break would begin a field of somebody else's making. */
	assert(strpbrk(json, "\r\n") == NULL);
	if (event != NULL)
		put_line(b, "event: ", event);
	if (id != NULL)
		put_line(b, "id: ", id);
	put_line(b, "data: ", json);
	buf_char(b, '\n');
}

void
sse_put_comment(struct buf *b, const char *text)
{
	buf_printf(b, ": %s\n\n", text);
}
