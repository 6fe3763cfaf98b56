/*
 * mcp_tools -- the list of a server's tools: asked for, narrowed to what we offer, and made ours.
 *
 * A server may say what it likes: of its list we keep what the allow-list names and what fits (number, sizes,
 * a schema of an object without references to other addresses, valid x-mcp-header marks).  What was kept is a
 * JSON array of MCP's own tool objects, the text that is shared and stored; descriptions are data for the
 * model, cut to a bounded length, and never more than that.
 *
 * Names for the model are NAME_tool: what model servers do not take becomes _, and a name that had to be changed
 * or cut ends in eight digits of its hash, so that two never become one by that.
 */
#ifndef PARLEY_TOOL_MCP_TOOLS_H
#define PARLEY_TOOL_MCP_TOOLS_H

#include <stdint.h>

#include "tool/mcp_peer.h"

struct arena;
struct buf;
struct tool;

#define MCP_TOOLS_MAX	128	/* of one server: model servers take no more in all */

/* yields.  All pages; text gets what was kept, *ttl_ms how long it counts.  -1: the reply says why there is none. */
int	 mcp_tools_ask(struct job *, struct mcp_link *, struct buf *text, int64_t *ttl_ms, struct mcp_reply *);

/* The tools of a text that mcp_tools_ask() made, at most MCP_TOOLS_MAX, with names and risk as the configuration wants them. */
int	 mcp_tools_read(struct arena *, const struct conf_mcp *, const char *text, struct tool *out);

/* A tool's name for the model. */
const char *mcp_tool_name(struct arena *, const struct conf_mcp *, const char *remote);

#endif
