#include "tool/mcp.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/json.h"
#include "run/job.h"
#include "tool/mcp_head.h"
#include "tool/mcp_lists.h"
#include "tool/mcp_peer.h"
#include "tool/mcp_tools.h"
#include "tool/schema.h"
#include "tool/tool.h"

#define ANSWER_MAX	((size_t)2 * 1024 * 1024)	/* of one call: a picture in it is not shown, but has to pass */
#define WORDS_MAX	1024				/* of a server's error message */

static const char *params_make(struct arena *, const struct tool *, const char *arguments);
static int	 answer_take(struct job *, const struct tool *, const struct mcp_link *, const struct mcp_reply *,
		    struct mcp_result *);
static void	 refusal_take(struct job *, const struct tool *, const struct mcp_reply *, struct mcp_result *);

void
mcp_lists_open(struct mcp_lists *l, struct arena *a, const struct conf *conf)
{
	*l = (struct mcp_lists){ .tools = arena_array(a, struct tool, conf->nmcp * MCP_TOOLS_MAX + 1) };
}

void
mcp_lists_add(struct mcp_lists *l, struct arena *a, const struct conf_mcp *m, const char *text)
{
	if (text != NULL)
		l->ntools += mcp_tools_read(a, m, text, &l->tools[l->ntools]);
	else
		l->down = l->down == NULL ? m->name : arena_printf(a, "%s, %s", l->down, m->name);
}

bool
mcp_asks_caller(const struct conf_mcp *m)
{
	return strcmp(m->auth, "caller") == 0;
}

const char *
mcp_call_refusal(struct job *job, const struct tool *tool, const char *arguments)
{
	if (mcp_asks_caller(tool->server) && job->token == NULL)
		return "This can only be done while the user is here: it is done with the user's own sign-in, which was not at hand now."
		    " Nothing was done. Tell the user to ask again.";
	return mcp_call_mistake(job, tool, arguments);
}

const char *
mcp_call_mistake(struct job *job, const struct tool *tool, const char *arguments)
{
	struct arena	*a = arena_open();
	const char	*why;

	why = arena_strdup(job->arena, schema_refuse(a, json_read(a, tool->schema, strlen(tool->schema), NULL),
	    json_read(a, arguments, strlen(arguments), NULL)));
	arena_close(&a);
	return why;
}

int
mcp_call(struct job *job, const struct tool *tool, const char *arguments, struct mcp_result *out)
{
	struct arena		*a = arena_open();
	json_object		*schema = json_read(a, tool->schema, strlen(tool->schema), NULL);
	json_object		*given = json_read(a, arguments, strlen(arguments), NULL);
	struct mcp_link		 link;
	struct mcp_reply	 r;
	int			 rc;

	mcp_link_make(&link, tool->server, job->user, job->token);
	(void)mcp_link_ask(job, &link, &(struct mcp_ask){
		.method = "tools/call",
		.params = params_make(a, tool, arguments),
		.name = tool->remote,
		.headers = mcp_params_headers(a, schema, given),
		.timeout_ms = tool->server->timeout,
		.max = ANSWER_MAX,
	}, &r);
	rc = answer_take(job, tool, &link, &r, out);
	mcp_reply_close(&r);
	arena_close(&a);
	return rc;
}

static const char *
params_make(struct arena *a, const struct tool *tool, const char *arguments)
{
	struct buf	*b = buf_new(a);

	jw_open(b, '{');
	jw_key(b, "name"), jw_string(b, tool->remote);
	jw_key(b, "arguments"), jw_raw(b, arguments);
	jw_close(b, '}');
	return b->p;
}

/* What the model is told.  Where it is not known whether something was done, it must hear that. */
static int
answer_take(struct job *job, const struct tool *tool, const struct mcp_link *link, const struct mcp_reply *r,
    struct mcp_result *out)
{
	if (r->fate == MCP_ANSWERED && r->result != NULL) {
		mcp_result_make(job->arena, r->result, (size_t)job->conf->tools_max_result, out);
		return 0;
	}
	if (r->fate == MCP_STOPPED)
		return -1;
	mcp_log(job, &link->peer, "tools/call", r);
	if (r->fate == MCP_ANSWERED || r->fate == MCP_REFUSED)
		refusal_take(job, tool, r, out);
	else if (r->fate == MCP_UNSENT) {
		mcp_doubt(tool->server);
		mcp_result_error(job->arena, out, "The server of this tool cannot be reached. Nothing was done.");
	} else
		mcp_result_error(job->arena, out, "%s%s", r->fate == MCP_LATE ? "The tool did not answer in time." :
		    "The answer of the tool could not be read.", tool->risk == TOOL_READ_ONLY ? "" :
		    " The outcome of this call is unknown: it may have been carried out; look before doing it again.");
	return 0;
}

/* The server says no, in the words of JSON-RPC or by its HTTP status alone. */
static void
refusal_take(struct job *job, const struct tool *tool, const struct mcp_reply *r, struct mcp_result *out)
{
	/* The tool, or its arguments, are not what the list said. */
	if (r->code == MCP_ERROR_PARAMS || r->code == MCP_ERROR_METHOD || r->code == MCP_ERROR_HEADERS)
		mcp_doubt(tool->server);
	if (r->code == MCP_ERROR_CAPABILITY)
		mcp_result_error(job->arena, out, "The server wants to ask the user something by itself, which is not possible here.");
	else if (r->message != NULL)
		mcp_result_error(job->arena, out, "The server refused the call: %.*s", WORDS_MAX, r->message);
	else if (r->status == 401 || r->status == 403)
		mcp_result_error(job->arena, out, "The server of this tool does not let us in. Nothing was done.");
	else
		mcp_result_error(job->arena, out, "The server refused the call (HTTP %d).", r->status);
}
