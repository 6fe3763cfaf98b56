/*
 * ctl_user -- what there is of one user, table by table: for parleyctl user export and user erase.
 *
 * The tables are found in the catalog, whoever made them: those with a column user_id whose row level security knows
 * parley.user_id are ours (see schema/ops.sql).
 */
#ifndef PARLEY_CTL_USER_H
#define PARLEY_CTL_USER_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

/* Name, whether it is ours, how many rows of the user it has: a row for each table.  NULL: failed, which is said. */
#define USER_TABLES	"SELECT name, ours, amount FROM parley.user_tables($1::text)"

int64_t	 user_total(const PGresult *tables);	/* rows in ours */
/* Tables that may not be looked into, though they are ours: says so of each.  true: there are some. */
bool	 user_closed(const PGresult *tables);

/* Exit status of the program. */
int	 user_erase(PGconn *, const char *user, bool yes);

#endif
