/* The strict door, the getters that never convert, and the writer. */
#include <stdlib.h>

#include "base/arena.h"
#include "io/json.h"
#include "tap.h"

/* What RFC 8259 calls a JSON text. */
static const char *const	 good[] = {
	"{}", "[]", " [ ] ", "0", "-0", "12", "-1", "1.5", "1e5", "1E+5", "1e-999", "[0.10]", "\"\"", "\"a\"", "true",
	"false", "\t\r\n {\"a\"\n:\t1 , \"b\" : [ ] } \n", "{\"\":1}", "[1,2,3]", "[[],{}]", "{\"a\":{\"a\":{\"a\":1}}}",
	"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0001\\uD83D\\uDE00\\ud7ff\\ue000\\uffff\"", "\"\x7f\"",
	"\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf\"", "[1234567890123456789012345678901234567890]",
	"[18446744073709551615,-9223372036854775808]", "{\"role\":1,\"Role\":2,\"role \":3}", "{\"__proto__\":1}",
	"[null]", "[\"\\u2028\"]", "{\"a\":1,\"b\":{\"a\":1}}", "[{\"a\":1},{\"a\":1}]",
};

static const char *const	 bad[] = {
	/* The sixteen that json-c's strict mode lets pass. */
	"[-01]", "[-2.]", "[0.e1]", "[2.e+3]", "[NaN]", "[Infinity]", "[-Infinity]", "[-012]", "[-.123]", "[1.]",
	"{'a':0}", "[\"a\nb\"]", "[\"a\tb\"]", "[\"\t\"]", "[-1.]", "[-NaN]",
	/* Nothing, half, too much. */
	"", " ", "\n", "tru", "nul", "falsee", "truefalse", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]", "{\"a\"",
	"{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "{\"a\" 1}", "{\"a\",1}", "{a:1}", "{1:1}", "{\"a\":1 \"b\":2}",
	"{}{}", "[]]", "{}x", "1 2", "12x", "\"a\"\"b\"", "[1]//", "/**/[]", "[1]#", "\xef\xbb\xbf[]", "\"a", "\"", "\\", "'a'",
	"[TRUE]", "[True]", "[undefined]", "\f[]", "[\v1]", "\xc2\xa0[]", ",", ":", "[:]", "[}", "{]", "[\"a\":1]",
	/* Numbers. */
	"[01]", "[00]", "[+1]", "[.5]", "[1e]", "[1e+]", "[1.e5]", "[0x1]", "[1_0]", "[--1]", "[- 1]", "[1.2.3]", "[1e5.5]", "[-]",
	"[1e1000]", "[1e-0001]", "[12345678901234567890123456789012345678901]", "[0.1234567890123456789012345678901234567890]", "[1e131071]",
	/* Strings. */
	"\"\\x\"", "\"\\a\"", "\"\\u\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\U0041\"", "\"\\\"", "\"\\", "\"\x01\"", "\"\x1f\"", "\"\\\n\"",
	"\"\\u0000\"", "{\"a\\u0000b\":1}", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"",
	"\"\\ud800\\ud800\"", "\"\\udc00\\ud800\"", "\"\\ud83d", "\"\\ud83d\\", "\"\\ud83d\\u", "\"\\ud83d\\ude0",
	/* Bytes that are not UTF-8. */
	"\"\x80\"", "\"\xc3\"", "\"\xc3(\"", "\"\xc0\xaf\"", "\"\xe0\x80\xaf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xf8\x88\x80\x80\x80\"",
	"\"\xff\"", "\"\xe2\x82\"", "{\"\xff\":1}", "[\xff]", "\xff",
};

/* Good texts that have no tree: names that are there twice. */
static const char *const	 twice[] = {
	"{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":1,\"\\u0061\":2}", "[{\"x\":{\"k\":1,\"k\":{}}}]",
	"{\"\":1,\"\":2}", "{\"a\":{\"b\":1},\"a\":{\"c\":1}}", "{\"/\":1,\"\\/\":2}",
};

/* In a block of exactly its size, so that ASan sees a step too far. */
static json_object *
read_exact(struct arena *a, const char *s, size_t n, bool *valid)
{
	char		*copy = malloc(n > 0 ? n : 1);
	const char	*why = NULL;
	json_object	*tree;

	memcpy(copy, s, n);
	*valid = json_valid(copy, n, NULL);
	tree = json_read(a, copy, n, &why);
	if (tree == NULL && why == NULL)
		ok(false, "no reason given for %s", s);
	free(copy);
	return tree;
}

static void
test_corpus(void)
{
	struct arena	*a = arena_open();
	bool		 valid, all = true;

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (read_exact(a, good[i], strlen(good[i]), &valid) == NULL || !valid) {
			printf("# refused: %s\n", good[i]);
			all = false;
		}
	ok(all, "good texts pass");
	all = true;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (read_exact(a, bad[i], strlen(bad[i]), &valid) != NULL || valid) {
			printf("# passed: %s\n", bad[i]);
			all = false;
		}
	ok(all, "bad texts do not");
	all = true;
	for (size_t i = 0; i < sizeof twice / sizeof *twice; i++)
		if (read_exact(a, twice[i], strlen(twice[i]), &valid) != NULL) {
			printf("# passed: %s\n", twice[i]);
			all = false;
		}
	ok(all, "a name that is there twice is refused, however it is spelt");

	ok(read_exact(a, "[]\0x", 4, &valid) == NULL && !valid, "text after a NUL");
	ok(read_exact(a, "[]\0", 3, &valid) == NULL && !valid, "a NUL at the end");
	ok(read_exact(a, "\"a\0b\"", 5, &valid) == NULL && !valid, "a NUL in a string");
	ok(read_exact(a, "null", 4, &valid) == NULL && valid, "null is valid and has no tree");
	arena_close(&a);
}

/* Each prefix of a text is no text; none makes the door read too far. */
static void
test_prefixes(void)
{
	static const char	 text[] =
	    "{\"a\":[1.5e-10,true,false,null,\"\\ud83d\\ude00\\n\xf0\x9f\x98\x80\"],\"b\":{\"c\":-12}}";
	struct arena		*a = arena_open();
	bool			 valid, none = true;

	for (size_t n = 0; n < sizeof text - 1; n++)
		if (read_exact(a, text, n, &valid) != NULL || valid)
			none = false;
	ok(none, "no prefix passes");
	ok(read_exact(a, text, sizeof text - 1, &valid) != NULL && valid, "the whole does");
	arena_close(&a);
}

/* A tree may not weigh far more than its text, unless the text is small or our own. */
static void
test_weight(void)
{
	static const struct {
		const char	*one;
		int		 n;
		bool		 passes;
	} t[] = {
		{ "{},", 250, true }, { "{},", 20000, false }, { "[],", 3000, true }, { "[],", 200000, false },
		{ "1,", 10000, true }, { "1,", 500000, false }, { "\"some words of a text\",", 200000, true },
		{ "[13.40495,52.52001],", 20000, true },
		{ "{\"title\":\"Buy milk\",\"id\":12,\"done\":false},", 5000, true },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct arena	*a = arena_open();
		struct buf	 b = { 0 };
		const char	*why = "";
		json_object	*any;

		buf_char(&b, '[');
		for (int k = 0; k < t[i].n; k++)
			buf_str(&b, t[i].one);
		buf_str(&b, "0]");
		ok((json_read(a, b.p, b.n, &why) != NULL) == t[i].passes, "%d times %s %s", t[i].n, t[i].one, why);
		any = json_read_any(b.p, b.n);
		ok((any != NULL) == t[i].passes, "... the forgiving reader as well");
		ok(b.n < 1000 || b.n > 100000 || t[i].one[0] != '{' || json_read_small(a, b.p, b.n, &why) == NULL, "... no request");
		ok(json_read_stored(a, b.p, b.n, &why) != NULL && json_valid(b.p, b.n, NULL), "... of our own it is fine");
		json_object_put(any);
		buf_free(&b);
		arena_close(&a);
	}
}

static void
test_depth(void)
{
	struct arena	*a = arena_open();
	struct buf	 b = { 0 };
	bool		 valid;
	char		*many;

	for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
		bool	 passes = depth == JSON_DEPTH_MAX;

		buf_clear(&b);
		for (int i = 0; i < depth; i++)
			buf_char(&b, '[');
		buf_char(&b, '1');
		for (int i = 0; i < depth; i++)
			buf_char(&b, ']');
		ok((read_exact(a, b.p, b.n, &valid) != NULL) == passes && valid == passes,
		    "%d arrays deep", depth);
		buf_clear(&b);
		for (int i = 0; i < depth; i++)
			buf_str(&b, "{\"a\":");
		buf_char(&b, '1');
		for (int i = 0; i < depth; i++)
			buf_char(&b, '}');
		ok((read_exact(a, b.p, b.n, &valid) != NULL) == passes && valid == passes,
		    "%d objects deep", depth);
	}
	many = malloc(1000000);
	memset(many, '[', 1000000);
	ok(!json_valid(many, 1000000, NULL), "a million brackets");
	free(many);
	buf_free(&b);
	arena_close(&a);
}

