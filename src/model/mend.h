/*
 * mend -- JSON that is almost JSON.
 *
 * What model servers send is read strictly first.  Only what fails is mended, once,
 * and then read strictly again: inside strings raw control characters are escaped,
 * NUL (raw or escaped) is dropped, bytes that are no UTF-8 and lone surrogates are replaced.
 * Nothing is invented: no bracket is closed, no quote or comma added.
 *
 * Nothing yields.
 */
#ifndef PARLEY_MODEL_MEND_H
#define PARLEY_MODEL_MEND_H

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json_object.h>

#include "base/buf.h"

struct arena;

/*
 * Halves of characters that were cut apart must not be lost in a delta: there an odd byte
 * becomes MEND_BYTE + byte and a lone surrogate MEND_SURROGATE + its low 11 bits, both
 * in the private use area, until text_add_mended() puts the halves together.
 */
#define MEND_SURROGATE	0xe000
#define MEND_BYTE	0xf700

enum mend_how { MEND_KEEP, MEND_REPLACE };	/* the above, or U+FFFD at once */

void	 mend_json(const char *, size_t, enum mend_how, struct buf *out);

/* A tree of one event or body, strict or mended (*mended), or NULL.  Duplicate keys: the last wins.  The caller puts it. */
json_object *mend_read(const char *, size_t, bool *mended);

/* The arguments of a tool call as a model wrote them. */
enum mend_arguments {
	MEND_GOOD,		/* *parameters is what was sent, "" and null being {} */
	MEND_REPAIRED,		/* *parameters is a reading of it: double-encoded, or not quite strict */
	MEND_BROKEN		/* *parameters is {} */
};
enum mend_arguments mend_arguments(struct arena *, const char *, size_t, const char **parameters);

#endif
