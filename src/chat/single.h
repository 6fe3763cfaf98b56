/*
 * single -- the schema for one role: where no role can be made, one stands for the five of the files.
 *
 * The files in schema/ speak of parley_owner, parley_worker, parley_tool, parley_pulse and parley_ops.  For one
 * role they are sent with CURRENT_USER in the place of these names (single_text); then what they
 * left is made safe in the catalog (single_guard): a policy that was for one of those roles alone would be for
 * the only role there is, so it counts only within the functions that belonged to parley_pulse or parley_ops: their
 * search_path gets an end (pg_parley) that the policy asks for.
 *
 * A backup needs all rows, and no role that row level security does not bind is there to make it: each table gets a policy
 * that lets a session read it that has said parley.backup = on, which nothing of ours does.
 *
 * What a file must keep to: CREATE and GRANT of a role come after the question whether it is there,
 * or given (as in 001-core.sql); a role's name stands bare, or alone between quotes; a function that crosses users has
 * pg_catalog, pg_temp as its search_path, and is given away by a line ALTER FUNCTION … OWNER TO ….
 *
 * No statement of either holds the role's name, but for that GRANT: a dump can be restored under another.
 * For command-line programs; single_text does not fail, single_guard gives its result to the caller.
 */
#ifndef PARLEY_CHAT_SINGLE_H
#define PARLEY_CHAT_SINGLE_H

#include <libpq-fe.h>

struct buf;

/* Appends to out the text of a file for one role, whose name (quoted as an identifier) is given. */
void	 single_text(struct buf *out, const char *text, const char *role);

/* After a file.  Within the transaction of the migration. */
PGresult *single_guard(PGconn *);

/* Before a file: gives the owner back what it may have taken from itself. */
PGresult *single_begin(PGconn *);

#endif
