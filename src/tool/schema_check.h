/*
 * schema_check -- one check of one value, for the schema files alone.
 *
 * Each group of keywords is a function of (check, schema, value).  Verdicts are
 * ordered: the worst of several is their conjunction.  Whoever returns REFUSED has
 * left c->fault; it stands until the next one.
 *
 * Recursion goes through schema_apply(), which bounds it, and each loop asks
 * schema_spend() before it goes on.  Frames between two schema_apply() stay
 * small, so buffers are in files of their own (schema_ref.c, schema_say.c).
 */
#ifndef PARLEY_TOOL_SCHEMA_CHECK_H
#define PARLEY_TOOL_SCHEMA_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "tool/schema.h"

#define SCHEMA_DEPTH_MAX	32	/* schemas applied within each other; 64 KiB stacks */
#define SCHEMA_STEPS_MAX	100000	/* a step is some 50 ns */
#define SCHEMA_APPLY_STEPS	10	/* for the keywords looked up each time */

enum verdict { FITS, UNCHECKED, REFUSED };

/* What of a refusal says that its alternative was not the one meant (schema_logic.c). */
enum fault_rank { FAULT_KIND, FAULT_VALUE, FAULT_OTHER };

enum {
	KIND_STRING = 1, KIND_INTEGER = 2, KIND_NUMBER = 4, KIND_BOOLEAN = 8,
	KIND_OBJECT = 16, KIND_ARRAY = 32, KIND_NULL = 64
};

struct fault {
	const char	*text;		/* the sentence; "" where none is wanted */
	int		 place;		/* how deep in the value */
	enum fault_rank	 rank;
	unsigned	 kinds;		/* FAULT_KIND: what would have been right */
};

/* Where in the value we are; lives in the frames of those who walk it. */
struct place {
	struct place	*up;
	const char	*name;		/* NULL: an item */
	size_t		 index;
};

struct check {
	struct arena	*arena;
	json_object	*document;	/* the whole schema */
	json_object	*root;		/* what "#" means: the document, or a part with an $id of its own */
	struct place	*place;
	int		 nplaces;
	int		 depth;
	int		 steps;		/* left; none: nothing is certain any more */
	int		 quiet;		/* > 0: nobody will read the sentence */
	struct fault	 fault;
};

/* schema.c */
enum verdict schema_apply(struct check *, json_object *schema, json_object *value);
bool	 schema_spend(struct check *, size_t steps);	/* false: stop */
bool	 schema_spend_text(struct check *, const char *);	/* for what is hashed or read to its end */
void	 schema_enter(struct check *, struct place *, const char *name, size_t index);
void	 schema_leave(struct check *);
json_object *schema_member(json_object *, const char *key, json_type);	/* NULL: not there, or another type */
static inline enum verdict
worse(enum verdict a, enum verdict b)
{
	return a > b ? a : b;
}

/* schema_value.c: type, enum, const, and what is said of numbers and strings */
enum verdict schema_type(struct check *, json_object *, json_object *);
enum verdict schema_values(struct check *, json_object *, json_object *);
enum verdict schema_number(struct check *, json_object *, json_object *);
enum verdict schema_string(struct check *, json_object *, json_object *);
bool	 schema_same(struct check *, json_object *, json_object *);	/* 1.0 is 1 */
bool	 schema_limit(json_object *schema, const char *key, long double *);

/* schema_format.c */
enum verdict schema_format(struct check *, const char *format, const char *text);

/* schema_list.c, schema_object.c */
enum verdict schema_list(struct check *, json_object *, json_object *);
enum verdict schema_object(struct check *, json_object *, json_object *);

/* schema_logic.c: allOf, anyOf, oneOf, not, if, $ref */
enum verdict schema_logic(struct check *, json_object *, json_object *);
enum verdict schema_quietly(struct check *, json_object *, json_object *);

/* schema_ref.c: what a $ref means, and its root; NULL: nothing of this document */
json_object *schema_resolve(struct check *, const char *ref, json_object **root);

/* schema_say.c: each makes c->fault and returns REFUSED */
enum verdict schema_fault(struct check *, enum fault_rank, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));	/* "Title " is put before it, "." behind */
enum verdict schema_fault_kinds(struct check *, unsigned kinds);
enum verdict schema_fault_choice(struct check *, const char *words, json_object *list);
enum verdict schema_fault_unknown(struct check *);	/* "There is no argument priority." */
const char *schema_where(struct check *, bool begins);	/* the name of the place, in the arena */
const char *schema_value_text(struct check *, json_object *);	/* as in a sentence, cut when long */
const char *schema_text(struct check *, const char *);

#endif
