/*
 * schema -- what a tool's JSON schema refuses, in which words, and what it lets pass because nobody can be sure.
 */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "io/json.h"
#include "tap.h"
#include "tool/schema.h"

struct table {
	const char	*schema, *value, *want;		/* NULL: it fits */
};

/* What parley.tool_refuse() says of the tools in the database, word for word. */
#define TASK "{'type':'object','properties':{'title':{'type':'string','maxLength':5},'due_on':{'type':'string','format':'date'}," \
	"'status':{'type':'string','enum':['pending','completed']},'tags':{'type':'array','items':{'type':'string'}}," \
	"'n':{'type':'integer'},'taskId':{'type':'number'},'flag':{'type':'boolean'},'place':{'type':'object'," \
	"'properties':{'city':{'type':'string'}},'required':['city'],'additionalProperties':false}}," \
	"'required':['title'],'additionalProperties':false}"

static const struct table sentences[] = {
	{ TASK, "{'title':'a'}", NULL },
	{ TASK, "{}", "Title is required." },
	{ TASK, "{'title':null}", "Title is required." },
	{ TASK, "{'title':5}", "Title must be text." },
	{ TASK, "{'title':'a','status':'done'}", "Status must be one of: pending, completed." },
	{ TASK, "{'title':'a','status':null}", "Status must not be null, but may be left out." },
	{ TASK, "{'title':'a','tags':['x','y',3]}", "tags[2] must be text." },
	{ TASK, "{'title':'a','tags':'x'}", "Tags must be a list." },
	{ TASK, "{'title':'a','n':1.5}", "N must be a whole number." },
	{ TASK, "{'title':'a','n':1.0}", NULL },
	{ TASK, "{'title':'a','n':1e2}", NULL },
	{ TASK, "{'title':'a','taskId':'1'}", "taskId must be a number." },
	{ TASK, "{'title':'a','flag':1}", "Flag must be true or false." },
	{ TASK, "{'title':'a','place':[]}", "Place must be an object." },
	{ TASK, "{'title':'a','place':{}}", "place.city is required." },
	{ TASK, "{'title':'a','place':{'city':'x','zip':1}}", "There is no member zip in place." },
	{ TASK, "{'title':'a','priority':1}", "There is no argument priority." },
	{ TASK, "{'title':'a','due_on':'tomorrow'}", "due_on must be a date like 2026-03-31." },
	{ TASK, "{'title':'\\u00e4\\u00e4\\u00e4\\u00e4\\u00e4'}", NULL },
	{ TASK, "{'title':'abcdef'}", "Title must have at most 5 characters." },
	{ TASK, "[]", "The arguments must be an object." },
	{ "{'properties':{'a':{'items':{'properties':{'b':{'const':'x'}}}}}}", "{'a':[{},{'b':'y'}]}", "a[1].b must be: x." },
	{ "{'properties':{'a':{'type':['string','null','integer']}}}", "{'a':[]}", "A must be text, a whole number or null." },
	{ "{'properties':{'a':{'anyOf':[{'type':'string'},{'type':'null'}]}}}", "{'a':1}", "A must be text or null." },
	{ "{'properties':{'a':{'anyOf':[{'type':'string','minLength':2},{'type':'null'}]}}}", "{'a':'1'}", "A must have at least 2 characters." },
	{ "{'properties':{'a':{'anyOf':[{'enum':['x','y']},{'type':'integer'}]}}}", "{'a':'1'}", "A must be one of: x, y." },
	{ "{'properties':{'user_name':{'enum':['x',1,null,true,{'a':[]}]}}}", "{'user_name':'1'}", "user_name must be one of: x, 1, null, true, {\"a\":[]}." },
	{ "{'anyOf':[{'required':['id']},{'required':['name']}]}", "{}", "Id is required; or Name is required." },
	/* Told apart by a constant: the complaint is that of the alternative that was meant. */
	{ "{'oneOf':[{'properties':{'kind':{'const':'a'},'x':{'type':'string'}},'required':['kind','x']},"
	    "{'properties':{'kind':{'const':'b'},'y':{'type':'string'}},'required':['kind','y']}]}", "{'kind':'b','x':'1'}", "Y is required." },
	{ "{'oneOf':[{'properties':{'kind':{'const':'a'}}},{'properties':{'kind':{'const':'b'}}}]}", "{'kind':'c'}",
	    "Kind must be: a; or Kind must be: b." },
	{ "{'dependentRequired':{'until':['since']}}", "{'until':1}", "Since is required with until." },
	{ "{'properties':{'a':false}}", "{'a':1}", "A must be left out." },
	{ "{'not':{'enum':[1,2]}}", "1", "The arguments must not be one of: 1, 2." },
	{ "{'propertyNames':{'maxLength':2}}", "{'abc':1}", "The arguments must not have a member of the name abc." },
	{ "{'properties':{'n':{'exclusiveMinimum':1000000}}}", "{'n':1000000}", "N must be more than 1000000." },
	{ "{'properties':{'n':{'multipleOf':0.01}}}", "{'n':0.075}", "N must be a multiple of 0.01." },
	{ "{'properties':{'n':{'minimum':1.50}}}", "{'n':1}", "N must be at least 1.50." },
};

