#include "tool/schema.h"

#include <string.h>

#include <json-c/linkhash.h>

#include "base/arena.h"
#include "io/json.h"
#include "tool/schema_check.h"

#define NODES_MAX	20000
#define BYTES_MAX	(256 * 1024)

struct size {
	size_t	 nodes, bytes;
};

static bool	 own_id(json_object *);
static bool	 measure(struct size *, json_object *, int depth);
static bool	 measure_members(struct size *, json_object *, int depth);

const char *
schema_refuse(struct arena *a, json_object *schema, json_object *value)
{
	struct check	 c = {
		.arena = a, .document = schema, .root = schema, .steps = SCHEMA_STEPS_MAX,
	};

	return schema_apply(&c, schema, value) == REFUSED ? c.fault.text : NULL;
}

enum verdict
schema_apply(struct check *c, json_object *schema, json_object *value)
{
	/* The kind first: "must be text" says more than a length does.  Alternatives last: they cost most. */
	static enum verdict (*const groups[])(struct check *, json_object *, json_object *) = {
		schema_type, schema_values, schema_number, schema_string, schema_list, schema_object, schema_logic,
	};
	json_object	*root = c->root;
	enum verdict	 v = FITS;

	if (json_object_is_type(schema, json_type_boolean))
		return json_object_get_boolean(schema) ? FITS : schema_fault(c, FAULT_OTHER, "must be left out");
	if (!json_object_is_type(schema, json_type_object) || c->depth >= SCHEMA_DEPTH_MAX ||
	    !schema_spend(c, SCHEMA_APPLY_STEPS))
		return UNCHECKED;
	c->depth++;
	if (own_id(schema))
		c->root = schema;
	for (size_t i = 0; i < sizeof groups / sizeof *groups && v != REFUSED; i++)
		v = worse(v, groups[i](c, schema, value));
	c->root = root;
	c->depth--;
	/* Who stopped half-way may have come to any verdict. */
	return c->steps > 0 ? v : UNCHECKED;
}

bool
schema_spend(struct check *c, size_t steps)
{
	c->steps = (size_t)c->steps > steps ? c->steps - (int)steps : 0;
	return c->steps > 0;
}

bool
schema_spend_text(struct check *c, const char *s)
{
	return schema_spend(c, 1 + strlen(s) / 64);
}

void
schema_enter(struct check *c, struct place *p, const char *name, size_t index)
{
	*p = (struct place){ .up = c->place, .name = name, .index = index };
	c->place = p;
	c->nplaces++;
}

void
schema_leave(struct check *c)
{
	c->place = c->place->up;
	c->nplaces--;
}

json_object *
schema_member(json_object *schema, const char *key, json_type type)
{
	json_object	*m;

	return json_object_object_get_ex(schema, key, &m) && json_object_is_type(m, type) ? m : NULL;
}

/* Core 2020-12, section 8.2.1: such a part is a document of its own.  In draft 7 "#name" was an anchor. */
static bool
own_id(json_object *schema)
{
	const char	*id = json_text_or_null(schema, "$id");

	return id != NULL && *id != '#';
}

bool
schema_usable(json_object *schema)
{
	struct size	 s = { 0 };

	return json_object_is_type(schema, json_type_object) && measure(&s, schema, 1);
}

static bool
measure(struct size *s, json_object *o, int depth)
{
	if (++s->nodes > NODES_MAX || s->bytes > BYTES_MAX)
		return false;
	switch (json_object_get_type(o)) {
	case json_type_string:
		s->bytes += (size_t)json_object_get_string_len(o);
		return s->bytes <= BYTES_MAX;
	case json_type_array:
		if (depth > JSON_DEPTH_MAX)
			return false;
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if (!measure(s, json_object_array_get_idx(o, i), depth + 1))
				return false;
		return true;
	case json_type_object:
		return depth <= JSON_DEPTH_MAX && measure_members(s, o, depth);
	default:
		return true;
	}
}

static bool
measure_members(struct size *s, json_object *o, int depth)
{
	json_object_object_foreach(o, name, m) {
		s->bytes += strlen(name);
		if (!measure(s, m, depth + 1))
			return false;
	}
	return true;
}
