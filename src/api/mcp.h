/*
 * mcp -- POST /mcp: the SQL tools for any client of the Model Context Protocol (Streamable HTTP transport).
 *
 * Stateless: what a message means stands in its own request, so any worker answers it and there are no sessions.  Two eras
 * are served: clients of 2025-03-26 to 2025-11-25 say initialize first, of which nothing is remembered; clients of
 * 2026-07-28 say their version and what they can with each request.  All that is done is done as the user of the token.
 *
 * mcp.c takes a body apart and answers it, mcp_read.c reads one message, mcp_hello.c and mcp_tools.c hold the methods.
 * A method yields; it returns 0 with the members of its result written, or -1: with rpc_error() said, or with the job
 * failed, which mcp.c says as a JSON-RPC error of its own.  Everything belongs to the request's job.
 */
#ifndef PARLEY_API_MCP_H
#define PARLEY_API_MCP_H

#include <stdbool.h>

#include <json-c/json_object.h>

struct buf;
struct request;

#define MCP_MODERN	"2026-07-28"
#define MCP_LEGACY	"2025-11-25"	/* the newest that begins with initialize */
#define MCP_OLDEST	"2025-03-26"	/* what a client that names none is taken for */
#define MCP_STRUCTURED	"2025-06-18"	/* results have structuredContent from here on */

/* JSON-RPC 2.0, section 5.1; then those of MCP's own. */
enum rpc_code {
	RPC_PARSE_ERROR		= -32700,
	RPC_INVALID_REQUEST	= -32600,
	RPC_METHOD_NOT_FOUND	= -32601,
	RPC_INVALID_PARAMS	= -32602,
	RPC_INTERNAL_ERROR	= -32603,
	RPC_HEADER_MISMATCH	= -32020,
	RPC_UNSUPPORTED_VERSION	= -32022
};

/* One message and its answer. */
struct rpc {
	struct request	*req;
	bool		 modern;	/* of the era without initialize */
	const char	*version;	/* that the client speaks; versions are dates and compare as text */
	const char	*method;	/* NULL: a response, which nobody has asked for */
	json_object	*id;		/* NULL: a notification, which nobody answers */
	json_object	*params;	/* NULL: none */
	struct buf	*result;	/* the members of the result */
	int		 status;	/* HTTP, for a message that came alone */
	enum rpc_code	 code;		/* 0: all is well */
	const char	*sentence;
	const char	*data;		/* JSON, NULL: none */
	const char	*tool;		/* that was called, for the log; NULL: none */
};

/* The versions served, newest first, as JSON. */
#define MCP_VERSIONS	"[\"2026-07-28\",\"2025-11-25\",\"2025-06-18\",\"2025-03-26\"]"
bool	 mcp_version_is_legacy(const char *);

/* Reads and checks a message: what kind it is, which era, whether headers and body agree.  -1: rpc_error() was said. */
int	 rpc_read(struct rpc *, json_object *);

/* The message is answered with an error; always returns -1. */
int	 rpc_error(struct rpc *, int status, enum rpc_code, const char *fmt, ...)
	    __attribute__((format(printf, 4, 5)));

/* The methods. */
int	 rpc_initialize(struct rpc *);
int	 rpc_ping(struct rpc *);
int	 rpc_discover(struct rpc *);
int	 rpc_tools_list(struct rpc *);
int	 rpc_tools_call(struct rpc *);

/* Members that more than one of them has. */
void	 rpc_put_server(struct buf *);		/* an object: name and version */
void	 rpc_put_cache(struct rpc *);		/* ttlMs, cacheScope */

#endif
