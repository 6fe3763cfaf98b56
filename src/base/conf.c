#include "base/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf_env.h"
#include "base/conf_file.h"
#include "base/conf_load.h"
#include "base/conf_table.h"

#define MODELS_MAX	8	/* asking more of them one after another would outlast any turn */
#define MODEL_NAME_MAX	32
#define SECRET_MIN	32	/* bytes: RFC 7518 section 3.2 for HS256 */
#define OPENROUTER	"https://openrouter.ai/api/v1"

/* One that was loaded.  Kept for ever: a job may still run with it. */
struct kept {
	struct conf	 conf;
	struct arena	*arena;
	struct kept	*next;
};

/* Only so that a leak checker sees what is kept on purpose. */
static struct kept	*kept;

static void	 file_find(struct conf_load *, const char *path);
static void	 entries_check(struct conf_load *);
static const char *entry_fault(const struct conf_load *, const struct conf_entry *);
static void	 models_load(struct conf_load *);
static bool	 model_name_ok(struct conf_load *, const char *);
static void	 model_inherit(struct conf_load *, struct conf_model *, const struct conf_model *);
static void	 openrouter(struct conf_load *);
static const char *said_of(struct conf_load *, const char *name);
static void	 key_set(struct conf_load *, const struct conf_key *, void *base, const char *text, const char *origin);
static const char *path_near(const struct conf_load *, const char *);
static void	 sense_check(struct conf_load *);

const struct conf *
conf_load(const char *path, struct buf *why)
{
	struct arena	*a = arena_open();
	struct kept	*k = arena_new(a, struct kept);

	if (conf_read(path, a, &k->conf, why) < 0) {
		arena_close(&a);
		return NULL;
	}
	k->arena = a;
	k->next = kept;
	kept = k;
	return &k->conf;
}

int
conf_read(const char *path, struct arena *a, struct conf *conf, struct buf *why)
{
	struct conf_load	 l = { .conf = conf, .arena = a, .why = why, .fallbacks = "" };

	file_find(&l, path);
	if (l.path != NULL && conf_file_read(l.path, a, &l.entries, why) < 0)
		l.bad = true;
	entries_check(&l);

	/* The models first: the other keys of [model] do not depend on them, but well-known names do. */
	models_load(&l);
	conf_mcp_load(&l);
	for (int i = 0; i < conf_table_size; i++)
		if (!conf_table[i].model && !conf_table[i].mcp && conf_table[i].at != CONF_NOWHERE)
			conf_key_load(&l, &conf_table[i], l.conf, "");
	if (conf_env_check(a, l.fallbacks, l.servers, why) < 0)
		l.bad = true;
	if (!l.bad)
		sense_check(&l);
	return l.bad ? -1 : 0;
}

/* The file that was named must be there; the installed one may be missing. */
static void
file_find(struct conf_load *l, const char *path)
{
	static const char	 installed[] = PARLEY_SYSCONFDIR "/parley.conf";

	l->path = path != NULL ? path : conf_env_get("PARLEY_CONF", false);
	if (l->path == NULL && (access(installed, F_OK) == 0 || errno != ENOENT))
		l->path = installed;
}

static void
entries_check(struct conf_load *l)
{
	for (const struct conf_entry *e = l->entries; e != NULL; e = e->next) {
		const char	*fault = entry_fault(l, e);

		if (fault != NULL)
			conf_complain(l, "%s:%d: %s.%s: %s", l->path, e->line, e->section, e->name, fault);
	}
}

