/* When to come again, as servers say it: three lines for the headers, then a text.  A day at most, and never the past. */
#include "fuzz.h"

#include "model/retry.h"

static void
bounded(int64_t ms)
{
	must(ms >= -1 && ms <= 86400000);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct arena	*a = arena_open();
	const char	*ms = fuzz_line(a, &in), *after = fuzz_line(a, &in), *date = fuzz_line(a, &in);
	const char	*text = fuzz_rest(a, &in);
	int64_t		 got;

	bounded(retry_header(NULL, after, NULL, 1700000000));
	bounded(retry_header(NULL, after, date, 1700000000));
	bounded(retry_header(ms, NULL, date, 1700000000));
	got = retry_header(ms, after, date, 1700000000);
	bounded(got);
	must(*ms < '0' || *ms > '9' || ms[1] != '\0' || got == *ms - '0');
	bounded(retry_sentence(text));
	arena_close(&a);
	return 0;
}
