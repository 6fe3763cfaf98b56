#include "io/json_tree.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/json_walk.h"

#define NUMBER_MAX	64	/* json_check() takes some 50 bytes at most */
#define ARRAY_FIRST	4	/* json-c would begin with 32, and most are short */

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
	switch (json_walk_next(&r->at)) {
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
	while (json_walk_next(&r->at) != '}') {
		r->at += *r->at == ',';
		(void)json_walk_next(&r->at);
		buf_clear(&key);
		json_walk_string(&r->at, &key);
		(void)json_walk_next(&r->at);
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
	json_object	*o = json_object_new_array_ext(ARRAY_FIRST);

	r->at++;
	while (json_walk_next(&r->at) != ']') {
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
	json_walk_string(&r->at, &b);
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
