#include "tap.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"

#define SECRET	"0123456789abcdef0123456789abcdef"

static char		 dir[] = "/tmp/parley-conf-XXXXXX", path[128];
static struct buf	 why;

static void
put(const char *name, const char *text)
{
	char	 file[128];
	FILE	*f;

	(void)snprintf(file, sizeof file, "%s/%s", dir, name);
	f = fopen(file, "w");
	if (f == NULL)
		exit(1);
	(void)fputs(text, f);
	(void)fclose(f);
	(void)chmod(file, 0600);
}

/* Loads a parley.conf of this text. */
static const struct conf *
load(const char *text)
{
	buf_clear(&why);
	put("parley.conf", text);
	return conf_load(path, &why);
}

/* It is refused, with this in the reason and without that. */
static void
refused(const char *text, const char *with, const char *without, const char *name)
{
	bool	 good = load(text) == NULL && strstr(buf_text(&why), with) != NULL &&
	    (without == NULL || strstr(buf_text(&why), without) == NULL);

	if (!ok(good, "refused: %s", name))
		printf("# %s\n", buf_text(&why));
}

static void
test_defaults(void)
{
	const struct conf	*c = load("");

	ok(c != NULL, "an empty file is a configuration");
	if (c == NULL) {
		printf("# %s\n", buf_text(&why));
		exit(1);
	}
	ok(c->worker_max_turns == 4096 && c->worker_drain_timeout == 25000 && c->worker_stack_size == 65536, "worker");
	ok(c->database_url == NULL && c->database_connections == 8 && c->database_wait == 5000, "database");
	ok(c->auth_secret == NULL && c->auth_leeway == 30 && c->auth_jwks_stale == 86400000, "auth");
	is_text(c->auth_user_claim, "sub", "the user's claim");
	ok(c->nmodels == 1 && c->models[0].key == NULL && c->models[0].temperature == NULL &&
	    c->models[0].max_tokens == 0 && *c->models[0].name == '\0', "one model");
	is_text(c->models[0].base_url, "https://api.openai.com/v1", "its address");
	is_text(c->models[0].model, "gpt-4o-mini", "its name");
	is_text(c->models[0].max_tokens_field, "max_tokens", "its field");
	ok(c->model_max_answer == 1048576 && c->model_parallel_tool_calls, "what all models share");
	ok(c->agent_instructions != NULL && *c->agent_instructions != '\0', "there are instructions");
	ok(c->turn_deadline == 100000 && c->turn_lease == 15000, "turn");
	ok(!c->api_create_unknown && c->tools_enabled && c->limits_body == 65536, "the rest");
	is_text(c->log_level, "info", "log");
}

static void
test_file(void)
{
	const struct conf	*c;

	put("secret", SECRET "\n");
	put("text", "Be brief.\nBe kind.\n\n");
	c = load("# a comment\n"
	    "[database]\n"
	    "url = postgresql://u@/db?host=/run ; inline\n"
	    "[auth]\n"
	    "  secret_file = secret\n"
	    "  issuer = https://example.org\n"
	    "\tleeway = 1 min\n"
	    "[agent]\ninstructions_file = text\n"
	    "[turn]\ndeadline = 2min\nhistory_messages = 0\n"
	    "[tools]\nmax_result=1MiB\nenabled = no\nrefresh = 0\n"
	    "[api]\nunknown_conversation = create\n"
	    "[log]\nlevel =\n");
	ok(c != NULL, "a file");
	if (c == NULL) {
		printf("# %s\n", buf_text(&why));
		return;
	}
	is_text(c->database_url, "postgresql://u@/db?host=/run", "text, without the comment");
	is_text(c->database_owner_url, c->database_url, "the owner falls back");
	is_text(c->auth_secret, SECRET, "a secret from its file, beside the configuration");
	is_text(c->auth_issuer, "https://example.org", "indented lines are lines");
	is_text(c->agent_instructions, "Be brief.\nBe kind.", "text from its file");
	ok(c->auth_leeway == 60 && c->turn_deadline == 120000 && c->turn_history_messages == 0 &&
	    c->tools_refresh == 0, "durations");
	ok(c->tools_max_result == 1048576 && !c->tools_enabled && c->api_create_unknown, "sizes and switches");
	is_text(c->log_level, "info", "an empty value is none");
}

