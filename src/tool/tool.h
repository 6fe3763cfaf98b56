/*
 * tool -- what the model can do: the table of this worker's tools.
 *
 * SQL functions of the schema `tools` (read from the database's catalog, kept for
 * tools.refresh, renewed in the background while in use).  The table is replaced as a whole; a turn
 * keeps the one it began with (reference counted).
 */
#ifndef PARLEY_TOOL_TOOL_H
#define PARLEY_TOOL_TOOL_H

#include <stdbool.h>

struct job;

enum tool_risk { TOOL_WRITES, TOOL_IDEMPOTENT, TOOL_READ_ONLY };

struct tool {
	const char	*name;
	const char	*description;
	const char	*schema;	/* JSON schema of the parameters, object text */
	const char	*output;	/* of the result, NULL: not known */
	enum tool_risk	 risk;
	bool		 confirm;
};

struct tool_table {
	struct tool	*tools;		/* by name */
	int		 ntools;
	const char	*json;		/* "tools" of a chat-completions request; NULL when there are none */
	int		 users;		/* references */
};

/* yields when nothing usable is cached.  NULL: the job has failed. The job's arena gives it back. */
const struct tool_table *tool_table_take(struct job *);
const struct tool *tool_find(const struct tool_table *, const char *name);	/* NULL: unknown */
void	 tool_table_expire(void);	/* the next take reads anew */

#endif
