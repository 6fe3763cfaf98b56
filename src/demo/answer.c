#include "demo/answer.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "demo/reply.h"
#include "io/json.h"

#define CALL_DELTAS	3	/* id and name, then the arguments in two fragments */

/* The pieces of an answer in the making: n of total are out. */
struct pieces {
	struct reply		*reply;
	const struct manner	*manner;
	struct buf		 json;
	int			 n, total;
	int			 texts;		/* of them are text */
};

static struct reply *reply_whole(const struct answer *, const struct manner *);
static struct reply *reply_stream(const struct answer *, const struct manner *);
static void	 text_deltas(struct pieces *, const char *, int);
static size_t	 piece_end(const char *, size_t, size_t);
static void	 call_deltas(struct pieces *, const struct answer_call *, int);
static void	 call_begin(struct pieces *, int);
static void	 call_end(struct pieces *, const char *, size_t);
static void	 chunk_begin(struct pieces *);
static void	 chunk_end(struct pieces *, const char *finish);
static void	 piece_wait(struct pieces *);
static void	 head_write(struct buf *, const struct manner *, const char *object);
static void	 call_id(struct buf *, const struct manner *, int);
static void	 usage_write(struct buf *, const struct answer *, const struct manner *);
static const char *finish_reason(const struct answer *);

struct reply *
answer_reply(const struct answer *a, const struct manner *m)
{
	return m->stream ? reply_stream(a, m) : reply_whole(a, m);
}

