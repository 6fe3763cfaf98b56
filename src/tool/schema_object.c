#include <string.h>

#include <json-c/linkhash.h>

#include "io/json.h"
#include "tool/schema_check.h"

static enum verdict members(struct check *, json_object *, json_object *);
static enum verdict member(struct check *, json_object *, json_object *, json_object *);
static enum verdict required(struct check *, json_object *, json_object *);
static enum verdict needed(struct check *, json_object *, json_object *, const char *);
static bool	 requires(struct check *, json_object *, const char *);
static enum verdict others(struct check *, json_object *, json_object *);
static enum verdict names(struct check *, json_object *, json_object *);
static enum verdict count(struct check *, json_object *, json_object *);
static enum verdict dependents(struct check *, json_object *, json_object *);
static enum verdict dependent(struct check *, json_object *, json_object *);
static bool	 beyond(json_object *);

enum verdict
schema_object(struct check *c, json_object *schema, json_object *value)
{
	/* Members before what is missing: where kinds are told by a constant, it says which is meant. */
	static enum verdict (*const groups[])(struct check *, json_object *, json_object *) = {
		members, required, others, count, names, dependents,
	};
	enum verdict	 v = FITS;

	if (!json_object_is_type(value, json_type_object))
		return FITS;
	for (size_t i = 0; i < sizeof groups / sizeof *groups && v != REFUSED; i++)
		v = worse(v, groups[i](c, schema, value));
	return v == FITS && beyond(schema) && json_object_object_length(value) > 0 ? UNCHECKED : v;
}

/* Keywords that are not looked at, and that any member may break. */
static bool
beyond(json_object *schema)
{
	return json_object_object_get_ex(schema, "patternProperties", NULL) ||
	    json_object_object_get_ex(schema, "unevaluatedProperties", NULL);
}

static enum verdict
members(struct check *c, json_object *schema, json_object *value)
{
	json_object	*known = schema_member(schema, "properties", json_type_object), *m;
	struct place	 here;
	enum verdict	 v = FITS;

	if (known == NULL)
		return FITS;
	json_object_object_foreach(known, name, s) {
		if (!schema_spend_text(c, name))
			return UNCHECKED;
		if (!json_object_object_get_ex(value, name, &m))
			continue;
		schema_enter(c, &here, name, 0);
		v = worse(v, member(c, schema, s, m));
		schema_leave(c);
		if (v == REFUSED)
			break;
	}
	return v;
}

/* Models write null for what they have nothing to say of; tool_refuse() takes that for "not given". */
static enum verdict
member(struct check *c, json_object *schema, json_object *s, json_object *value)
{
	int		 place = c->nplaces;
	enum verdict	 v = schema_apply(c, s, value);

	if (v != REFUSED || value != NULL || c->fault.rank != FAULT_KIND || c->fault.place != place)
		return v;
	if (requires(c, schema, c->place->name))
		return schema_fault(c, FAULT_OTHER, "is required");
	return schema_fault(c, FAULT_OTHER, "must not be null, but may be left out");
}

static bool
requires(struct check *c, json_object *schema, const char *name)
{
	json_object	*list = schema_member(schema, "required", json_type_array);

	for (size_t i = 0; list != NULL && i < json_object_array_length(list) && schema_spend(c, 1); i++) {
		json_object	*o = json_object_array_get_idx(list, i);

		if (json_object_is_type(o, json_type_string) && strcmp(json_object_get_string(o), name) == 0)
			return true;
	}
	return false;
}

static enum verdict
required(struct check *c, json_object *schema, json_object *value)
{
	json_object	*list = schema_member(schema, "required", json_type_array);

	return list == NULL ? FITS : needed(c, list, value, NULL);
}

