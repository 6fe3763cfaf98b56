/*
 * What a model server sends, from the bytes of its stream to the answer: the same wherever the bytes are cut, text that
 * was given out is valid and final, and whatever is stored of it is strict JSON.
 *
 * An input that begins with "{" is a whole answer, any other a stream.
 */
#include "fuzz.h"

#include "base/utf8.h"
#include "io/json.h"
#include "io/sse.h"
#include "model/client.h"
#include "model/message.h"
#include "model/wire.h"

#define MAX	4096

/* false: it ended in a failure. */
static bool
feed(struct wire *w, struct sse *s, const char *p, size_t n)
{
	int	 rc;

	while ((rc = sse_take(s, &p, &n)) > 0) {
		struct buf	 had = { 0 };

		buf_add(&had, buf_text(&w->content.b), w->content.whole);
		rc = wire_event(w, buf_text(&s->event), buf_text(&s->data), s->data.n);
		must(w->content.whole >= had.n && memcmp(buf_text(&w->content.b), buf_text(&had), had.n) == 0);
		must(utf8_valid(buf_text(&w->content.b), w->content.whole));
		must((rc < 0) == (w->fault.code != FAIL_NONE));
		buf_free(&had);
		if (rc < 0)
			return false;
	}
	return rc == 0;
}

static void
call_check(struct arena *a, const struct call *all, int n)
{
	const struct call	*c = &all[n];

	must(c->id != NULL && *c->tool_name != '\0' && *c->call_id != '\0');
	must(json_object_is_type(json_read(a, c->parameters, strlen(c->parameters), NULL), json_type_object));
	must(utf8_valid(c->tool_name, strlen(c->tool_name)));
	must(c->broken == NULL || utf8_valid(c->broken, strlen(c->broken)));
	for (int i = 0; i < n; i++)
		must(strcmp(all[i].call_id, c->call_id) != 0);
}

/* What came of it, without the ids that we make up ourselves. */
static void
answer_put(struct wire *w, struct buf *out)
{
	struct arena	*a = arena_open();
	struct answer	 got = { 0 };
	int		 rc = wire_end(w);

	must((rc < 0) == (w->fault.code != FAIL_NONE));
	must(w->fault.wait_ms >= -1 && w->fault.wait_ms <= 86400000);
	wire_answer(w, a, &got);
	must(utf8_valid(got.content, strlen(got.content)));
	must(got.raw == NULL || json_object_is_type(json_read(a, got.raw, strlen(got.raw), NULL), json_type_object));
	buf_printf(out, "%d %d %s|", rc, w->fault.code, got.content);
	for (int i = 0; i < got.ncalls; i++) {
		call_check(a, got.calls, i);
		buf_printf(out, "%s %s;", got.calls[i].tool_name, got.calls[i].parameters);
	}
	arena_close(&a);
}

static void
said(struct buf *out, const char *p, size_t n, size_t piece)
{
	struct wire	 w;
	struct sse	 s;
	bool		 good = true;

	wire_open(&w, MAX);
	sse_open(&s, MAX);
	if (n > 0 && *p == '{')
		(void)wire_body(&w, p, n);
	else
		for (size_t at = 0; at < n && good; at += piece)
			good = feed(&w, &s, p + at, n - at < piece ? n - at : piece);
	answer_put(&w, out);
	wire_close(&w);
	sse_close(&s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	char		*p = fuzz_copy(in.p, n);
	struct buf	 whole = { 0 }, cut = { 0 };

	said(&whole, p, n, n);
	said(&cut, p, n, 1 + fuzz_pick(&in, n));
	must(whole.n == cut.n && memcmp(whole.p, cut.p, whole.n) == 0);
	buf_free(&whole);
	buf_free(&cut);
	free(p);
	return 0;
}
