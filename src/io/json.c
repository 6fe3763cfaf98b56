#include "io/json.h"

#include <limits.h>
#include <string.h>

#include <json-c/json_tokener.h>
#include <json-c/linkhash.h>

#include "base/arena.h"
#include "io/json_check.h"

static const char *widen(struct arena *, const char *, size_t *, const struct buf *);
static json_object *parse(const char *, size_t);
static size_t	 count_members(json_object *);
static void	 put(void *);
static enum json_got find(json_object *, const char *, json_type, json_object **);

json_object *
json_read(struct arena *a, const char *s, size_t n, const char **why)
{
	struct buf		 wide = { 0 };
	struct json_check	 c = { .s = s, .n = n, .wide = &wide };
	json_object		*tree = NULL;

	if (!json_check(&c)) {
		if (why != NULL)
			*why = arena_printf(a, "%s at byte %zu", c.why, c.at);
		buf_free(&wide);
		return NULL;
	}
	s = widen(a, s, &n, &wide);
	buf_free(&wide);
	if ((tree = parse(s, n)) != NULL)
		arena_defer(a, put, tree);

	/*
	 * json-c keeps the last of two members of the same name, however the
	 * names were spelt ("a", "\u0061"): the tree is then short of members.
	 */
	if (tree != NULL && count_members(tree) == c.members)
		return tree;
	if (why != NULL)
		*why = tree != NULL ? "a member's name is there twice" : "no value";
	return NULL;
}

/*
 * json-c saturates integers beyond 64 bits in silence, but keeps the text of
 * anything with an exponent: "e0" is appended to them, which changes no value.
 */
static const char *
widen(struct arena *a, const char *s, size_t *n, const struct buf *wide)
{
	const char	*text;
	struct buf	 b = { 0 };
	size_t		 at = 0;

	if (wide->n == 0)
		return s;
	for (size_t i = 0; i < wide->n; i += sizeof at) {
		size_t	 end;

		memcpy(&end, wide->p + i, sizeof end);
		buf_add(&b, s + at, end - at);
		buf_str(&b, "e0");
		at = end;
	}
	buf_add(&b, s + at, *n - at);
	*n = b.n;
	text = arena_memdup(a, b.p, b.n);
	buf_free(&b);
	return text;
}

/* The text is known to be good: NULL means "null", which json-c has no object for. */
static json_object *
parse(const char *s, size_t n)
{
	/* json-c counts scalars as a level of their own. */
	struct json_tokener	*tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	json_object		*tree;

	if (tok == NULL || n > INT_MAX) {
		json_tokener_free(tok);
		return NULL;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	tree = json_tokener_parse_ex(tok, s, (int)n);
	/* A bare number might go on: a blank ends it. */
	if (json_tokener_get_error(tok) == json_tokener_continue)
		tree = json_tokener_parse_ex(tok, " ", 1);
	json_tokener_free(tok);
	return tree;
}

static size_t
count_members(json_object *o)
{
	size_t	 n = 0;

	if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, value) {
			(void)key;
			n += 1 + count_members(value);
		}
	} else if (json_object_is_type(o, json_type_array))
		for (size_t i = 0; i < json_object_array_length(o); i++)
			n += count_members(json_object_array_get_idx(o, i));
	return n;
}

static void
put(void *tree)
{
	json_object_put(tree);
}

bool
json_valid(const char *s, size_t n, const char **why)
{
	struct json_check	 c = { .s = s, .n = n };

	if (json_check(&c))
		return true;
	if (why != NULL)
		*why = c.why;
	return false;
}

/* The member if it has that type.  json-c's own getters convert: "12abc" is 12 to them, [1] is 0. */
static enum json_got
find(json_object *obj, const char *key, json_type type, json_object **member)
{
	if (!json_object_is_type(obj, json_type_object) ||
	    !json_object_object_get_ex(obj, key, member))
		return JSON_ABSENT;
	if (*member == NULL)
		return JSON_NULL;
	return json_object_is_type(*member, type) ? JSON_GOT : JSON_WRONG;
}

enum json_got
json_get_string(json_object *obj, const char *key, const char **text)
{
	json_object	*m;
	enum json_got	 got = find(obj, key, json_type_string, &m);

	if (got == JSON_GOT)
		*text = json_object_get_string(m);
	return got;
}

enum json_got
json_get_int(json_object *obj, const char *key, int64_t *n)
{
	json_object	*m;
	enum json_got	 got = find(obj, key, json_type_int, &m);

	if (got != JSON_GOT)
		return got;
	/* Above int64 json-c holds a uint64, and get_int64 would saturate. */
	if (json_object_get_int64(m) == INT64_MAX && json_object_get_uint64(m) > INT64_MAX)
		return JSON_WRONG;
	*n = json_object_get_int64(m);
	return JSON_GOT;
}

enum json_got
json_get_bool(json_object *obj, const char *key, bool *b)
{
	json_object	*m;
	enum json_got	 got = find(obj, key, json_type_boolean, &m);

	if (got == JSON_GOT)
		*b = json_object_get_boolean(m);
	return got;
}

enum json_got
json_get_object(json_object *obj, const char *key, json_object **member)
{
	json_object	*m;
	enum json_got	 got = find(obj, key, json_type_object, &m);

	if (got == JSON_GOT)
		*member = m;
	return got;
}

enum json_got
json_get_array(json_object *obj, const char *key, json_object **member)
{
	json_object	*m;
	enum json_got	 got = find(obj, key, json_type_array, &m);

	if (got == JSON_GOT)
		*member = m;
	return got;
}

const char *
json_text_or_null(json_object *obj, const char *key)
{
	const char	*text = NULL;

	(void)json_get_string(obj, key, &text);
	return text;
}

const char *
json_text(json_object *tree)
{
	return json_object_to_json_string_ext(tree,
	    JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}
