/*
 * mcp_era -- which revision a server speaks: the new era (2026-07-28) is tried first, with server/discover, which does
 * nothing; then initialize, as all others began.
 *
 * What was found is kept in the facts for a day.
 */
#ifndef PARLEY_TOOL_MCP_ERA_H
#define PARLEY_TOOL_MCP_ERA_H

#include "tool/mcp_wire.h"

/* yields.  Sets modern, version and session of the peer; -1: the reply says why it cannot be. */
int	 mcp_era_find(struct job *, struct mcp_peer *, struct mcp_reply *);
/* yields.  The beginning of the old eras: sets version and session.  -1: the reply says why not. */
int	 mcp_initialize(struct job *, struct mcp_peer *, struct mcp_reply *);
/* The key of the fact. */
const char *mcp_era_key(struct job *, const struct conf_mcp *);

#endif
