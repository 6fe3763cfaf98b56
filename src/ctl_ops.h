/*
 * ctl_ops -- the connection of those who look across users: parleyctl stats, prune, user.
 *
 * It is made as database.ops_url says, and each transaction takes on the role that owns the functions of schema/ops.sql, by SET
 * LOCAL ROLE: so it works behind a pooler, and whoever logs in need only be a member of that role.  What fails is said on
 * stderr, once.  Everything blocks.
 */
#ifndef PARLEY_CTL_OPS_H
#define PARLEY_CTL_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

struct conf;

PGconn	*ops_open(const struct conf *);		/* NULL: there is none */

/* One statement that is a transaction, said again where another stood in its way.  NULL: it failed. */
#define ops_ask(pg, sql, ...)	\
	ops_ask_n((pg), (sql), (const char *const []){ __VA_ARGS__ }, \
	    (int)(sizeof((const char *const []){ __VA_ARGS__ }) / sizeof(char *)))
PGresult *ops_ask_n(PGconn *, const char *sql, const char *const *params, int nparams);

/* A longer transaction; mode is what follows BEGIN.  -1: failed. */
int	 ops_begin(PGconn *, const char *mode);
int	 ops_commit(PGconn *);
void	 ops_complain(const PGresult *);	/* of a statement in it */

/* Whole seconds, from "365d", "24 h", "90min", "30s".  false: it is nothing of the kind, or less than so many; which is said. */
bool	 ops_seconds(const char *text, int64_t least, int64_t *seconds);

/* Is that a user that any token could name?  false: no, which is said. */
bool	 ops_user(const char *);

/* Other people's words on a terminal: without what would move the cursor.  Good until the fourth call from now. */
const char *ops_plain(const char *);

#endif
