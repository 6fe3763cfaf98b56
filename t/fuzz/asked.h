/*
 * asked -- a request as the handlers see it, made of an input: lines NAME=VALUE for the web server's parameters, an
 * empty line, then the body.  Nothing is read from a socket and nothing may be answered.
 */
#ifndef PARLEY_FUZZ_ASKED_H
#define PARLEY_FUZZ_ASKED_H

#include "fuzz.h"

#include "api/request.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "io/fcgi_conn.h"
#include "io/json.h"

#define ASKED_PARAMS	32

struct asked {
	struct request	 r;
	struct fcgi	 fcgi;
	char		*env[ASKED_PARAMS + 1];
	struct input	 body;
};

static const struct conf asked_conf = {
	.api_serve = "all",
	.chatkit_enabled = true,
	.limits_body = 4096,
	.limits_message = 100,
	.limits_title = 20,
	.client_max_wait = 110000,
	.cors_origins = "https://a.example http://localhost:8000",
	.mcp_origins = "https://b.example",
};

/* -1: the request is refused already, as request_open() has said. */
__attribute__((unused)) static int
asked_open(struct asked *q, const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	int		 count = 0;
	char		*line;

	memset(q, 0, sizeof *q);
	job_open(&q->r.job, &asked_conf);
	while (in.n > 0 && *(line = fuzz_line(q->r.job.arena, &in)) != '\0')
		if (count < ASKED_PARAMS && strchr(line, '=') != NULL)
			q->env[count++] = line;
	q->fcgi.rq.envp = q->env;
	q->r.fcgi = &q->fcgi;
	q->r.job.user = "ann";
	q->body = in;
	return request_open(&q->r);
}

/* The body as request_read_body() would give it; false: it is no JSON object. */
__attribute__((unused)) static bool
asked_body(struct asked *q)
{
	char	*copy = fuzz_copy(q->body.p, q->body.n);

	q->r.body = json_read(q->r.job.arena, copy, q->body.n, NULL);
	free(copy);
	if (!json_object_is_type(q->r.body, json_type_object))
		q->r.body = NULL;
	return q->r.body != NULL;
}

/*
 * Either it went well, or there is one failure, whose answer is one JSON object and whose head is whole lines of
 * ours: nothing in it ends a line or begins the body.
 */
__attribute__((unused)) static void
asked_verdict(struct asked *q, int rc)
{
	struct buf	*head = buf_new(q->r.job.arena), *body = buf_new(q->r.job.arena);
	const char	*text;

	must(rc == 0 || rc == -1);
	must((rc == -1) == (q->r.job.fail != FAIL_NONE));
	if (rc == -1) {
		request_error_json(&q->r, body);
		must(json_object_is_type(json_read(q->r.job.arena, buf_text(body), body->n, NULL), json_type_object));
		must(q->r.job.sentence != NULL && *q->r.job.sentence != '\0');
	}
	request_head(&q->r, 200, "application/json", head);
	text = buf_text(head);
	must(strlen(text) == head->n);
	for (const char *end; *text != '\0'; text = end + 2) {
		end = strpbrk(text, "\r\n");
		must(end != NULL && end[0] == '\r' && end[1] == '\n' && end > text);
		must(memchr(text, ':', (size_t)(end - text)) != NULL);
	}
}

__attribute__((unused)) static void
asked_close(struct asked *q)
{
	job_close(&q->r.job);
}

#endif
