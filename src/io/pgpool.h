/*
 * pgpool -- the connections behind pg.h: who may have one, and how it is made.
 *
 * A statement takes a permit first and then an idle connection, or opens one.  There are
 * database.connections permits; they are handed on in the order of asking, directly, so nobody who comes later can
 * take one away.  At most half of them (at least one) are for tools, and of each kind at most half are one user's
 * (pgshare.h).  The pulse has a pool of one.
 *
 * An idle connection that has something to say is one that the server has closed or is about to: it is dropped and another
 * opened, so a restart of PostgreSQL between two turns is noticed by nobody.  After a failed attempt there
 * is none for 200 ms: who was here when it failed fails with it, who comes later waits for the next.  An attempt asks all
 * hosts of the list, each with its share of database.connect_timeout; where all are away nobody waits much longer than that.
 * When a server has gone, or has become read-only, all connections that are idle then are dropped, and those that are
 * lent when they come back: each would cost a statement to find out, and reads would go on there for ever.
 *
 * Where the server grants some connections and refuses more, those are shared for a while as if the pool had no more.
 */
#ifndef PARLEY_IO_PGPOOL_H
#define PARLEY_IO_PGPOOL_H

#include <libpq-fe.h>

#include "io/pg.h"
#include "io/pgknown.h"
#include "io/pgshare.h"

struct pg_conn {
	PGconn		*pg;
	struct permit	 permit;
	unsigned	 era;		/* older than the pool's: not trusted any more */
	struct pgknown	 known;
	bool		 named;		/* its present statement was said by its name */
	struct pg_conn	*next;		/* in the idle list */
};

void	 pgpool_start(int connections);

/* yields.  NULL: the job has failed (database_unavailable, or by its deadline or a stop). */
struct pg_conn *pgpool_take(struct job *, enum pg_use);
void	 pgpool_give(struct pg_conn *);	/* between two statements, in order */
void	 pgpool_drop(struct pg_conn *);	/* closes it */
void	 pgpool_cancel(struct pg_conn *);	/* the same, and has its statement stopped: see pgcancel.h */
void	 pgpool_distrust(void);		/* none of the connections that there are now is used for another statement */
void	 pgpool_stop(void);

/*
 * yields.  A new connection, or NULL: refused (a detail is set), or the job has failed; since is when the
 * caller came, until the end of his patience. (pgopen.c)
 */
PGconn	*pg_open(struct job *, int64_t since, int64_t until);

#endif
