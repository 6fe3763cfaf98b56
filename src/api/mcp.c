/* POST /mcp: what came is taken apart, each message is read and done, and the answers are put together. */
#include "api/mcp.h"

#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/fcgi.h"
#include "io/json.h"

/* More would let one request hold its connection for minutes. */
#define BATCH_MAX	32

enum { LEGACY = 1, MODERN = 2 };

static const struct method {
	const char	*name;
	int		(*run)(struct rpc *);
	int		 eras;
} methods[] = {
	{ "initialize",		rpc_initialize,		LEGACY },
	{ "ping",		rpc_ping,		LEGACY },
	{ "server/discover",	rpc_discover,		MODERN },
	{ "tools/call",		rpc_tools_call,		LEGACY | MODERN },
	{ "tools/list",		rpc_tools_list,		LEGACY | MODERN },
};

static int	 check_origin(struct request *);
static int	 check_host(struct request *);
static bool	 answer(struct request *, json_object *, bool alone, struct buf *, int *);
static int	 answer_batch(struct request *, json_object *);
static int	 refuse(struct request *, enum rpc_code, const char *);

int
mcp_post(struct request *r)
{
	struct buf	*body = buf_new(r->job.arena), *out = buf_new(r->job.arena);
	json_object	*root;
	const char	*why = NULL;
	int		 status;

	if (check_origin(r) < 0 || check_host(r) < 0 || request_read_text(r, body, false) < 0)
		return -1;
	root = json_read(r->job.arena, buf_text(body), body->n, &why);
	if (root == NULL && why != NULL)
		return refuse(r, RPC_PARSE_ERROR, arena_printf(r->job.arena, "The body is not valid JSON: %s.", why));
	buf_free(body);
	if (json_object_is_type(root, json_type_array))
		return answer_batch(r, root);

	if (answer(r, root, true, out, &status))
		request_reply(r, status, buf_text(out));
	else
		request_reply(r, 202, NULL);
	return 0;
}

/*
 * A page of any origin can make its reader's browser call us under a name that it controls (DNS rebinding).  Who is
 * no browser sends no Origin.
 */
static int
check_origin(struct request *r)
{
	const char	*origin = fcgi_param(r->fcgi, "HTTP_ORIGIN");

	if (origin == NULL || conf_list_has(r->job.conf->mcp_origins, origin))
		return 0;
	return job_fail(&r->job, FAIL_FORBIDDEN, "Pages of this origin may not use this address (mcp.origins).");
}

/* Which names are ours the web server knows best; where mcp.hosts says it as well, it is looked at here. */
static int
check_host(struct request *r)
{
	const char	*host = fcgi_param(r->fcgi, "HTTP_HOST"), *list = r->job.conf->mcp_hosts;
	char		 word[256];
	size_t		 n;

	if (list == NULL || *list == '\0')
		return 0;
	while (host != NULL && conf_list_next(&list, word, sizeof word)) {
		n = strlen(word);
		/* A name without a port is that name on every port. */
		if (strncasecmp(host, word, n) == 0 && (host[n] == '\0' || (host[n] == ':' &&
		    strspn(host + n + 1, "0123456789") == strlen(host + n + 1))))
			return 0;
	}
	return job_fail(&r->job, FAIL_FORBIDDEN, "This server is not called by this name here (mcp.hosts).");
}

static const struct method *
method_find(const struct rpc *m)
{
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
		if (strcmp(methods[i].name, m->method) == 0 && (methods[i].eras & (m->modern ? MODERN : LEGACY)) != 0)
			return &methods[i];
	return NULL;
}

int
rpc_error(struct rpc *m, int status, enum rpc_code code, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	m->sentence = arena_vprintf(m->req->job.arena, fmt, ap);
	va_end(ap);
	m->status = status;
	m->code = code;
	return -1;
}

/* What failed is ours: the same failure that the chat API would name, as the protocol names it. */
static void
error_of_job(struct rpc *m)
{
	struct job	*job = &m->req->job;
	struct buf	*b = buf_new(job->arena);

	rpc_error(m, fail_kind(job->fail)->status, RPC_INTERNAL_ERROR, "%s", job->sentence);
	jw_open(b, '{');
	jw_key(b, "error_code"), jw_string(b, fail_kind(job->fail)->code);
	jw_key(b, "request_id"), jw_string(b, job->request_id);
	jw_close(b, '}');
	m->data = buf_text(b);
}

