/*
 * The short way through an event of a model's stream: it ends where the text ends, and what it takes means the same
 * to the long way, to the last byte.
 */
#include "fuzz.h"

#include "io/json.h"
#include "io/json_walk.h"
#include "model/piece.h"
#include "model/wire.h"

static void
walk(const char *p, size_t n)
{
	const char	*at = p;

	(void)json_walk_next(&at);
	json_walk_past(&at);
	(void)json_walk_next(&at);
	must(at == p + n);
}

static void
same(struct span short_way, const char *long_way, size_t n)
{
	must(short_way.n == n && (n == 0 || memcmp(short_way.p, long_way, n) == 0));
}

/* An event that names its type is read by the tree. */
static void
long_way(const char *p, size_t n, const struct piece *said)
{
	struct wire	 w;
	struct text	 t = { 0 };
	struct span	 finish = said->finish, model = said->model;

	wire_open(&w, 65536);
	must(wire_event(&w, "message", p, n) == 0);
	if (said->text.n > 0)
		text_add(&t, said->text.p, said->text.n);
	text_end(&t);
	text_end(&w.content);
	must(t.b.n == w.content.b.n && memcmp(buf_text(&t.b), buf_text(&w.content.b), t.b.n) == 0);
	if (finish.n >= sizeof w.finish)
		finish.n = sizeof w.finish - 1;
	if (model.n > 200)
		model.n = 0;
	same(finish, w.finish, strlen(w.finish));
	same(model, w.model.p, w.model.n);
	must(w.input_tokens == (said->input_tokens > 0 ? said->input_tokens : -1));
	must(w.output_tokens == said->output_tokens);
	must(w.calls.n == 0 && !w.refusal && !w.done);
	must(w.reasoning.b.n == 0 && w.details == NULL && w.extra == NULL);
	text_free(&t);
	wire_close(&w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char		*p = calloc(1, n + 1);
	struct piece	 said;

	if (n > 0)
		memcpy(p, data, n);
	if (json_valid(p, n, NULL)) {
		walk(p, n);
		if (piece_read(&said, p))
			long_way(p, n, &said);
		piece_free(&said);
	}
	free(p);
	return 0;
}