/* Fits or not, keyword by keyword, as 2020-12 and the drafts before it have it. */
static const struct { const char *schema, *fits, *refused; } cases[] = {
	/* a list of values each */
	{ "true", "[1,null,'x',{},[]]", "[]" },
	{ "false", "[]", "[1,null,'x',{},[]]" },
	{ "{}", "[1,null,'x']", "[]" },
	{ "{'type':'integer'}", "[1,1.0,-3,12345678901234567890,1e30]", "[1.1,'1',true,null,[],{}]" },
	{ "{'type':'number'}", "[1,1.5,1e-3]", "['1',true,null]" },
	{ "{'type':'null'}", "[null]", "[0,'',false,[],{}]" },
	{ "{'type':['integer','string']}", "[1,'1']", "[1.5,null]" },
	{ "{'type':[]}", "[1]", "[]" },
	{ "{'type':'any'}", "[1,null]", "[]" },
	{ "{'type':['string','any']}", "[1,null]", "[]" },
	{ "{'type':5}", "[1,null]", "[]" },
	{ "{'enum':[6,'foo',[],true,{'a':1,'b':[2]}]}", "[6,6.0,'foo',[],true,{'b':[2.0],'a':1}]", "[null,'6',false,1,{'a':1},{'a':1,'b':[2],'c':1},[[]]]" },
	{ "{'const':false}", "[false]", "[0,null,'']" },
	{ "{'const':null}", "[null]", "[0,false]" },
	{ "{'const':9007199254740993}", "[9007199254740993]", "[9007199254740992]" },
	{ "{'const':18446744073709551615}", "[18446744073709551615]", "[-1,18446744073709551614]" },
	{ "{'minimum':1.1}", "[1.1,2,'x']", "[1,0.6]" },
	{ "{'maximum':3}", "[3,3.0,-5]", "[3.1,4]" },
	{ "{'exclusiveMinimum':1}", "[1.01]", "[1,0]" },
	{ "{'exclusiveMaximum':1}", "[0.99]", "[1,1.0]" },
	{ "{'minimum':1,'exclusiveMinimum':true}", "[2]", "[1]" },
	{ "{'maximum':1,'exclusiveMaximum':true}", "[0]", "[1]" },
	{ "{'minimum':1,'exclusiveMinimum':false}", "[1]", "[0]" },
	{ "{'minimum':'1'}", "[0]", "[]" },
	{ "{'multipleOf':2}", "[10,0,-4,4.0,'x']", "[7,3.5]" },
	{ "{'multipleOf':0.01}", "[0.07,4.02,0.29,-1.13]", "[0.075,0.001]" },
	{ "{'multipleOf':0.0001}", "[0.0075]", "[0.00751]" },
	{ "{'multipleOf':1e-8}", "[12391239123,1e308]", "[]" },
	{ "{'multipleOf':0}", "[1]", "[]" },
	{ "{'minLength':2}", "['ab','\\ud83d\\udca9x',1]", "['a','\\ud83d\\udca9']" },
	{ "{'maxLength':2.0}", "['ab','\\ud83d\\udca9\\ud83d\\udca9',[1,2,3]]", "['abc']" },
	{ "{'pattern':'^a*$'}", "['aaa','b']", "[]" },
	{ "{'not':{'pattern':'^a*$'}}", "['aaa','b']", "[]" },
	{ "{'anyOf':[{'pattern':'^a*$'},{'type':'integer'}]}", "['b',1]", "[]" },
	{ "{'format':'date'}", "['2024-02-29','2026-12-31',5]", "['2023-02-29','2026-13-01','2026-1-1','2026-01-01T','2026-00-10','2026-04-31','']" },
	{ "{'format':'date-time'}", "['2026-01-01T00:00:00Z','2026-01-01t23:59:60.5+02:00','2026-01-01 10:00','2026-01-01T10:00:00']",
	    "['2026-01-01','2026-01-01T','2026-01-01T25:00:00Z','2026-01-01T10:61:00Z','2026-01-01T10:00:00X','2026-01-01T10:00:00+1','10:00','']" },
	{ "{'format':'uuid'}", "['2EB8AA08-AA98-11EA-B4AA-73B441D16380']", "['2eb8aa08','']" },
	{ "{'format':'email'}", "['a@b','joe.bloggs@example.com']", "['@b','a@','ab','a@b c']" },
	{ "{'format':'regex'}", "['((']", "[]" },
	{ "{'items':{'type':'integer'}}", "[[],[1,2],{'0':'x'}]", "[[1,'x']]" },
	{ "{'items':false}", "[[]]", "[[1]]" },
	{ "{'prefixItems':[{'type':'integer'},{'type':'string'}]}", "[[],[1],[1,'a'],[1,'a',null]]", "[['a'],[1,2]]" },
	{ "{'prefixItems':[{},{}],'items':{'type':'integer'}}", "[['a','b',3]]", "[['a','b','c']]" },
	{ "{'items':[{'type':'integer'},{'type':'string'}]}", "[[1,'a',null]]", "[['a'],[1,2]]" },
	{ "{'items':[{'type':'integer'}],'additionalItems':false}", "[[],[1]]", "[[1,2]]" },
	{ "{'items':[{}],'additionalItems':{'type':'integer'}}", "[['x',1]]", "[['x','y']]" },
	{ "{'items':{},'additionalItems':false}", "[[1,2,3]]", "[]" },
	{ "{'minItems':1}", "[[1],'']", "[[]]" },
	{ "{'maxItems':2}", "[[1,2]]", "[[1,2,3]]" },
	{ "{'uniqueItems':true}", "[[1,2],[1,true],[0,false],[[1],['1']],[{'a':1},{'a':2}],[1,'1'],[]]", "[[1,1],[1.0,1],[{'a':1,'b':2},{'b':2,'a':1}],[[1],[1]],[null,2,null]]" },
	{ "{'uniqueItems':false}", "[[1,1]]", "[]" },
	{ "{'contains':{'minimum':5}}", "[[3,5],[5],'x']", "[[],[1,2]]" },
	{ "{'contains':{'const':1},'minContains':2,'maxContains':3}", "[[1,1],[1,2,1,1]]", "[[1],[1,1,1,1],[]]" },
	{ "{'contains':{'const':1},'minContains':0}", "[[],[2]]", "[]" },
	{ "{'contains':{'pattern':'a'}}", "[['b']]", "[[]]" },
	{ "{'properties':{'a':{'type':'integer'},'b':false}}", "[{},{'a':1},{'c':'x'},[]]", "[{'a':'x'},{'b':1},{'a':null}]" },
	{ "{'required':['a']}", "[{'a':1},{'a':null},[],'a']", "[{},{'b':1}]" },
	{ "{'required':true}", "[{}]", "[]" },
	{ "{'required':[]}", "[{}]", "[]" },
	{ "{'properties':{'a':{}},'additionalProperties':false}", "[{},{'a':1}]", "[{'b':1},{'a':1,'b':1}]" },
	{ "{'additionalProperties':{'type':'integer'}}", "[{},{'a':1}]", "[{'b':'1'}]" },
	{ "{'properties':{'a':{}},'patternProperties':{'^b':{}},'additionalProperties':false}", "[{'a':1},{'b':1},{'c':1}]", "[]" },
	{ "{'unevaluatedProperties':false}", "[{'a':1}]", "[]" },
	{ "{'not':{'unevaluatedProperties':false}}", "[{'a':1}]", "[{}]" },
	{ "{'propertyNames':{'maxLength':3}}", "[{},{'abc':1},[]]", "[{'abcd':1}]" },
	{ "{'propertyNames':false}", "[{}]", "[{'a':1}]" },
	{ "{'minProperties':1,'maxProperties':2}", "[{'a':1},{'a':1,'b':2},[]]", "[{},{'a':1,'b':2,'c':3}]" },
	{ "{'dependentRequired':{'a':['b','c']}}", "[{},{'b':1},{'a':1,'b':1,'c':1}]", "[{'a':1},{'a':1,'b':1}]" },
	{ "{'dependencies':{'a':['b'],'c':{'required':['d']}}}", "[{},{'a':1,'b':1},{'c':1,'d':1}]", "[{'a':1},{'c':1}]" },
	{ "{'dependentSchemas':{'a':{'minProperties':2},'b':false}}", "[{},{'a':1,'x':1}]", "[{'a':1},{'b':1}]" },
	{ "{'allOf':[{'minimum':1},{'maximum':3}]}", "[1,3,'x']", "[0,4]" },
	{ "{'allOf':[{'maximum':3},false]}", "[]", "[1]" },
	{ "{'anyOf':[{'type':'integer'},{'minimum':2}]}", "[1,2.5,3,'x']", "[1.5]" },
	{ "{'anyOf':[false,false]}", "[]", "[1]" },
	{ "{'anyOf':[]}", "[1]", "[]" },
	{ "{'oneOf':[{'type':'integer'},{'minimum':2}]}", "[1,2.5]", "[3,1.5]" },
	{ "{'oneOf':[{'pattern':'a'},{'type':'integer'}]}", "['b']", "[]" },
	{ "{'oneOf':[{'pattern':'a'},{'type':'string'},{'minLength':0}]}", "[]", "['b']" },
	{ "{'not':{'type':'integer'}}", "['x',1.5]", "[1]" },
	{ "{'not':{'not':{'type':'integer'}}}", "[1]", "['x']" },
	{ "{'not':true}", "[]", "[1]" },
	{ "{'if':{'maximum':0},'then':{'minimum':-10},'else':{'multipleOf':2}}", "[-1,4]", "[-100,3]" },
	{ "{'if':{'const':'x'},'then':false}", "['y']", "['x']" },
	{ "{'then':false,'else':false}", "[1]", "[]" },
	{ "{'if':{'pattern':'x'},'then':false,'else':false}", "['x']", "[]" },
	{ "{'$defs':{'a b':{'type':'integer'},'t~n':{'type':'null'},'s/h':{'type':'string'}},'properties':{'x':{'$ref':'#/$defs/a%20b'},"
	    "'y':{'$ref':'#/$defs/t~0n'},'z':{'$ref':'#/$defs/s~1h'}}}", "[{'x':1,'y':null,'z':''}]", "[{'x':'1'},{'y':1},{'z':1}]" },
	{ "{'definitions':{'a':{'type':'integer'}},'$ref':'#/definitions/a'}", "[1]", "['1']" },
	{ "{'prefixItems':[{'type':'integer'},{'$ref':'#/prefixItems/0'}]}", "[[1,2]]", "[[1,'a']]" },
	{ "{'properties':{'next':{'$ref':'#'}},'additionalProperties':false}", "[{},{'next':{'next':{}}}]", "[{'x':1},{'next':{'next':{'x':1}}}]" },
	{ "{'$defs':{'n':{'type':'object','properties':{'kids':{'type':'array','items':{'$ref':'#/$defs/n'}},'v':{'type':'integer'}}}},'$ref':'#/$defs/n'}",
	    "[{'kids':[{'kids':[{'v':1}]}]}]", "[{'kids':[{'kids':[{'v':'1'}]}]}]" },
	{ "{'$ref':'#here','$defs':{'a':{'$anchor':'here','type':'integer'}}}", "[1]", "['1']" },
	{ "{'$ref':'#here','$defs':{'a':{'$id':'#here','type':'integer'}}}", "[1]", "['1']" },
	{ "{'$ref':'item','$defs':{'a':{'$id':'item','type':'integer'}}}", "[1]", "['1']" },
	{ "{'$id':'http://x/y','$ref':'http://x/y#/$defs/a','$defs':{'a':{'type':'integer'}}}", "[1]", "['1']" },
	{ "{'$ref':'item','$defs':{'t':{'type':'string'},'a':{'$id':'item','$ref':'#/$defs/t','$defs':{'t':{'type':'integer'}}}}}", "[1]", "['1']" },
	{ "{'$defs':{'t':{'type':'string'},'a':{'$id':'item','$defs':{'t':{'type':'integer'},'u':{'$ref':'#/$defs/t'}}}},'$ref':'#/$defs/a/$defs/u'}", "[1]", "['1']" },
	{ "{'properties':{'$ref':{'type':'string'}}}", "[{'$ref':'a'}]", "[{'$ref':1}]" },
	/* What is not here is never fetched, and says nothing in either direction. */
	{ "{'$ref':'https://example.com/schema.json'}", "[1,'x']", "[]" },
	{ "{'not':{'$ref':'https://example.com/schema.json'}}", "[1,'x']", "[]" },
	{ "{'$ref':'https://example.com/a#/x','type':'integer'}", "[1]", "['x']" },
	{ "{'$ref':'#/nowhere'}", "[1]", "[]" },
	{ "{'$ref':'#/%zz/~2/%'}", "[1]", "[]" },
	{ "{'$ref':'#nowhere'}", "[1]", "[]" },
	{ "{'$ref':'#nowhere','const':{'$anchor':'nowhere','type':'null'}}", "[]", "[1]" },
	{ "{'$dynamicRef':'#x'}", "[1]", "[]" },
	{ "{'$ref':5}", "[1]", "[]" },
	/* Round and round: no answer, so no refusal. */
	{ "{'$ref':'#'}", "[1]", "[]" },
	{ "{'not':{'$ref':'#'}}", "[1]", "[]" },
	{ "{'allOf':[{'$ref':'#'},{'$ref':'#'},{'$ref':'#'}]}", "[1]", "[]" },
	{ "{'anyOf':[{'$ref':'#'},{'$ref':'#'}]}", "[1]", "[]" },
};

