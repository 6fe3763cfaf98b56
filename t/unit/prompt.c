/*
 * prompt -- what goes to a model is always fit for a strict server.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/json.h"
#include "model/prompt.h"
#include "tap.h"

#define ME	"http://a/v1 m1"

static const struct conf conf = { .tools_max_to_model = 64 };

static const char *
render(struct arena *a, const struct prompt *p, const char *model)
{
	struct buf	*b = buf_new(a);

	prompt_messages(p, &conf, model, b);
	if (!ok(json_read(a, b->p, b->n, NULL) != NULL, "strict JSON"))
		printf("# %s\n", b->p);
	return b->p;
}

static void
check_plain(struct arena *a)
{
	struct message	 m[] = {
		{ .turn = 1, .role = ROLE_USER, .content = "Hi", .turn_state = "done" },
		{ .turn = 1, .role = ROLE_ASSISTANT, .content = "Hello", .turn_state = "done" },
		{ .turn = 2, .role = ROLE_USER, .content = "A \"quote\"", .turn_state = "running" },
	};
	struct prompt	 p = { .instructions = "Be good.\n", .local_time = "Friday", .messages = m, .nmessages = 3 };

	is_text(render(a, &p, ME), "[{\"role\":\"system\",\"content\":\"Be good.\\n\\nThe user's local date and time: Friday.\"},"
	    "{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello\"},"
	    "{\"role\":\"user\",\"content\":\"A \\\"quote\\\"\"}]", "system, history, question");
}

static void
check_calls(struct arena *a)
{
	struct call	 calls[] = {
		{ .call_id = "c1", .tool_name = "f", .parameters = "{\"a\":1}", .result = "{\"ok\":true}" },
		{ .call_id = "c2", .tool_name = "g", .parameters = "{}", .broken = "{\"x", .result = NULL },
	};
	struct message	 m[] = {
		{ .turn = 1, .role = ROLE_USER, .content = "Do", .turn_state = "running" },
		{ .turn = 1, .role = ROLE_ASSISTANT, .content = "", .turn_state = "running", .model = ME, .calls = calls, .ncalls = 2,
		  .raw = "{\"reasoning_content\":\"hm\",\"reasoning_details\":[1],\"tool_calls\":[{\"id\":\"c1\",\"extra_content\":{\"s\":1}},{\"id\":\"other\",\"extra_content\":{\"s\":2}}]}" },
	};
	struct prompt	 p = { .messages = m, .nmessages = 2 };
	char		 big[200] = "{\"t\":\"";
	const char	*s;

	s = render(a, &p, ME);
	is_text(s, "[{\"role\":\"user\",\"content\":\"Do\"},{\"role\":\"assistant\",\"content\":null,\"reasoning_details\":[1],"
	    "\"reasoning_content\":\"hm\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
	    "\"arguments\":\"{\\\"a\\\":1}\"},\"extra_content\":{\"s\":1}},{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"g\","
	    "\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"{\\\"ok\\\":true}\"},"
	    "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"{\\\"error\\\":\\\"The call was not carried out.\\\"}\"}]",
	    "calls with opaque fields, each with its result");
	s = render(a, &p, "http://b/v1 m1");
	ok(strstr(s, "reasoning") == NULL && strstr(s, "extra_content") == NULL, "another model gets nothing opaque");
	m[0].turn = m[1].turn = 0;
	m[0].turn_state = m[1].turn_state = "done";
	p.messages = (struct message[]){ m[0], m[1], { .turn = 1, .role = ROLE_USER, .content = "x", .turn_state = "running" } };
	p.nmessages = 3;
	s = render(a, &p, ME);
	ok(strstr(s, "reasoning_details") != NULL && strstr(s, "reasoning_content") == NULL, "plain reasoning stays in its turn");

	for (int i = 6; i < 190; i += 3)
		memcpy(big + i, "\xe2\x82\xac", 4);
	calls[0].result = big;
	s = render(a, &p, ME);
	ok(strstr(s, "[cut: this is the first 63 of 192 bytes]") != NULL, "a long result is cut between characters, and says so");
}

static void
check_ends(struct arena *a)
{
	struct message	 m[] = {
		{ .turn = 1, .role = ROLE_USER, .content = "One", .turn_state = "failed", .error_code = "model_timeout" },
		{ .turn = 2, .role = ROLE_USER, .content = "Two", .turn_state = "cancelled" },
		{ .turn = 2, .role = ROLE_ASSISTANT, .content = "I was say", .turn_state = "cancelled", .interrupted = true },
		{ .turn = 3, .role = ROLE_USER, .content = "Three", .turn_state = "running" },
		{ .turn = 3, .role = ROLE_ASSISTANT, .content = "half", .turn_state = "running", .interrupted = true },
	};
	struct prompt	 p = { .messages = m, .nmessages = 5 };
	const char	*s = render(a, &p, ME);

	ok(strstr(s, "\"One\"},{\"role\":\"assistant\",\"content\":\"[This answer failed. The user was told: ") != NULL, "a failed turn says what the user saw");
	ok(strstr(s, "\"I was say\\n\\n[The user stopped this answer.]\"") != NULL, "a cancelled one keeps its text");
	ok(strstr(s, "half") == NULL, "text of a step that is asked again is left out");
}

static void
check_cut(void)
{
	struct message	 m[9];
	struct prompt	 p = { .messages = m, .nmessages = 9 };
	int		 cuts = 0;

	for (int i = 0; i < 9; i++)
		m[i] = (struct message){ .turn = i / 2, .role = i % 2, .content = "0123456789", .turn_state = "done" };
	ok(prompt_cut(&p) && p.oldest_kept == 6, "half of the history goes, in whole turns");
	while (prompt_cut(&p))
		cuts++;
	ok(cuts == 1 && p.oldest_kept == 8, "the newest turn stays");
}

int
main(void)
{
	struct arena	*a = arena_open();

	check_plain(a);
	check_calls(a);
	check_ends(a);
	check_cut();
	arena_close(&a);
	return done_testing();
}