static void
test_why(void)
{
	struct arena	*a = arena_open();
	const char	*why = NULL;

	json_read(a, "{\"a\":tru}", 9, &why);
	is_text(why, "not a value at byte 5", "what is wrong, and where");
	json_read(a, "[\"\\u0000\"]", 10, &why);
	is_text(why, "an escaped NUL at byte 8", "an escaped NUL");
	json_read(a, "{\"a\":1,\"a\":2}", 13, &why);
	is_text(why, "a member's name is there twice", "a duplicate");
	json_valid("[1]]", 4, &why);
	is_text(why, "bytes after the end", "the check alone names it without the place");
	arena_close(&a);
}

static void
test_getters(void)
{
	static const char	 text[] = "{\"s\":\"text\",\"n\":42,\"t\":true,\"f\":false,\"z\":null,\"o\":{\"k\":1},\"l\":[1],"
	    "\"d\":1.0,\"num\":\"12abc\",\"max\":9223372036854775807,\"over\":9223372036854775808,"
	    "\"min\":-9223372036854775808,\"under\":-9223372036854775809,\"huge\":12345678901234567890123}";
	struct arena		*a = arena_open();
	json_object		*o = json_read(a, text, sizeof text - 1, NULL), *m = NULL;
	const char		*s = "untouched";
	int64_t			 n = 7;
	bool			 yes = false;

	ok(json_get_string(o, "s", &s) == JSON_GOT && strcmp(s, "text") == 0, "a string");
	ok(json_get_int(o, "n", &n) == JSON_GOT && n == 42, "an integer");
	ok(json_get_bool(o, "t", &yes) == JSON_GOT && yes, "true");
	ok(json_get_bool(o, "f", &yes) == JSON_GOT && !yes, "false");
	ok(json_get_object(o, "o", &m) == JSON_GOT && json_get_int(m, "k", &n) == JSON_GOT && n == 1, "an object");
	ok(json_get_array(o, "l", &m) == JSON_GOT && json_object_array_length(m) == 1, "an array");
	ok(json_get_int(o, "max", &n) == JSON_GOT && n == INT64_MAX, "the largest integer");
	ok(json_get_int(o, "min", &n) == JSON_GOT && n == INT64_MIN, "the smallest integer");

	n = 7;
	ok(json_get_int(o, "over", &n) == JSON_WRONG && json_get_int(o, "under", &n) == JSON_WRONG &&
	    json_get_int(o, "huge", &n) == JSON_WRONG && n == 7, "integers out of range");
	ok(json_get_int(o, "num", &n) == JSON_WRONG && json_get_int(o, "d", &n) == JSON_WRONG &&
	    json_get_int(o, "l", &n) == JSON_WRONG && json_get_int(o, "t", &n) == JSON_WRONG && n == 7, "what is no integer");
	ok(json_get_bool(o, "s", &yes) == JSON_WRONG && json_get_bool(o, "n", &yes) == JSON_WRONG, "what is no boolean");
	s = "untouched";
	ok(json_get_string(o, "n", &s) == JSON_WRONG && json_get_string(o, "z", &s) == JSON_NULL &&
	    json_get_string(o, "none", &s) == JSON_ABSENT && strcmp(s, "untouched") == 0, "what is no string");
	ok(json_get_object(o, "l", &m) == JSON_WRONG && json_get_array(o, "o", &m) == JSON_WRONG, "what is no object, no array");
	json_get_array(o, "l", &m);
	ok(json_get_string(NULL, "s", &s) == JSON_ABSENT && json_get_string(m, "s", &s) == JSON_ABSENT, "of nothing, of an array");
	is_text(json_text_or_null(o, "s"), "text", "a text or NULL");
	ok(json_text_or_null(o, "n") == NULL && json_text_or_null(o, "none") == NULL, "... NULL");
	arena_close(&a);
}

