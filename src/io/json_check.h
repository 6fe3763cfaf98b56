/*
 * json_check -- the door's grammar, for json.c alone.
 *
 * Walks a text once and says whether it is exactly one JSON text of RFC 8259
 * within the bounds of json.h; builds nothing.  Recursion is bounded by JSON_DEPTH_MAX.  Nothing yields.
 */
#ifndef PARLEY_IO_JSON_CHECK_H
#define PARLEY_IO_JSON_CHECK_H

#include <stdbool.h>
#include <stddef.h>

struct json_check {
	const char	*s;
	size_t		 n;
	size_t		 at;		/* where the walk is, or where it failed */
	const char	*why;		/* what is wrong there; a constant */
	size_t		 weight;	/* bytes that its tree would take beside its texts, about */
};

bool	 json_check(struct json_check *);	/* s and n are set, the rest is zero */

#endif
