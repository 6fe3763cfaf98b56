/*
 * pgshare -- who has how many of a worker's connections, so that nobody has all.
 *
 * Of what there is of a kind (connections for turns, for tools) one user has at most half, at least one: whoever
 * makes all his statements wait for one lock leaves the others room.  What belongs to no user is not counted.
 */
#ifndef PARLEY_IO_PGSHARE_H
#define PARLEY_IO_PGSHARE_H

#include <stdbool.h>

#include "io/pg.h"

/* What one statement is allowed to take. */
struct permit {
	enum pg_use	 use;
	char		 user[17];	/* as in the log; "": nobody's */
};

void	 pgshare_count(const struct permit *, int n);	/* n: 1 taken, -1 given back */
bool	 pgshare_is_used(const struct permit *, int size);	/* of so many that there are of its kind */

#endif
