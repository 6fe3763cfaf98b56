/*
 * piece -- the common events of a stream, read without a tree.
 *
 * All events of a plain answer say one of four things: who speaks, a piece of the text, why it ends, what it has cost.
 * Trees of json-c for them were a third of the instructions of a plain turn.  Here they are found on one walk
 * over the event; what has anything else to say is left to wire.c, which reads everything.
 *
 * What is found points into the event, or into the piece itself: piece_free() when it has been used.  Nothing yields.
 */
#ifndef PARLEY_MODEL_PIECE_H
#define PARLEY_MODEL_PIECE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct span {				/* p NULL: the event does not say */
	const char	*p;
	size_t		 n;
};

struct piece {
	struct span	 text;
	struct span	 model;
	struct span	 finish;
	int64_t		 input_tokens;	/* -1: the event does not say */
	int64_t		 output_tokens;
	struct buf	 spelled;	/* a text that had escapes */
};

/* The JSON text is strict (json_valid()).  false: it may say something else besides. */
bool	 piece_read(struct piece *, const char *json);
void	 piece_free(struct piece *);

#endif
