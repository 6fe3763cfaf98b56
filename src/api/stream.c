#include "api/stream.h"

#include "api/body.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/conf.h"
#include "chat/turn.h"
#include "io/fcgi.h"
#include "io/json.h"
#include "io/sse.h"
#include "run/deadline.h"

/* Under the contract's 15 s also when the loop is late. */
#define KEEPALIVE_MAX_MS	14000

static void
stream_send(struct stream *s)
{
	(void)(fcgi_write(s->req->fcgi, s->out.p, s->out.n) == 0 && fcgi_flush(s->req->fcgi));
	buf_clear(&s->out);
	s->quiet_since = now_us();
}

static void
stream_event(struct stream *s, const struct turn *t, const char *event, const char *json)
{
	char	 id[64];

	snprintf(id, sizeof id, "%d.%d.%zu.%d", t->key.run, s->index, s->bytes, s->calls);
	sse_put(&s->out, event, id, json);
	stream_send(s);
}

void
stream_open(struct stream *s, struct request *r, const struct turn *t)
{
	struct buf	*b = buf_new(r->job.arena);
	int		 n;

	s->req = r;
	s->index = 1;
	r->streaming = r->answered = true;
	r->status = 200;
	request_head(r, 200, "text/event-stream", &s->out);
	buf_str(&s->out, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n\r\n");

	jw_open(b, '{');
	jw_key(b, "conversation_id"), jw_string(b, t->key.conversation_id);
	jw_key(b, "turn"), jw_int(b, t->key.turn);
	jw_key(b, "message_id"), jw_string(b, turn_messages(t, &n)->id);
	jw_close(b, '}');
	stream_event(s, t, "turn", b->p);
	buf_free(b);
}

void
stream_delta(struct stream *s, const struct turn *t, const char *text, size_t n)
{
	struct buf	 b = { 0 };

	/* Many small pieces make a long answer: their JSON is not kept in the arena. */
	s->bytes += n;
	jw_open(&b, '{');
	jw_key(&b, "text"), jw_string_n(&b, text, n);
	jw_close(&b, '}');
	stream_event(s, t, "delta", b.p);
	buf_free(&b);
}

void
stream_called(struct stream *s, const struct turn *t, const struct call *c)
{
	struct buf	*b = buf_new(s->req->job.arena);

	s->calls++;
	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, c->id);
	jw_key(b, "tool_name"), jw_string(b, c->tool_name);
	jw_key(b, "parameters"), jw_raw(b, c->parameters);
	jw_close(b, '}');
	stream_event(s, t, "tool_call", b->p);
	buf_free(b);
}

/* After the last result of a step the next message begins. */
static void
stream_advance(struct stream *s, const struct turn *t)
{
	int			 n;
	const struct message	*m = turn_messages(t, &n);

	if (s->calls < 2 * m[n - 1].ncalls)
		return;
	s->index = m[n - 1].index + 1;
	s->bytes = 0;
	s->calls = 0;
}

void
stream_returned(struct stream *s, const struct turn *t, const struct call *c)
{
	struct buf	*b = buf_new(s->req->job.arena);

	s->calls++;
	stream_advance(s, t);
	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, c->id);
	jw_key(b, "result"), jw_raw(b, c->result);
	jw_key(b, "is_error"), jw_bool(b, c->is_error);
	jw_key(b, "duration_ms"), jw_int(b, c->duration_ms);
	jw_close(b, '}');
	stream_event(s, t, "tool_result", b->p);
	buf_free(b);
}

void
stream_done(struct stream *s, const struct turn *t, const char *body)
{
	stream_event(s, t, "done", body);
	fcgi_finish(s->req->fcgi);
}

void
stream_error(struct stream *s, const struct turn *t)
{
	struct buf	*b = buf_new(s->req->job.arena);

	request_error_json(s->req, b);
	stream_event(s, t, "error", b->p);
	fcgi_finish(s->req->fcgi);
}

int64_t
stream_keepalive_at(const struct stream *s)
{
	int64_t	 ms = s->req->job.conf->client_keepalive;

	/* Nobody to keep awake: the turn's waits must not end for it. */
	if (fcgi_gone(s->req->fcgi))
		return NEVER;
	return s->quiet_since + 1000 * (ms < KEEPALIVE_MAX_MS ? ms : KEEPALIVE_MAX_MS);
}

void
stream_keepalive(struct stream *s)
{
	if (now_us() < stream_keepalive_at(s))
		return;
	sse_put_comment(&s->out, "still here");
	stream_send(s);
}

void
stream_close(struct stream *s)
{
	buf_free(&s->out);
}
