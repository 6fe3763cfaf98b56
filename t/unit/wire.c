/*
 * wire -- answers as servers really send them, cut anywhere.
 *
 * Each case is fed whole, byte by byte, and cut in two at every place; the outcome must always be
 * the same line:   content [!] { name(arguments) … } reason
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "io/json.h"
#include "io/sse.h"
#include "model/client.h"
#include "model/wire.h"
#include "tap.h"

#define D(json)		"data: " json "\n\n"
#define TEXT(t)		D("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" t "\"}}]}")
#define FINISH(r)	D("{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" r "\"}]}")
#define DONE		D("[DONE]")
#define CALLS(c)	D("{\"choices\":[{\"delta\":{\"tool_calls\":[" c "]}}]}")

static char raw[2048];		/* of the last answer */
static bool known;		/* the server has said who it is: plain events are read without a tree (piece.h) */

/* Feeds the text in pieces: up to `at`, then `step` bytes at a time. */
static int
feed(struct wire *w, const char *text, size_t at, size_t step)
{
	struct sse	 s;
	size_t		 n = strlen(text), from = 0;
	int		 got = 0;

	sse_open(&s, 1 << 20);
	while (from < n && got >= 0) {
		size_t		 k = from < at ? at - from : step;
		const char	*p = text + from, *copy;
		char		*own;

		if (k > n - from)
			k = n - from;
		/* A block of its own, so that a read past it is seen. */
		own = malloc(k);
		memcpy(own, p, k);
		copy = own;
		from += k;
		while (got >= 0 && (got = sse_take(&s, &copy, &k)) > 0)
			got = wire_event(w, buf_text(&s.event), buf_text(&s.data), s.data.n) < 0 ? -1 : 1;
		free(own);
		if (!utf8_valid(buf_text(&w->content.b), w->content.whole))
			ok(false, "what may be given out is UTF-8");
	}
	sse_close(&s);
	return got;
}

static const char *
outcome(struct arena *a, const char *text, size_t at, size_t step)
{
	struct wire	 w;
	struct answer	 answer = { 0 };
	struct buf	*b = buf_new(a);

	wire_open(&w, 4096);
	if (known)
		buf_str(&w.model, "demo");
	(void)feed(&w, text, at, step);
	if (wire_end(&w) == 0) {
		wire_answer(&w, a, &answer);
		snprintf(raw, sizeof raw, "%s", answer.raw);
		buf_str(b, answer.content);
		buf_str(b, answer.refusal ? "!" : "");
		buf_str(b, answer.cut ? "~" : "");
		for (int i = 0; i < answer.ncalls; i++) {
			buf_printf(b, "{%s%s%s}", answer.calls[i].tool_name, answer.calls[i].parameters,
			    answer.calls[i].repaired ? "?" : answer.calls[i].broken != NULL ? "#" : "");
			if (!json_valid(answer.calls[i].parameters, strlen(answer.calls[i].parameters), NULL) ||
			    answer.calls[i].call_id[0] == '\0')
				ok(false, "calls are fit to be replayed");
			for (int j = 0; j < i; j++)
				if (strcmp(answer.calls[i].call_id, answer.calls[j].call_id) == 0)
					ok(false, "call ids are unique");
		}
		if (!json_valid(answer.raw, strlen(answer.raw), NULL))
			ok(false, "raw is JSON: %s", answer.raw);
	} else {
		buf_add(b, buf_text(&w.content.b), w.content.whole);
		buf_printf(b, "<%s>", w.fault.reason);
	}
	wire_close(&w);
	return buf_text(b);
}

static void
check(const char *name, const char *text, const char *want)
{
	struct arena	*a = arena_open();
	size_t		 n = strlen(text), at;
	bool		 same = true;

	is_text(outcome(a, text, n, 1), want, name);
	same = strcmp(outcome(a, text, 0, 1), want) == 0;
	for (at = 0; at <= n && same; at++)
		same = strcmp(outcome(a, text, at, n), want) == 0;
	ok(same, "%s, cut anywhere", name);
	known = true;
	is_text(outcome(a, text, n, n), want, "  as a piece");
	known = false;
	arena_close(&a);
}