static void
test_models(void)
{
	const struct conf	*c = load("[model]\n"
	    "base_url = https://one.example/v1//\nmodel = big\nkey_file = secret\n"
	    "temperature = 0.2\nheaders = X-Title: Tasks | HTTP-Referer: https://example.org\n"
	    "fallbacks = same, other-1\n"
	    "[model.other-1]\nbase_url = http://two.example/v1\nmax_tokens = 500\ntemperature = 1\n"
	    "[model.same]\nmodel = small\n");

	ok(c != NULL && c->nmodels == 3, "two fallbacks");
	if (c == NULL) {
		printf("# %s\n", buf_text(&why));
		return;
	}
	is_text(c->models[0].base_url, "https://one.example/v1", "the slash at the end is taken off");
	is_text(c->models[1].name, "same", "in the order of the list");
	is_text(c->models[1].model, "small", "what it says itself");
	is_text(c->models[1].temperature, "0.2", "what it inherits");
	is_text(c->models[1].key, SECRET, "the key goes to the same server");
	ok(c->models[1].headers != NULL, "headers as well");
	is_text(c->models[2].base_url, "http://two.example/v1", "another server");
	ok(c->models[2].key == NULL && c->models[2].headers == NULL, "does not get them");
	is_text(c->models[2].model, "big", "but the rest");
	ok(c->models[2].max_tokens == 500 && c->models[0].max_tokens == 0, "numbers of its own");
}

static void
test_servers(void)
{
	const struct conf	*c = load("[mcp.weather]\nurl = https://w.example/mcp/\nkey_file = secret\nconfirm = all\n"
	    "[mcp.local-1]\nurl = http://[::1]:99/mcp\ntrust = yes\n");

	ok(c != NULL && c->nmcp == 2, "two servers");
	if (c == NULL) {
		printf("# %s\n", buf_text(&why));
		return;
	}
	is_text(c->mcp[0].name, "local-1", "by name");
	is_text(c->mcp[1].url, "https://w.example/mcp", "its address");
	is_text(c->mcp[1].auth, "key", "where there is a key it is used");
	is_text(c->mcp[0].auth, "none", "where there is none, none is");
	ok(c->mcp[0].trust && !c->mcp[1].trust && c->mcp[1].timeout == 30000, "each has its own settings and defaults");

	c = load("[mcp]\nservers = b\n[mcp.a]\nurl = https://a.example\n[mcp.b]\nurl = https://b.example\n");
	ok(c != NULL && c->nmcp == 1 && strcmp(c->mcp[0].name, "b") == 0, "only those that are named");

	refused("[log]\nlevel = info\n\r error\n", ":3: this line is neither", NULL, "a line that a carriage return begins goes on with none");
	refused("[mcp.a_b]\nurl = https://x\n", "small letters", NULL, "a name with an underscore");
	refused("[mcp.a]\ntrust = yes\n", "say where", NULL, "a server without an address");
	refused("[mcp.a]\nurl = http://10.0.0.1/mcp\n", "plain_http", NULL, "http to another machine");
	refused("[mcp.a]\nurl = http://localhost.example/mcp\n", "plain_http", NULL, "a name that only begins like this machine's");
	refused("[mcp.a]\nurl = http://localhost@evil.example/mcp\n", "no place for a password", NULL, "or hides behind it");
	refused("[mcp.a]\nurl = https://u:p@x.example/mcp\n", "no place for a password", NULL, "a password in an address");
	refused("[mcp.a]\nurl = https://x\nauth = key\n", "there is no key", NULL, "auth = key without one");
	refused("[mcp.a]\nurl = https://x\nkey = abc\n", "key_file", "abc", "a key in the file");
	refused("[mcp.a]\nurl = https://x\nheader = A: b\n", "name of a header", NULL, "a header with a value");
	refused("[mcp]\nurl = https://x\n", "[mcp.NAME]", NULL, "a key of one server for all");
	refused("[mcp.a]\nurl = https://x\nservers = a\n", "belongs into [mcp]", NULL, "a key of all for one server");
	ok(load("[mcp.a]\nurl = http://127.0.0.1:8/mcp\n") != NULL && load("[mcp.a]\nurl = http://LOCALHOST/mcp\n") != NULL &&
	    load("[mcp.a]\nurl = http://10.0.0.1/mcp\nplain_http = yes\n") != NULL, "http to this machine, or when it is wanted");
}

