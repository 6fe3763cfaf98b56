/*
 * role -- the database role must be one that row level security binds.
 *
 * The first connection of the process looks at the role it has got.  One that sees everybody's rows is refused: the reason is
 * logged and the process ends at once, before any statement of its own.  One that owns the schema is warned of.
 */
#ifndef PARLEY_CHAT_ROLE_H
#define PARLEY_CHAT_ROLE_H

void	 role_guard(int status);	/* before pg_start(); the exit status of a process with a role that is refused */

#endif
