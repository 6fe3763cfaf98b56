#include <stdlib.h>
#include <string.h>

#include <json-c/linkhash.h>

#include "io/json.h"
#include "tool/schema_check.h"

#define TOKEN_MAX	256	/* a name in a pointer; none is that long */

static json_object *resource(struct check *, const char *, size_t);
static json_object *anchor(struct check *, json_object *, const char *);
static json_object *pointer(struct check *, json_object *, const char *, json_object **);
static const char *token(const char *, char *);
static int	 character(const char **);
static json_object *child(json_object *, const char *);
static json_object *find(struct check *, json_object *, const char *key, const char *text, size_t, int depth);
static bool	 is_data(const char *);

json_object *
schema_resolve(struct check *c, const char *ref, json_object **root)
{
	size_t		 n = strcspn(ref, "#");
	json_object	*o = n == 0 ? c->root : resource(c, ref, n);

	if (o == NULL)
		return NULL;
	*root = o;
	ref += n + (ref[n] == '#');
	if (*ref == '\0')
		return o;
	return *ref == '/' ? pointer(c, o, ref, root) : anchor(c, o, ref);
}

/* A part of this document that calls itself so.  Relative names are not put together: as they stand or not at all. */
static json_object *
resource(struct check *c, const char *id, size_t n)
{
	return find(c, c->document, "$id", id, n, 0);
}

static json_object *
anchor(struct check *c, json_object *from, const char *name)
{
	json_object	*o = find(c, from, "$anchor", name, strlen(name), 0);

	if (o == NULL)
		o = find(c, from, "$dynamicAnchor", name, strlen(name), 0);
	/* Draft 7 writes "$id": "#name". */
	return o != NULL ? o : find(c, from, "$id", name - 1, strlen(name) + 1, 0);
}

/* RFC 6901, in the form of a URI fragment (section 6). */
static json_object *
pointer(struct check *c, json_object *o, const char *s, json_object **root)
{
	char	 name[TOKEN_MAX];

	while (*s == '/') {
		if ((s = token(s + 1, name)) == NULL || !schema_spend(c, 1) || (o = child(o, name)) == NULL)
			return NULL;
		if (*s == '/' && schema_member(o, "$id", json_type_string) != NULL)
			*root = o;
	}
	return o;
}

/* One reference token, decoded; where the next begins.  NULL: too long or badly written. */
static const char *
token(const char *s, char *out)
{
	size_t	 n = 0;

	while (*s != '\0' && *s != '/') {
		int	 ch = character(&s);

		if (ch <= 0 || n == TOKEN_MAX - 1)
			return NULL;
		if (ch == '~') {
			if ((ch = character(&s)) != '0' && ch != '1')
				return NULL;
			ch = ch == '0' ? '~' : '/';
		}
		out[n++] = (char)ch;
	}
	out[n] = '\0';
	return s;
}

/* A byte, perhaps as %XX.  -1: half of one; 0: the end. */
static int
character(const char **s)
{
	static const char	 digits[] = "0123456789abcdef0123456789ABCDEF";
	const char		*a, *b;

	if (**s == '\0')
		return 0;
	if (**s != '%')
		return (unsigned char)*(*s)++;
	if ((*s)[1] == '\0' || (*s)[2] == '\0' ||
	    (a = strchr(digits, (*s)[1])) == NULL || (b = strchr(digits, (*s)[2])) == NULL)
		return -1;
	*s += 3;
	return (int)((a - digits) % 16 * 16 + (b - digits) % 16);
}

static json_object *
child(json_object *o, const char *name)
{
	json_object	*m = NULL;

	if (json_object_is_type(o, json_type_object))
		return json_object_object_get_ex(o, name, &m) ? m : NULL;
	if (!json_object_is_type(o, json_type_array) || *name == '\0' ||
	    strspn(name, "0123456789") != strlen(name) || strlen(name) > 6)
		return NULL;
	return json_object_array_get_idx(o, strtoul(name, NULL, 10));
}

/* The first object whose member key is this text. */
static json_object *
find(struct check *c, json_object *o, const char *key, const char *text, size_t n, int depth)
{
	json_object	*m;

	if (depth > JSON_DEPTH_MAX || !schema_spend(c, 1))
		return NULL;
	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if ((m = find(c, json_object_array_get_idx(o, i), key, text, n, depth + 1)) != NULL)
				return m;
		return NULL;
	}
	if (!json_object_is_type(o, json_type_object))
		return NULL;
	if ((m = schema_member(o, key, json_type_string)) != NULL &&
	    (size_t)json_object_get_string_len(m) == n && memcmp(json_object_get_string(m), text, n) == 0)
		return o;
	json_object_object_foreach(o, name, value)
		if (!is_data(name) && (m = find(c, value, key, text, n, depth + 1)) != NULL)
			return m;
	return NULL;
}

/* What stands there is no schema, whatever it looks like. */
static bool
is_data(const char *keyword)
{
	return strcmp(keyword, "enum") == 0 || strcmp(keyword, "const") == 0 ||
	    strcmp(keyword, "default") == 0 || strcmp(keyword, "examples") == 0;
}
