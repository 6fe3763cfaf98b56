/*
 * pg -- PostgreSQL: one statement, one round trip, one borrowed connection.
 *
 * A worker has a small pool (database.connections), opened on demand; a
 * connection is held for one statement and never across anything else that
 * waits.  Parameters are always parameters, and no statement depends on what the session has seen (one that
 * a connection says often is prepared, which a transaction pooler may undo: pgknown.h), so it works
 * through a transaction pooler.  Everything goes through libpq's non-blocking calls.
 *
 * SQL tools may hold at most half of the pool (at least one), so that slow tools stop
 * neither turns nor leases; the pulse has a connection of its own.
 *
 * Failures: no connection within database.wait, or none to be made, is
 * database_unavailable, and so are the server's own troubles (SQLSTATE 08, 53, 57P, 25006); any other SQL error is
 * internal_error with the SQLSTATE as detail (rows->sqlstate lets the caller know better and job_forgive()).  When the
 * connection was lost after the statement was sent, rows->unknown is true: it may have been
 * done.  A statement that is late (database.statement_timeout, the job's deadline, a stop) loses its
 * connection, unknown as well.  If it is a tool (PG_TOOL) the server is told to stop it (pgcancel.h), unless the stop
 * was JOB_FENCED or JOB_DRAINED: then it may finish, and the fence decides.  All others may finish, until the
 * server's own statement_timeout, set on the role, ends them: whoever says them again finds out what they did.
 *
 * Several hosts in database.url are asked in turn, each for its share of database.connect_timeout, until one can be
 * written to (pghosts.h).  A server that goes, or has become read-only, costs the statements that it had, no
 * more: no other connection to it is used again.
 *
 * Host names in database.url are resolved by libpq, which blocks: use a Unix socket or an address
 * (hostaddr).
 */
#ifndef PARLEY_IO_PG_H
#define PARLEY_IO_PG_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

struct buf;
struct conf;
struct job;

enum pg_use { PG_TURN, PG_TOOL, PG_PULSE };

struct pg_rows {
	PGresult	*res;		/* belongs to the job's arena; pg_free() gives it back early */
	PGresult	**held;		/* the arena's own handle on it */
	int		 n;
	char		 sqlstate[6];	/* "" when all is well or the server did not answer */
	bool		 unknown;	/* sent, and no answer: it may have been done */
};

/* Once for a worker; opens nothing yet.  -1: database.url cannot be read (said in the log). */
int	 pg_start(const struct conf *);
void	 pg_stop(void);			/* closes what is idle */

/*
 * Before anything else on the first connection of this process this statement is run, and its result
 * shown; look() must not yield.  While it fails, so does every other statement.  NULL: none.
 */
void	 pg_on_first_connect(const char *sql, void (*look)(const PGresult *));

/*
 * yields.  The statement is whole, with $1 … and a list of text parameters (NULL is SQL NULL):
 *
 *	pg_query(job, PG_TURN, &rows, "SELECT … $1::text", user)
 */
#define pg_query(job, use, rows, ...)	\
	pg_query_n((job), (use), (rows), PG_FIRST(__VA_ARGS__, 0), \
	    (const char *const []){ __VA_ARGS__ } + 1, \
	    (int)(sizeof((const char *const []){ __VA_ARGS__ }) / sizeof(char *)) - 1)
#define PG_FIRST(first, ...)	first
int	 pg_query_n(struct job *, enum pg_use, struct pg_rows *, const char *sql,
	    const char *const *params, int nparams);

/* The column must exist: a wrong name is a mistake of ours and ends the worker. */
const char *pg_text(const struct pg_rows *, int row, const char *column);	/* NULL for SQL NULL */
const char *pg_col(const struct pg_rows *, int row, int column);
int64_t	 pg_col_int(const struct pg_rows *, int row, int column);	/* NULL is 0 */
int64_t	 pg_int(const struct pg_rows *, int row, const char *column);		/* 0 for NULL */
bool	 pg_bool(const struct pg_rows *, int row, const char *column);
void	 pg_free(struct pg_rows *);

/*
 * A field (PG_DIAG_…) of the error that a statement has failed with, NULL: none.  Only for errors of our own functions:
 * the words of others may quote what a user wrote.
 */
const char *pg_error(const struct pg_rows *, int field);

const char *pg_num(struct job *, int64_t);	/* a number as a parameter */
const char *pg_flag(bool);			/* "t", "f" */

#endif
