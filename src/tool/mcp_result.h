/*
 * mcp_result -- what came of a remote call, as the JSON that is stored, shown to the user and read by the model.
 *
 * The blocks of a result become one text: text as it is, pictures and sounds as a note with type and size, links and
 * embedded resources by their address and text.  A text that is itself a JSON object or array is taken as that;
 * structuredContent counts where there is nothing else.  What went wrong is {"error": sentence}, as of SQL tools.
 * Text beyond the limit is cut.  Nothing yields.
 */
#ifndef PARLEY_TOOL_MCP_RESULT_H
#define PARLEY_TOOL_MCP_RESULT_H

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json_object.h>

struct arena;

struct mcp_result {
	const char	*json;
	bool		 is_error;
};

void	 mcp_result_make(struct arena *, json_object *result, size_t max, struct mcp_result *out);
void	 mcp_result_error(struct arena *, struct mcp_result *out, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

#endif
