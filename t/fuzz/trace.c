/*
 * Trace Context: a line for traceparent, the rest is tracestate.  What is taken is as the specification has it, comes
 * back from the text that is kept of it, and can be sent on: no header ends in it.
 */
#include "fuzz.h"

#include "base/trace.h"

#define HEX	"0123456789abcdef"

static void
check(const struct trace *t)
{
	must(strlen(t->id) == 32 && strspn(t->id, HEX) == 32 && strspn(t->id, "0") < 32);
	must(strlen(t->parent) == 16 && strspn(t->parent, HEX) == 16 && strspn(t->parent, "0") < 16);
	if (t->state == NULL)
		return;
	must(*t->state != '\0' && strlen(t->state) <= TRACE_STATE_MAX && strchr(t->state, '=') != NULL);
	for (const char *p = t->state; *p != '\0'; p++)
		must((*p >= 0x20 && *p <= 0x7e) || *p == '\t');
}

static bool
same(const struct trace *a, const struct trace *b)
{
	return strcmp(a->id, b->id) == 0 && a->sampled == b->sampled && (a->state == NULL) == (b->state == NULL) &&
	    (a->state == NULL || strcmp(a->state, b->state) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input		 in = { (const char *)data, n };
	struct arena		*a = arena_open();
	const char		*parent = fuzz_line(a, &in), *state = fuzz_rest(a, &in);
	const struct trace	*t = trace_read(a, parent, *state != '\0' ? state : NULL), *again;
	char			 next[TRACE_PARENT];

	if (t != NULL) {
		check(t);
		again = trace_of_text(a, trace_text(a, t));
		must(again != NULL && same(t, again) && strcmp(t->parent, again->parent) == 0);
		trace_next(t, next);
		again = trace_read(a, next, t->state);
		must(again != NULL && same(t, again));
	}
	(void)trace_of_text(a, state);
	arena_close(&a);
	return 0;
}
