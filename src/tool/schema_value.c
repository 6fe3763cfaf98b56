#include <stdint.h>
#include <string.h>

#include <json-c/linkhash.h>

#include "base/utf8.h"
#include "io/json.h"
#include "tool/schema_check.h"

#define WHOLE_MAX	9.0e18L		/* all that is greater and a double has no fraction */

static unsigned	 kinds_of(json_object *);
static unsigned	 kind_named(const char *);
static unsigned	 kinds_named(json_object *);
static bool	 number_of(json_object *, long double *);
static bool	 is_number(json_object *);
static bool	 whole(long double);
static bool	 multiple(long double, long double);
static bool	 same_objects(struct check *, json_object *, json_object *);
static bool	 same_lists(struct check *, json_object *, json_object *);
static bool	 flag(json_object *, const char *);

enum verdict
schema_type(struct check *c, json_object *schema, json_object *value)
{
	json_object	*type;
	unsigned	 kinds;

	if (!json_object_object_get_ex(schema, "type", &type))
		return FITS;
	if ((kinds = kinds_named(type)) == 0)
		return UNCHECKED;
	return kinds & kinds_of(value) ? FITS : schema_fault_kinds(c, kinds);
}

/* 0: nothing we know.  A name we do not know may mean anything. */
static unsigned
kinds_named(json_object *type)
{
	unsigned	 kinds = 0;

	if (json_object_is_type(type, json_type_string))
		return kind_named(json_object_get_string(type));
	if (!json_object_is_type(type, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(type); i++) {
		json_object	*o = json_object_array_get_idx(type, i);
		unsigned	 kind = json_object_is_type(o, json_type_string) ?
		    kind_named(json_object_get_string(o)) : 0;

		if (kind == 0)
			return 0;
		kinds |= kind;
		if (kinds == (KIND_NULL << 1) - 1)
			break;
	}
	return kinds;
}

static unsigned
kind_named(const char *name)
{
	static const char *const names[] = {
		"string", "integer", "number", "boolean", "object", "array", "null",
	};

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i]) == 0)
			return 1U << i;
	return 0;
}

/* A whole number is an integer however it is written (core 2020-12, section 4.2.3). */
static unsigned
kinds_of(json_object *value)
{
	long double	 n;

	switch (json_object_get_type(value)) {
	case json_type_null:
		return KIND_NULL;
	case json_type_boolean:
		return KIND_BOOLEAN;
	case json_type_object:
		return KIND_OBJECT;
	case json_type_array:
		return KIND_ARRAY;
	case json_type_string:
		return KIND_STRING;
	default:
		return number_of(value, &n) && whole(n) ? KIND_NUMBER | KIND_INTEGER : KIND_NUMBER;
	}
}

enum verdict
schema_values(struct check *c, json_object *schema, json_object *value)
{
	json_object	*list = schema_member(schema, "enum", json_type_array), *one;
	size_t		 i;

	if (json_object_object_get_ex(schema, "const", &one) && !schema_same(c, one, value))
		return schema_fault(c, FAULT_VALUE, "must be: %s", schema_value_text(c, one));
	if (list == NULL)
		return FITS;
	for (i = 0; i < json_object_array_length(list); i++)
		if (!schema_spend(c, 1) || schema_same(c, json_object_array_get_idx(list, i), value))
			return FITS;
	return schema_fault_choice(c, "must be one of", list);
}

enum verdict
schema_number(struct check *c, json_object *schema, json_object *value)
{
	long double	 n, limit;

	if (!number_of(value, &n))
		return FITS;
	if (schema_limit(schema, "minimum", &limit) && n < limit)
		return schema_fault(c, FAULT_OTHER, "must be at least %s", json_text(json_object_object_get(schema, "minimum")));
	if (schema_limit(schema, "maximum", &limit) && n > limit)
		return schema_fault(c, FAULT_OTHER, "must be at most %s", json_text(json_object_object_get(schema, "maximum")));
	/* Draft 4 says exclusiveMinimum: true of its minimum. */
	if ((schema_limit(schema, "exclusiveMinimum", &limit) ||
	    (flag(schema, "exclusiveMinimum") && schema_limit(schema, "minimum", &limit))) && n <= limit)
		return schema_fault(c, FAULT_OTHER, "must be more than %.15Lg", limit);
	if ((schema_limit(schema, "exclusiveMaximum", &limit) ||
	    (flag(schema, "exclusiveMaximum") && schema_limit(schema, "maximum", &limit))) && n >= limit)
		return schema_fault(c, FAULT_OTHER, "must be less than %.15Lg", limit);
	if (schema_limit(schema, "multipleOf", &limit) && limit > 0 && !multiple(n, limit))
		return schema_fault(c, FAULT_OTHER, "must be a multiple of %s", json_text(json_object_object_get(schema, "multipleOf")));
	return FITS;
}