/* JSON with apostrophes for quotes. */
static json_object *
tree(struct arena *a, const char *s)
{
	char		*text = arena_strdup(a, s);
	const char	*why;
	json_object	*o;

	for (char *p = text; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	if ((o = json_read(a, text, strlen(text), &why)) == NULL)
		printf("# %s: %s\n", text, why);
	return o;
}

static void
check_sentences(void)
{
	for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++) {
		const struct table	*t = &sentences[i];
		struct arena		*a = arena_open();

		is_text(schema_refuse(a, tree(a, t->schema), tree(a, t->value)), t->want, t->want ? t->want : t->value);
		arena_close(&a);
	}
}

static void
check_list(struct arena *a, const char *schema, const char *list, bool fits)
{
	json_object	*s = tree(a, schema), *values = tree(a, list);

	for (size_t i = 0; i < json_object_array_length(values); i++) {
		json_object	*v = json_object_array_get_idx(values, i);
		const char	*why = schema_refuse(a, s, v);

		if (!ok((why == NULL) == fits, "%s %s %s", schema, fits ? "takes" : "refuses", v ? json_text(v) : "null"))
			printf("# %s\n", why ? why : "it does not");
	}
}

static void
check_cases(void)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arena	*a = arena_open();

		check_list(a, cases[i].schema, cases[i].fits, true);
		check_list(a, cases[i].schema, cases[i].refused, false);
		arena_close(&a);
	}
}

