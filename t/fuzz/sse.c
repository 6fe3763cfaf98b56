/* Event streams: the same events wherever the bytes are cut, none over the limit; what our writer writes comes back. */
#include "fuzz.h"

#include "io/json.h"
#include "io/sse.h"

#define MAX	512

/* What the stream says, an event each; false: one was too large. */
static bool
feed(struct sse *s, struct buf *out, const char *p, size_t n)
{
	char		*copy = fuzz_copy(p, n);
	const char	*at = copy;
	size_t		 left = n;
	int		 rc;

	while ((rc = sse_take(s, &at, &left)) > 0) {
		must(s->data.n <= MAX && s->has_data);
		must(strpbrk(buf_text(&s->id), "\r\n") == NULL && strpbrk(buf_text(&s->event), "\r\n") == NULL);
		must(s->retry_ms >= -1);
		buf_printf(out, "[%zu:%s|%s|", s->data.n, buf_text(&s->event), buf_text(&s->id));
		buf_add(out, buf_text(&s->data), s->data.n);
	}
	must(rc < 0 || left == 0);
	must(at + left == copy + n);
	free(copy);
	return rc == 0;
}

static void
said(struct buf *out, const char *p, size_t n, size_t piece, size_t first)
{
	struct sse	 s;
	bool		 good;

	sse_open(&s, MAX);
	good = feed(&s, out, p, first);
	for (size_t at = first; good && at < n; at += piece)
		good = feed(&s, out, p + at, n - at < piece ? n - at : piece);
	if (!good)
		buf_str(out, "!");
	buf_printf(out, " retry %lld", (long long)s.retry_ms);
	sse_close(&s);
}

/* Ours, in the middle of any other: read as it was meant, when the other has ended its event. */
static void
written(const char *p, size_t n)
{
	struct buf	 json = { 0 }, stream = { 0 };
	struct sse	 s;
	const char	*at;
	size_t		 left;

	jw_string_n(&json, p, n);
	sse_put_comment(&stream, "ping");
	sse_put(&stream, "delta", "1.2", buf_text(&json));
	sse_open(&s, json.n + 100);
	at = stream.p;
	left = stream.n;
	must(sse_take(&s, &at, &left) == 1 && left == 0);
	must(s.data.n == json.n && memcmp(s.data.p, json.p, json.n) == 0);
	must(strcmp(s.event.p, "delta") == 0 && strcmp(s.id.p, "1.2") == 0);
	sse_close(&s);
	buf_free(&json);
	buf_free(&stream);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct buf	 whole = { 0 }, cut = { 0 }, bytes = { 0 };

	said(&whole, in.p, n, 1, n);
	said(&bytes, in.p, n, 1, 0);
	said(&cut, in.p, n, n + 1, fuzz_pick(&in, n + 1));
	must(bytes.n == whole.n && memcmp(bytes.p, whole.p, whole.n) == 0);
	must(cut.n == whole.n && memcmp(cut.p, whole.p, whole.n) == 0);
	written(in.p, n);
	buf_free(&whole);
	buf_free(&cut);
	buf_free(&bytes);
	return 0;
}
