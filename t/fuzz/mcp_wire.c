/*
 * One message to an MCP server and whatever it answers.  io/http.h is played here, from the input: a line with status,
 * a line with the type of the content, one with a session, one that says "modern" or not, then the body, in which @ID@
 * stands for the id that was asked with.  A line "----" ends one answer: what follows is what is said when we ask to
 * go on (status 200, a stream).
 */
#include "fuzz.h"

#include "base/buf.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "io/http.h"
#include "io/json.h"
#include "run/job.h"
#include "tool/mcp_wire.h"

/* -- the server -- */

static struct {
	const char	*status, *type, *session;
	struct input	 said;		/* as the input has it */
	struct buf	 body;
	size_t		 at;		/* of the body: said so far */
	int		 open;
	int		 asked;		/* exchanges in all */
	bool		 resumed;
	int		 resumes;
} server;

struct http {
	bool	 ours;		/* the POST, or the GET that goes on with it; others are notes */
};

/* What is said, once the question is there: its id is random. */
static void
body_put(const char *question)
{
	static const char	 mark[] = "@ID@";
	const char		*p = server.said.p, *end = server.said.p + server.said.n, *at;
	const char		*id = strstr(question, "\"id\":");

	buf_clear(&server.body);
	while (p < end && (at = memmem(p, (size_t)(end - p), mark, sizeof mark - 1)) != NULL) {
		buf_add(&server.body, p, (size_t)(at - p));
		must(id != NULL);
		buf_add(&server.body, id + 5, strspn(id + 5, "0123456789"));
		p = at + sizeof mark - 1;
	}
	if (p < end)
		buf_add(&server.body, p, (size_t)(end - p));
}

struct http *
http_open(struct job *job, const struct http_ask *ask)
{
	struct http	*h = calloc(1, sizeof *h);

	(void)job;
	must(ask->url != NULL && ask->method != NULL);
	for (const char *const *p = ask->headers; *p != NULL; p++)
		must(strpbrk(*p, "\r\n") == NULL);
	h->ours = server.asked++ == 0 || strcmp(ask->method, "GET") == 0;
	server.resumed |= strcmp(ask->method, "GET") == 0;
	server.resumes += strcmp(ask->method, "GET") == 0;
	if (ask->nbody > 0) {
		struct arena	*a = arena_open();

		must(json_object_is_type(json_read(a, ask->body, ask->nbody, NULL), json_type_object));
		arena_close(&a);
		if (server.asked == 1)
			body_put(ask->body);
	}
	server.open++;
	return h;
}

int
http_status(struct http *h)
{
	return h->ours && !server.resumed ? atoi(server.status) : 200;
}

const char *
http_header(struct http *h, const char *name)
{
	if (!h->ours)
		return NULL;
	if (strcmp(name, "Content-Type") == 0)
		return server.resumed ? "text/event-stream" : server.type;
	return strcmp(name, "Mcp-Session-Id") == 0 && *server.session != '\0' ? server.session : NULL;
}

ssize_t
http_read(struct http *h, char *to, size_t n)
{
	static const char	 end[] = "\n----\n";
	const char		*from = buf_text(&server.body) + server.at;
	size_t			 left = server.body.n - server.at;
	const char		*stop = left > 0 ? memmem(from, left, end, sizeof end - 1) : NULL;
	size_t			 say = stop != NULL ? (size_t)(stop - from) : left;

	if (!h->ours)
		return 0;
	if (say == 0) {
		server.at += stop != NULL ? sizeof end - 1 : 0;
		return stop != NULL ? 0 : left == 0 && atoi(server.status) % 2 == 1 ? -1 : 0;
	}
	/* In pieces, for a stream comes so. */
	say = say < n ? say : n;
	say = say < 64 ? say : 64;
	memcpy(to, from, say);
	server.at += say;
	return (ssize_t)say;
}

enum http_error
http_error(const struct http *h)
{
	(void)h;
	return (enum http_error)(server.body.n % (HTTP_STOPPED + 1));
}

const char *
http_detail(const struct http *h)
{
	(void)h;
	return "cut";
}

int64_t
http_first_byte_us(const struct http *h)
{
	(void)h;
	return 1;
}

int
http_start(void)
{
	return 0;
}

void
http_stop(void)
{
}

void
http_close(struct http **h)
{
	server.open -= *h != NULL;
	free(*h);
	*h = NULL;
}

/* -- the question -- */

static void
answer_check(const struct mcp_reply *r)
{
	must(server.open == 0);
	/* The time is short: whoever is told to come back at once does not do so without end. */
	must(server.resumes <= 20);
	must(r->fate <= MCP_STOPPED);
	must(r->fate != MCP_ANSWERED || (r->result != NULL) != (r->code != 0));
	must(r->fate == MCP_ANSWERED || r->result == NULL);
	must(r->result == NULL || json_object_is_type(r->result, json_type_object));
	must(r->data == NULL || json_object_is_type(r->data, json_type_object));
	must(r->message == NULL || utf8_valid(r->message, strlen(r->message)));
	must(r->session == NULL || (*r->session != '\0' && strlen(r->session) <= 512));
	must(r->fate == MCP_ANSWERED || r->detail != NULL);
}

static void
ask(struct job *job, bool modern)
{
	static const struct conf_mcp	 conf = { .name = "srv", .url = "http://127.0.0.1:9/mcp", .auth = "none" };
	const struct mcp_peer		 peer = { .conf = &conf, .version = modern ? MCP_MODERN : MCP_LEGACY, .modern = modern };
	struct mcp_reply		 r;

	mcp_send(job, &peer, &(struct mcp_ask){
		.method = modern ? "tools/call" : "initialize",	/* nobody is told that it is not waited for */
		.params = "{\"name\":\"x\"}",
		.name = "x",
		.timeout_ms = 1,	/* or a named wait would be one, which needs a fiber */
		.max = 2048,
	}, &r);
	answer_check(&r);
	mcp_reply_close(&r);
	mcp_reply_close(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct conf	 conf = { .api_serve = "all" };
	struct input			 in = { (const char *)data, n };
	struct job			 job;
	bool				 modern;

	job_open(&job, &conf);
	server.status = fuzz_line(job.arena, &in);
	server.type = fuzz_line(job.arena, &in);
	server.session = fuzz_line(job.arena, &in);
	modern = strcmp(fuzz_line(job.arena, &in), "modern") == 0;
	server.said = in;
	server.at = 0;
	server.asked = server.open = 0;
	server.resumed = false;
	server.resumes = 0;
	ask(&job, modern);
	job_close(&job);
	return 0;
}