static bool
env_servers(void)
{
	const struct conf	*c;

	setenv("PARLEY_MCP_SERVERS", "far", 1);
	setenv("PARLEY_MCP_FAR_URL", "https://far.example/mcp", 1);
	setenv("PARLEY_MCP_FAR_KEY", "the key", 1);
	c = load("");
	if (c == NULL || c->nmcp != 1 || strcmp(c->mcp[0].key, "the key") != 0 || getenv("PARLEY_MCP_FAR_KEY") != NULL)
		return false;
	setenv("PARLEY_MCP_NEAR_URL", "https://near.example/mcp", 1);
	return load("") == NULL && strstr(buf_text(&why), "PARLEY_MCP_NEAR_URL") != NULL;
}

static void
test_long_line(void)
{
	char			 text[4000], want[1500];
	const struct conf	*c;

	memset(want, 'o', sizeof want - 1);
	want[sizeof want - 1] = '\0';
	memcpy(want, "host=", 5);
	(void)snprintf(text, sizeof text, "#%s\n[database]\nurl = %s  ; comment\nwait = 1 s\n", want, want);
	c = load(text);
	ok(c != NULL, "long lines");
	if (c != NULL) {
		is_text(c->database_url, want, "are whole");
		ok(c->database_wait == 1000, "and leave the next alone");
	}
}