static struct reply *
reply_whole(const struct answer *a, const struct manner *m)
{
	struct reply	*r = reply_open(200);
	struct buf	 b = { 0 };

	head_write(&b, m, "chat.completion");
	buf_str(&b, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
	jw_string(&b, a->ncalls > 0 && *a->text == '\0' ? NULL : a->text);
	if (a->ncalls > 0) {
		jw_key(&b, "tool_calls");
		jw_open(&b, '[');
		for (int i = 0; i < a->ncalls; i++) {
			jw_open(&b, '{');
			jw_key(&b, "id");
			call_id(&b, m, i);
			buf_str(&b, ",\"type\":\"function\",\"function\":{\"name\":");
			jw_string(&b, a->calls[i].name);
			jw_key(&b, "arguments");
			jw_string(&b, a->calls[i].arguments);
			buf_str(&b, "}}");
		}
		jw_close(&b, ']');
	}
	buf_printf(&b, "},\"finish_reason\":\"%s\"}],\"usage\":", finish_reason(a));
	usage_write(&b, a, m);
	buf_char(&b, '}');

	reply_field(r, "Content-Type", "application/json");
	reply_wait(r, m->delay);
	(void)reply_step(r, STEP_BYTES, b.p, b.n, 0);
	reply_seal(r);
	buf_free(&b);
	return r;
}

static struct reply *
reply_stream(const struct answer *a, const struct manner *m)
{
	struct pieces	 p = { .reply = reply_open(200), .manner = m };

	reply_field(p.reply, "Content-Type", "text/event-stream");
	p.texts = *a->text == '\0' ? a->ncalls == 0 : a->ncalls > 0 ? 1 : m->pieces;
	p.total = p.texts + CALL_DELTAS * a->ncalls;

	/* The role comes with the first piece, as from a server that begins to answer when it has something. */
	piece_wait(&p);
	chunk_begin(&p);
	buf_str(&p.json, "{\"role\":\"assistant\",\"content\":");
	buf_str(&p.json, p.texts > 0 ? "\"\"}" : "null}");
	chunk_end(&p, NULL);

	text_deltas(&p, a->text, p.texts);
	for (int i = 0; i < a->ncalls; i++)
		call_deltas(&p, &a->calls[i], i);

	chunk_begin(&p);
	buf_str(&p.json, "{}");
	chunk_end(&p, finish_reason(a));
	if (m->include_usage) {
		buf_clear(&p.json);
		head_write(&p.json, m, "chat.completion.chunk");
		buf_str(&p.json, ",\"choices\":[],\"usage\":");
		usage_write(&p.json, a, m);
		buf_char(&p.json, '}');
		reply_data(p.reply, p.json.p);
	}
	reply_data(p.reply, "[DONE]");
	reply_seal(p.reply);
	buf_free(&p.json);
	return p.reply;
}

static void
text_deltas(struct pieces *p, const char *text, int count)
{
	size_t	 len = strlen(text), from = 0, to;

	for (int i = 0; i < count; i++) {
		to = i + 1 == count ? len : piece_end(text, len, len * (size_t)(i + 1) / (size_t)count);
		if (to < from)
			to = from;
		if (i > 0)
			piece_wait(p);
		chunk_begin(p);
		buf_str(&p->json, "{\"content\":");
		jw_string_n(&p->json, text + from, to - from);
		buf_char(&p->json, '}');
		chunk_end(p, NULL);
		from = to;
	}
}

/* A piece ends behind the word where it can, and never inside a character. */
static size_t
piece_end(const char *text, size_t len, size_t want)
{
	for (size_t i = want; i < len && i < want + 16; i++)
		if (text[i] == ' ')
			return i + 1;
	return utf8_whole(text, want);
}

static void
call_deltas(struct pieces *p, const struct answer_call *c, int i)
{
	size_t	 len = strlen(c->arguments), half = utf8_whole(c->arguments, len / 2);

	if (p->texts > 0 || i > 0)
		piece_wait(p);
	call_begin(p, i);
	buf_str(&p->json, ",\"id\":");
	call_id(&p->json, p->manner, i);
	buf_str(&p->json, ",\"type\":\"function\",\"function\":{\"name\":");
	jw_string(&p->json, c->name);
	call_end(p, "", 0);

	piece_wait(p);
	call_begin(p, i);
	buf_str(&p->json, ",\"function\":{");
	call_end(p, c->arguments, half);

	piece_wait(p);
	call_begin(p, i);
	buf_str(&p->json, ",\"function\":{");
	call_end(p, c->arguments + half, len - half);
}

static void
call_begin(struct pieces *p, int i)
{
	chunk_begin(p);
	buf_printf(&p->json, "{\"tool_calls\":[{\"index\":%d", i);
}

static void
call_end(struct pieces *p, const char *fragment, size_t n)
{
	jw_key(&p->json, "arguments");
	jw_string_n(&p->json, fragment, n);
	buf_str(&p->json, "}}]}");
	chunk_end(p, NULL);
}

static void
chunk_begin(struct pieces *p)
{
	buf_clear(&p->json);
	head_write(&p->json, p->manner, "chat.completion.chunk");
	buf_str(&p->json, ",\"choices\":[{\"index\":0,\"delta\":");
}

static void
chunk_end(struct pieces *p, const char *finish)
{
	buf_str(&p->json, ",\"logprobs\":null,\"finish_reason\":");
	jw_string(&p->json, finish);
	buf_str(&p->json, p->manner->include_usage ? "}],\"usage\":null}" : "}]}");
	reply_data(p->reply, p->json.p);
}

/* The shares of the delay are cut so that together they are the whole of it. */
static void
piece_wait(struct pieces *p)
{
	int64_t	 delay = p->manner->delay;

	if (p->n < p->total)
		reply_wait(p->reply, (int)(delay * (p->n + 1) / p->total - delay * p->n / p->total));
	p->n++;
}

static void
head_write(struct buf *b, const struct manner *m, const char *object)
{
	buf_printf(b, "{\"id\":\"chatcmpl-demo-%llu\",\"object\":\"%s\",\"created\":%lld,\"model\":\"",
	    (unsigned long long)m->number, object, (long long)time(NULL));
	buf_add(b, m->model.p, m->model.n);
	buf_char(b, '"');
}

/* The process id keeps ids of a restarted model apart inside one conversation. */
static void
call_id(struct buf *b, const struct manner *m, int i)
{
	buf_printf(b, "\"call_demo_%ld_%llu_%d\"", (long)getpid(), (unsigned long long)m->number, i);
}

/* Four bytes a token is what everybody guesses. */
static void
usage_write(struct buf *b, const struct answer *a, const struct manner *m)
{
	size_t	 in = m->asked / 4 + 1, out = strlen(a->text) / 4 + 1;

	for (int i = 0; i < a->ncalls; i++)
		out += strlen(a->calls[i].arguments) / 4 + 8;
	buf_printf(b, "{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu}",
	    in, out, in + out);
}

static const char *
finish_reason(const struct answer *a)
{
	return a->ncalls > 0 ? "tool_calls" : "stop";
}