/* What a piece looks like, and what does not. */
static void
check_pieces(void)
{
	check("a piece", D("{\"id\":\"1\",\"object\":\"o\",\"created\":17,\"model\":\"m\",\"system_fingerprint\":{\"a\":[\"]}\",1]},"
	    "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\\n\\\"\\u00fc\"},\"logprobs\":{\"content\":[]},"
	    "\"finish_reason\":null}],\"usage\":null}") D(" { \"choices\" : [ { \"delta\" : { \"content\" : \"b\" } } ] } ") DONE, "a\n\"\xc3\xbc" "b");
	check("the last of two names counts", TEXT("a") D("{\"choices\":[{\"delta\":{\"content\":\"b\",\"content\":\"c\"}}]}") DONE, "ac");
	check("also where it is spelled otherwise", TEXT("a")
	    D("{\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"\\u0063hoices\":null}") DONE, "a");
	check("a piece with the end", D("{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"length\"}]}"), "a~");
	check("a piece with an error", TEXT("a") D("{\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"error\":{\"code\":400}}"),
	    "a<error_event>");
	check("a piece with a refusal", D("{\"choices\":[{\"delta\":{\"content\":\"a\",\"refusal\":\"b\"}}]}") DONE, "ab!");
	check("two choices", TEXT("a") D("{\"choices\":[{\"delta\":{\"content\":\"b\"}},{\"index\":1,\"delta\":{\"content\":\"c\"}}]}") DONE, "ab");
	check("the second alone", TEXT("a") D("{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}") DONE, "a");
}

static void
check_text(void)
{
	check("a plain answer", TEXT("Hel") TEXT("lo") FINISH("stop") DONE, "Hello");
	check("no [DONE]", TEXT("Hello") FINISH("stop"), "Hello");
	check("no finish", TEXT("Hello") DONE, "Hello");
	check("neither", TEXT("Hello"), "Hello<broken_off>");
	check("an unknown finish", TEXT("a") FINISH("end_turn"), "a");
	check("finish null", TEXT("a") D("{\"choices\":[{\"delta\":{},\"finish_reason\":null}]}"), "a<broken_off>");
	check("finish error", TEXT("a") FINISH("error") DONE, "a<finish_error>");
	check("length", TEXT("a") FINISH("length"), "a~");
	check("the finish comes with the last text",
	    TEXT("a") D("{\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}"), "ab");
	check("CR and CRLF, comments, other fields",
	    ": hi\r\n\r\nid: 4\rdata:{\"choices\":[{\"delta\":{\"content\":\"x\"},\r\ndata: \"finish_reason\":\"stop\"}]}\r\n\r\n", "x");
	check("raw UTF-8", TEXT("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80") FINISH("stop"), "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80");
	check("an emoji cut into surrogates", TEXT("a\\ud83d") TEXT("\\ude00b") DONE, "a\xf0\x9f\x98\x80" "b");
	check("an emoji cut into bytes", TEXT("a\xf0\x9f") TEXT("\x98") TEXT("\x80" "b") DONE, "a\xf0\x9f\x98\x80" "b");
	check("half an emoji and no more", TEXT("a\\ud83d") DONE, "a\xef\xbf\xbd");
	check("half an emoji, then text", TEXT("a\\ud83d") TEXT("b") DONE, "a\xef\xbf\xbd" "b");
	check("NUL, a raw tab", TEXT("a\\u0000b\tc") DONE, "ab\tc");
	check("null, empty and absent content",
	    D("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}") TEXT("")
	    D("{\"choices\":[{\"delta\":{}}]}") TEXT("x") FINISH("stop"), "x");
	check("parts", D("{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"thinking\",\"text\":\"no\"}]}}]}")
	    FINISH("stop"), "a");
	check("a refusal", D("{\"choices\":[{\"delta\":{\"refusal\":\"I can\"}}]}") D("{\"choices\":[{\"delta\":{\"refusal\":\"not.\"}}]}")
	    FINISH("stop"), "I cannot.!");
	check("a second choice is not ours",
	    TEXT("a") D("{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}") FINISH("stop"), "a");
	check("a doubled key", D("{\"id\":1,\"id\":2,\"choices\":[{\"delta\":{\"content\":\"x\"}}]}") DONE, "x");
	check("a whole message at the end repeats",
	    TEXT("a") D("{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}"), "a");
	check("blank data", "data:\n\ndata: \n\n" TEXT("a") DONE, "a");
}

