/* The refusals of a model server: what is logged of them are harmless words, and what they ask for is bounded. */
#include "fuzz.h"

#include "model/fault.h"

/* Printable ASCII without what a log line or a shell gives a meaning. */
static void
check(const struct fault *f)
{
	must(f->code != FAIL_NONE && f->reason != NULL);
	must(f->wait_ms >= -1 && f->wait_ms <= 86400000);
	must(memchr(f->words, 0, sizeof f->words) != NULL);
	for (const char *p = f->words; *p != '\0'; p++)
		must(*p > 0x20 && *p < 0x7f && strchr("\"\\<>{}", *p) == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const int	 status[] = { 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529, 302, 600 };
	struct input		 in = { (const char *)data, n };
	struct arena		*a = arena_open();
	const char		*retry = fuzz_line(a, &in);
	char			*body = calloc(1, in.n + 1);

	if (in.n > 0)
		memcpy(body, in.p, in.n);
	for (size_t i = 0; i < sizeof status / sizeof *status; i++) {
		struct fault	 f = { 0 };

		fault_status(&f, status[i], *retry != '\0' ? retry : NULL, body, in.n);
		check(&f);
		must(f.status == status[i]);
	}
	free(body);
	arena_close(&a);
	return 0;
}
