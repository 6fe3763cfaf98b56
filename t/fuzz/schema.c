/*
 * A foreign schema and a value, a line each.  The verdict is bounded, and what is refused is refused for sure: no value
 * is refused by a schema and by its opposite.
 */
#include "fuzz.h"

#include "base/utf8.h"
#include "io/json.h"
#include "tool/schema.h"

/* References mean another thing where the schema stands inside of another. */
static bool
alone(const char *text)
{
	return strstr(text, "$") == NULL && strchr(text, '\\') == NULL;
}

static const char *
wrapped(struct arena *a, const char *schema, const char *before, const char *after, json_object *value)
{
	const char	*text = arena_printf(a, "%s%s%s", before, schema, after);
	json_object	*o = json_read(a, text, strlen(text), NULL);

	return o != NULL ? schema_refuse(a, o, value) : NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct arena	*a = arena_open();
	const char	*text = fuzz_line(a, &in), *said;
	json_object	*schema = json_read(a, text, strlen(text), NULL), *value = json_read(a, in.p, in.n, NULL);

	if (schema != NULL) {
		(void)schema_usable(schema);
		said = schema_refuse(a, schema, value);
		must(said == NULL || (*said != '\0' && strlen(said) <= 1024 && utf8_valid(said, strlen(said))));
		must(schema_refuse(a, json_read(a, "{}", 2, NULL), value) == NULL);
		if (alone(text)) {
			must(said == NULL || wrapped(a, text, "{\"not\":", "}", value) == NULL);
			must(said != NULL || wrapped(a, text, "{\"allOf\":[", "]}", value) == NULL);
			must(said != NULL || wrapped(a, text, "{\"not\":{\"not\":", "}}", value) == NULL);
		}
	}
	arena_close(&a);
	return 0;
}
