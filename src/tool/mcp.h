/*
 * mcp -- tools on other servers (Model Context Protocol): what there are, and calling one.
 *
 * Lists.  What a server with one key for all, or none, offers is known to the whole worker (and, as a fact, to
 * all workers); lists are fetched on fibers of their own, so a slow server holds up nobody for long, and one that is down
 * is left out and named.  A server that is asked with the caller's own token (auth = caller)
 * may show each user something else: those lists are rows of the user, renewed while the token is there.
 *
 * Calls.  Whatever goes wrong is a result for the model, which says whether anything can have been done;
 * mcp_call() fails only with its job (deadline, stop).  A call is sent once: again only when the server has refused it,
 * for its session or its revision, before it did anything.
 */
#ifndef PARLEY_TOOL_MCP_H
#define PARLEY_TOOL_MCP_H

#include <stdbool.h>

#include "tool/mcp_result.h"

struct arena;
struct conf_mcp;
struct job;
struct tool;

struct mcp_lists {
	struct tool	*tools;		/* in no order; in the arena that was given */
	int		 ntools;
	const char	*down;		/* names of servers that cannot be reached, ", " between; NULL: none */
};

/* yields for a few seconds at most.  The lists that are the same for all users; renews what is old. */
void	 mcp_lists_shared(struct job *, struct arena *, struct mcp_lists *);
/* Has one come in since? */
bool	 mcp_lists_news(void);
/* yields.  The lists of the job's user, of servers that are asked with the caller's token; false: there are no such servers. */
bool	 mcp_lists_own(struct job *, struct arena *, struct mcp_lists *);

/* yields.  Has the call's result; -1: the job has failed, and the call may have been carried out. */
int	 mcp_call(struct job *, const struct tool *, const char *arguments, struct mcp_result *);
/* Why it cannot be called now, or not like this, as a sentence for the model; NULL: it can. */
const char *mcp_call_refusal(struct job *, const struct tool *, const char *arguments);
const char *mcp_call_mistake(struct job *, const struct tool *, const char *arguments);	/* only: not like this */

#endif
