/*
 * wire_noise -- whatever a server sends: no crash, and nothing that is not UTF-8, JSON, within bounds.
 *
 * Good answers are spoiled at random (the same random each time): bytes changed, cut
 * out, doubled, events shuffled.  The sanitizers see the rest.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "io/json.h"
#include "io/sse.h"
#include "model/client.h"
#include "model/wire.h"
#include "tap.h"

#define ROUNDS	30000
#define BOUND	2000

static const char *const events[] = {
	"{\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null},\"finish_reason\":null}]}",
	"{\"choices\":[{\"delta\":{\"content\":\"Gr\xc3\xbc\xc3\x9f \\ud83d\\ude00 \\u0000\\n\"}}]}",
	"{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"part\"}],\"refusal\":\"no\"}}]}",
	"{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"add_task\",\"arguments\":\"{\\\"title\\\":\"}}]}}]}",
	"{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\"x\\\\ud83d\\\"}\"}},{\"index\":1,\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5e3]}}}]}}]}",
	"{\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"\"},\"extra_content\":{\"google\":{\"thought_signature\":\"s\"}}}]}}]}",
	"{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"t\"},{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"u\"}],\"reasoning\":\"r\"}}]}",
	"{\"choices\":[{\"delta\":{\"function_call\":{\"name\":\"h\",\"arguments\":\"{}\"}},\"finish_reason\":\"function_call\"}]}",
	"{\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":99999999999999999999}}",
	"{\"error\":{\"message\":\"try again in 2s\",\"type\":\"t\",\"code\":429,\"details\":[{\"retryDelay\":\"1s\"}]}}",
	"{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}",
	"{\"choices\":[{\"message\":{\"content\":\"whole\",\"tool_calls\":null}}]}",
	"[DONE]",
};

static uint32_t	 state = 1;

static uint32_t
chance(uint32_t below)
{
	state = state * 1664525 + 1013904223;
	return (state >> 8) % below;
}

static void
spoil(struct buf *b)
{
	static const char	 marks[] = "{}[]\":,\\u0eE-\n\r\t \xc3\xf0\x9f\xed\xff";

	for (uint32_t k = chance(4); k > 0 && b->n > 2; k--) {
		size_t	 at = chance((uint32_t)b->n - 1), n = 1 + chance(12);

		if (n > b->n - at)
			n = b->n - at;
		switch (chance(4)) {
		case 0:
			b->p[at] = (char)chance(256);
			break;
		case 1:
			b->p[at] = marks[chance(sizeof marks)];
			break;
		case 2:
			memmove(b->p + at, b->p + at + n, b->n - at - n);
			b->n -= n;
			break;
		default:
			buf_reserve(b, n);
			buf_add(b, b->p + at, n);
			break;
		}
	}
}

/* One answer; false when something came out that must not. */
static bool
round_one(void)
{
	struct arena	*a = arena_open();
	struct answer	 answer = { 0 };
	struct buf	 b = { 0 };
	struct wire	 w;
	bool		 good = true, failed = false;

	wire_open(&w, BOUND);
	for (uint32_t k = 1 + chance(8); k > 0 && !failed; k--) {
		char	*own;

		buf_clear(&b);
		buf_str(&b, events[chance(sizeof events / sizeof *events)]);
		spoil(&b);
		own = malloc(b.n + 1);
		memcpy(own, b.p, b.n);
		failed = wire_event(&w, chance(20) == 0 ? "error" : "", own, b.n) < 0;
		free(own);
		good = good && utf8_valid(buf_text(&w.content.b), w.content.whole);
	}
	failed = wire_end(&w) < 0;
	if (failed) {
		good = good && w.fault.code != FAIL_NONE && w.fault.reason != NULL;
	} else {
		wire_answer(&w, a, &answer);
		good = good && json_valid(answer.raw, strlen(answer.raw), NULL);
		for (int i = 0; i < answer.ncalls; i++)
			good = good && json_read(a, answer.calls[i].parameters, strlen(answer.calls[i].parameters), NULL) != NULL;
	}
	wire_close(&w);
	buf_free(&b);
	arena_close(&a);
	return good;
}

int
main(void)
{
	int	 bad = 0;

	for (int i = 0; i < ROUNDS; i++) {
		uint32_t	 from = state;

		if (!round_one() && bad++ < 5)
			printf("# seed %u\n", from);
	}
	ok(bad == 0, "%d spoiled answers", ROUNDS);
	return done_testing();
}