static void
test_text(void)
{
	static const char	 text[] = "{\"a\":[0.10,1.5E+3,-0.0,1e400,12345678901234567890123,-9223372036854775809,7],"
	    "\"u\":\"http://x/\\u00e4\\n\"}";
	struct arena		*a = arena_open();

	is_text(json_text(json_read(a, text, sizeof text - 1, NULL)),
	    "{\"a\":[0.10,1.5E+3,-0.0,1e400,12345678901234567890123,-9223372036854775809,7],"
	    "\"u\":\"http://x/\xc3\xa4\\n\"}", "numbers keep their value, slashes are plain");
	is_text(json_text(json_read(a, "99999999999999999999", 20, NULL)), "99999999999999999999", "a lone wide integer");
	is_text(json_text(NULL), "null", "no tree is null");
	arena_close(&a);
}

static void
test_writer(void)
{
	struct buf	 b = { 0 };
	struct arena	*a = arena_open();

	buf_str(&b, "data: ");
	jw_open(&b, '{');
	jw_key(&b, "n");
	jw_int(&b, INT64_MIN);
	jw_key(&b, "s");
	jw_string(&b, "a\"b\\c/\b\f\n\r\t\x01\x7f\xc3\xa4");
	jw_key(&b, "l");
	jw_open(&b, '[');
	jw_bool(&b, true);
	jw_bool(&b, false);
	jw_null(&b);
	jw_string(&b, NULL);
	jw_raw(&b, " {\"x\" :\n\t[1, \"a \\\" b\\\\\" ] }\n");
	jw_raw(&b, NULL);
	jw_open(&b, '[');
	jw_close(&b, ']');
	jw_open(&b, '{');
	jw_close(&b, '}');
	jw_close(&b, ']');
	jw_key(&b, "k\"");
	jw_int(&b, 0);
	jw_close(&b, '}');
	is_text(buf_text(&b), "data: {\"n\":-9223372036854775808,\"s\":\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\x7f\xc3\xa4\","
	    "\"l\":[true,false,null,null,{\"x\":[1,\"a \\\" b\\\\\"]},null,[],{}],\"k\\\"\":0}", "commas and escapes");
	ok(json_read(a, b.p + 6, b.n - 6, NULL) != NULL, "... reads back");

	buf_clear(&b);
	jw_raw(&b, "[\"\\ud83d\\ude00\", \"\\ud83d\", \"\\uDE00\\ud83d\\u0041\", \"\\\\ud83d\", \"\\ud83d\\ud83d\\ude00\"]");
	is_text(buf_text(&b), "[\"\\ud83d\\ude00\",\"\\ufffd\",\"\\ufffd\\ufffd\\u0041\",\"\\\\ud83d\",\"\\ufffd\\ud83d\\ude00\"]",
	    "half a surrogate pair becomes U+FFFD");

	buf_clear(&b);
	jw_string_n(&b, "a\0b\xff" "c\xe2\x82" "d\xed\xa0\x80\xc3\xa4\x80\xf0\x9f\x98\x80\xc3", 20);
	is_text(buf_text(&b), "\"ab\xef\xbf\xbd" "c\xef\xbf\xbd" "d\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd\"",
	    "bad bytes become U+FFFD, NUL goes");
	ok(json_valid(b.p, b.n, NULL), "... which is valid");
	buf_clear(&b);
	for (int c = 1; c < 128; c++) {
		char	 one[2] = { (char)c, '\0' };

		buf_clear(&b);
		jw_string(&b, one);
		if (strcmp(json_object_get_string(json_read(a, b.p, b.n, NULL)), one) != 0)
			ok(false, "character %d comes back", c);
	}
	buf_free(&b);
	arena_close(&a);
}

int
main(void)
{
	test_corpus();
	test_prefixes();
	test_depth();
	test_weight();
	test_why();
	test_getters();
	test_text();
	test_writer();
	return done_testing();
}
