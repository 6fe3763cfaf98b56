/*
 * mcp_wire -- one JSON-RPC message to an MCP server over Streamable HTTP, and what comes back.
 *
 * All revisions from 2025-03-26 to 2026-07-28: a POST of its own for each message, answered with JSON or with a stream
 * of events in which the answer is the one message with our id.  What else a stream brings is
 * read over; a server of the old eras that asks something back is told that we cannot do that (ping: {}),
 * in a POST of its own.  A stream of the old eras that ends too early is gone on with by GET where the
 * server gave its events ids.
 *
 * The server is not trusted: answers are strict JSON of bounded size, redirects are not followed,
 * its words go to no log.  A message is never sent twice by this file.
 *
 * Nothing fails but by the reply's fate; only MCP_STOPPED has failed the job.  Of a request of the old
 * eras whose answer is not waited for any longer the server is told (notifications/cancelled); one of the new era
 * learns it from the stream that is closed.
 */
#ifndef PARLEY_TOOL_MCP_WIRE_H
#define PARLEY_TOOL_MCP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json_object.h>

struct arena;
struct conf_mcp;
struct job;

#define MCP_MODERN	"2026-07-28"	/* the only revision of the new era so far */
#define MCP_LEGACY	"2025-11-25"	/* the newest of the old one: what initialize offers */

/* JSON-RPC and MCP error codes that mean something to us. */
#define MCP_ERROR_METHOD	(-32601)
#define MCP_ERROR_PARAMS	(-32602)
#define MCP_ERROR_HEADERS	(-32020)
#define MCP_ERROR_CAPABILITY	(-32021)
#define MCP_ERROR_VERSION	(-32022)

/* Whom we speak to, and as whom. */
struct mcp_peer {
	const struct conf_mcp *conf;
	const char	*version;	/* a revision; NULL: not yet known, none is named */
	bool		 modern;
	const char	*session;	/* NULL: none */
	const char	*token;		/* the caller's, for auth = caller */
};

struct mcp_ask {
	const char	*method;
	const char	*params;	/* JSON object text */
	const char	*name;		/* of the tool, for Mcp-Name; NULL: none */
	const char *const *headers;	/* more of them, NULL at the end; NULL: none */
	bool		 notify;	/* no answer is expected */
	int64_t		 timeout_ms;
	size_t		 max;		/* bytes of the answer */
	const char	*traceparent, *tracestate;	/* filled in by mcp_send() from the job's trace; NULL: none */
};

enum mcp_fate {
	MCP_ANSWERED,	/* there is a result, or an error of JSON-RPC (code) */
	MCP_ACCEPTED,	/* a notification was taken */
	MCP_REFUSED,	/* by its HTTP status: nothing was done */
	MCP_UNSENT,	/* no connection: nothing was done */
	MCP_LATE,	/* sent, and not answered in time */
	MCP_LOST,	/* sent, and nothing usable came back */
	MCP_STOPPED	/* the job's own end: it has failed */
};

struct mcp_reply {
	enum mcp_fate	 fate;
	int		 status;	/* HTTP, 0: none */
	json_object	*result;	/* NULL for an error */
	int64_t		 code;		/* of the error, 0: none, or not one of JSON-RPC */
	const char	*message;	/* of the error: the server's words */
	json_object	*data;		/* of the error */
	const char	*session;	/* Mcp-Session-Id, NULL: none */
	bool		 of_session;	/* a refusal whose words have to do with a session */
	const char	*detail;	/* for the log: why there is no answer */
	struct arena	*arena;		/* all of the above */
};

/* yields */
void	 mcp_send(struct job *, const struct mcp_peer *, const struct mcp_ask *, struct mcp_reply *);
void	 mcp_reply_close(struct mcp_reply *);	/* twice is harmless */
/* yields.  Ends the peer's session, if the server lets us. */
void	 mcp_hang_up(struct job *, const struct mcp_peer *);
/* One line on a reply that is no result. */
void	 mcp_log(struct job *, const struct mcp_peer *, const char *method, const struct mcp_reply *);

#endif