static const char *
entry_fault(const struct conf_load *l, const struct conf_entry *e)
{
	bool			 model = strncmp(e->section, "model.", 6) == 0;
	bool			 mcp = strncmp(e->section, "mcp.", 4) == 0;
	const struct conf_key	*k = conf_key_find(model ? "model" : mcp ? "mcp" : e->section, e->name);

	if (e->section[0] == '\0')
		return "this key stands before the first [section]";
	if (!model && !mcp && !conf_section_known(e->section))
		return "there is no such section";
	if (k == NULL)
		return "there is no such key in this section";
	if (model && !k->model)
		return "this key belongs into [model], it is the same for all models";
	if (mcp != k->mcp)
		return mcp ? "this key belongs into [mcp]" : "this key belongs into [mcp.NAME], it is one server's";
	if (k->type == CONF_SECRET)
		return arena_printf(l->arena, "a secret does not belong into this file;"
		    " put it into one of its own and write %s_file = PATH", k->name);
	for (const struct conf_entry *o = l->entries; o != e; o = o->next)
		if (strcmp(o->section, e->section) == 0 && strcmp(o->name, e->name) == 0)
			return arena_printf(l->arena, "given twice, first in line %d", o->line);
	return NULL;
}

const struct conf_entry *
conf_entry_of(const struct conf_load *l, const struct conf_key *k, const char *model)
{
	const char	*section = *model == '\0' ? k->section :
	    arena_printf(l->arena, "%s.%s", k->section, model);

	for (const struct conf_entry *e = l->entries; e != NULL; e = e->next)
		if (strcmp(e->section, section) == 0 && strcmp(e->name, k->name) == 0)
			return *e->value != '\0' ? e : NULL;
	return NULL;
}

/* [model], then each of its fallbacks, in the order they are named. */
static void
models_load(struct conf_load *l)
{
	const struct conf_key	*list = conf_key_find("model", "fallbacks");
	const struct conf_entry	*e = conf_entry_of(l, list, "");
	const char		*env = conf_env_get(conf_env_name(l->arena, list, ""), false), *at;
	struct conf_model	*m = arena_array(l->arena, struct conf_model, MODELS_MAX + 1);
	char			 name[MODEL_NAME_MAX + 2];

	l->fallbacks = env != NULL ? env : e != NULL ? e->value : "";
	l->conf->models = m;
	l->conf->nmodels = 1;
	m->name = "";
	openrouter(l);
	for (int i = 0; i < conf_table_size; i++)
		if (conf_table[i].model)
			conf_key_load(l, &conf_table[i], m, "");

	at = l->fallbacks;
	while (conf_list_next(&at, name, (int)sizeof name)) {
		if (!model_name_ok(l, name))
			continue;
		m = &l->conf->models[l->conf->nmodels++];
		m->name = arena_strdup(l->arena, name);
		model_inherit(l, m, &l->conf->models[0]);
	}
	for (e = l->entries; e != NULL; e = e->next)
		if (strncmp(e->section, "model.", 6) == 0 && !conf_list_has(l->fallbacks, e->section + 6))
			conf_complain(l, "%s:%d: [%s] is used by nobody; add %s to model.fallbacks",
			    l->path, e->line, e->section, e->section + 6);
}

static bool
model_name_ok(struct conf_load *l, const char *name)
{
	if (strlen(name) > MODEL_NAME_MAX || name[strspn(name, "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")] != '\0') {
		conf_complain(l, "model.fallbacks: \"%s\" is no name; use at most %d letters, digits, - and _",
		    name, MODEL_NAME_MAX);
		return false;
	}
	for (int i = 1; i < l->conf->nmodels; i++) {
		if (strcmp(l->conf->models[i].name, name) == 0) {
			conf_complain(l, "model.fallbacks: \"%s\" is named twice", name);
			return false;
		}
	}
	if (l->conf->nmodels > MODELS_MAX) {
		conf_complain(l, "model.fallbacks: more than %d are of no use", MODELS_MAX);
		return false;
	}
	return true;
}

/*
 * A fallback is like the first model except for what it says itself.  What may
 * hold a credential goes to the same server only: a key must not be shown to another.
 */
