#include "api/body.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "chat/store.h"
#include "io/json.h"
#include "model/message.h"

const char *
body_status(const char *state)
{
	return strcmp(state, "done") == 0 ? "success" : state;
}

void
body_put_call(struct buf *b, const struct call *c)
{
	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, c->id);
	jw_key(b, "tool_name"), jw_string(b, c->tool_name);
	jw_key(b, "parameters"), jw_raw(b, c->parameters);
	jw_key(b, "result"), jw_raw(b, c->result);
	jw_key(b, "is_error"), jw_bool(b, c->is_error);
	if (c->executed_at != NULL) {
		jw_key(b, "executed_at"), jw_string(b, c->executed_at);
		jw_key(b, "duration_ms"), jw_int(b, c->duration_ms);
	}
	jw_close(b, '}');
}

static void
put_calls(struct buf *b, const struct message *m)
{
	for (int i = 0; i < m->ncalls; i++)
		body_put_call(b, &m->calls[i]);
}

/* The name a client knows a model by, without where it is served: an address has no blanks, a name may. */
static const char *
model_name(const char *model)
{
	const char	*space = strchr(model, ' ');

	return space != NULL ? space + 1 : model;
}

void
body_put_message(struct buf *b, const struct message *m)
{
	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, m->id);
	jw_key(b, "turn"), jw_int(b, m->turn);
	jw_key(b, "turn_state"), jw_string(b, m->turn_state);
	jw_key(b, "run"), jw_int(b, m->run);
	jw_key(b, "role"), jw_string(b, m->role == ROLE_USER ? "user" : "assistant");
	jw_key(b, "content"), jw_string(b, m->content);
	if (m->created_at != NULL)
		jw_key(b, "created_at"), jw_string(b, m->created_at);
	jw_key(b, "tool_calls");
	jw_open(b, '[');
	put_calls(b, m);
	jw_close(b, ']');
	if (m->error_code != NULL)
		jw_key(b, "error_code"), jw_string(b, m->error_code);
	if (m->interrupted)
		jw_key(b, "interrupted"), jw_bool(b, true);
	if (m->model != NULL)
		jw_key(b, "model"), jw_string(b, model_name(m->model));
	jw_close(b, '}');
}

static void
put_messages(struct buf *b, const struct body *body)
{
	if (body->page != NULL) {
		jw_raw(b, body->page);
		return;
	}
	jw_open(b, '[');
	for (int i = 0; i < body->nmessages; i++)
		body_put_message(b, &body->messages[i]);
	jw_close(b, ']');
}

static void
put_usage(struct buf *b, const struct body *body)
{
	jw_open(b, '{');
	jw_key(b, "input_tokens"), jw_int(b, body->input_tokens);
	jw_key(b, "output_tokens"), jw_int(b, body->output_tokens);
	jw_close(b, '}');
}

void
body_put_now(struct buf *b)
{
	struct timespec	 ts;
	struct tm	 tm;
	char		 text[32], whole[48];

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(whole, sizeof whole, "%s.%03ldZ", text, ts.tv_nsec / 1000000);
	jw_string(b, whole);
}

struct body
body_of_turn(const char *conversation_id, int turn, const struct store_turn *t)
{
	return (struct body){
		.status = body_status(t->state),
		.conversation_id = conversation_id,
		.turn = turn,
		.messages = t->messages,
		.nmessages = t->nmessages,
		.input_tokens = t->input_tokens,
		.output_tokens = t->output_tokens,
		.model = t->model,
	};
}

const struct call *
body_question(const struct body *body, int nth)
{
	for (int i = 0; i < body->nmessages; i++)
		for (int j = 0; j < body->messages[i].ncalls; j++) {
			const struct call	*c = &body->messages[i].calls[j];

			if (c->approval != NULL && strcmp(c->approval, "waiting") == 0 && nth-- == 0)
				return c;
		}
	return NULL;
}

void
body_put_approval(struct buf *b, const struct call *c)
{
	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, c->id);
	jw_key(b, "tool_name"), jw_string(b, c->tool_name);
	jw_key(b, "parameters"), jw_raw(b, c->parameters);
	jw_key(b, "question"), jw_string(b, c->question);
	jw_key(b, "expires_at"), jw_string(b, c->expires_at);
	jw_close(b, '}');
}

static void
put_approvals(struct buf *b, const struct body *body)
{
	const struct call	*c;

	jw_open(b, '[');
	for (int i = 0; (c = body_question(body, i)) != NULL; i++)
		body_put_approval(b, c);
	jw_close(b, ']');
}

/* A word of the user's behind it may have been the answer to a question; what he reads is the assistant's. */
void
body_put_response(struct buf *b, const struct body *body)
{
	const struct call	*c;
	int			 i = body->nmessages - 1;

	while (i > 0 && body->messages[i].role == ROLE_USER)
		i--;
	if (i > 0 && *body->messages[i].content != '\0') {
		buf_str(b, body->messages[i].content);
		return;
	}
	/* The questions, where the model has said nothing. */
	for (i = 0; (c = body_question(body, i)) != NULL; i++) {
		buf_str(b, i > 0 ? "\n" : "");
		buf_str(b, c->question);
	}
}

void
body_put(struct buf *b, const struct body *body)
{
	struct buf	 said = { 0 };

	body_put_response(&said, body);
	jw_open(b, '{');
	jw_key(b, "status"), jw_string(b, body->status);
	jw_key(b, "conversation_id"), jw_string(b, body->conversation_id);
	jw_key(b, "turn"), jw_int(b, body->turn);
	jw_key(b, "response"), jw_string(b, buf_text(&said));
	jw_key(b, "tool_calls");
	jw_open(b, '[');
	for (int i = 0; i < body->nmessages; i++)
		put_calls(b, &body->messages[i]);
	jw_close(b, ']');
	jw_key(b, "approvals_required");
	put_approvals(b, body);
	jw_key(b, "messages"), put_messages(b, body);
	jw_key(b, "usage"), put_usage(b, body);
	jw_key(b, "model"), jw_string(b, body->model);
	jw_key(b, "timestamp"), body_put_now(b);
	jw_close(b, '}');
	buf_free(&said);
}
