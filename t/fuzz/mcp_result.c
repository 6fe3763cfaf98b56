/* The result of a tool on another server: whatever it is, one strict JSON text of a bounded size comes of it. */
#include "fuzz.h"

#include "io/json.h"
#include "tool/mcp_result.h"

#define MAX	200

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena		*a = arena_open();
	char			*p = fuzz_copy((const char *)data, n);
	json_object		*o = json_read(a, p, n, NULL), *got;
	struct mcp_result	 r = { 0 };
	const char		*text;

	free(p);
	if (json_object_is_type(o, json_type_object)) {
		mcp_result_make(a, o, MAX, &r);
		got = json_read(a, r.json, strlen(r.json), NULL);
		must(got != NULL || strcmp(r.json, "null") == 0);
		/* Each byte may have become an escape of six. */
		must(strlen(r.json) <= (size_t)6 * MAX + 200);
		must(!r.is_error || (json_get_string(got, "error", &text) == JSON_GOT && *text != '\0'));
	}
	arena_close(&a);
	return 0;
}
