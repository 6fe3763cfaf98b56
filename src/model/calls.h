/*
 * calls -- the tool calls of an answer, put together from their fragments.
 *
 * A fragment says which call it belongs to by `index`; where that is absent a
 * new id opens a call, no id goes on with the last, and several fragments in one delta go
 * by their place.  Names may be split or repeated, arguments may come as text or as
 * an object, ids may be missing, null, empty, or used twice (then we make our own).
 *
 * The struct belongs to the one who zeroed it; calls_free() empties it.  Nothing yields.
 */
#ifndef PARLEY_MODEL_CALLS_H
#define PARLEY_MODEL_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json_object.h>

#include "base/buf.h"
#include "model/text.h"

#define CALLS_MAX	128	/* in one answer; the APIs allow as many tools */

struct arena;
struct call;

struct calls_one {
	int64_t		 index;		/* as the server said, -1: it did not */
	struct buf	 id;
	struct buf	 name;
	struct text	 arguments;
	char		*extra;		/* extra_content: opaque, to be sent back; NULL: none */
};

struct calls {
	struct calls_one *v;
	int		 n, cap;
	size_t		 size;		/* bytes of names and arguments */
	size_t		 beside;	/* and of ids and extra_content, as they came */
};

/* Takes the value of tool_calls of one delta or message; -1: more calls than CALLS_MAX. */
int	 calls_take(struct calls *, json_object *list, bool mended);
void	 calls_free(struct calls *);

/*
 * The calls for the answer, with ids of ours, unique call ids and parameters read.  cut: the answer
 * was cut off by its length, so that a call without arguments may have lost them.
 * Calls that never got a name are left out.
 */
struct call *calls_done(struct calls *, struct arena *, bool cut, int *n);
/* Appends "tool_calls":[…] as received, with the call ids of done. */
void	 calls_raw(const struct calls *, const struct call *done, struct buf *);

#endif
