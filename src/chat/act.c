#include "chat/act.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "chat/turn.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/job.h"
#include "tool/mcp.h"
#include "tool/tool.h"

#define QUESTION_MAX	600	/* bytes of a question that is made here */

static const char unknown[] = "The outcome of this call is unknown: it was sent, and the answer was lost. "
    "It may have been carried out; look before doing it again.";

static void	 calls_look(const struct turn *, struct message *);
static int	 calls_run(struct turn *, struct message *);
static void	 called(struct turn *, const struct call *);
static void	 returned(struct turn *, const struct call *);
static int	 calls_ask(struct turn *, struct message *, int nth);
static const char *question(struct turn *, const struct call *);
static int	 call_run(struct turn *, const struct message *, int);
static int	 call_remote(struct turn *, const struct message *, int, const struct tool *);
static int	 call_refuse(struct turn *, const struct message *, int, const char *);

int
turn_act(struct turn *t)
{
	struct message	*m = turn_append(t, &t->answer);

	calls_look(t, m);
	if (store_step(t->job, &t->key, m, &t->answer, &t->budget_ms) < 0)
		return -1;
	buf_clear(&t->partial);
	return calls_run(t, m);
}

int
turn_act_rest(struct turn *t)
{
	/* Behind it there is the user's yes or no at most. */
	for (int i = t->prompt.nmessages - 1; i > t->first; i--)
		if (t->prompt.messages[i].role == ROLE_ASSISTANT)
			return calls_run(t, &t->prompt.messages[i]);
	return 0;
}

/* Which of them the user has to be asked about; a call that cannot be made is not worth a question. */
static void
calls_look(const struct turn *t, struct message *m)
{
	for (int i = 0; i < m->ncalls; i++) {
		const struct tool	*tool = tool_find(t->tools, m->calls[i].tool_name);

		if (tool != NULL && tool->confirm && m->calls[i].broken == NULL)
			m->calls[i].approval = "needed";
	}
}

static int
calls_run(struct turn *t, struct message *m)
{
	int64_t	 at = now_us();
	int	 nth;

	for (nth = 0; nth < m->ncalls; nth++) {
		struct call	*c = message_call(m, nth);

		if (call_waits(c))
			break;
		/* One that has been made already is told of as well, in its place. */
		called(t, c);
		if (c->result == NULL && call_run(t, m, (int)(c - m->calls)) < 0)
			return -1;
		returned(t, c);
	}
	t->tools_us += now_us() - at;
	return nth < m->ncalls ? calls_ask(t, m, nth) : 0;
}

static void
called(struct turn *t, const struct call *c)
{
	if (t->listener->called != NULL)
		t->listener->called(t->listener->arg, t, c);
}

static void
returned(struct turn *t, const struct call *c)
{
	if (t->listener->returned != NULL)
		t->listener->returned(t->listener->arg, t, c);
}

/*
 * yields.  From the nth call on they need the user's yes.  1: the turn waits for him, without this worker; 0: there was nothing
 * worth asking.
 */
static int
calls_ask(struct turn *t, struct message *m, int nth)
{
	int		*positions = arena_array(t->job->arena, int, m->ncalls);
	const char	**questions = arena_array(t->job->arena, const char *, m->ncalls);
	int		 n = 0, rc;

	for (int i = 0; i < m->ncalls; i++) {
		const struct tool	*tool = tool_find(t->tools, m->calls[i].tool_name);
		const char		*no = NULL;

		if (!call_waits(&m->calls[i]))
			continue;
		/* Those of SQL tools are looked at by the database. */
		if (tool != NULL && tool->server != NULL)
			no = mcp_call_mistake(t->job, tool, m->calls[i].parameters);
		if (no != NULL && call_refuse(t, m, i, no) < 0)
			return -1;
		if (no != NULL)
			continue;
		positions[n] = i;
		questions[n++] = question(t, &m->calls[i]);
	}
	if (n > 0 && (rc = store_ask(t->job, &t->key, m->index, m->calls, positions, questions, n)) != 0)
		return rc;
	for (; nth < m->ncalls; nth++) {
		called(t, message_call(m, nth));
		returned(t, message_call(m, nth));
	}
	return 0;
}

/* For a tool whose author has not thought of one. */
static const char *
question(struct turn *t, const struct call *c)
{
	struct buf	*b = buf_new(t->job->arena);
	size_t		 n = strlen(c->parameters);

	buf_printf(b, "Run %s with these arguments? ", c->tool_name);
	if (n <= QUESTION_MAX) {
		buf_add(b, c->parameters, n);
	} else {
		buf_add(b, c->parameters, utf8_whole(c->parameters, QUESTION_MAX));
		buf_str(b, " \u2026");
	}
	return buf_text(b);
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
