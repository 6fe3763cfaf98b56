#include "io/json.h"

#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "io/json_check.h"
#include "io/json_tree.h"

/*
 * Three bytes, "{},", become most of a kilobyte in json-c.  So much a text's tree may weigh beside its texts: what no
 * honest one comes near, such as a list of tools with all their schemas, or a request that keeps its tree for minutes.
 */
struct bound {
	size_t	 base, factor, most;
};

static const struct bound	 foreign = { 256 * 1024, 32, 24 * 1024 * 1024 };
static const struct bound	 small = { 64 * 1024, 4, 1024 * 1024 };
static const struct bound	 none = { SIZE_MAX, 0, SIZE_MAX };

static void	 put(void *);
static json_object *read_within(struct arena *, const char *, size_t, const struct bound *, const char **why);
static bool	 is_light(struct json_check *, const struct bound *);
static enum json_got find(json_object *, const char *, json_type, json_object **);

json_object *
json_read(struct arena *a, const char *s, size_t n, const char **why)
{
	return read_within(a, s, n, &foreign, why);
}

json_object *
json_read_small(struct arena *a, const char *s, size_t n, const char **why)
{
	return read_within(a, s, n, &small, why);
}

json_object *
json_read_stored(struct arena *a, const char *s, size_t n, const char **why)
{
	return read_within(a, s, n, &none, why);
}

static json_object *
read_within(struct arena *a, const char *s, size_t n, const struct bound *bound, const char **why)
{
	struct json_check	 c = { .s = s, .n = n };
	json_object		*tree;
	bool			 twice;

	if (!json_check(&c) || !is_light(&c, bound)) {
		if (why != NULL)
			*why = arena_printf(a, "%s at byte %zu", c.why, c.at);
		return NULL;
	}
	if ((tree = json_tree(s, n, &twice)) != NULL)
		arena_defer(a, put, tree);
	if (tree != NULL && !twice)
		return tree;
	if (why != NULL)
		*why = twice ? "a member's name is there twice" : "no value";
	return NULL;
}

json_object *
json_read_any(const char *s, size_t n)
{
	struct json_check	 c = { .s = s, .n = n };
	bool			 twice;

	return json_check(&c) && is_light(&c, &foreign) ? json_tree(s, n, &twice) : NULL;
}

static bool
is_light(struct json_check *c, const struct bound *b)
{
	size_t	 most = b->base + c->n * b->factor;

	if (c->weight <= (most < b->most ? most : b->most))
		return true;
	c->why = "too many values";
	return false;
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