static void
model_inherit(struct conf_load *l, struct conf_model *m, const struct conf_model *first)
{
	const char	*name = m->name;

	*m = *first;
	m->name = name;
	m->key = m->headers = m->price_input = m->price_output = NULL;
	for (int i = 0; i < conf_table_size; i++)
		if (conf_table[i].model)
			conf_key_load(l, &conf_table[i], m, name);
	if (m->base_url == NULL || first->base_url == NULL ||
	    strcmp(m->base_url, first->base_url) != 0)
		return;
	if (m->key == NULL)
		m->key = first->key;
	if (m->headers == NULL)
		m->headers = first->headers;
}

/*
 * OPENROUTER_API_KEY is two settings: the key, and where to ask when nobody says
 * so.  It is set before all others, so that they may overwrite it.
 */
static void
openrouter(struct conf_load *l)
{
	struct conf_model	*m = &l->conf->models[0];
	const char		*url = said_of(l, "base_url"), *model;
	const char		*key = conf_env_get("OPENROUTER_API_KEY", true);
	bool			 openai = conf_env_get("OPENAI_API_KEY", true) != NULL;

	/* A key of the own configuration is not meant for OpenRouter just because this name is set, too. */
	if (key == NULL || said_of(l, "key") != NULL || said_of(l, "key_file") != NULL)
		return;
	/* Two keys: the address decides; without one it is OpenAI's. */
	if (openai && (url == NULL || strstr(url, "://openrouter.ai/") == NULL))
		return;
	m->key = arena_strdup(l->arena, key);
	if (url == NULL) {
		model = conf_env_get("AGENT_MODEL", false);
		m->base_url = OPENROUTER;
		m->model = model != NULL ? arena_strdup(l->arena, model) : "openai/gpt-4o-mini";
	}
}

/* What the environment or the file says of a key of [model]; NULL: nothing. */
static const char *
said_of(struct conf_load *l, const char *name)
{
	const struct conf_key	*k = conf_key_find("model", name);
	const char		*env = conf_env_get(conf_env_name(l->arena, k, ""), conf_is_secret(k));
	const struct conf_entry	*e = conf_entry_of(l, k, "");

	if (env == NULL && e != NULL)
		return e->value;
	/* A well-known key is another key; a well-known address is the address. */
	if (env == NULL && k->env != NULL && !conf_is_secret(k))
		return conf_env_get(k->env, false);
	return env;
}

/* The environment, else the file, else a name everybody uses, else the default. */
void
conf_key_load(struct conf_load *l, const struct conf_key *k, void *base, const char *model)
{
	const char		*name = conf_env_name(l->arena, k, model);
	const char		*value = conf_env_get(name, conf_is_secret(k));
	/* Asked for in any case: a secret must not stay in the environment because another one counts. */
	const char		*known = k->env != NULL ? conf_env_get(k->env, conf_is_secret(k)) : NULL;
	const struct conf_entry	*e = conf_entry_of(l, k, model);
	bool			 said = conf_is_text(k) &&
	    *(const char **)(void *)((char *)base + k->at) != NULL;

	if (value != NULL)
		key_set(l, k, base, value, name);
	else if (e != NULL)
		key_set(l, k, base, k->type == CONF_SECRET_FILE || k->type == CONF_TEXT_FILE ||
		    k->type == CONF_PATH ? path_near(l, e->value) : e->value,
		    arena_printf(l->arena, "%s:%d: %s.%s", l->path, e->line, e->section, k->name));
	else if (said || (*model != '\0' && !k->mcp))
		return;
	else if (known != NULL)
		key_set(l, k, base, known, k->env);
	else if (k->def != NULL)
		key_set(l, k, base, k->def, "default");
}

static void
key_set(struct conf_load *l, const struct conf_key *k, void *base, const char *text, const char *origin)
{
	struct buf	*fault = buf_new(l->arena);

	if (conf_value_set(k, base, text, l->arena, fault) == 0)
		return;
	if (conf_is_secret(k))
		conf_complain(l, "%s: %s", origin, buf_text(fault));
	else
		conf_complain(l, "%s = %.100s: %s", origin, text, buf_text(fault));
}

