/* mcp -- tools of other servers: their names, their risk, what goes into headers, what a result becomes. */
#include "tap.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/json.h"
#include "tool/mcp_head.h"
#include "tool/mcp_result.h"
#include "tool/mcp_tools.h"
#include "tool/tool.h"

static struct arena	*arena;

static json_object *
parsed(const char *text)
{
	json_object	*o = json_read(arena, text, strlen(text), NULL);

	if (o == NULL)
		abort();
	return o;
}

static void
test_names(void)
{
	struct conf_mcp	 m = { .name = "srv" };
	char		 n60[61], n61[62];

	memset(n60, 'a', 60), n60[60] = '\0';
	memset(n61, 'a', 61), n61[61] = '\0';
	is_text(mcp_tool_name(arena, &m, "get-sum_2"), "srv_get-sum_2", "a name as it is");
	ok(strlen(mcp_tool_name(arena, &m, n60)) == 64, "64 bytes fit");
	ok(strlen(mcp_tool_name(arena, &m, n61)) == 64, "more are cut");
	ok(strcmp(mcp_tool_name(arena, &m, n60), mcp_tool_name(arena, &m, n61)) != 0, "and stay two names");
	ok(strncmp(mcp_tool_name(arena, &m, "a.b/c"), "srv_a_b_c_", 10) == 0, "what models do not take becomes _");
	ok(strcmp(mcp_tool_name(arena, &m, "a.b"), mcp_tool_name(arena, &m, "a-b")) != 0 &&
	    strcmp(mcp_tool_name(arena, &m, "a.b"), mcp_tool_name(arena, &m, "a/b")) != 0, "and is still told apart");
}

static const char	 list[] = "["
    "{\"name\":\"reads\",\"inputSchema\":{\"type\":\"object\"},\"readOnlyHint\":true},"
    "{\"name\":\"again\",\"inputSchema\":{\"type\":\"object\"},\"idempotentHint\":true},"
    "{\"name\":\"plain\",\"inputSchema\":{\"type\":\"object\"}},"
    "{\"name\":\"burns\",\"inputSchema\":{\"type\":\"object\"},\"readOnlyHint\":true,\"destructiveHint\":true}]";

/* The tools' risks and whether they ask, as "r", "i", "w" and "!". */
static const char *
risks(struct conf_mcp *m)
{
	struct tool	 t[MCP_TOOLS_MAX];
	int		 n;
	char		*out = arena_alloc(arena, 64), *p = out;

	m->name = "s";
	n = mcp_tools_read(arena, m, list, t);
	for (int i = 0; i < n; i++) {
		*p++ = t[i].risk == TOOL_READ_ONLY ? 'r' : t[i].risk == TOOL_IDEMPOTENT ? 'i' : 'w';
		if (t[i].confirm)
			*p++ = '!';
	}
	return out;
}

static void
test_risk(void)
{
	is_text(risks(&(struct conf_mcp){ 0 }), "wwww!", "who is not trusted is believed that he destroys, nothing else");
	is_text(risks(&(struct conf_mcp){ .trust = true }), "riwr!", "who is trusted is believed");
	is_text(risks(&(struct conf_mcp){ .read_only = "plain", .idempotent = "all" }), "iiri!", "the configuration knows");
	is_text(risks(&(struct conf_mcp){ .confirm = "plain reads" }), "w!ww!w!", "and may want to ask");
	is_text(risks(&(struct conf_mcp){ .confirm = "all" }), "w!w!w!w!", "always");
	is_text(risks(&(struct conf_mcp){ .confirm = "all", .no_confirm = "burns again" }), "w!ww!w", "or not");
	is_text(risks(&(struct conf_mcp){ .tools = "again burns" }), "ww!", "an allow-list holds for a list that was kept, too");
}

static void
test_header_values(void)
{
	is_text(mcp_header(arena, "N", "plain text"), "N: plain text", "ASCII as it is");
	is_text(mcp_header(arena, "N", ""), "N;", "an empty one in curl's form");
	is_text(mcp_header(arena, "N", "Köln"), "N: =?base64?S8O2bG4=?=", "not ASCII");
	is_text(mcp_header(arena, "N", " x"), "N: =?base64?IHg=?=", "a blank before");
	is_text(mcp_header(arena, "N", "x "), "N: =?base64?eCA=?=", "or behind");
	is_text(mcp_header(arena, "N", "a\r\nEvil: b"), "N: =?base64?YQ0KRXZpbDogYg==?=", "no line of its own");
	is_text(mcp_header(arena, "N", "=?base64?eA==?="), "N: =?base64?PT9iYXNlNjQ/ZUE9PT89?=", "what looks encoded");
}

