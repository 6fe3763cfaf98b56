/*
 * tool -- what the model can do: the table of this worker's tools.
 *
 * SQL functions of the schema `tools` (read from the database's catalog, kept for
 * tools.refresh, renewed in the background while in use), and the tools of MCP servers (mcp.h).  The table is replaced
 * as a whole; a turn keeps the one it began with (reference counted).  Where servers are asked with the caller's
 * own token, a turn has a table of its own, with what they show its user on top.
 */
#ifndef PARLEY_TOOL_TOOL_H
#define PARLEY_TOOL_TOOL_H

#include <stdbool.h>

struct conf_mcp;
struct job;

enum tool_risk { TOOL_WRITES, TOOL_IDEMPOTENT, TOOL_READ_ONLY };

struct tool {
	const char	*name;
	const char	*description;
	const char	*schema;	/* JSON schema of the parameters, object text */
	const char	*output;	/* of the result, NULL: not known */
	enum tool_risk	 risk;
	bool		 confirm;
	const struct conf_mcp *server;	/* NULL: an SQL function */
	const char	*remote;	/* its name there */
};

struct tool_table {
	struct tool	*tools;		/* by name */
	int		 ntools;
	const char	*json;		/* "tools" of a chat-completions request; NULL when there are none */
	const char	*notice;	/* for the model: what is missing, and why; NULL: nothing */
	const char	*down;		/* names of servers that cannot be reached; NULL: none */
	int		 users;		/* references */
};

/* yields when nothing usable is cached.  NULL: the job has failed. The job's arena gives it back. */
const struct tool_table *tool_table_take(struct job *);
/* The same without what servers show the job's user alone. */
const struct tool_table *tool_table_shared(struct job *);
const struct tool *tool_find(const struct tool_table *, const char *name);	/* NULL: unknown */
void	 tool_table_expire(void);	/* the next take reads anew */

#endif
