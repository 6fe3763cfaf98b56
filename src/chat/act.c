#include "chat/act.h"

#include "base/arena.h"
#include "base/buf.h"
#include "chat/turn.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/job.h"
#include "tool/mcp.h"
#include "tool/tool.h"

static const char unknown[] = "The outcome of this call is unknown: it was sent, and the answer was lost. "
    "It may have been carried out; look before doing it again.";

static int	 calls_run(struct turn *, struct message *);
static int	 call_run(struct turn *, const struct message *, int);
static int	 call_remote(struct turn *, const struct message *, int, const struct tool *);
static int	 call_refuse(struct turn *, const struct message *, int, const char *);

int
turn_act(struct turn *t)
{
	struct message	*m = turn_append(t, &t->answer);

	if (store_step(t->job, &t->key, m, &t->answer) < 0)
		return -1;
	buf_clear(&t->partial);
	return calls_run(t, m);
}

int
turn_act_rest(struct turn *t)
{
	struct message	*m = &t->prompt.messages[t->prompt.nmessages - 1];

	return m->role == ROLE_ASSISTANT ? calls_run(t, m) : 0;
}

static int
calls_run(struct turn *t, struct message *m)
{
	int64_t	 at = now_us();

	for (int i = 0; i < m->ncalls; i++) {
		if (m->calls[i].result != NULL)
			continue;
		if (t->listener->called != NULL)
			t->listener->called(t->listener->arg, t, &m->calls[i]);
		if (call_run(t, m, i) < 0)
			return -1;
		if (t->listener->returned != NULL)
			t->listener->returned(t->listener->arg, t, &m->calls[i]);
	}
	t->tools_us += now_us() - at;
	return 0;
}

static int
call_run(struct turn *t, const struct message *m, int i)
{
	struct call		*c = &m->calls[i];
	const struct tool	*tool = tool_find(t->tools, c->tool_name);

	/* A remote call that was sent, by a worker that is no more. */
	if (c->started && !(tool != NULL && tool->server != NULL && tool->risk != TOOL_WRITES))
		return call_refuse(t, m, i, unknown);
	if (tool == NULL)
		return call_refuse(t, m, i, "There is no tool of this name.");

	/* Mended arguments are a guess: good enough to look, never to change anything. */
	if (c->broken != NULL && !(c->repaired && tool->risk == TOOL_READ_ONLY))
		return call_refuse(t, m, i, "The arguments were not a valid JSON object. Nothing was done.");

	return tool->server != NULL ? call_remote(t, m, i, tool) : store_tool_run(t->job, &t->key, m->index, i, c);
}

/* That it is sent is committed before it is, and its answer before anybody hears of it. */
static int
call_remote(struct turn *t, const struct message *m, int i, const struct tool *tool)
{
	struct call		*c = &m->calls[i];
	const char		*no = mcp_call_refusal(t->job, tool, c->parameters);
	struct mcp_result	 r;

	if (no != NULL)
		return call_refuse(t, m, i, c->started ? unknown : no);
	if (store_tool_start(t->job, &t->key, m->index, i, c) < 0)
		return -1;
	if (c->result != NULL)
		return 0;
	if (mcp_call(t->job, tool, c->parameters, &r) < 0)
		return -1;
	c->result = r.json;
	c->is_error = r.is_error;
	return store_tool_answer(t->job, &t->key, m->index, i, c);
}

static int
call_refuse(struct turn *t, const struct message *m, int i, const char *why)
{
	struct buf	*b = buf_new(t->job->arena);

	jw_open(b, '{');
	jw_key(b, "error");
	jw_string(b, why);
	jw_close(b, '}');
	m->calls[i].result = buf_text(b);
	m->calls[i].is_error = true;
	return store_tool_answer(t->job, &t->key, m->index, i, &m->calls[i]);
}
