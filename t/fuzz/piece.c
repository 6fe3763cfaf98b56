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

/* A wire that does not know yet who speaks reads everything by the tree. */
static void
long_way(const char *p, size_t n, const struct buf *said)
{
	struct wire	 w;
	struct text	 t = { 0 };

	wire_open(&w, 65536);
	must(wire_event(&w, "", p, n) == 0);
	text_add(&t, buf_text(said), said->n);
	text_end(&t);
	text_end(&w.content);
	must(t.b.n == w.content.b.n && memcmp(buf_text(&t.b), buf_text(&w.content.b), t.b.n) == 0);
	must(w.calls.n == 0 && w.finish[0] == '\0' && !w.refusal && !w.done);
	must(w.reasoning.b.n == 0 && w.details == NULL && w.extra == NULL);
	must(w.input_tokens == -1 && w.output_tokens == -1);
	text_free(&t);
	wire_close(&w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char		*p = calloc(1, n + 1);
	struct buf	 said = { 0 };

	if (n > 0)
		memcpy(p, data, n);
	if (json_valid(p, n, NULL)) {
		walk(p, n);
		if (piece_read(p, &said))
			long_way(p, n, &said);
	}
	buf_free(&said);
	free(p);
	return 0;
}
