/*
 * mcp_peer -- how an MCP server is to be spoken to: its era, and the session of the old eras.
 *
 * The era of a server is found out once (the form of the new era first, then initialize) and kept in the facts
 * of the database for all workers; when a server later refuses what it should understand, it is found out anew.
 *
 * Sessions belong to a user and are rows (mcp_sessions): whichever worker makes the next call goes on with
 * them.  One that the server has lost (404, or a refusal that speaks of sessions) is opened anew,
 * once.  Where no user is (the lists of tools) a session lasts as long as the peer.
 *
 * Failures are the reply's fate (mcp_wire.h); a database that is away is none: the server is
 * asked as if nothing were known.
 */
#ifndef PARLEY_TOOL_MCP_PEER_H
#define PARLEY_TOOL_MCP_PEER_H

#include <stdbool.h>

#include "tool/mcp_wire.h"

struct mcp_link {
	struct mcp_peer	 peer;
	const char	*user;		/* whose sessions; NULL: nobody's */
	bool		 open;		/* the era is known and, in the old ones, initialize was said */
	int		 left_out;	/* of the last list: tools that are not offered */
	const char	*fault;		/* of the last one of them */
};

/* token: the caller's, NULL: not there.  Nothing is sent yet. */
void	 mcp_link_make(struct mcp_link *, const struct conf_mcp *, const char *user, const char *token);
/* yields.  Says it, having found out or opened what is needed; -1: the reply is no MCP_ANSWERED. */
int	 mcp_link_ask(struct job *, struct mcp_link *, const struct mcp_ask *, struct mcp_reply *);
/* yields.  Ends a session that is nobody's. */
void	 mcp_link_close(struct job *, struct mcp_link *);

#endif
