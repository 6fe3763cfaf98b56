/*
 * ctl_mcp -- parleyctl asks the MCP servers itself, with the workers' own client in a loop of its own.
 *
 * What is found out about a server's revision, and sessions of a user, are kept in the database as a worker would.
 * Everything that is told belongs to the arena that was given.  The functions block until all is said; they are called once in the
 * life of the program.
 */
#ifndef PARLEY_CTL_MCP_H
#define PARLEY_CTL_MCP_H

#include <stdbool.h>

#include "tool/mcp_result.h"

struct arena;
struct conf;
struct conf_mcp;
struct tool;

/* What a server answered. */
struct ctl_mcp {
	const struct conf_mcp	*server;
	const char		*version;	/* the revision; NULL: there was no answer, or a token is wanted */
	struct tool		*tools;
	int			 ntools;
	int			 left_out;	/* tools that are not offered */
	const char		*fault;		/* of one of them */
	bool			 wants_token;	/* auth = caller, and no token was given: it is there, no more is known */
	const char		*why;		/* it cannot be used; NULL: it can */
	const char		*mend;
};

/* Before a loop: the size of its fibers' stacks, which is said once in the life of the program. */
void	 ctl_fibers(const struct conf *);

/* Asks all servers at once; answers has room for conf->nmcp.  token: the caller's, NULL: none.  -1: nothing could be asked. */
int	 ctl_mcp_ask(const struct conf *, struct arena *, const char *token, struct ctl_mcp *answers);

/* Whose tool the name could be; NULL: of none. */
const struct conf_mcp *ctl_mcp_of(const struct conf *, const char *name);

/* One call.  -1: it could not be made, for the reason that was said on stderr. */
int	 ctl_mcp_call(const struct conf *, struct arena *, const struct conf_mcp *, const char *name, const char *arguments,
	    const char *user, const char *token, struct mcp_result *);

#endif
