#include "tool/mcp_wire.h"

#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "io/http.h"
#include "io/json.h"
#include "io/sse.h"
#include "run/deadline.h"
#include "run/job.h"
#include "tool/mcp_head.h"
#include "tool/mcp_note.h"

#define READ_SIZE	1024		/* on the fiber's stack */
#define ASKED_BACK_MAX	8		/* requests of the server in one stream */
#define RESUMES_MAX	20
#define RESUME_MS	1000		/* where the server names no time */
#define SESSION_MAX	512

/* One request until its answer is there. */
struct exchange {
	struct job		*job;
	const struct mcp_peer	*peer;
	const struct mcp_ask	*ask;
	struct mcp_reply	*reply;
	int64_t			 id;
	int64_t			 until;
	struct http		*http;
	struct sse		 sse;
	int			 asked_back;
	int			 resumed;
	bool			 streamed;	/* the answer is a stream */
};

static int64_t	 id_new(void);
static void	 exchange_open(struct exchange *, const char *body);
static void	 answer_read(struct exchange *);
static bool	 session_good(const char *);
static void	 refused(struct exchange *, int status);
static void	 json_answer(struct exchange *);
static void	 stream_answer(struct exchange *);
static bool	 event_take(struct exchange *, bool *over);
static void	 arena_end(void *);
static bool	 stream_resume(struct exchange *);
static bool	 message_take(struct exchange *, json_object *);
static bool	 ours(const struct exchange *, json_object *);
static void	 answer_take(struct mcp_reply *, json_object *);
static void	 unanswered(struct exchange *);
static bool	 type_is(struct http *, const char *);
static void	 lose(struct exchange *, enum mcp_fate, const char *);

void
mcp_send(struct job *job, const struct mcp_peer *peer, const struct mcp_ask *ask, struct mcp_reply *reply)
{
	struct mcp_ask	 own = *ask;
	struct exchange	 x = { .job = job, .peer = peer, .ask = &own, .reply = reply, .until = deadline_ms(ask->timeout_ms) };
	char		 parent[TRACE_PARENT];

	*reply = (struct mcp_reply){ .fate = MCP_LOST, .arena = arena_open() };
	if (job->trace != NULL) {
		trace_next(job->trace, parent);
		own.traceparent = parent;
		own.tracestate = job->trace->state;
	}
	x.id = id_new();
	sse_open(&x.sse, ask->max);
	exchange_open(&x, mcp_body(reply->arena, peer, &own, x.id));
	answer_read(&x);
	http_close(&x.http);
	sse_close(&x.sse);
	if ((reply->fate == MCP_LATE || reply->fate == MCP_STOPPED) && !peer->modern && !ask->notify &&
	    strcmp(ask->method, "initialize") != 0)
		mcp_cancel(job, peer, x.id, reply->fate == MCP_LATE ? "no answer in time" : "nobody waits for it any more");
}

/* Random, as the sessions of a user are shared by all workers; 48 bits, as some read numbers as doubles. */
static int64_t
id_new(void)
{
	unsigned char	 b[6];
	int64_t		 id = 0;

	random_bytes(b, sizeof b);
	for (size_t i = 0; i < sizeof b; i++)
		id = id << 8 | b[i];
	return id;
}

void
mcp_reply_close(struct mcp_reply *reply)
{
	arena_close(&reply->arena);
	reply->result = reply->data = NULL;
	reply->message = reply->session = reply->detail = NULL;
}

static void
exchange_open(struct exchange *x, const char *body)
{
	x->http = mcp_message_open(x->job, x->reply->arena, x->peer, x->ask, arena_strdup(x->reply->arena, body),
	    x->ask->timeout_ms, x->ask->max);
}

static void
answer_read(struct exchange *x)
{
	int		 status = http_status(x->http);
	const char	*session;

	if (status < 0) {
		unanswered(x);
		return;
	}
	x->reply->status = status;
	session = http_header(x->http, "Mcp-Session-Id");
	if (session != NULL && session_good(session))
		x->reply->session = arena_strdup(x->reply->arena, session);
	if (status < 200 || status > 299)
		refused(x, status);
	else if (x->ask->notify)
		x->reply->fate = MCP_ACCEPTED;
	else if (type_is(x->http, "text/event-stream"))
		stream_answer(x);
	else if (type_is(x->http, "application/json"))
		json_answer(x);
	else
		lose(x, MCP_LOST, "an answer that is neither JSON nor a stream of events");
}