static void
check_trouble(void)
{
	check("no JSON", TEXT("a") "data: oops\n\n", "a<no_json>");
	check("no object", D("42"), "<no_object>");
	check("an error object", D("{\"error\":{\"message\":\"m\",\"code\":502}}") DONE, "<error_event>");
	check("an error text", TEXT("a") D("{\"error\":\"text\"}") DONE, "a<error_event>");
	check("an error by its kind, which looks like a piece",
	    TEXT("a") D("{\"object\":\"error\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"}}]}") DONE, "a<error_event>");
	check("... and with escapes", D("{\"object\":\"\\u0065rror\",\"choices\":[]}") DONE, "<error_event>");
	check("an error in an array", D("[{\"error\":{\"message\":\"m\",\"code\":400}}]"), "<error_event>");
	check("an error of the choice", D("{\"choices\":[{\"error\":{\"code\":500},\"finish_reason\":\"error\"}]}"), "<error_event>");
	check("an error event without an error member", "event: error\n" D("{\"message\":\"m\"}"), "<error_event>");
	check("error null", D("{\"error\":null,\"choices\":[{\"delta\":{\"content\":\"a\"}}]}") DONE, "a");
	check("overflow in the stream", D("{\"error\":{\"type\":\"exceed_context_size_error\",\"code\":400}}"), "<context_too_long>");
	check("nothing said", D("{\"choices\":[{\"delta\":{\"content\":null},\"finish_reason\":\"stop\"}]}") DONE, "<empty_answer>");
	check("choices null", D("{\"choices\":null}") DONE, "<empty_answer>");
	check("choices empty", D("{\"choices\":[]}") DONE, "<empty_answer>");
	check("blanks are nothing", TEXT(" \\n") FINISH("stop"), " \n<empty_answer>");
	check("reasoning alone is nothing", D("{\"choices\":[{\"delta\":{\"reasoning\":\"hm\"}}]}") FINISH("length"), "<empty_answer>");
	check("filtered away", FINISH("content_filter"), "<content_filter>");
}

static void
check_calls(void)
{
	check("fragments", CALLS("{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"add\",\"arguments\":\"\"}}")
	    CALLS("{\"index\":0,\"function\":{\"arguments\":\"{\\\"t\\\":\"}}") CALLS("{\"index\":0,\"function\":{\"arguments\":\"1}\"}}")
	    FINISH("tool_calls") DONE, "{add{\"t\":1}}");
	check("two by index, interleaved", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}},"
	    "{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}")
	    CALLS("{\"index\":1,\"function\":{\"arguments\":\"}\"}},{\"index\":0,\"function\":{\"arguments\":\"}\"}}")
	    FINISH("stop"), "{f{}}{g{}}");
	check("no index, ids", CALLS("{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}")
	    CALLS("{\"function\":{\"arguments\":\"}\"}}") CALLS("{\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}")
	    FINISH("tool_calls"), "{f{}}{g{}}");
	check("no index, no id, in one delta", CALLS("{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},{\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}")
	    FINISH("stop"), "{f{}}{g{}}");
	check("no index, no id, one after the other", CALLS("{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}")
	    CALLS("{\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}") FINISH("stop"), "{f{\"a\":1}}{g{}}");
	check("every index is 0", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}")
	    CALLS("{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":2}\"}}") FINISH("tool_calls"),
	    "{f{}}{f{\"x\":2}}");
	check("an id used twice", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
	    "{\"index\":1,\"id\":\"a\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}") FINISH("tool_calls"), "{f{}}{g{}}");
	check("id null, empty, missing", CALLS("{\"index\":0,\"id\":null,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
	    "{\"index\":1,\"id\":\"\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}},{\"index\":2,\"function\":{\"name\":\"h\",\"arguments\":\"{}\"}}")
	    FINISH("tool_calls"), "{f{}}{g{}}{h{}}");
	check("arguments as an object", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{\"t\":\"x\"}}}")
	    FINISH("tool_calls"), "{f{\"t\":\"x\"}}");
	check("no arguments", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}},{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\"}}")
	    FINISH("tool_calls"), "{f{}}{g{}}");
	check("encoded twice", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\\\"{\\\\\\\"t\\\\\\\":1}\\\"\"}}")
	    FINISH("tool_calls"), "{f{\"t\":1}?}");
	check("a raw line break in arguments", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"t\\\":\\\"a\\nb\\\"}\"}}")
	    FINISH("tool_calls"), "{f{\"t\":\"a\\nb\"}?}");
	check("cut arguments, length", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"t\\\":\\\"a\"}}")
	    FINISH("length"), "~{f{}#}");
	check("cut arguments, tool_calls", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"t\\\":\"}}")
	    FINISH("tool_calls") DONE, "{f{}#}");
	check("length, complete arguments", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"t\\\":1}\"}}")
	    FINISH("length"), "~{f{\"t\":1}}");
	check("length before the arguments", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}")
	    FINISH("length"), "~{f{}#}");
	check("not an object", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"[1]\"}}") FINISH("tool_calls"), "{f{}#}");
	check("a name in pieces, repeated, growing",
	    CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"add_\"}},{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"list\"}}")
	    CALLS("{\"index\":0,\"function\":{\"name\":\"task\"}},{\"index\":1,\"function\":{\"name\":\"list\"}}")
	    CALLS("{\"index\":0,\"function\":{\"name\":\"add_task\"}},{\"index\":1,\"function\":{\"name\":\"list_tasks\"}}")
	    FINISH("tool_calls"), "{add_task{}}{list_tasks{}}");
	check("the old form", D("{\"choices\":[{\"delta\":{\"function_call\":{\"name\":\"f\",\"arguments\":\"{\"}}}]}")
	    D("{\"choices\":[{\"delta\":{\"function_call\":{\"arguments\":\"}\"}},\"finish_reason\":\"function_call\"}]}"), "{f{}}");
	check("one call without an array", D("{\"choices\":[{\"delta\":{\"tool_calls\":{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}}}]}")
	    FINISH("tool_calls"), "{f{}}");
	check("a call without a name", CALLS("{\"index\":0,\"id\":\"a\"}") FINISH("tool_calls"), "<empty_answer>");
	check("words and calls", TEXT("One moment.") CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}")
	    FINISH("stop"), "One moment.{f{}}");
	check("tool_calls null", D("{\"choices\":[{\"delta\":{\"content\":\"a\",\"tool_calls\":null}}]}") FINISH("stop"), "a");
}

