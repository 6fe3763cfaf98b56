/*
 * mcp_note -- what is sent to an MCP server without an answer that matters: answers to what it asks us, the end of a
 * session, and that an answer is not waited for any longer.
 *
 * For mcp_wire.c, with which it shares how a message is posted.  Nothing here fails.
 */
#ifndef PARLEY_TOOL_MCP_NOTE_H
#define PARLEY_TOOL_MCP_NOTE_H

#include "tool/mcp_wire.h"

struct http;

#define MCP_CONNECT_MS	5000
#define MCP_REFUSAL_MAX	((size_t)16 * 1024)	/* of a refusal only so much is read */

/* The text of a request or notification. */
const char *mcp_body(struct arena *, const struct mcp_peer *, const struct mcp_ask *, int64_t id);
/* Begins the POST of one message; piece must stay.  ask NULL: it is no request of ours. */
struct http *mcp_message_open(struct job *, struct arena *, const struct mcp_peer *, const struct mcp_ask *, const char *body,
	    int64_t ms, size_t max);

/* yields.  The server asks us for something; we have declared nothing that it could ask for. */
void	 mcp_ask_answer(struct job *, const struct mcp_peer *, json_object *id, const char *method);
/* On a fiber of its own, as the job may be at its end. */
void	 mcp_cancel(const struct job *, const struct mcp_peer *, int64_t id, const char *why);

#endif