/* because: the member that asks for them; NULL: they are always needed. */
static enum verdict
needed(struct check *c, json_object *list, json_object *value, const char *because)
{
	struct place	 here;
	enum verdict	 v;

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object	*o = json_object_array_get_idx(list, i);

		if (!schema_spend(c, 1))
			return UNCHECKED;
		if (!json_object_is_type(o, json_type_string))
			continue;
		if (!schema_spend_text(c, json_object_get_string(o)))
			return UNCHECKED;
		if (json_object_object_get_ex(value, json_object_get_string(o), NULL))
			continue;
		schema_enter(c, &here, json_object_get_string(o), 0);
		v = because == NULL ? schema_fault(c, FAULT_OTHER, "is required") :
		    schema_fault(c, FAULT_OTHER, "is required with %s", schema_text(c, because));
		schema_leave(c);
		return v;
	}
	return FITS;
}

static enum verdict
others(struct check *c, json_object *schema, json_object *value)
{
	json_object	*known = schema_member(schema, "properties", json_type_object), *rest;
	struct place	 here;
	enum verdict	 v = FITS;

	if (!json_object_object_get_ex(schema, "additionalProperties", &rest))
		return FITS;
	json_object_object_foreach(value, name, m) {
		if (!schema_spend_text(c, name))
			return UNCHECKED;
		if (known != NULL && json_object_object_get_ex(known, name, NULL))
			continue;
		/* Perhaps one of those patterns. */
		if (json_object_object_get_ex(schema, "patternProperties", NULL))
			return UNCHECKED;
		schema_enter(c, &here, name, 0);
		if (json_object_is_type(rest, json_type_boolean) && !json_object_get_boolean(rest))
			v = schema_fault_unknown(c);
		else
			v = worse(v, schema_apply(c, rest, m));
		schema_leave(c);
		if (v == REFUSED)
			break;
	}
	return v;
}

static enum verdict
count(struct check *c, json_object *schema, json_object *value)
{
	long double	 limit, n = json_object_object_length(value);

	if (schema_limit(schema, "minProperties", &limit) && n < limit)
		return limit <= 1 ? schema_fault(c, FAULT_OTHER, "must not be empty") :
		    schema_fault(c, FAULT_OTHER, "must have at least %.15Lg members", limit);
	if (schema_limit(schema, "maxProperties", &limit) && n > limit)
		return schema_fault(c, FAULT_OTHER, "must have at most %.15Lg member%s", limit, limit == 1 ? "" : "s");
	return FITS;
}

static enum verdict
names(struct check *c, json_object *schema, json_object *value)
{
	json_object	*s, *text;
	enum verdict	 v = FITS;

	if (!json_object_object_get_ex(schema, "propertyNames", &s))
		return FITS;
	json_object_object_foreach(value, name, m) {
		(void)m;
		if (!schema_spend_text(c, name))
			return UNCHECKED;
		text = json_object_new_string(name);
		v = worse(v, schema_quietly(c, s, text));
		if (v == REFUSED)
			(void)schema_fault(c, FAULT_OTHER, "must not have a member of the name %s", schema_value_text(c, text));
		json_object_put(text);
		if (v == REFUSED)
			break;
	}
	return v;
}

/* Draft 7 has lists and schemas in one keyword. */
static enum verdict
dependents(struct check *c, json_object *schema, json_object *value)
{
	static const char *const	 keys[] = { "dependentRequired", "dependentSchemas", "dependencies" };
	enum verdict			 v = FITS;

	for (size_t i = 0; i < sizeof keys / sizeof *keys && v != REFUSED; i++) {
		json_object	*o = schema_member(schema, keys[i], json_type_object);

		if (o != NULL)
			v = worse(v, dependent(c, o, value));
	}
	return v;
}

static enum verdict
dependent(struct check *c, json_object *table, json_object *value)
{
	enum verdict	 v = FITS;

	json_object_object_foreach(table, name, what) {
		if (!schema_spend_text(c, name))
			return UNCHECKED;
		if (!json_object_object_get_ex(value, name, NULL))
			continue;
		v = worse(v, json_object_is_type(what, json_type_array) ?
		    needed(c, what, value, name) : schema_apply(c, what, value));
		if (v == REFUSED)
			break;
	}
	return v;
}
