/*
 * json -- a strict door, careful getters, and a writer.
 *
 * json_read() takes exactly what RFC 8259 calls a JSON text and no more: it
 * checks grammar, UTF-8, NUL (raw or escaped), lone surrogates, duplicate keys, depth and trailing bytes itself
 * and makes json-c's tree itself, because json-c's own reader lets several of them pass
 * (and numbers are bounded: an exponent of at most 3 digits, at most 40 digits).
 * A text whose tree would take far more memory than itself, such as a thousand times "{},", is refused.
 * An integer beyond 64 bits keeps its value, but is no integer to json_get_int().
 *
 * Trees belong to the arena given.  The getters never convert: a wrong type is
 * an answer of its own.  The writer appends to a buf and never fails; strings are
 * escaped as RFC 8259 section 7 asks, slashes are left alone.  Nothing yields.
 */
#ifndef PARLEY_IO_JSON_H
#define PARLEY_IO_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json_object.h>

#include "base/buf.h"

#define JSON_DEPTH_MAX	32

struct arena;

/*
 * NULL: not one strict JSON text; *why (if given) says what is wrong and at which byte.
 * The text "null" gives NULL as well: json-c has no object for it.
 */
json_object *json_read(struct arena *, const char *, size_t, const char **why);
/* The same for requests, which are plain: a few times their text, and no more. */
json_object *json_read_small(struct arena *, const char *, size_t, const char **why);
/* The same for what was written by ourselves, or by the database: nothing is too much. */
json_object *json_read_stored(struct arena *, const char *, size_t, const char **why);
/* The same, but of two members of one name the last one stays; the tree is the caller's. */
json_object *json_read_any(const char *, size_t);
/* The check alone, without a tree; does not see duplicate keys; *why is a constant. */
bool	 json_valid(const char *, size_t, const char **why);

enum json_got { JSON_ABSENT, JSON_NULL, JSON_WRONG, JSON_GOT };

/* obj may be NULL or no object: JSON_ABSENT. Strings hold no NUL (the door saw to it). */
enum json_got json_get_string(json_object *obj, const char *key, const char **);
enum json_got json_get_int(json_object *obj, const char *key, int64_t *);	/* only an integer in range */
enum json_got json_get_bool(json_object *obj, const char *key, bool *);
enum json_got json_get_object(json_object *obj, const char *key, json_object **);
enum json_got json_get_array(json_object *obj, const char *key, json_object **);
/* A string's text or NULL, whatever else the member is. */
const char *json_text_or_null(json_object *obj, const char *key);
/* Compact text of a tree, doubles as they came, slashes plain; belongs to the tree's owner until the next call. */
const char *json_text(json_object *);

/*
 * The writer:   jw_open(b, '{'); jw_key(b, "n"); jw_int(b, 1); jw_close(b, '}');
 * A comma is put where one is needed, judged by the last byte of the buffer: one
 * text for each buffer, or behind something that does not look like a value ("data: ").
 */
void	 jw_open(struct buf *, char bracket);
void	 jw_close(struct buf *, char bracket);
void	 jw_key(struct buf *, const char *);
void	 jw_string(struct buf *, const char *);		/* NULL writes null */
void	 jw_string_n(struct buf *, const char *, size_t);	/* invalid UTF-8 becomes U+FFFD, NUL is dropped */
void	 jw_int(struct buf *, int64_t);
void	 jw_bool(struct buf *, bool);
void	 jw_null(struct buf *);
void	 jw_raw(struct buf *, const char *);			/* valid JSON text, without its blanks: it becomes one line; NULL writes null */

#endif