static void
test_refusals(void)
{
	char	 four[512];

	refused("[database]\nconections = 3\n", "parley.conf:2: database.conections: there is no such key", NULL, "an unknown key");
	refused("[databse]\nurl = x\n", "parley.conf:2: databse.url: there is no such section", NULL, "an unknown section");
	refused("url = x\n", "before the first [section]", NULL, "a key without a section");
	refused("[log]\nnonsense\n", "parley.conf:2: this line is neither", NULL, "a line that is no INI");
	refused("[log]\nlevel = info\nlevel = warn\n", "parley.conf:3: log.level: given twice, first in line 2", NULL, "a key given twice");
	refused("[turn]\ndeadline = 100\n", "parley.conf:2: turn.deadline = 100: write a whole number and a unit", NULL, "a duration without a unit");
	refused("[turn]\ndeadline = 2 weeks\n", "ms, s, min, h, d", NULL, "a unit that is none");
	refused("[turn]\ndeadline = 99999999999999999999 d\n", "write a whole", NULL, "a number too large for us");
	refused("[turn]\ndeadline = 9223372036854775807 d\n", "write a whole", NULL, "a product too large for us");
	refused("[turn]\nlease = 10 ms\n", "out of range (from 3 s to 10 min)", NULL, "a duration out of range");
	refused("[auth]\nleeway = 61 s\n", "(from 0 to 1 min)", NULL, "a leeway too large");
	refused("[auth]\nleeway = 1500 ms\n", "whole seconds", NULL, "a broken second");
	refused("[limits]\nbody = 64\n", "B, KiB, MiB", NULL, "a size without a unit");
	refused("[limits]\nmessage = many\n", "write a whole number (from 1 to 1000000)", NULL, "no number");
	refused("[limits]\nmessage = -1\n", "write a whole number", NULL, "a negative number");
	refused("[tools]\nenabled = maybe\n", "write one of: yes no", NULL, "no switch");
	refused("[api]\nunknown_conversation = yes\n", "write one of: reject create", NULL, "not its switch");
	refused("[log]\nlevel = loud\n", "debug info warn error", NULL, "no level");
	refused("[auth]\nalgorithms = HS256 none\n", "\"none\" is none of", NULL, "no algorithm");
	refused("[model]\nbase_url = api.example.org\n", "https://", NULL, "no address");
	refused("[model]\nbase_url = https:///v1\n", "https://", NULL, "an address without a host");
	refused("[model]\ntemperature = 3\n", "such as 0.7 (from 0 to 2)", NULL, "too hot");
	refused("[model]\ntemperature = .5\n", "such as 0.7", NULL, "no JSON number");
	refused("[model]\nheaders = X-Key s3cr3t\n", "Name: value", "s3cr3t", "a header without a colon");
	refused("[model]\nextra_body = [1]\n", "JSON object", NULL, "no object");
	refused("[model.x]\nmodel = y\n", "add x to model.fallbacks", NULL, "a fallback nobody names");
	refused("[model]\nfallbacks = a a\n", "named twice", NULL, "a fallback named twice");
	refused("[model]\nfallbacks = a b c d e f g h i\n", "more than 8", NULL, "too many fallbacks");
	refused("[model]\nfallbacks = a\n[model.a]\nretries = 1\n", "belongs into [model]", NULL, "a key of all models");
	refused("[auth]\nsecret = " SECRET "\n", "secret_file", SECRET, "a secret in the file");
	refused("[auth]\nsecret_file = absent\n", "cannot be read: No such file", NULL, "a file that is not there");
	refused("[log]\nlevel = in\xff""fo\n", "UTF-8", NULL, "no UTF-8");
	put("short", "tooshort\n");
	refused("[auth]\nsecret_file = short\n", "at least", "tooshort", "a short secret");
	put("empty", "\n");
	refused("[auth]\nsecret_file = empty\n", "is empty", NULL, "an empty file");

	(void)load("[worker]\nmax_turns = 0\n[turn]\nlease = x\n[log]\nlevel = y\nfoo = 1\n");
	(void)snprintf(four, sizeof four, "%s", buf_text(&why));
	int	 lines = 0;
	for (char *p = four; *p != '\0'; p++)
		lines += *p == '\n';
	ok(lines == 4, "each mistake has its line");
	buf_clear(&why);
	ok(conf_load("/nonexistent/parley.conf", &why) == NULL &&
	    strcmp(buf_text(&why), "/nonexistent/parley.conf: cannot be read: No such file or directory\n") == 0,
	    "a file that was named must be there");
}

/* Runs fn in a process of its own: what it sets, and what is kept of it, stays there. */
static void
apart(const char *name, bool (*fn)(void))
{
	int	 status = 1;
	pid_t	 pid = fork();

	if (pid == 0) {
		bool	 good = fn();

		if (!good)
			printf("# %s\n", buf_text(&why));
		fflush(stdout);
		_exit(!good);
	}
	(void)waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", name);
}

static bool
env_overrides(void)
{
	const struct conf	*c;

	setenv("PARLEY_TURN_DEADLINE", "7 s", 1);
	setenv("PARLEY_MODEL_BASE_URL", "http://127.0.0.1:1/v1", 1);
	setenv("PARLEY_MODEL_OTHER_1_MODEL", "theirs", 1);
	setenv("PARLEY_AUTH_ISSUER", "", 1);
	c = load("[turn]\ndeadline = 9 s\n[auth]\nissuer = mine\n"
	    "[model]\nbase_url = https://x.example\nfallbacks = other-1\n");
	return c != NULL && c->turn_deadline == 7000 && strcmp(c->models[0].base_url, "http://127.0.0.1:1/v1") == 0 &&
	    strcmp(c->models[1].model, "theirs") == 0 && strcmp(c->auth_issuer, "mine") == 0;
}

