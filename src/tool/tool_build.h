/*
 * tool_build -- one table out of SQL functions and the lists of MCP servers.
 *
 * For tool.c, and the rules of risk for parleyctl.  A name stands once: an SQL tool has precedence over a
 * remote one of the same name, which is left out with a word in the log.  The order is by name, so that the beginning of a prompt stays the
 * same and servers that cache it can go on doing so.  Nothing yields; all belongs to the arena given.
 */
#ifndef PARLEY_TOOL_TOOL_BUILD_H
#define PARLEY_TOOL_TOOL_BUILD_H

#include "tool/tool.h"

struct arena;
struct conf;
struct mcp_lists;
struct pg_rows;

/* rows of parley.tools_list() */
void	 tool_build(struct arena *, const struct conf *, struct pg_rows *, const struct mcp_lists *, struct tool_table *out);
/* The same table and more tools. */
void	 tool_build_more(struct arena *, const struct tool_table *, const struct mcp_lists *, struct tool_table *out);

/* The risk that a comment names: what is not known to be harmless writes. */
enum tool_risk tool_risk_of(const char *);
/* What the configuration says of an SQL tool counts more than its comment. */
void	 tool_rule(const struct conf *, struct tool *);

#endif
