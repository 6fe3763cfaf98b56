#include "io/json_tree.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"

#define NUMBER_MAX	64	/* json_check() takes some 50 bytes at most */

struct reader {
	const char	*at, *end;
	bool		 twice;
};

static json_object *value(struct reader *);
static json_object *object(struct reader *);
static json_object *array(struct reader *);
static json_object *string(struct reader *);
static json_object *number(struct reader *);
static json_object *word(struct reader *, size_t, json_object *);
static void	 text(struct reader *, struct buf *);
static void	 escape(struct reader *, struct buf *);
static uint32_t	 unit(struct reader *);
static void	 put_character(struct buf *, uint32_t);
static char	 next(struct reader *);

json_object *
json_tree(const char *s, size_t n, bool *twice)
{
	struct reader	 r = { .at = s, .end = s + n };
	json_object	*tree = value(&r);

	*twice = r.twice;
	return tree;
}

static json_object *
value(struct reader *r)
{
	switch (next(r)) {
	case '{':
		return object(r);
	case '[':
		return array(r);
	case '"':
		return string(r);
	case 't':
		return word(r, 4, json_object_new_boolean(1));
	case 'f':
		return word(r, 5, json_object_new_boolean(0));
	case 'n':
		return word(r, 4, NULL);
	default:
		return number(r);
	}
}

static json_object *
object(struct reader *r)
{
	json_object	*o = json_object_new_object();
	struct buf	 key = { 0 };
	int		 n = 0;

	r->at++;
	while (next(r) != '}') {
		r->at += *r->at == ',';
		(void)next(r);
		buf_clear(&key);
		text(r, &key);
		(void)next(r);
		r->at++;		/* the colon */
		json_object_object_add(o, buf_text(&key), value(r));
		n++;
	}
	r->at++;
	r->twice |= json_object_object_length(o) < n;
	buf_free(&key);
	return o;
}

static json_object *
array(struct reader *r)
{
	json_object	*o = json_object_new_array();

	r->at++;
	while (next(r) != ']') {
		r->at += *r->at == ',';
		json_object_array_add(o, value(r));
	}
	r->at++;
	return o;
}

static json_object *
string(struct reader *r)
{
	size_t		 n = strcspn(r->at + 1, "\"\\");
	struct buf	 b = { 0 };
	json_object	*o;

	/* Most have no escapes. */
	if (r->at[1 + n] == '"') {
		o = json_object_new_string_len(r->at + 1, (int)n);
		r->at += n + 2;
		return o;
	}
	text(r, &b);
	o = json_object_new_string_len(buf_text(&b), (int)b.n);
	buf_free(&b);
	return o;
}

static json_object *
number(struct reader *r)
{
	char			 s[NUMBER_MAX];
	long long		 v;
	unsigned long long	 u;
	size_t			 n = 0;

	/* The text may end here, and need not be followed by a NUL. */
	while (n < sizeof s - 1 && r->at < r->end && *r->at != '\0' && strchr("+-.0123456789eE", *r->at) != NULL)
		s[n++] = *r->at++;
	s[n] = '\0';
	if (strpbrk(s, ".eE") == NULL) {
		errno = 0;
		if ((v = strtoll(s, NULL, 10)), errno == 0)
			return json_object_new_int64(v);
		errno = 0;
		if (s[0] != '-' && ((u = strtoull(s, NULL, 10)), errno == 0))
			return json_object_new_uint64(u);
	}
	return json_object_new_double_s(strtod(s, NULL), s);
}

static json_object *
word(struct reader *r, size_t n, json_object *o)
{
	r->at += n;
	return o;
}

/* What stands between two quotes, added to b. */
static void
text(struct reader *r, struct buf *b)
{
	r->at++;
	for (;;) {
		size_t	 n = strcspn(r->at, "\"\\");

		buf_add(b, r->at, n);
		r->at += n + 1;
		if (r->at[-1] == '"')
			return;
		escape(r, b);
	}
}

/* RFC 8259 section 7, after the backslash. */
static void
escape(struct reader *r, struct buf *b)
{
	static const char	 from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char			 c = *r->at++;
	uint32_t		 u;

	if (c != 'u') {
		buf_char(b, to[strchr(from, c) - from]);
		return;
	}
	u = unit(r);
	if (u >= 0xd800 && u < 0xdc00) {
		r->at += 2;		/* the other half's \u */
		u = 0x10000 + ((u - 0xd800) << 10) + (unit(r) - 0xdc00);
	}
	put_character(b, u);
}

static uint32_t
unit(struct reader *r)
{
	char	 hex[5] = { r->at[0], r->at[1], r->at[2], r->at[3], '\0' };

	r->at += 4;
	return (uint32_t)strtoul(hex, NULL, 16);
}

static void
put_character(struct buf *b, uint32_t c)
{
	char	 bytes[4];

	buf_add(b, bytes, utf8_write(bytes, c));
}

/* The byte that begins the next token. */
static char
next(struct reader *r)
{
	while (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')
		r->at++;
	return *r->at;
}