static bool
env_secrets(void)
{
	const struct conf	*c, *again;

	setenv("PARLEY_AUTH_SECRET", "environment-0123456789abcdef0123456789", 1);
	setenv("OPENAI_API_KEY", "sk-1", 1);
	setenv("DATABASE_URL", "postgresql:///env", 1);
	c = load("[auth]\nsecret_file = secret\n");
	if (c == NULL || strncmp(c->auth_secret, "environment-", 12) != 0 || strcmp(c->models[0].key, "sk-1") != 0 ||
	    strcmp(c->database_url, "postgresql:///env") != 0)
		return false;
	if (getenv("PARLEY_AUTH_SECRET") != NULL || getenv("OPENAI_API_KEY") != NULL || getenv("DATABASE_URL") != NULL)
		return false;
	again = load("");
	return again != NULL && strcmp(again->auth_secret, c->auth_secret) == 0 && strcmp(again->models[0].key, "sk-1") == 0;
}

/* The well-known names of a secret that has one of Parley's own, or comes from the file. */
static bool
env_secrets_idle(void)
{
	static const char *const	 idle[] = { "DATABASE_URL", "BETTER_AUTH_SECRET", "OPENAI_API_KEY", "OPENROUTER_API_KEY" };
	const struct conf	*c;

	for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
		setenv(idle[i], "idle-0123456789abcdef0123456789abcdef", 1);
	setenv("PARLEY_DATABASE_URL", "postgresql://w:secret@/own", 1);
	setenv("PARLEY_DATABASE_OPS_URL", "postgresql://o:secret@/own", 1);
	setenv("PARLEY_METRICS_TOKEN", "token", 1);
	c = load("[auth]\nsecret_file = secret\n[model]\nkey_file = secret\n");
	if (c == NULL || strcmp(c->database_url, "postgresql://w:secret@/own") != 0 || strcmp(c->auth_secret, SECRET) != 0 ||
	    strcmp(c->models[0].key, SECRET) != 0 || strcmp(c->metrics_token, "token") != 0)
		return false;
	for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
		if (getenv(idle[i]) != NULL)
			return false;
	return getenv("PARLEY_DATABASE_URL") == NULL && getenv("PARLEY_DATABASE_OPS_URL") == NULL && getenv("PARLEY_METRICS_TOKEN") == NULL;
}

static bool
env_well_known(void)
{
	const struct conf	*c;

	setenv("BETTER_AUTH_SECRET", "better-0123456789abcdef0123456789abcdef", 1);
	setenv("OPENAI_BASE_URL", "https://well.example/v1/", 1);
	setenv("AGENT_MODEL", "known", 1);
	c = load("[auth]\nsecret_file = secret\n[database]\nurl = mine\n");
	if (c == NULL || strcmp(c->auth_secret, SECRET) != 0 || strcmp(c->models[0].base_url, "https://well.example/v1") != 0 ||
	    strcmp(c->models[0].model, "known") != 0)
		return false;
	c = load("[model]\nmodel = mine\n");
	return c != NULL && strncmp(c->auth_secret, "better-", 7) == 0 && strcmp(c->models[0].model, "mine") == 0;
}

static bool
env_openrouter(void)
{
	const struct conf	*c;

	setenv("OPENROUTER_API_KEY", "or-1", 1);
	c = load("");
	if (c == NULL || strcmp(c->models[0].base_url, "https://openrouter.ai/api/v1") != 0 ||
	    strcmp(c->models[0].key, "or-1") != 0 || strcmp(c->models[0].model, "openai/gpt-4o-mini") != 0)
		return false;
	setenv("AGENT_MODEL", "google/gemini-2.5-flash", 1);
	c = load("");
	if (c == NULL || strcmp(c->models[0].model, "google/gemini-2.5-flash") != 0)
		return false;
	/* A key of one's own goes where it always went. */
	c = load("[model]\nkey_file = secret\n");
	if (c == NULL || strcmp(c->models[0].base_url, "https://api.openai.com/v1") != 0 || strcmp(c->models[0].key, SECRET) != 0)
		return false;
	setenv("OPENAI_API_KEY", "sk-1", 1);
	c = load("");
	if (c == NULL || strcmp(c->models[0].base_url, "https://api.openai.com/v1") != 0 || strcmp(c->models[0].key, "sk-1") != 0)
		return false;
	c = load("[model]\nbase_url = https://openrouter.ai/api/v1\n");
	return c != NULL && strcmp(c->models[0].key, "or-1") == 0;
}

