/*
 * tool_build -- one table out of SQL functions and the lists of MCP servers.
 *
 * For tool.c alone.  A name stands once: an SQL tool has precedence over a remote one of the same name, which
 * is left out with a word in the log.  The order is by name, so that the beginning of a prompt stays the
 * same and servers that cache it can go on doing so.  Nothing yields; all belongs to the arena given.
 */
#ifndef PARLEY_TOOL_TOOL_BUILD_H
#define PARLEY_TOOL_TOOL_BUILD_H

#include "tool/tool.h"

struct arena;
struct mcp_lists;
struct pg_rows;

/* rows of parley.tools_list() */
void	 tool_build(struct arena *, struct pg_rows *, const struct mcp_lists *, struct tool_table *out);
/* The same table and more tools. */
void	 tool_build_more(struct arena *, const struct tool_table *, const struct mcp_lists *, struct tool_table *out);

#endif
