#include "api/stream.h"

#include <string.h>

#include "api/body.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/conf.h"
#include "io/fcgi.h"
#include "io/json.h"
#include "io/sse.h"
#include "model/message.h"
#include "run/deadline.h"

/* Under the promised 15 s also when the loop is late. */
#define KEEPALIVE_MAX_MS	14000
/* A client that has gone is to be noticed within two seconds. */
#define LOOK_MS			800

static void
stream_send(struct stream *s)
{
	(void)(fcgi_write(s->req->fcgi, s->out.p, s->out.n) == 0 && fcgi_flush(s->req->fcgi));
	buf_free(&s->out);
	s->quiet_since = now_us();
}

/* Takes the JSON's memory: a stream may have many events, and the arena keeps all that it is given. */
static void
stream_event(struct stream *s, const char *event, struct buf *json)
{
	char	 id[PLACE_TEXT];

	sse_put(&s->out, event, place_write(&s->at, id), buf_text(json));
	buf_free(json);
	stream_send(s);
}

void
stream_flush(struct stream *s)
{
	stream_send(s);
}

void
stream_data(struct stream *s, struct buf *json)
{
	sse_put(&s->out, NULL, NULL, buf_text(json));
	buf_free(json);
	stream_send(s);
}

static int64_t
keepalive_at(const struct stream *s)
{
	int64_t	 ms = s->req->job.conf->client_keepalive;

	/* Nobody to keep awake: the turn's waits must not end for it. */
	if (fcgi_gone(s->req->fcgi))
		return NEVER;
	return s->quiet_since + 1000 * (ms < KEEPALIVE_MAX_MS ? ms : KEEPALIVE_MAX_MS);
}

static int64_t
attend_at(const struct stream *s)
{
	return deadline_first(keepalive_at(s), s->look_at);
}

/* Called from inside the job's waits when its time has come. */
static void
stream_attend(void *arg)
{
	struct stream	*s = arg;

	if (now_us() >= s->look_at)
		s->look_at = s->voice->look(s->voice_arg) ? deadline_ms(LOOK_MS) : NEVER;
	if (now_us() >= keepalive_at(s)) {
		if (s->voice != NULL)
			buf_str(&s->out, s->voice->comment);
		else
			sse_put_comment(&s->out, "still here");
		stream_send(s);
	}
	s->req->job.attend_at = attend_at(s);
}

