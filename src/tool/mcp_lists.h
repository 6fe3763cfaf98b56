/*
 * mcp_lists -- what the files that keep lists of MCP tools share; for them and mcp.c alone.
 */
#ifndef PARLEY_TOOL_MCP_LISTS_H
#define PARLEY_TOOL_MCP_LISTS_H

#include <stdbool.h>

#include "tool/mcp.h"

struct conf;

void	 mcp_lists_open(struct mcp_lists *, struct arena *, const struct conf *);	/* room for all servers there are */
/* text: what mcp_tools_ask() made; NULL: the server is down. */
void	 mcp_lists_add(struct mcp_lists *, struct arena *, const struct conf_mcp *, const char *text);
bool	 mcp_asks_caller(const struct conf_mcp *);	/* auth = caller */
/* A call has shown that the list of a server is old: it is read again soon. */
void	 mcp_doubt(const struct conf_mcp *);

#endif
