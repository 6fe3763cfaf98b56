/*
 * json_walk -- from token to token of a text that json_check() has passed, without a tree.
 *
 * A place is a pointer into the text, which must go on with a byte that ends a number ('\0' will do).  Nothing is
 * checked again.  Nothing yields.
 */
#ifndef PARLEY_IO_JSON_WALK_H
#define PARLEY_IO_JSON_WALK_H

#include "base/buf.h"

/* The byte that begins the next token; the place is there. */
char	 json_walk_next(const char **);
/* The place is at a string: its text is added to the buffer. */
void	 json_walk_string(const char **, struct buf *);
/* The place is at a value: what follows it is next. */
void	 json_walk_past(const char **);

#endif
