/*
 * piece -- the commonest event of a stream, read without a tree.
 *
 * All events of an answer but a few say the same: one choice, and in its delta a piece of the text.  A tree
 * of json-c for each of them was a third of the instructions of a plain turn.  Here the text is found on one walk
 * over the event; what has anything else to say is left to wire.c, which reads everything.
 *
 * Nothing yields.
 */
#ifndef PARLEY_MODEL_PIECE_H
#define PARLEY_MODEL_PIECE_H

#include <stdbool.h>

#include "base/buf.h"

/*
 * The JSON text is strict (json_valid()).  true: it says nothing but what has been added to the buffer,
 * nothing at all perhaps, and the name of the model; false: the buffer is of no use.
 */
bool	 piece_read(const char *json, struct buf *text);

#endif