/* "Visible ASCII characters", says the specification. */
static bool
session_good(const char *s)
{
	size_t	 n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (s[i] < 0x21 || s[i] > 0x7e)
			return false;
	return n > 0 && n <= SESSION_MAX;
}

/* There is no answer: what does that say of the request? */
static void
unanswered(struct exchange *x)
{
	const char	*detail = arena_strdup(x->reply->arena, http_detail(x->http));

	if (x->job->fail != FAIL_NONE)
		lose(x, MCP_STOPPED, detail);
	else
		switch (http_error(x->http)) {
		case HTTP_UNREACHABLE:
			lose(x, MCP_UNSENT, detail);
			break;
		case HTTP_LATE_FIRST:
		case HTTP_LATE_IDLE:
		case HTTP_LATE_TOTAL:
			lose(x, MCP_LATE, "no answer in time");
			break;
		case HTTP_TOO_LARGE:
			lose(x, MCP_LOST, "the answer is too large");
			break;
		default:
			lose(x, MCP_LOST, detail);
			break;
		}
}

static void
lose(struct exchange *x, enum mcp_fate fate, const char *detail)
{
	x->reply->fate = fate;
	x->reply->detail = detail;
	x->reply->result = NULL;
}

static bool
type_is(struct http *h, const char *type)
{
	const char	*got = http_header(h, "Content-Type");
	size_t		 n = strlen(type);

	return got != NULL && strncasecmp(got, type, n) == 0 && strchr("; \t", got[n]) != NULL;
}

/* -- the answer -- */

/* Whatever a server says with 4xx, it has not done it.  Behind the others may be one that has. */
static void
refused(struct exchange *x, int status)
{
	struct mcp_reply	*r = x->reply;
	struct buf		 text = { 0 };
	char			 in[READ_SIZE];
	ssize_t			 n;
	json_object		*o;

	while (text.n < MCP_REFUSAL_MAX && (n = http_read(x->http, in, sizeof in)) > 0)
		buf_add(&text, in, (size_t)n);
	if ((o = json_read(r->arena, buf_text(&text), text.n, NULL)) != NULL)
		answer_take(r, o);
	r->result = NULL;
	r->of_session = strcasestr(buf_text(&text), "session") != NULL || strcasestr(buf_text(&text), "initializ") != NULL;
	buf_free(&text);
	if (x->job->fail != FAIL_NONE)
		r->fate = MCP_STOPPED;
	else
		r->fate = status < 500 || status == 501 || status == 503 ? MCP_REFUSED : MCP_LOST;
	r->detail = status < 400 ? "redirects are not followed" : "refused";
}

static void
json_answer(struct exchange *x)
{
	struct buf	 text = { 0 };
	char		 in[READ_SIZE];
	ssize_t		 n;
	json_object	*o;

	while ((n = http_read(x->http, in, sizeof in)) > 0 && text.n <= x->ask->max)
		buf_add(&text, in, (size_t)n);
	if (n < 0)
		unanswered(x);
	else if (n > 0)
		lose(x, MCP_LOST, "the answer is too large");
	else if ((o = json_read(x->reply->arena, buf_text(&text), text.n, NULL)) == NULL)
		lose(x, MCP_LOST, "the answer is not valid JSON");
	else if (!message_take(x, o))
		lose(x, MCP_LOST, "the answer is not the one to this request");
	buf_free(&text);
}

/* Reads until our answer, whatever else there is. */
static void
stream_answer(struct exchange *x)
{
	char		 in[READ_SIZE];
	const char	*p;
	size_t		 left;
	ssize_t		 n;
	int		 got;
	bool		 over = false;

	x->streamed = true;
	for (;;) {
		n = http_read(x->http, in, sizeof in);
		if (n <= 0) {
			if (x->job->fail != FAIL_NONE || now_us() >= x->until || !stream_resume(x)) {
				if (n < 0)
					unanswered(x);
				else
					lose(x, MCP_LOST, "the stream ended without an answer");
				return;
			}
			continue;
		}
		for (p = in, left = (size_t)n; (got = sse_take(&x->sse, &p, &left)) != 0;) {
			if (got < 0) {
				lose(x, MCP_LOST, "the answer is too large");
				return;
			}
			if (event_take(x, &over) || over)
				return;
		}
	}
}