static void
faulty(const char *schema, bool is, const char *name)
{
	ok((mcp_params_fault(arena, parsed(schema)) != NULL) == is, "%s: %s", is ? "refused" : "fine", name);
}

static void
test_header_marks(void)
{
#define P(inside)	"{\"type\":\"object\",\"properties\":{" inside "}}"
	faulty(P(""), false, "no mark");
	faulty(P("\"a\":{\"type\":\"string\",\"x-mcp-header\":\"A\"}"), false, "a text");
	faulty(P("\"a\":{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"integer\",\"x-mcp-header\":\"B\"}}}"), false, "deep");
	faulty(P("\"x-mcp-header\":{\"type\":\"string\"}"), false, "an argument of that name");
	faulty(P("\"a\":{\"type\":\"number\",\"x-mcp-header\":\"A\"}"), true, "a number that may not be whole");
	faulty(P("\"a\":{\"type\":\"object\",\"x-mcp-header\":\"A\"}"), true, "an object");
	faulty(P("\"a\":{\"x-mcp-header\":\"A\"}"), true, "no type");
	faulty(P("\"a\":{\"type\":\"string\",\"x-mcp-header\":\"\"}"), true, "no name");
	faulty(P("\"a\":{\"type\":\"string\",\"x-mcp-header\":\"A B\"}"), true, "a blank in the name");
	faulty(P("\"a\":{\"type\":\"string\",\"x-mcp-header\":7}"), true, "a number as the name");
	faulty(P("\"a\":{\"type\":\"string\",\"x-mcp-header\":\"A\"},\"b\":{\"type\":\"string\",\"x-mcp-header\":\"a\"}"), true,
	    "twice");
	faulty(P("\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"x-mcp-header\":\"A\"}}"), true, "in a list");
	faulty("{\"type\":\"object\",\"anyOf\":[{\"x-mcp-header\":\"A\"}]}", true, "in an alternative");
	faulty("{\"type\":\"object\",\"$defs\":{\"d\":{\"type\":\"string\",\"x-mcp-header\":\"A\"}}}", true, "in a definition");
	faulty("{\"type\":\"object\",\"x-mcp-header\":\"A\"}", true, "at the top");
#undef P
}

static const char *
result(const char *text, size_t max, bool *is_error)
{
	struct mcp_result	 r;

	mcp_result_make(arena, parsed(text), max, &r);
	*is_error = r.is_error;
	return r.json;
}

static void
test_results(void)
{
	bool	 e;

	is_text(result("{\"content\":[{\"type\":\"text\",\"text\":\"a\\\"b\"}]}", 100, &e), "\"a\\\"b\"", "a text");
	is_text(result("{\"content\":[{\"type\":\"text\",\"text\":\" {\\\"a\\\": 1} \"}]}", 100, &e), "{\"a\":1}", "JSON in a text");
	is_text(result("{\"content\":[{\"type\":\"text\",\"text\":\"{not json}\"}]}", 100, &e), "\"{not json}\"", "or nearly");
	is_text(result("{\"structuredContent\":[1]}", 100, &e), "[1]", "structured alone");
	is_text(result("{\"content\":[{\"type\":\"text\",\"text\":\"t\"}],\"structuredContent\":{\"t\":1}}", 100, &e), "\"t\"",
	    "both: the text");
	is_text(result("{}", 100, &e), "\"The tool returned nothing.\"", "nothing");
	is_text(result("{\"content\":7}", 100, &e), "\"The tool returned nothing.\"", "nonsense");
	ok(!e, "is no error");
	is_text(result("{\"isError\":true,\"content\":[]}", 100, &e), "{\"error\":\"The tool failed and did not say why.\"}",
	    "an error");
	ok(e, "is one");
	is_text(result("{\"content\":[{\"type\":\"text\",\"text\":\"äöü\"}]}", 3, &e),
	    "\"ä … [cut: this is the first part of 6 bytes]\"", "cut between characters");
}

int
main(void)
{
	arena = arena_open();
	test_names();
	test_risk();
	test_header_values();
	test_header_marks();
	test_results();
	arena_close(&arena);
	return done_testing();
}