/* A relative path in the file is meant from where the file is: nobody knows a worker's directory. */
static const char *
path_near(const struct conf_load *l, const char *path)
{
	const char	*slash = strrchr(l->path, '/');

	if (path[0] == '/' || slash == NULL)
		return path;
	return arena_printf(l->arena, "%.*s/%s", (int)(slash - l->path), l->path, path);
}

/* What no single key can tell. */
static void
sense_check(struct conf_load *l)
{
	struct conf	*c = l->conf;

	if (c->auth_secret != NULL && strlen(c->auth_secret) < SECRET_MIN)
		conf_complain(l, "auth.secret: shorter than %d bytes, which HS256 needs at least (RFC 7518); "
		    "make one with: openssl rand -base64 48", SECRET_MIN);
	if (c->database_owner_url == NULL)
		c->database_owner_url = c->database_url;
	if (c->database_ops_url == NULL)
		c->database_ops_url = c->database_owner_url;
	if (c->agent_instructions == NULL) {
		const struct conf_key	*k = conf_key_find("agent", "instructions_file");
		static const char	 installed[] = PARLEY_DATADIR "/instructions.txt";

		if (access(installed, F_OK) == 0)
			key_set(l, k, c, installed, "default");
		else
			c->agent_instructions = "You are a helpful assistant who answers briefly"
			    " and uses the tools to do what the user asks for.";
	}
}

void
conf_complain(struct conf_load *l, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	buf_str(l->why, arena_vprintf(l->arena, fmt, ap));
	va_end(ap);
	buf_char(l->why, '\n');
	l->bad = true;
}

bool
conf_list_has(const char *list, const char *word)
{
	size_t	 n = strlen(word);

	while (list != NULL && *list != '\0') {
		size_t	 size;

		list += strspn(list, ", \t");
		size = strcspn(list, ", \t");
		if (size == n && n > 0 && memcmp(list, word, n) == 0)
			return true;
		list += size;
	}
	return false;
}

bool
conf_list_next(const char **at, char *word, int size)
{
	size_t	 n, room = (size_t)size - 1;

	if (*at == NULL)
		return false;
	*at += strspn(*at, ", \t");
	n = strcspn(*at, ", \t");
	if (n == 0)
		return false;
	memcpy(word, *at, n < room ? n : room);
	word[n < room ? n : room] = '\0';
	*at += n;
	return true;
}

void
conf_keys(FILE *to)
{
	static const char *const	 types[] = {
		[CONF_TEXT] = "text", [CONF_PRIVATE] = "text", [CONF_SECRET] = "secret",
		[CONF_SECRET_FILE] = "file", [CONF_TEXT_FILE] = "file", [CONF_PATH] = "file",
		[CONF_URL] = "url", [CONF_WORD] = "word", [CONF_WORDS] = "list", [CONF_LIST] = "list",
		[CONF_NUMBER] = "number", [CONF_HEADERS] = "headers", [CONF_JSON] = "json",
		[CONF_BOOL] = "yes/no", [CONF_SWITCH] = "word", [CONF_INT] = "integer",
		[CONF_MS] = "duration", [CONF_SECONDS] = "duration", [CONF_SIZE] = "size",
	};
	struct arena	*a = arena_open();

	for (int i = 0; i < conf_table_size; i++) {
		const struct conf_key	*k = &conf_table[i];

		fprintf(to, "%s%s.%s\t%s\t%s\t%s\t%s\t%s\n", k->section, k->mcp ? ".NAME" : "", k->name,
		    types[k->type], k->def != NULL ? k->def : "", conf_env_name(a, k, k->mcp ? "NAME" : ""),
		    k->env != NULL ? k->env : "", k->restart ? "restart" : "reload");
	}
	arena_close(&a);
}
