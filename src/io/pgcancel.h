/*
 * pgcancel -- tells the server that nobody waits for a statement any more.
 *
 * A backend notices neither a closed connection nor a lost client while it works: it must be asked to
 * stop, on a connection of its own, and libpq does that with calls that block.  So a short-lived thread
 * does it.  The thread owns the connection that it is given and the cancel key, and touches nothing else: it logs
 * nothing, takes no signals and reports to nobody.  The statement's connection is closed after the server was told,
 * not before: PgBouncer forgets whose key it was when its client goes.
 *
 * There are at most eight such threads (a server that is away may hold each for a while);
 * beyond that the connection is only closed, and the server's own statement_timeout ends the statement.
 *
 * Only for what may be stopped at any point.  A commit that waits for a synchronous standby would be
 * released by a cancel before the standby has it, and others would read, and answer with, what a failover
 * loses: so never for a statement whose effect is answered for by being read again.
 */
#ifndef PARLEY_IO_PGCANCEL_H
#define PARLEY_IO_PGCANCEL_H

#include <libpq-fe.h>

/* Takes the connection and closes it, now or when the server has been told.  Does not wait, cannot fail. */
void	 pgcancel_send(PGconn *);

#endif
