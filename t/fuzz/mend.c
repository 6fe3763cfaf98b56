/* JSON that is almost JSON: what is strict stays as it is, what is mended is mended once, and arguments are an object. */
#include "fuzz.h"

#include "io/json.h"
#include "model/mend.h"

static void
read_once(const char *p, size_t n)
{
	bool		 mended;
	json_object	*strict = json_read_any(p, n), *got = mend_read(p, n, &mended);

	must(strict == NULL || (got != NULL && !mended && json_object_equal(strict, got)));
	must(got != NULL || !mended);
	json_object_put(strict);
	json_object_put(got);
}

/* What mending has made JSON is mended: it changes nothing more. */
static void
mend_twice(const char *p, size_t n, enum mend_how how)
{
	struct buf	 once = { 0 }, twice = { 0 };
	json_object	*o;

	mend_json(p, n, how, &once);
	mend_json(buf_text(&once), once.n, how, &twice);
	o = json_read_any(buf_text(&once), once.n);
	must(o == NULL || (once.n == twice.n && memcmp(buf_text(&once), buf_text(&twice), once.n) == 0));
	json_object_put(o);
	buf_free(&once);
	buf_free(&twice);
}

static void
arguments(struct arena *a, const char *p, size_t n)
{
	const char		*text = NULL, *again = NULL;
	enum mend_arguments	 how = mend_arguments(a, p, n, &text);
	json_object		*o = json_read(a, text, strlen(text), NULL);

	must(json_object_is_type(o, json_type_object));
	must(how != MEND_BROKEN || strcmp(text, "{}") == 0);
	must(mend_arguments(a, text, strlen(text), &again) == MEND_GOOD && strcmp(text, again) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena	*a = arena_open();
	char		*p = fuzz_copy((const char *)data, n);

	read_once(p, n);
	mend_twice(p, n, MEND_KEEP);
	mend_twice(p, n, MEND_REPLACE);
	arguments(a, p, n);
	free(p);
	arena_close(&a);
	return 0;
}
