#include <string.h>

#include "base/arena.h"
#include "io/json.h"
#include "tool/schema_check.h"

#define JOINED_MAX	300	/* bytes: then no further alternative is named */

/* What was wrong with the alternatives so far, as far as it is worth saying. */
struct best {
	struct fault	 fault;
	int		 score;
};

static enum verdict refs(struct check *, json_object *, json_object *);
static enum verdict all_of(struct check *, json_object *, json_object *);
static enum verdict any_of(struct check *, json_object *, json_object *);
static enum verdict one_of(struct check *, json_object *, json_object *);
static enum verdict none_of(struct check *, json_object *, json_object *);
static enum verdict if_then(struct check *, json_object *, json_object *);
static void	 best_add(struct check *, struct best *);
static enum verdict best_say(struct check *, struct best *);
static int	 score(const struct fault *, int place);

enum verdict
schema_logic(struct check *c, json_object *schema, json_object *value)
{
	static enum verdict (*const groups[])(struct check *, json_object *, json_object *) = {
		refs, all_of, any_of, one_of, none_of, if_then,
	};
	enum verdict	 v = FITS;

	for (size_t i = 0; i < sizeof groups / sizeof *groups && v != REFUSED; i++)
		v = worse(v, groups[i](c, schema, value));
	return v;
}

enum verdict
schema_quietly(struct check *c, json_object *schema, json_object *value)
{
	enum verdict	 v;

	c->quiet++;
	v = schema_apply(c, schema, value);
	c->quiet--;
	return v;
}

static enum verdict
refs(struct check *c, json_object *schema, json_object *value)
{
	const char	*ref = json_text_or_null(schema, "$ref");
	json_object	*root = c->root, *target;
	enum verdict	 v;

	if (json_object_object_get_ex(schema, "$dynamicRef", NULL) ||
	    json_object_object_get_ex(schema, "$recursiveRef", NULL))
		return UNCHECKED;
	if (ref == NULL)
		return FITS;
	if (!schema_spend_text(c, ref) || (target = schema_resolve(c, ref, &c->root)) == NULL)
		v = UNCHECKED;
	else
		v = schema_apply(c, target, value);
	c->root = root;
	return v;
}

static enum verdict
all_of(struct check *c, json_object *schema, json_object *value)
{
	json_object	*list = schema_member(schema, "allOf", json_type_array);
	enum verdict	 v = FITS;

	for (size_t i = 0; list != NULL && v != REFUSED && i < json_object_array_length(list); i++) {
		if (!schema_spend(c, 1))
			return UNCHECKED;
		v = worse(v, schema_apply(c, json_object_array_get_idx(list, i), value));
	}
	return v;
}

static enum verdict
any_of(struct check *c, json_object *schema, json_object *value)
{
	json_object	*list = schema_member(schema, "anyOf", json_type_array);
	struct best	 best = { .score = -1 };
	bool		 unsure = false;

	if (list == NULL || json_object_array_length(list) == 0)
		return FITS;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		enum verdict	 v = schema_apply(c, json_object_array_get_idx(list, i), value);

		if (v == FITS || !schema_spend(c, 1))
			return v;
		unsure |= v == UNCHECKED;
		if (v == REFUSED)
			best_add(c, &best);
	}
	return unsure ? UNCHECKED : best_say(c, &best);
}

static enum verdict
one_of(struct check *c, json_object *schema, json_object *value)
{
	json_object	*list = schema_member(schema, "oneOf", json_type_array);
	struct best	 best = { .score = -1 };
	int		 fits = 0, unsure = 0;

	if (list == NULL || json_object_array_length(list) == 0)
		return FITS;
	for (size_t i = 0; i < json_object_array_length(list) && fits < 2; i++) {
		enum verdict	 v = schema_apply(c, json_object_array_get_idx(list, i), value);

		if (!schema_spend(c, 1))
			return UNCHECKED;
		fits += v == FITS;
		unsure += v == UNCHECKED;
		if (v == REFUSED)
			best_add(c, &best);
	}
	if (fits > 1)
		return schema_fault(c, FAULT_OTHER, "must fit one of its forms, and fits more than one");
	if (unsure > 0)
		return UNCHECKED;
	return fits == 1 ? FITS : best_say(c, &best);
}

static enum verdict
none_of(struct check *c, json_object *schema, json_object *value)
{
	json_object	*s, *what;
	enum verdict	 v;

	if (!json_object_object_get_ex(schema, "not", &s))
		return FITS;
	v = schema_quietly(c, s, value);
	if (v != FITS)
		return v == REFUSED ? FITS : UNCHECKED;
	if ((what = schema_member(s, "enum", json_type_array)) != NULL)
		return schema_fault_choice(c, "must not be one of", what);
	return schema_fault(c, FAULT_OTHER, "must not be %s", value == NULL ? "null" : "of the form its schema rules out");
}

static enum verdict
if_then(struct check *c, json_object *schema, json_object *value)
{
	json_object	*s, *next;
	enum verdict	 v;

	if (!json_object_object_get_ex(schema, "if", &s))
		return FITS;
	v = schema_quietly(c, s, value);
	if (v == UNCHECKED)
		return v;
	return json_object_object_get_ex(schema, v == FITS ? "then" : "else", &next) ?
	    schema_apply(c, next, value) : FITS;
}

/* One alternative was refused: is its complaint more to the point than those before? */
static void
best_add(struct check *c, struct best *b)
{
	int	 s = score(&c->fault, c->nplaces);

	if (s > b->score) {
		b->fault = c->fault;
		b->score = s;
	} else if (s == b->score && s == 0) {
		b->fault.kinds |= c->fault.kinds;
	} else if (s == b->score && c->quiet == 0 && b->fault.text != NULL && c->fault.text != NULL) {
		size_t	 n = strlen(b->fault.text), m = strlen(c->fault.text);

		if (n > 0 && n + m <= JOINED_MAX && strstr(b->fault.text, c->fault.text) == NULL)
			b->fault.text = arena_printf(c->arena, "%.*s; or %s", (int)(n - 1), b->fault.text, c->fault.text);
	}
}

/*
 * The alternative that was meant is the one that fits furthest into the value.
 * Further in, a wrong constant tells that another was meant; here, a wrong kind does.
 */
static int
score(const struct fault *f, int place)
{
	if (f->place <= place)
		return f->rank == FAULT_KIND ? 0 : f->rank == FAULT_VALUE ? 1 : 2;
	return 3 * (f->place - place) + (f->rank == FAULT_VALUE ? 0 : f->rank == FAULT_KIND ? 1 : 2);
}

static enum verdict
best_say(struct check *c, struct best *b)
{
	/* "must be text or null", instead of one after the other */
	if (b->score == 0)
		return schema_fault_kinds(c, b->fault.kinds);
	c->fault = b->fault;
	return REFUSED;
}