static int64_t
cpu_ms(void)
{
	struct timespec	 t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* n numbers in a list, as texts of so many digits or (0) as they are. */
static json_object *
numbers(struct arena *a, const char *before, int n, int digits, const char *after)
{
	const char	*quote = digits > 0 ? "\"" : "";
	struct buf	*b = buf_new(a);

	buf_str(b, before);
	for (int i = 0; i < n; i++)
		buf_printf(b, "%s%s%0*d%s", i > 0 ? "," : "", quote, digits, i, quote);
	buf_str(b, after);
	return tree(a, buf_text(b));
}

static void
check_bounds(void)
{
	struct arena	*a = arena_open();
	json_object	*s, *v, *deep, *o;
	int64_t		 at = cpu_ms();
	const char	*why;

	s = tree(a, "{'anyOf':[{'items':{'$ref':'#'}},{'items':{'$ref':'#'}},{'not':{'$ref':'#'}}],'allOf':[{'$ref':'#'}]}");
	v = tree(a, "[[[[[[[[[[[[1]]]]]]]]]]]]");
	ok(schema_refuse(a, s, v) == NULL, "a schema that calls itself at every turn is given up");
	s = tree(a, "{'uniqueItems':true}");
	v = numbers(a, "[", 100000, 0, "]");
	ok(schema_refuse(a, s, v) == NULL, "so is a comparison of everything with everything");
	s = tree(a, "{'items':{'$ref':'#far'},'$defs':{'x':{'$anchor':'far'}}}");
	ok(schema_refuse(a, s, v) == NULL, "and a long search");
	ok(cpu_ms() - at < 2000, "in no time: %d ms", (int)(cpu_ms() - at));

	s = numbers(a, "{'enum':[", 1000, 80, "]}");
	why = schema_refuse(a, s, tree(a, "{}"));
	ok(why != NULL && strlen(why) < 600, "a long list is not said in full");
	ok(schema_usable(s), "and makes no schema unusable");
	ok(!schema_usable(NULL) && !schema_usable(tree(a, "[]")) && !schema_usable(tree(a, "true")), "no object, no schema of a tool");
	s = numbers(a, "{'enum':[", 25000, 0, "]}");
	ok(!schema_usable(s), "too many values");
	s = numbers(a, "{'enum':[", 300, 1000, "]}");
	ok(!schema_usable(s), "too much text");

	/* json_read() lets nothing so deep pass; a tree may come from elsewhere. */
	deep = json_object_new_object();
	o = deep;
	for (int i = 0; i < 200; i++) {
		json_object	*m = json_object_new_object();

		json_object_object_add(o, i % 2 ? "a" : "properties", m);
		o = m;
	}
	ok(!schema_usable(deep), "too deep");
	ok(schema_refuse(a, deep, deep) == NULL, "and even then harmless");
	json_object_put(deep);

	s = tree(a, "{'additionalProperties':false}");
	why = schema_refuse(a, s, tree(a, "{'0123456789012345678901234567890123456789012345678901234567890123456789':1}"));
	is_text(why, "There is no argument 0123456789012345678901234567890123456789012345678901234567890123.", "a long name is cut");
	s = tree(a, "{'additionalProperties':{'$ref':'#'},'items':false}");
	v = tree(a, "{'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa':{'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb':"
	    "{'cccccccccccccccccccccccccccccccccccccccccccccc':{'dddddddddddddddddddddddddddddddddddddddddddd':[1]}}}}");
	why = schema_refuse(a, s, v);
	ok(why != NULL && strlen(why) < 240 && strncmp(why, "...", 3) == 0 && strstr(why, "dd[0] must be left out.") != NULL,
	    "of a long way the end is said: %s", why);
	arena_close(&a);
}

/* xorshift: the same noise on each run. */
static uint32_t
noise(uint32_t below)
{
	static uint32_t	 x = 2463534242U;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x % below;
}

static json_object *
noise_value(int depth)
{
	static const char *const	 names[] = { "a", "b", "", "$ref", "\xc3\xa4" };
	json_object			*o;

	switch (noise(depth > 0 ? 8 : 6)) {
	case 0:
		return NULL;
	case 1:
		return json_object_new_boolean(noise(2) == 0);
	case 2:
		return json_object_new_int64((int64_t)noise(7) - 3);
	case 3:
		return json_object_new_double((double)noise(100) * (noise(9) == 0 ? 1e306 : 0.25));
	case 4:
		return json_object_new_string(names[noise(5)]);
	case 5:
		return noise(9) == 0 ? json_object_new_uint64(UINT64_MAX) : json_object_new_int64(INT64_MIN);
	case 6:
		o = json_object_new_array();
		for (uint32_t n = noise(5); n > 0; n--)
			json_object_array_add(o, noise_value(depth - 1));
		return o;
	default:
		o = json_object_new_object();
		for (uint32_t n = noise(5); n > 0; n--)
			json_object_object_add(o, names[noise(5)], noise_value(depth - 1));
		return o;
	}
}

/* Keywords with what belongs to them, or with anything. */
static json_object *
noise_schema(int depth)
{
	static const char *const	 one[] = { "not", "if", "then", "else", "items", "contains", "additionalProperties",
	    "propertyNames", "additionalItems", "a", "unevaluatedItems" };
	static const char *const	 lists[] = { "allOf", "anyOf", "oneOf", "prefixItems", "items" };
	static const char *const	 maps[] = { "properties", "$defs", "dependentSchemas", "dependencies", "patternProperties" };
	static const char *const	 plain[] = { "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
	    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains", "uniqueItems", "enum", "const",
	    "required", "pattern", "format", "type", "$ref", "$anchor", "$id", "properties", "dependentRequired" };
	static const char *const	 texts[] = { "string", "integer", "object", "array", "#", "#/a", "#/$defs/a", "#a", "a", "date", "date-time",
	    "email", "uuid", "#/allOf/0", "#/properties/%61", "x#/~1" };
	json_object			*o = json_object_new_object(), *m;

	if (depth == 0)
		return noise(4) == 0 ? json_object_put(o), json_object_new_boolean(noise(2) == 0) : o;
	for (uint32_t n = noise(6); n > 0; n--)
		switch (noise(6)) {
		case 0:
			json_object_object_add(o, one[noise(11)], noise_schema(depth - 1));
			break;
		case 1:
			m = json_object_new_array();
			for (uint32_t k = noise(4); k > 0; k--)
				json_object_array_add(m, noise_schema(depth - 1));
			json_object_object_add(o, lists[noise(5)], m);
			break;
		case 2:
			m = json_object_new_object();
			json_object_object_add(m, "a", noise_schema(depth - 1));
			json_object_object_add(m, "b", noise_schema(depth - 1));
			json_object_object_add(o, maps[noise(5)], m);
			break;
		case 3:
			json_object_object_add(o, plain[noise(25)], json_object_new_string(texts[noise(16)]));
			break;
		default:
			json_object_object_add(o, plain[noise(25)], noise_value(2));
		}
	return o;
}

static void
check_noise(void)
{
	int64_t	 until = cpu_ms() + 1000;
	int	 n = 0, refused = 0, wrong = 0, longest = 0;

	while (cpu_ms() < until && n < 100000) {
		struct arena	*a = arena_open();
		json_object	*s = noise_schema(4), *not = json_object_new_object();
		bool		 refers = strstr(json_text(s), "\"$ref\"") != NULL;	/* and "#" means another root in its opposite */

		json_object_object_add(not, "not", s);
		for (int i = 0; i < 5; i++, n++) {
			json_object	*v = noise_value(4);
			const char	*why = schema_refuse(a, s, v);
			size_t		 bytes = why != NULL ? strlen(why) : 0;

			refused += why != NULL;
			/* A sentence; and what is refused is what its opposite takes. */
			wrong += why != NULL && (bytes < 10 || why[bytes - 1] != '.' || bytes > 800 || (!refers && schema_refuse(a, not, v) != NULL));
			longest = (int)bytes > longest ? (int)bytes : longest;
			json_object_put(v);
		}
		json_object_put(not);
		arena_close(&a);
	}
	ok(wrong == 0 && refused > n / 20 && refused < n, "noise is survived (%d, %d refused, longest sentence %d)", n, refused, longest);
}

int
main(void)
{
	check_sentences();
	check_cases();
	check_bounds();
	check_noise();
	return done_testing();
}