static void
check_opaque(void)
{
	check("reasoning, under both names", D("{\"choices\":[{\"delta\":{\"reasoning_content\":\"th\",\"reasoning\":\"th\"}}]}")
	    D("{\"choices\":[{\"delta\":{\"reasoning_content\":\"ink\"}}]}") TEXT("a") FINISH("stop"), "a");
	is_text(raw, "{\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":\"think\",\"finish_reason\":\"stop\"}", "it is kept in raw");

	check("details in fragments", D("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"a\"}]}}]}")
	    D("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"b\",\"signature\":\"s\"}]}}]}")
	    D("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.encrypted\",\"index\":1,\"data\":\"d\"}]}}]}")
	    TEXT("x") FINISH("stop"), "x");
	ok(strstr(raw, "[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"ab\",\"signature\":\"s\"},"
	    "{\"type\":\"reasoning.encrypted\",\"index\":1,\"data\":\"d\"}]") != NULL, "they are joined");

	check("a signature on its own", CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}")
	    CALLS("{\"index\":0,\"extra_content\":{\"google\":{\"thought_signature\":\"SIG\"}}}")
	    D("{\"choices\":[{\"delta\":{\"extra_content\":{\"google\":{\"thought_signature\":\"TOP\"}}}}]}") FINISH("stop"), "{f{}}");
	ok(strstr(raw, "},\"extra_content\":{\"google\":{\"thought_signature\":\"SIG\"}}}]") != NULL, "it stays with its call");
	ok(strstr(raw, "\"extra_content\":{\"google\":{\"thought_signature\":\"TOP\"}},\"tool_calls\"") != NULL, "and the message's with the message");
}

static int
body(struct wire *w, const char *text)
{
	return wire_body(w, text, strlen(text));
}

static void
check_bounds(void)
{
	struct wire	 w;
	struct answer	 a = { 0 };
	struct arena	*arena = arena_open();
	char		 event[1200];
	int		 got = 0, n = 0;

	memset(event, 'x', sizeof event);
	memcpy(event, "{\"choices\":[{\"delta\":{\"content\":\"", strlen("{\"choices\":[{\"delta\":{\"content\":\""));
	memcpy(event + 1100, "\"}}]}", sizeof "\"}}]}");
	wire_open(&w, 4096);
	while (got == 0 && n++ < 100)
		got = wire_event(&w, "", event, strlen(event));
	ok(got < 0 && n == 4, "an answer has a bound");
	is_text(w.fault.reason, "answer_too_large", "it says so");
	wire_close(&w);

	wire_open(&w, 4096);
	got = body(&w, "{\"model\":\"m-1\",\"choices\":[{\"message\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}],"
	    "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}");
	ok(got == 0 && wire_end(&w) == 0, "an answer that is no stream");
	wire_answer(&w, arena, &a);
	is_text(a.content, "Hi", "its text");
	is_text(a.model_name, "m-1", "its model");
	ok(a.input_tokens == 7 && a.output_tokens == 2, "its tokens");
	wire_close(&w);

	wire_open(&w, 4096);
	ok(body(&w, "{\"error\":{\"message\":\"Rate limit: try again in 2s\",\"code\":429,\"type\":\"rate/limit x\"}}") < 0, "an error with status 200");
	ok(w.fault.code == FAIL_MODEL_UNAVAILABLE && w.fault.wait_ms == 2000 && w.fault.status == 429, "its status and wait are understood");
	is_text(w.fault.words, "429", "only words that look like identifiers are kept for the log");
	wire_close(&w);
	arena_close(&arena);
}

int
main(void)
{
	check_pieces();
	check_text();
	check_trouble();
	check_calls();
	check_opaque();
	check_bounds();
	return done_testing();
}
