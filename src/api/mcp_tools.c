/* The tools of /mcp: what they are, and calling them.  A call is done and recorded, or not, as the database says. */
#include <stdlib.h>
#include <string.h>

#include "api/mcp.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/store.h"
#include "io/json.h"
#include "tool/tool.h"

/* A call that is being done; belongs to its request. */
struct flight {
	const char	*user;
	struct flight	*next, **link;
};

/* So that one user's calls leave room for others'; forgotten with the process. */
static struct flight	*flights;

/* Before 2026-07-28 the result of a tool with a schema had to be an object. */
static bool
schema_is_shown(const struct rpc *m, const struct tool *t)
{
	json_object	*schema;
	const char	*type;

	if (t->output == NULL || strcmp(m->version, MCP_STRUCTURED) < 0)
		return false;
	if (m->modern)
		return true;
	schema = json_read(m->req->job.arena, t->output, strlen(t->output), NULL);
	type = json_text_or_null(schema, "type");
	return type != NULL && strcmp(type, "object") == 0;
}

/* All four are said: what is absent means the worst to a client. */
static void
put_annotations(struct buf *b, const struct tool *t)
{
	jw_key(b, "annotations");
	jw_open(b, '{');
	jw_key(b, "readOnlyHint"), jw_bool(b, t->risk == TOOL_READ_ONLY);
	jw_key(b, "destructiveHint"), jw_bool(b, t->confirm);
	jw_key(b, "idempotentHint"), jw_bool(b, t->risk != TOOL_WRITES);
	jw_key(b, "openWorldHint"), jw_bool(b, false);
	jw_close(b, '}');
}

static void
put_tool(struct rpc *m, const struct tool *t)
{
	struct buf	*b = m->result;

	jw_open(b, '{');
	jw_key(b, "name"), jw_string(b, t->name);
	if (t->description != NULL && *t->description != '\0')
		jw_key(b, "description"), jw_string(b, t->description);
	jw_key(b, "inputSchema"), jw_raw(b, t->schema);
	if (schema_is_shown(m, t))
		jw_key(b, "outputSchema"), jw_raw(b, t->output);
	put_annotations(b, t);
	jw_close(b, '}');
}

int
rpc_tools_list(struct rpc *m)
{
	const struct tool_table	*table;

	/* There is one page, so no cursor is ours. */
	if (json_object_object_get(m->params, "cursor") != NULL)
		return rpc_error(m, 200, RPC_INVALID_PARAMS, "This cursor is not known.");
	if ((table = tool_table_shared(&m->req->job)) == NULL)
		return -1;
	jw_key(m->result, "tools");
	jw_open(m->result, '[');
	/* Those of other servers are not ours to give away. */
	for (int i = 0; i < table->ntools; i++)
		if (table->tools[i].server == NULL)
			put_tool(m, &table->tools[i]);
	jw_close(m->result, ']');
	if (m->modern)
		rpc_put_cache(m);
	return 0;
}

static int
flight_join(struct job *job, struct flight *f)
{
	int64_t	 n = 0, max = job->conf->limits_user_turns;

	for (const struct flight *other = flights; other != NULL; other = other->next)
		n += strcmp(other->user, job->user) == 0;
	if (max > 0 && n >= max)
		return job_fail(job, FAIL_RATE_LIMITED, NULL);
	*f = (struct flight){ .user = job->user, .next = flights, .link = &flights };
	if (flights != NULL)
		flights->link = &f->next;
	flights = f;
	return 0;
}

static void
flight_leave(struct flight *f)
{
	*f->link = f->next;
	if (f->next != NULL)
		f->next->link = f->link;
}

/* The call as the database is asked for it, with an id and a key of its own. */
static int
call_read(struct rpc *m, struct call *c)
{
	struct arena	*a = m->req->job.arena;
	json_object	*arguments = NULL;
	enum json_got	 got = json_get_object(m->params, "arguments", &arguments);
	char		*id = arena_alloc(a, UUID_TEXT);

	if (json_get_string(m->params, "name", &c->tool_name) != JSON_GOT)
		return rpc_error(m, 200, RPC_INVALID_PARAMS, "name must be a string.");
	if (got != JSON_GOT && got != JSON_ABSENT && got != JSON_NULL)
		return rpc_error(m, 200, RPC_INVALID_PARAMS, "arguments must be an object.");
	c->parameters = got == JSON_GOT ? arena_strdup(a, json_text(arguments)) : "{}";
	uuid_new(id);
	c->id = id;
	return 0;
}

/* A text is said as it is, anything else as its JSON; of an error only the sentence. */
static void
put_content(struct rpc *m, const struct call *c)
{
	struct buf	*b = m->result;
	const char	*text = NULL;
	json_object	*got = json_read_stored(m->req->job.arena, c->result, strlen(c->result), NULL);

	if (c->is_error)
		text = json_text_or_null(got, "error");
	else if (json_object_is_type(got, json_type_string))
		text = json_object_get_string(got);
	jw_key(b, "content");
	jw_open(b, '[');
	jw_open(b, '{');
	jw_key(b, "type"), jw_string(b, "text");
	jw_key(b, "text"), jw_string(b, text != NULL ? text : c->result);
	jw_close(b, '}');
	jw_close(b, ']');
}

int
rpc_tools_call(struct rpc *m)
{
	struct job	*job = &m->req->job;
	struct call	 c = { 0 };
	struct flight	*f = arena_new(job->arena, struct flight);
	char		 key[UUID_TEXT];
	int		 rc;

	if (call_read(m, &c) < 0 || flight_join(job, f) < 0)
		return -1;
	uuid_new(key);
	rc = job->conf->tools_enabled && job->conf->tools_sql ? store_tool_call(job, key, &c) : 0;
	flight_leave(f);
	if (rc < 0)
		return -1;
	if (c.result == NULL)
		return rpc_error(m, 200, RPC_INVALID_PARAMS, "There is no tool of this name.");

	m->tool = c.tool_name;
	put_content(m, &c);
	/* Any value since 2026-07-28, before that objects alone. */
	if (!c.is_error && (m->modern || (strcmp(m->version, MCP_STRUCTURED) >= 0 && *c.result == '{')))
		jw_key(m->result, "structuredContent"), jw_raw(m->result, c.result);
	jw_key(m->result, "isError"), jw_bool(m->result, c.is_error);
	return 0;
}