enum verdict
schema_string(struct check *c, json_object *schema, json_object *value)
{
	const char	*format = json_text_or_null(schema, "format");
	enum verdict	 v = FITS;
	long double	 limit;
	size_t		 bytes, n;

	if (!json_object_is_type(value, json_type_string))
		return FITS;
	bytes = (size_t)json_object_get_string_len(value);
	if (!schema_spend(c, bytes / 64))
		return UNCHECKED;
	n = utf8_length(json_object_get_string(value), bytes);
	if (schema_limit(schema, "minLength", &limit) && (long double)n < limit)
		return limit <= 1 ? schema_fault(c, FAULT_OTHER, "must not be empty") :
		    schema_fault(c, FAULT_OTHER, "must have at least %.15Lg characters", limit);
	if (schema_limit(schema, "maxLength", &limit) && (long double)n > limit)
		return schema_fault(c, FAULT_OTHER, "must have at most %.15Lg character%s", limit, limit == 1 ? "" : "s");
	if (schema_member(schema, "pattern", json_type_string) != NULL)
		v = UNCHECKED;
	return format != NULL ? worse(v, schema_format(c, format, json_object_get_string(value))) : v;
}

/* Equality of section 4.2.2 of core 2020-12.  Trees are bounded in depth by json_read(). */
bool
schema_same(struct check *c, json_object *a, json_object *b)
{
	long double	 x, y;
	size_t		 n;

	if (!schema_spend(c, 1))
		return false;
	if (is_number(a) || is_number(b))
		return number_of(a, &x) && number_of(b, &y) && x == y;
	if (json_object_get_type(a) != json_object_get_type(b))
		return false;
	switch (json_object_get_type(a)) {
	case json_type_boolean:
		return json_object_get_boolean(a) == json_object_get_boolean(b);
	case json_type_string:
		n = (size_t)json_object_get_string_len(a);
		return n == (size_t)json_object_get_string_len(b) && schema_spend(c, n / 64) &&
		    memcmp(json_object_get_string(a), json_object_get_string(b), n) == 0;
	case json_type_array:
		return same_lists(c, a, b);
	case json_type_object:
		return same_objects(c, a, b);
	default:
		return true;
	}
}

static bool
same_lists(struct check *c, json_object *a, json_object *b)
{
	size_t	 n = json_object_array_length(a);

	if (n != json_object_array_length(b))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!schema_same(c, json_object_array_get_idx(a, i), json_object_array_get_idx(b, i)))
			return false;
	return true;
}

static bool
same_objects(struct check *c, json_object *a, json_object *b)
{
	json_object	*other;

	if (json_object_object_length(a) != json_object_object_length(b))
		return false;
	json_object_object_foreach(a, name, m)
		if (!schema_spend_text(c, name) || !json_object_object_get_ex(b, name, &other) || !schema_same(c, m, other))
			return false;
	return true;
}

/* A number among the keywords of a schema. */
bool
schema_limit(json_object *schema, const char *key, long double *n)
{
	json_object	*o;

	return json_object_object_get_ex(schema, key, &o) && number_of(o, n);
}

static bool
flag(json_object *schema, const char *key)
{
	return json_object_get_boolean(schema_member(schema, key, json_type_boolean));
}

static bool
is_number(json_object *o)
{
	return json_object_is_type(o, json_type_int) || json_object_is_type(o, json_type_double);
}

static bool
number_of(json_object *o, long double *n)
{
	if (json_object_is_type(o, json_type_double))
		*n = json_object_get_double(o);
	else if (!json_object_is_type(o, json_type_int))
		return false;
	else if (json_object_get_int64(o) < 0)
		*n = json_object_get_int64(o);
	else
		*n = json_object_get_uint64(o);
	return true;
}

static bool
whole(long double n)
{
	return !(n > -WHOLE_MAX && n < WHOLE_MAX) || (long double)(int64_t)n == n;
}

static bool
multiple(long double n, long double of)
{
	long double	 q = n / of, off;

	/* The rest of so many is lost in rounding: nobody can say. */
	if (!(q > -WHOLE_MAX && q < WHOLE_MAX))
		return true;
	if (whole(n) && whole(of) && n > -WHOLE_MAX && n < WHOLE_MAX && of < WHOLE_MAX)
		return (int64_t)n % (int64_t)of == 0;
	/* 0.07 is seven times 0.01, whatever binary fractions make of them. */
	off = q - (long double)(int64_t)(q < 0 ? q - 0.5L : q + 0.5L);
	return (off < 0 ? -off : off) <= 1e-9L * (q > 1 ? q : q < -1 ? -q : 1);
}
