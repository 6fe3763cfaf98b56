/*
 * The list of a foreign server's tools: what is kept is strict JSON that we read as just as many tools, with names that
 * models take and schemas that send nobody elsewhere.  A line for the allow-list (empty: all), then the result.
 */
#include "tool/mcp_tools.c"	/* page_keep() is its own */

#include "fuzz.h"

static void
check(struct arena *a, const struct conf_mcp *conf, const struct keep *k)
{
	static struct tool	 tools[MCP_TOOLS_MAX];
	const char		*text = buf_text(k->text);
	json_object		*list = json_read(a, text, strlen(text), NULL);
	int			 n = mcp_tools_read(a, conf, text, tools);

	must(json_object_is_type(list, json_type_array) && json_object_array_length(list) == (size_t)k->kept);
	must(n == k->kept && n <= MCP_TOOLS_MAX);
	for (int i = 0; i < n; i++) {
		const struct tool	*t = &tools[i];
		json_object		*schema = json_read(a, t->schema, strlen(t->schema), NULL);

		must(strlen(t->name) <= MODEL_NAME_BYTES && strspn(t->name, NAME_CHARS) == strlen(t->name));
		must(json_object_is_type(schema, json_type_object) && !refers_away(schema));
		must(utf8_valid(t->description, strlen(t->description)) && strlen(t->description) <= DESCRIPTION_BYTES);
		must(t->risk == TOOL_WRITES);
		(void)mcp_params_headers(a, schema, json_read(a, "{\"a\":\"b\"}", 9, NULL));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct arena	*a = arena_open();
	struct conf_mcp	 conf = { .name = "srv", .tools = fuzz_line(a, &in) };
	struct keep	 k = { .conf = &conf, .text = buf_new(a) };
	int64_t		 ttl = 1000;
	json_object	*result = json_read(a, in.p, in.n, NULL);

	if (*conf.tools == '\0')
		conf.tools = NULL;
	if (json_object_is_type(result, json_type_object)) {
		buf_char(k.text, '[');
		page_keep(&k, result);
		ttl_take(result, &ttl);
		buf_char(k.text, ']');
		must(ttl >= 1000 && ttl <= TTL_MAX_MS);
		must((k.left_out > 0) == (k.fault != NULL));
		check(a, &conf, &k);
	}
	arena_close(&a);
	return 0;
}
