/*
 * schema -- does a JSON value fit a tool's JSON schema?
 *
 * For tools of foreign MCP servers: what the model wrote is looked at before
 * anything is sent, and the model is told in one sentence what to change, in
 * the words of parley.tool_refuse() (schema/tools.sql), which does the same for
 * SQL tools.  JSON Schema 2020-12, and what tools still use of drafts 4 to 7
 * (definitions, dependencies, items as a list, exclusiveMinimum as a boolean).
 *
 * It refuses only what it is sure of.  A schema is foreign text, and the server
 * looks at its arguments itself: this check saves a round and is no
 * wall.  So what cannot be decided here fits, and the server has the last word:
 *
 *	$ref	is followed to #/pointers, $anchor and $id of the same schema.
 *		Nothing is ever fetched: another's schema is not checked, nor
 *		is $dynamicRef.
 *	pattern, patternProperties	are not checked: ECMA-262 patterns are not
 *		POSIX ones, and a foreign pattern may take for ever.
 *	unevaluatedProperties, unevaluatedItems	are not checked.
 *	format	is checked for date, date-time, email and uuid, leniently
 *		(2020-12 validation, section 7: a reader may leave it out).
 *	work	32 schemas within each other, about 10 000 schemas applied (some
 *		milliseconds); past that the rest is not looked at.  No schema can
 *		hold the loop, and none becomes unusable because a value is long.
 *
 * A keyword of a wrong type is not there.  "Not checked" is an answer of its own
 * inside: `not` does not turn it into a refusal.
 *
 * Values and schemas come from json_read(), which bounds their depth; the trees stay
 * the caller's.  Stack: under 20 KiB at worst.  Nothing yields.
 */
#ifndef PARLEY_TOOL_SCHEMA_H
#define PARLEY_TOOL_SCHEMA_H

#include <stdbool.h>

#include <json-c/json_object.h>

struct arena;

/*
 * NULL: it fits, as far as can be said.  Else a sentence for the model, in the arena; at most some 600 bytes, of the schema's
 * and the model's words.
 */
const char *schema_refuse(struct arena *, json_object *schema, json_object *value);
/*
 * For once, when a tool is learnt.  false: no object, or more than 32 deep, 20 000 values or 256 KiB of text.
 * A tool with such a schema is left out: each request would carry it to the model.
 */
bool	 schema_usable(json_object *schema);

#endif
