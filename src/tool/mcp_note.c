#include "config.h"

#include "tool/mcp_note.h"

#include <inttypes.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/http.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "tool/mcp_head.h"

#define NOTE_MS		2000
#define NOTE_MAX	((size_t)4 * 1024)	/* of the answer to what needs none */

static void	 note_send(struct job *, const struct mcp_peer *, const char *body);
static void	 cancel_run(void *);

const char *
mcp_body(struct arena *a, const struct mcp_peer *peer, const struct mcp_ask *ask, int64_t id)
{
	struct buf	*b = buf_new(a);
	size_t		 n = strlen(ask->params);

	buf_str(b, "{\"jsonrpc\":\"2.0\",");
	if (!ask->notify)
		buf_printf(b, "\"id\":%" PRId64 ",", id);
	buf_printf(b, "\"method\":\"%s\",\"params\":", ask->method);
	if (!peer->modern) {
		buf_str(b, ask->params);
	} else {
		buf_add(b, ask->params, n - 1);
		buf_printf(b, "%s\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"%s\","
		    "\"io.modelcontextprotocol/clientCapabilities\":{},"
		    "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"parley\",\"version\":\"" PACKAGE_VERSION "\"}",
		    n > 2 ? "," : "", peer->version);
		/* 2026-07-28, "_meta": the names of W3C Trace Context stand there without a prefix. */
		if (ask->traceparent != NULL)
			jw_key(b, "traceparent"), jw_string(b, ask->traceparent);
		if (ask->tracestate != NULL)
			jw_key(b, "tracestate"), jw_string(b, ask->tracestate);
		buf_str(b, "}}");
	}
	buf_char(b, '}');
	return b->p;
}

struct http *
mcp_message_open(struct job *job, struct arena *a, const struct mcp_peer *peer, const struct mcp_ask *ask, const char *body,
    int64_t ms, size_t max)
{
	return http_open(job, &(struct http_ask){
		.method = "POST",
		.url = peer->conf->url,
		.headers = mcp_headers(a, peer, ask, NULL),
		.body = body,
		.nbody = strlen(body),
		.ca_file = peer->conf->ca_file,
		.connect_ms = ms < MCP_CONNECT_MS ? ms : MCP_CONNECT_MS,
		.total_ms = ms,
		/* A refusal may have words of its own. */
		.max_body = max + MCP_REFUSAL_MAX,
		.once = ask != NULL && strcmp(ask->method, "tools/call") == 0,
	});
}

void
mcp_ask_answer(struct job *job, const struct mcp_peer *peer, json_object *id, const char *method)
{
	struct buf	*b;

	if (json_object_is_type(id, json_type_object) || json_object_is_type(id, json_type_array))
		return;
	b = buf_new(job->arena);
	jw_open(b, '{');
	jw_key(b, "jsonrpc"), jw_string(b, "2.0");
	jw_key(b, "id"), jw_raw(b, json_text(id));
	if (strcmp(method, "ping") == 0) {
		jw_key(b, "result"), jw_raw(b, "{}");
	} else {
		jw_key(b, "error");
		jw_open(b, '{');
		jw_key(b, "code"), jw_int(b, MCP_ERROR_METHOD);
		jw_key(b, "message"), jw_string(b, "Method not found");
		jw_close(b, '}');
	}
	jw_close(b, '}');
	note_send(job, peer, b->p);
}

/* yields.  A message whose answer does not matter. */
static void
note_send(struct job *job, const struct mcp_peer *peer, const char *body)
{
	struct arena	*a = arena_open();
	struct http	*h = mcp_message_open(job, a, peer, NULL, body, NOTE_MS, NOTE_MAX);

	(void)http_status(h);
	http_close(&h);
	arena_close(&a);
}

void
mcp_hang_up(struct job *job, const struct mcp_peer *peer)
{
	struct arena	*a = arena_open();
	struct http	*h = http_open(job, &(struct http_ask){
		.method = "DELETE",
		.url = peer->conf->url,
		.headers = mcp_headers(a, peer, NULL, NULL),
		.ca_file = peer->conf->ca_file,
		.connect_ms = NOTE_MS,
		.total_ms = NOTE_MS,
	});

	(void)http_status(h);
	http_close(&h);
	arena_close(&a);
}

/* What the fiber that tells of a cancellation is given: the job whose request it was may be at its end. */
struct cancel {
	struct arena		*arena;
	const struct conf	*conf;
	struct mcp_peer		 peer;
	char			*token;		/* the peer's; wiped before the memory is given back */
	const char		*body;
};

void
mcp_cancel(const struct job *job, const struct mcp_peer *peer, int64_t id, const char *why)
{
	struct arena	*a = arena_open();
	struct cancel	*c = arena_new(a, struct cancel);

	*c = (struct cancel){ .arena = a, .conf = job->conf, .peer = *peer };
	c->peer.version = arena_strdup(a, peer->version);
	c->peer.session = arena_strdup(a, peer->session);
	c->peer.token = c->token = arena_strdup(a, peer->token);
	c->body = arena_printf(a, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
	    "\"params\":{\"requestId\":%" PRId64 ",\"reason\":\"%s\"}}", id, why);
	if (fiber_start(cancel_run, c) == NULL)
		arena_close(&a);
}

static void
cancel_run(void *arg)
{
	struct cancel	*c = arg;
	struct arena	*a = c->arena;
	struct job	 job;

	job_open(&job, c->conf);
	job.route = "mcp_cancel";
	job.deadline = deadline_ms(NOTE_MS);
	note_send(&job, &c->peer, c->body);
	job_close(&job);
	if (c->token != NULL)
		explicit_bzero(c->token, strlen(c->token));
	arena_close(&a);
}

void
mcp_log(struct job *job, const struct mcp_peer *peer, const char *method, const struct mcp_reply *r)
{
	if (!job_log(job, LOG_WARN, "mcp_failed"))
		return;
	log_str("server", peer->conf->name);
	log_str("method", method);
	if (r->status != 0)
		log_int("upstream_status", r->status);
	if (r->code != 0)
		log_int("code", r->code);
	log_str("detail", r->detail);
	log_end();
}
