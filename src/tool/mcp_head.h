/*
 * mcp_head -- the HTTP headers of a message to an MCP server.
 *
 * Who we are (key, or the caller's token), which revision is spoken, the session; and what the new
 * era repeats of the body in headers so that those between can read it: the method, the tool's name, and the arguments
 * that its schema marks with x-mcp-header.  Nothing yields.
 */
#ifndef PARLEY_TOOL_MCP_HEAD_H
#define PARLEY_TOOL_MCP_HEAD_H

#include <stdbool.h>

#include <json-c/json_object.h>

struct arena;
struct mcp_ask;
struct mcp_peer;

/* All headers, NULL at the end.  ask NULL: of a message that is no request of ours (GET, DELETE, an answer). */
const char *const *mcp_headers(struct arena *, const struct mcp_peer *, const struct mcp_ask *, const char *last_event_id);

/* "Name: value", encoded where it is not plain ASCII; curl's form for an empty one. */
const char *mcp_header(struct arena *, const char *name, const char *value);

/*
 * The rules for x-mcp-header in a tool's schema (Streamable HTTP of 2026-07-28, "Custom Headers from Tool Parameters"):
 * NULL, or what is against them.  Such a tool must not be offered.
 */
const char *mcp_params_fault(struct arena *, json_object *schema);
/* The headers Mcp-Param-… of a call, NULL at the end; NULL when the schema wants none. */
const char *const *mcp_params_headers(struct arena *, json_object *schema, json_object *arguments);

#endif