/* The name of a method is the client's text, so the log has it only where it is one of ours. */
static void
message_log(const struct rpc *m, const struct method *method)
{
	if (!job_log(&m->req->job, LOG_INFO, "mcp"))
		return;
	log_str("method", method != NULL ? method->name : m->id == NULL ? "notification" : "unknown");
	if (m->tool != NULL)
		log_str("tool", m->tool);
	if (m->version != NULL)
		log_str("version", m->version);
	if (m->code != 0)
		log_int("code", m->code);
	log_end();
}

static void
message_do(struct rpc *m, json_object *message)
{
	const struct method	*method = NULL;

	if (rpc_read(m, message) == 0 && m->id != NULL) {
		method = method_find(m);
		if (method == NULL)
			/* An era ago this was no failure of HTTP. */
			rpc_error(m, m->modern ? 404 : 200, RPC_METHOD_NOT_FOUND, "There is no method of this name.");
		else if (method->run(m) < 0 && m->code == 0)
			error_of_job(m);
	}
	message_log(m, method);
}

static void
put_answer(const struct rpc *m, struct buf *b)
{
	jw_open(b, '{');
	jw_key(b, "jsonrpc"), jw_string(b, "2.0");
	jw_key(b, "id"), jw_raw(b, m->id != NULL ? json_text(m->id) : NULL);
	if (m->code == 0) {
		jw_key(b, "result");
		jw_raw(b, buf_text(m->result));
	} else {
		jw_key(b, "error");
		jw_open(b, '{');
		jw_key(b, "code"), jw_int(b, m->code);
		jw_key(b, "message"), jw_string(b, m->sentence);
		if (m->data != NULL)
			jw_key(b, "data"), jw_raw(b, m->data);
		jw_close(b, '}');
	}
	jw_close(b, '}');
}

/* The result that a method has begun; each of 2026-07-28 says that it is whole, and whose it is. */
static void
result_open(struct rpc *m)
{
	m->result = buf_new(m->req->job.arena);
	jw_open(m->result, '{');
}

static void
result_close(struct rpc *m)
{
	struct buf	*b = m->result;

	if (m->modern) {
		jw_key(b, "resultType"), jw_string(b, "complete");
		jw_key(b, "_meta");
		jw_open(b, '{');
		jw_key(b, "io.modelcontextprotocol/serverInfo"), rpc_put_server(b);
		jw_close(b, '}');
	}
	jw_close(b, '}');
}

/* False: there is nothing to say to it. */
static bool
answer(struct request *r, json_object *message, bool alone, struct buf *out, int *status)
{
	struct rpc	 m = { .req = r, .status = 200 };

	result_open(&m);
	message_do(&m, message);
	result_close(&m);

	/* initialize must not be part of a batch (2025-03-26, lifecycle). */
	if (!alone && m.code == 0 && m.method != NULL && strcmp(m.method, "initialize") == 0)
		rpc_error(&m, 400, RPC_INVALID_REQUEST, "initialize must come alone.");
	if (m.id == NULL && m.code == 0)
		return false;
	put_answer(&m, out);
	*status = m.status;
	return true;
}

/* Only 2025-03-26 knows batches, and its clients do not say their version. */
static int
answer_batch(struct request *r, json_object *batch)
{
	const char	*version = fcgi_param(r->fcgi, "HTTP_MCP_PROTOCOL_VERSION");
	size_t		 n = json_object_array_length(batch);
	struct buf	*out = buf_new(r->job.arena);
	int		 status;

	if (version != NULL && strcmp(version, MCP_OLDEST) != 0)
		return refuse(r, RPC_INVALID_REQUEST, "Messages must be sent one by one: this version has no batches.");
	if (n == 0 || n > BATCH_MAX)
		return refuse(r, RPC_INVALID_REQUEST, "A batch has 1 to 32 messages.");
	jw_open(out, '[');
	for (size_t i = 0; i < n; i++) {
		(void)answer(r, json_object_array_get_idx(batch, i), false, out, &status);
		job_forgive(&r->job);
	}
	if (out->n == 1) {
		request_reply(r, 202, NULL);
		return 0;
	}
	jw_close(out, ']');
	request_reply(r, 200, buf_text(out));
	return 0;
}

/* What is no message has no id. */
static int
refuse(struct request *r, enum rpc_code code, const char *sentence)
{
	struct rpc	 m = { .req = r };
	struct buf	*out = buf_new(r->job.arena);

	rpc_error(&m, 400, code, "%s", sentence);
	put_answer(&m, out);
	message_log(&m, NULL);
	request_reply(r, m.status, buf_text(out));
	return 0;
}