void
stream_open(struct stream *s, struct request *r)
{
	s->req = r;
	r->streaming = r->answered = true;
	r->status = 200;
	request_head(r, 200, s->voice != NULL ? s->voice->media_type : "text/event-stream", &s->out);
	/* It goes out with the first event: one packet, not two. */
	buf_str(&s->out, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n\r\n");
	s->quiet_since = now_us();
	s->look_at = s->voice != NULL ? deadline_ms(LOOK_MS) : NEVER;

	r->job.attend = stream_attend;
	r->job.attend_arg = s;
	r->job.attend_at = attend_at(s);
}

void
stream_turn(struct stream *s, const char *conversation_id, int turn, int run, const char *message_id)
{
	struct buf	 b = { 0 };

	s->named = true;
	place_begin(&s->at, run, 0);
	if (s->voice != NULL) {
		s->voice->turn(s->voice_arg);
		return;
	}
	jw_open(&b, '{');
	jw_key(&b, "conversation_id"), jw_string(&b, conversation_id);
	jw_key(&b, "turn"), jw_int(&b, turn);
	jw_key(&b, "message_id"), jw_string(&b, message_id);
	jw_close(&b, '}');
	stream_event(s, "turn", &b);
}

void
stream_queued(struct stream *s, int position)
{
	struct buf	 b = { 0 };

	if (s->at.index != 0)
		place_begin(&s->at, s->at.run, 0);
	if (s->at.bytes == (size_t)position)
		return;
	s->at.bytes = (size_t)position;
	if (s->voice != NULL) {
		s->voice->queued(s->voice_arg);
		return;
	}
	jw_open(&b, '{');
	jw_key(&b, "position"), jw_int(&b, position);
	jw_close(&b, '}');
	stream_event(s, "queued", &b);
}

void
stream_reply(struct stream *s)
{
	if (s->at.index == 0)
		place_begin(&s->at, s->at.run, 1);
}

void
stream_delta(struct stream *s, const char *text, size_t n)
{
	struct buf	 b = { 0 };

	stream_reply(s);
	if (s->voice != NULL)
		s->voice->delta(s->voice_arg, text, n);
	place_say(&s->at, text, n);
	if (s->voice != NULL)
		return;
	jw_open(&b, '{');
	jw_key(&b, "text"), jw_string_n(&b, text, n);
	jw_close(&b, '}');
	stream_event(s, "delta", &b);
}

void
stream_called(struct stream *s, const struct call *c)
{
	struct buf	 b = { 0 };

	stream_reply(s);
	s->at.calls++;
	if (s->voice != NULL) {
		s->voice->calls(s->voice_arg);
		return;
	}
	jw_open(&b, '{');
	jw_key(&b, "id"), jw_string(&b, c->id);
	jw_key(&b, "tool_name"), jw_string(&b, c->tool_name);
	jw_key(&b, "parameters"), jw_raw(&b, c->parameters);
	jw_close(&b, '}');
	stream_event(s, "tool_call", &b);
}

void
stream_returned(struct stream *s, const struct call *c, int next)
{
	struct buf	 b = { 0 };

	s->at.calls++;
	if (next > 0)
		place_begin(&s->at, s->at.run, next);
	if (s->voice != NULL) {
		s->voice->calls(s->voice_arg);
		return;
	}
	jw_open(&b, '{');
	jw_key(&b, "id"), jw_string(&b, c->id);
	jw_key(&b, "result"), jw_raw(&b, c->result);
	jw_key(&b, "is_error"), jw_bool(&b, c->is_error);
	jw_key(&b, "duration_ms"), jw_int(&b, c->duration_ms);
	jw_close(&b, '}');
	stream_event(s, "tool_result", &b);
}

void
stream_reset(struct stream *s, int run, int index)
{
	struct buf	 b = { 0 };

	place_begin(&s->at, run, index);
	if (s->voice != NULL) {
		s->voice->reset(s->voice_arg);
		return;
	}
	buf_str(&b, "{}");
	stream_event(s, "reset", &b);
}

void
stream_settle(struct stream *s, const char *response)
{
	size_t	 n = strlen(response);
	int	 calls;

	/* A voice settles it all at the end. */
	if (s->voice != NULL)
		return;
	stream_reply(s);
	calls = s->at.calls;
	/* Behind a result nothing has been said yet. */
	if (calls > 1 ? n == 0 : s->at.bytes == n && place_fits(&s->at, response, n))
		return;
	if (calls > 1 || s->at.bytes > 0) {
		struct buf	 b = { 0 };

		/* The other calls of the message are still to come: whoever comes back goes on with them. */
		place_begin(&s->at, s->at.run, s->at.index);
		s->at.calls = calls;
		buf_str(&b, "{}");
		stream_event(s, "reset", &b);
	}
	if (n > 0)
		stream_delta(s, response, n);
}

void
stream_approval(struct stream *s, const struct call *c)
{
	struct buf	 b = { 0 };

	if (s->voice != NULL)
		return;
	body_put_approval(&b, c);
	stream_event(s, "approval", &b);
}

void
stream_done(struct stream *s, const char *body)
{
	struct buf	 b = { 0 };

	if (s->voice != NULL) {
		s->voice->done(s->voice_arg);
		fcgi_finish(s->req->fcgi);
		return;
	}
	buf_str(&b, body);
	stream_event(s, "done", &b);
	fcgi_finish(s->req->fcgi);
}

void
stream_error(struct stream *s)
{
	struct buf	 b = { 0 };

	if (s->voice != NULL) {
		s->voice->error(s->voice_arg);
		fcgi_finish(s->req->fcgi);
		return;
	}
	request_error_json(s->req, &b);
	stream_event(s, "error", &b);
	fcgi_finish(s->req->fcgi);
}

void
stream_close(struct stream *s)
{
	if (s->req != NULL) {
		s->req->job.attend_at = NEVER;
		if (s->voice != NULL)
			s->voice->closed(s->voice_arg);
		if (s->out.n > 0)
			stream_send(s);
		fcgi_finish(s->req->fcgi);
	}
	buf_free(&s->out);
}
