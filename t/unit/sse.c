/* The event stream reader at every cut of its input, and the writer. */
#include <stdlib.h>

#include "io/sse.h"
#include "tap.h"

/* What a stream says, an event each: "type|data|id;" and "!" when it is too large. */
static void
feed(struct sse *s, struct buf *out, const char *p, size_t n)
{
	/* A copy of its own size, so that ASan sees a step too far. */
	char		*copy = malloc(n + 1);
	const char	*at = memcpy(copy, p, n);
	int		 rc;

	while ((rc = sse_take(s, &at, &n)) > 0)
		buf_printf(out, "%s|%s|%s;", buf_text(&s->event), buf_text(&s->data), buf_text(&s->id));
	if (rc < 0)
		buf_char(out, '!');
	free(copy);
}

static void
said(struct buf *out, const char *p, size_t n, size_t cut, size_t max)
{
	struct sse	 s;

	sse_open(&s, max);
	buf_clear(out);
	feed(&s, out, p, cut);
	if (out->n == 0 || out->p[out->n - 1] != '!')
		feed(&s, out, p + cut, n - cut);
	sse_close(&s);
}

static void
is_said(const char *stream, const char *want, const char *name)
{
	struct buf	 out = { 0 };
	size_t		 n = strlen(stream);
	bool		 all = true;

	for (size_t cut = 0; cut <= n; cut++) {
		said(&out, stream, n, cut, 1000);
		if (strcmp(buf_text(&out), want) != 0) {
			printf("# cut at %zu: %s\n# expected: %s\n", cut, buf_text(&out), want);
			all = false;
		}
	}
	ok(all, "%s", name);
	buf_free(&out);
}

static void
is_said_bytewise(const char *stream, const char *want, const char *name)
{
	struct buf	 out = { 0 };
	struct sse	 s;

	sse_open(&s, 1000);
	for (; *stream != '\0'; stream++)
		feed(&s, &out, stream, 1);
	is_text(buf_text(&out), want, name);
	sse_close(&s);
	buf_free(&out);
}

static void
test_reader(void)
{
	static const char	 sample[] =
	    "\xef\xbb\xbf: hello\r\n\r\nevent: a\rdata: one\rdata:two\r\rid: 7\ndata\ndata:  x\n\r\n"
	    "data: {\"a\": \"b:c\"}\r\n\r\nretry: 5\nunknown: 1\nevent: lost\n\ndata:last\n\n";
	static const char	 says[] =
	    "a|one\ntwo|;|\n x|7;|{\"a\": \"b:c\"}|7;|last|7;";

	is_said(sample, says, "the sample, cut in two at each byte");
	is_said_bytewise(sample, says, "the sample, byte by byte");
	is_said("data: x\n\n", "|x|;", "LF");
	is_said("data: x\r\r", "|x|;", "CR");
	is_said("data: x\r\n\r\n", "|x|;", "CRLF");
	is_said("data: x\r\n\n", "|x|;", "CRLF and LF");
	is_said("data: x\n\r\n", "|x|;", "LF and CRLF");
	is_said("data: x\r\n\rdata: y\n\r", "|x|;|y|;", "CRLF and CR, LF and CR");
	is_said("data:\n\n", "||;", "an empty data line is an event");
	is_said("data\n\n", "||;", "so is one without a colon");
	is_said("event: x\n\ndata: y\n\n", "|y|;", "a type without data is forgotten");
	is_said(": ping\n\n:\n\n: ping\n", "", "comments are nothing");
	is_said("id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", "|a|1;|b|1;|c|;", "the id stays until it is replaced");
	is_said("data: x\n", "", "an event needs its blank line");
	is_said("data: x", "", "the end of the stream ends no event");
	is_said("Data: x\ndatas: y\n\n", "", "names are exact");
	is_said("\n\n\r\r\n\n", "", "blank lines alone");
	is_said("data: \xef\xbb\xbf\n\n", "|\xef\xbb\xbf|;", "a BOM elsewhere is text");
	is_said("\xef\xbb\xbf\xef\xbb\xbf" "data: x\n\n", "", "only one BOM is dropped");
}

static void
test_retry(void)
{
	const char	*p = "retry: 1500\nretry: 1x\nretry:\nretry: 99999999999\nid: 9\ndata: x\n\ndata: cut";
	size_t		 n = strlen(p);
	struct sse	 s;

	sse_open(&s, 100);
	ok(s.retry_ms == -1, "no word on coming again");
	ok(sse_take(&s, &p, &n) == 1 && s.retry_ms == 1500, "a time to come again, in digits alone");
	ok(sse_take(&s, &p, &n) == 0, "an event that is cut off");
	sse_restart(&s);
	p = "data: y\n\n";
	n = strlen(p);
	ok(sse_take(&s, &p, &n) == 1 && s.data.n == 1 && s.data.p[0] == 'y', "is forgotten when another stream goes on");
	ok(s.retry_ms == 1500 && strcmp(buf_text(&s.id), "9") == 0, "the last id and the time are not");
	sse_close(&s);
}

static void
test_size(void)
{
	struct buf		 out = { 0 };
	struct sse		 s;
	const char		*at = "id: a\0b\ndata: c\0d\n\n";
	size_t			 n = 19;
	static const char	 stream[] = "data: 1234\ndata: 5678\n\n: much longer\n\n";

	said(&out, stream, sizeof stream - 1, 0, 15);
	is_text(buf_text(&out), "|1234\n5678|;", "an event within the limit");
	said(&out, stream, sizeof stream - 1, 0, 13);
	is_text(buf_text(&out), "!", "an event over the limit");
	for (size_t cut = 0; cut < sizeof stream; cut++) {
		said(&out, stream, sizeof stream - 1, cut, 13);
		if (strcmp(buf_text(&out), "!") != 0)
			ok(false, "over the limit, cut at %zu: %s", cut, buf_text(&out));
	}
	sse_open(&s, 100);
	buf_clear(&out);
	for (int i = 0; i < 1000; i++)
		feed(&s, &out, ": ping\n\n", 8);
	is_text(buf_text(&out), "", "comments do not add up to the limit");
	sse_close(&s);

	sse_open(&s, 100);
	ok(sse_take(&s, &at, &n) == 1 && n == 0, "one event");
	ok(s.data.n == 3 && memcmp(s.data.p, "c\0d", 3) == 0, "NUL in data is data");
	ok(s.id.n == 0, "an id with NUL is ignored");
	sse_close(&s);
	buf_free(&out);
}

static void
test_writer(void)
{
	struct buf	 b = { 0 }, out = { 0 };

	sse_put(&b, "text.delta", NULL, "{\"t\":1}");
	sse_put_comment(&b, "ping");
	sse_put(&b, NULL, "9", "[]");
	is_text(buf_text(&b), "event: text.delta\ndata: {\"t\":1}\n\n: ping\n\nid: 9\ndata: []\n\n",
	    "what is written");
	said(&out, b.p, b.n, 0, 1000);
	is_text(buf_text(&out), "text.delta|{\"t\":1}|;|[]|9;", "... reads back");
	buf_free(&b);
	buf_free(&out);
}

int
main(void)
{
	test_reader();
	test_retry();
	test_size();
	test_writer();
	return done_testing();
}
