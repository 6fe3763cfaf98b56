#include "demo/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/fail.h"
#include "io/json.h"

struct reply *
reply_open(int status)
{
	struct arena	*arena = arena_open();
	struct reply	*r = arena_new(arena, struct reply);

	r->arena = arena;
	r->status = status;
	r->stream = true;
	r->fields = buf_new(arena);
	r->last = &r->first;
	return r;
}

void
reply_close(struct reply **rp)
{
	struct arena	*arena;

	if (*rp == NULL)
		return;
	arena = (*rp)->arena;
	*rp = NULL;
	arena_close(&arena);
}

void
reply_field(struct reply *r, const char *name, const char *value)
{
	/* Written by reply_head(), once, whoever asked for it. */
	if (strcasecmp(name, "connection") == 0 && strcasecmp(value, "close") == 0) {
		r->close = true;
		return;
	}
	buf_str(r->fields, name);
	buf_str(r->fields, ": ");
	buf_str(r->fields, value);
	buf_str(r->fields, "\r\n");
	if (strcasecmp(name, "content-type") == 0) {
		r->typed = true;
		r->stream = strncasecmp(value, "text/event-stream", 17) == 0;
	}
	if (strcasecmp(name, "content-length") == 0)
		r->framing = FRAMING_BARE;
}

struct step *
reply_step(struct reply *r, enum step_kind kind, const char *text, size_t n, int ms)
{
	struct step	*s = arena_new(r->arena, struct step);

	s->kind = kind;
	s->text = n == 0 ? "" : arena_memdup(r->arena, text, n);
	s->n = n;
	s->ms = ms;
	s->count = 1;
	*r->last = s;
	r->last = &s->next;
	return s;
}

void
reply_wait(struct reply *r, int ms)
{
	if (ms > 0)
		(void)reply_step(r, STEP_WAIT, NULL, 0, ms);
}

void
reply_data(struct reply *r, const char *json)
{
	struct step	*s = reply_step(r, STEP_BYTES, NULL, 0, 0);

	s->text = arena_printf(r->arena, "data: %s\n\n", json);
	s->n = strlen(s->text);
}

struct reply *
reply_json(int status, const char *json)
{
	struct reply	*r = reply_open(status);

	reply_field(r, "Content-Type", "application/json");
	(void)reply_step(r, STEP_BYTES, json, strlen(json), 0);
	reply_seal(r);
	return r;
}

struct reply *
reply_error(int status, const char *fmt, ...)
{
	struct buf	 b = { 0 };
	struct reply	*r;
	char		 message[512];
	va_list		 ap;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	jw_open(&b, '{');
	jw_key(&b, "error");
	jw_open(&b, '{');
	jw_key(&b, "message");
	jw_string(&b, message);
	jw_key(&b, "type");
	jw_string(&b, status < 500 ? "invalid_request_error" : "server_error");
	jw_key(&b, "param");
	jw_null(&b);
	jw_key(&b, "code");
	jw_null(&b);
	jw_close(&b, '}');
	jw_close(&b, '}');
	r = reply_json(status, buf_text(&b));
	buf_free(&b);
	return r;
}

/*
 * A stream is chunked.  Any other body gets a Content-Length when all of it
 * is known at once, which is how servers send their JSON.
 */
void
reply_seal(struct reply *r)
{
	bool	 begun = false, plain = true;

	r->length = 0;
	for (struct step *s = r->first; s != NULL; s = s->next) {
		if (s->kind == STEP_BYTES) {
			r->length += s->n * (size_t)s->count;
			begun = true;
		} else if (s->kind != STEP_WAIT || begun)
			plain = false;
	}
	if (!r->typed)
		reply_field(r, "Content-Type", "text/event-stream");
	if (r->framing == FRAMING_CHUNKED && !r->stream && plain)
		r->framing = FRAMING_LENGTH;
}

void
reply_head(const struct reply *r, struct buf *out)
{
	buf_printf(out, "HTTP/1.1 %d %s\r\nServer: parley-demo-model\r\n",
	    r->status, http_reason(r->status));
	buf_add(out, buf_text(r->fields), r->fields->n);
	if (r->stream)
		buf_str(out, "Cache-Control: no-cache\r\n");
	if (r->close)
		buf_str(out, "Connection: close\r\n");
	if (r->framing == FRAMING_LENGTH)
		buf_printf(out, "Content-Length: %zu\r\n", r->length);
	else if (r->framing == FRAMING_CHUNKED)
		buf_str(out, "Transfer-Encoding: chunked\r\n");
	buf_str(out, "\r\n");
}