static bool
env_typo(void)
{
	setenv("PARLEY_MODEL_BASEURL", "https://x.example", 1);
	setenv("PARLEY_SOMETHING_ELSE", "ours it is not", 1);
	return load("") == NULL && strcmp(buf_text(&why),
	    "environment: there is no setting PARLEY_MODEL_BASEURL; see parley.conf(5) for those there are\n") == 0;
}

static bool
env_fault(void)
{
	setenv("PARLEY_TURN_LEASE", "1", 1);
	setenv("PARLEY_MODEL_HEADERS", "hidden", 1);
	return load("") == NULL && strstr(buf_text(&why), "PARLEY_TURN_LEASE = 1: write") != NULL &&
	    strstr(buf_text(&why), "PARLEY_MODEL_HEADERS: write") != NULL && strstr(buf_text(&why), "hidden") == NULL;
}

static bool
env_path(void)
{
	put("parley.conf", "[turn]\ndeadline = 3 s\n");
	setenv("PARLEY_CONF", path, 1);
	const struct conf	*c = conf_load(NULL, &why);

	return c != NULL && c->turn_deadline == 3000;
}

static void
test_lists(void)
{
	const char	*at = " a, bb  ccc,,", *none = "";
	char		 word[3];

	ok(conf_list_has("a, bb ccc", "bb") && !conf_list_has("a, bb ccc", "b") && !conf_list_has("a", "A") &&
	    !conf_list_has(NULL, "a") && !conf_list_has("a", ""), "words of a list");
	ok(conf_list_next(&at, word, (int)sizeof word) && strcmp(word, "a") == 0, "the first");
	ok(conf_list_next(&at, word, (int)sizeof word) && strcmp(word, "bb") == 0, "the second");
	ok(conf_list_next(&at, word, (int)sizeof word) && strcmp(word, "cc") == 0, "a long one is cut");
	ok(!conf_list_next(&at, word, (int)sizeof word) && !conf_list_next(&none, word, (int)sizeof word), "the end");
}

static void
test_keys(void)
{
	char	*text = NULL;
	size_t	 n = 0;
	FILE	*f = open_memstream(&text, &n);

	conf_keys(f);
	(void)fclose(f);
	ok(strstr(text, "model.key\tsecret\t\tPARLEY_MODEL_KEY\tOPENAI_API_KEY\treload\n") != NULL &&
	    strstr(text, "turn.deadline\tduration\t100 s\tPARLEY_TURN_DEADLINE\t\treload\n") != NULL, "all keys are listed");
	free(text);
}

int
main(void)
{
	static const char *const	 own[] = { "DATABASE_URL", "BETTER_AUTH_SECRET", "OPENAI_API_KEY",
	    "OPENAI_BASE_URL", "OPENROUTER_API_KEY", "AGENT_MODEL" };

	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		(void)unsetenv(own[i]);
	if (mkdtemp(dir) == NULL)
		return 1;
	(void)snprintf(path, sizeof path, "%s/parley.conf", dir);

	test_defaults();
	test_file();
	test_models();
	test_servers();
	test_long_line();
	test_refusals();
	apart("the environment overrides the file, empty is none", env_overrides);
	apart("secrets leave the environment, and are still there for the next reading", env_secrets);
	apart("... whether they count or not", env_secrets_idle);
	apart("well-known names where nobody else says anything", env_well_known);
	apart("a key for OpenRouter", env_openrouter);
	apart("servers of tools by the environment alone", env_servers);
	apart("a misspelt variable", env_typo);
	apart("a wrong variable, and nothing private", env_fault);
	apart("PARLEY_CONF", env_path);
	test_lists();
	test_keys();

	buf_free(&why);
	for (size_t i = 0; i < 5; i++) {
		static const char *const	 files[] = { "parley.conf", "secret", "text", "short", "empty" };
		char				 file[128];

		(void)snprintf(file, sizeof file, "%s/%s", dir, files[i]);
		(void)unlink(file);
	}
	(void)rmdir(dir);
	return done_testing();
}
