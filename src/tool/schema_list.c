#include "io/json.h"
#include "tool/schema_check.h"

static enum verdict count(struct check *, json_object *, size_t);
static enum verdict items(struct check *, json_object *, json_object *);
static json_object *schema_of_item(json_object *, size_t, bool *);
static enum verdict unique(struct check *, json_object *, json_object *);
static enum verdict contains(struct check *, json_object *, json_object *);

enum verdict
schema_list(struct check *c, json_object *schema, json_object *value)
{
	enum verdict	 v;

	if (!json_object_is_type(value, json_type_array))
		return FITS;
	v = count(c, schema, json_object_array_length(value));
	if (v != REFUSED)
		v = worse(v, items(c, schema, value));
	if (v != REFUSED)
		v = worse(v, unique(c, schema, value));
	if (v != REFUSED)
		v = worse(v, contains(c, schema, value));
	if (v == FITS && json_object_object_get_ex(schema, "unevaluatedItems", NULL))
		return UNCHECKED;
	return v;
}

static enum verdict
count(struct check *c, json_object *schema, size_t n)
{
	long double	 limit;

	if (schema_limit(schema, "minItems", &limit) && (long double)n < limit)
		return limit <= 1 ? schema_fault(c, FAULT_OTHER, "must not be empty") :
		    schema_fault(c, FAULT_OTHER, "must have at least %.15Lg items", limit);
	if (schema_limit(schema, "maxItems", &limit) && (long double)n > limit)
		return schema_fault(c, FAULT_OTHER, "must have at most %.15Lg item%s", limit, limit == 1 ? "" : "s");
	return FITS;
}

static enum verdict
items(struct check *c, json_object *schema, json_object *value)
{
	struct place	 here;
	enum verdict	 v = FITS;

	for (size_t i = 0; i < json_object_array_length(value) && v != REFUSED; i++) {
		bool		 any;
		json_object	*o = schema_of_item(schema, i, &any);

		if (any)
			break;		/* and so are all that follow */
		if (!schema_spend(c, 1))
			return UNCHECKED;
		schema_enter(c, &here, NULL, i);
		v = worse(v, schema_apply(c, o, json_object_array_get_idx(value, i)));
		schema_leave(c);
	}
	return v;
}

/* prefixItems and items; before 2020-12 items (a list) and additionalItems. */
static json_object *
schema_of_item(json_object *schema, size_t i, bool *any)
{
	json_object	*list = schema_member(schema, "prefixItems", json_type_array), *rest;
	const char	*others = "items";

	if (list == NULL && (list = schema_member(schema, "items", json_type_array)) != NULL)
		others = "additionalItems";
	*any = false;
	if (list != NULL && i < json_object_array_length(list))
		return json_object_array_get_idx(list, i);
	*any = !json_object_object_get_ex(schema, others, &rest);
	return *any ? NULL : rest;
}

static enum verdict
unique(struct check *c, json_object *schema, json_object *value)
{
	size_t	 n = json_object_array_length(value);

	if (!json_object_get_boolean(schema_member(schema, "uniqueItems", json_type_boolean)))
		return FITS;
	for (size_t i = 1; i < n; i++)
		for (size_t j = 0; j < i; j++) {
			if (schema_same(c, json_object_array_get_idx(value, i), json_object_array_get_idx(value, j)))
				return schema_fault(c, FAULT_OTHER, "must not have an item twice");
			if (c->steps == 0)
				return UNCHECKED;
		}
	return FITS;
}

static enum verdict
contains(struct check *c, json_object *schema, json_object *value)
{
	json_object	*what;
	long double	 least = 1, most;
	size_t		 n = 0, unsure = 0;

	if (!json_object_object_get_ex(schema, "contains", &what))
		return FITS;
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		enum verdict	 v = schema_quietly(c, what, json_object_array_get_idx(value, i));

		if (!schema_spend(c, 1))
			return UNCHECKED;
		n += v == FITS;
		unsure += v == UNCHECKED;
	}
	(void)schema_limit(schema, "minContains", &least);
	if ((long double)(n + unsure) < least)
		return schema_fault(c, FAULT_OTHER, "must have at least %.15Lg item%s of the kind its schema asks for",
		    least, least == 1 ? "" : "s");
	if (schema_limit(schema, "maxContains", &most) && (long double)n > most)
		return schema_fault(c, FAULT_OTHER, "must have at most %.15Lg item%s of the kind its schema speaks of",
		    most, most == 1 ? "" : "s");
	return unsure > 0 ? UNCHECKED : FITS;
}