/* true: it was the answer.  *over: it was nothing at all. */
static bool
event_take(struct exchange *x, bool *over)
{
	struct arena	*a;
	json_object	*o;
	bool		 taken;

	/* An event that only tells its id has no data. */
	if (x->sse.data.n == 0)
		return false;
	a = arena_open();
	o = json_read(a, buf_text(&x->sse.data), x->sse.data.n, NULL);
	if (o == NULL) {
		lose(x, MCP_LOST, "an event that is not valid JSON");
		*over = true;
	}
	taken = o != NULL && message_take(x, o);
	/* Only the answer is kept: streams may be long. */
	if (taken)
		arena_defer(x->reply->arena, arena_end, a);
	else
		arena_close(&a);
	return taken;
}

static void
arena_end(void *arg)
{
	struct arena	*a = arg;

	arena_close(&a);
}

/*
 * yields.  2025-11-25, "Resumability and Redelivery": a server may close the connection early and be asked again, from the
 * last event on, after the time it named.  The events that come then are of the same request.
 */
static bool
stream_resume(struct exchange *x)
{
	const struct mcp_peer	*peer = x->peer;
	const char		*last = arena_strdup(x->reply->arena, buf_text(&x->sse.id));
	int64_t			 wait = x->sse.retry_ms >= 0 ? x->sse.retry_ms : RESUME_MS, left;

	if (peer->modern || *last == '\0' || strcspn(last, "\r\n") != strlen(last))
		return false;
	/* A server that says nothing and ends, and wants to be asked again at once, is not asked so for ever. */
	if (++x->resumed > RESUMES_MAX && wait < RESUME_MS)
		wait = RESUME_MS;
	for (int tries = 0; tries < RESUMES_MAX && deadline_ms(wait) < x->until; tries++) {
		for (int64_t until = deadline_ms(wait); now_us() < until;)
			if (job_wait(x->job, until) < 0 && x->job->fail != FAIL_NONE)
				return false;
		sse_restart(&x->sse);
		http_close(&x->http);
		left = (x->until - now_us()) / 1000;
		x->http = http_open(x->job, &(struct http_ask){
			.method = "GET",
			.url = peer->conf->url,
			.headers = mcp_headers(x->reply->arena, peer, NULL, last),
			.ca_file = peer->conf->ca_file,
			.connect_ms = left < MCP_CONNECT_MS ? left : MCP_CONNECT_MS,
			.total_ms = left,
			.max_body = x->ask->max,
		});
		if (http_status(x->http) == 200 && type_is(x->http, "text/event-stream"))
			return true;
		/* A server that does not do this will not do it later. */
		if (http_status(x->http) > 0 && http_status(x->http) < 500)
			return false;
		wait = RESUME_MS;
	}
	return false;
}

/* true: the answer was there. */
static bool
message_take(struct exchange *x, json_object *o)
{
	json_object	*id;
	const char	*method;

	/* 2025-03-26 alone has batches. */
	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if (message_take(x, json_object_array_get_idx(o, i)))
				return true;
		return false;
	}
	method = json_text_or_null(o, "method");
	if (method == NULL) {
		if (!ours(x, o))
			return false;
		x->reply->fate = MCP_ANSWERED;
		answer_take(x->reply, o);
		if (x->reply->result == NULL && x->reply->code == 0)
			lose(x, MCP_LOST, "an answer with neither result nor error");
		return true;
	}
	if (json_object_object_get_ex(o, "id", &id) && x->streamed && !x->peer->modern && x->asked_back++ < ASKED_BACK_MAX)
		mcp_ask_answer(x->job, x->peer, id, method);
	return false;
}

static bool
ours(const struct exchange *x, json_object *o)
{
	int64_t		 id;
	json_object	*none;

	if (json_get_int(o, "id", &id) == JSON_GOT)
		return id == x->id;
	/* An error about what could not be read has no id (JSON-RPC 2.0, section 5). */
	return json_get_object(o, "error", &none) == JSON_GOT &&
	    (!json_object_object_get_ex(o, "id", &none) || none == NULL) && !x->streamed;
}

static void
answer_take(struct mcp_reply *r, json_object *o)
{
	json_object	*error;

	if (json_get_object(o, "error", &error) == JSON_GOT) {
		r->result = NULL;
		if (json_get_int(error, "code", &r->code) != JSON_GOT || r->code == 0)
			r->code = -32000;
		r->message = json_text_or_null(error, "message");
		if (json_get_object(error, "data", &r->data) != JSON_GOT)
			r->data = NULL;
	} else if (json_get_object(o, "result", &r->result) != JSON_GOT)
		r->result = NULL;
}
