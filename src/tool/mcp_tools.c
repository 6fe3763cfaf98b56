#include "tool/mcp_tools.h"

#include <string.h>

#include <json-c/linkhash.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/job.h"
#include "tool/mcp_head.h"
#include "tool/schema.h"
#include "tool/tool.h"

#define PAGES_MAX	32
#define PAGE_BYTES	((size_t)2 * 1024 * 1024)
#define LIST_MS		8000			/* for all pages together */
#define NAME_BYTES	128			/* the specification's own limit */
#define DESCRIPTION_BYTES	((size_t)2 * 1024)
#define SCHEMA_BYTES	((size_t)16 * 1024)
#define LIST_BYTES	((size_t)512 * 1024)	/* of all that is kept */
#define CURSOR_BYTES	((size_t)4 * 1024)
#define TTL_MIN_MS	INT64_C(5000)
#define TTL_MAX_MS	INT64_C(3600000)
#define MODEL_NAME_BYTES	64		/* what the model APIs take as a function's name */
#define NAME_CHARS	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

/* One list on its way in. */
struct keep {
	const struct conf_mcp	*conf;
	struct buf		*text;
	int			 kept, left_out;
	const char		*fault;		/* why the last one was left out */
};

static const char *page_params(struct arena *, const char *cursor);
static void	 page_keep(struct keep *, json_object *result);
static void	 tool_keep(struct keep *, json_object *);
static const char *tool_fault(const struct keep *, json_object *tool, json_object *schema);
static bool	 refers_away(json_object *);
static void	 hint(struct buf *, json_object *annotations, const char *key);
static void	 ttl_take(json_object *result, int64_t *ttl_ms);
static void	 tool_read(struct arena *, const struct conf_mcp *, json_object *, struct tool *);
static bool	 told(json_object *tool, const char *key);
static bool	 listed(const char *list, const char *tool);

int
mcp_tools_ask(struct job *job, struct mcp_link *link, struct buf *text, int64_t *ttl_ms, struct mcp_reply *r)
{
	struct keep	 k = { .conf = link->peer.conf, .text = text };
	struct arena	*a = arena_open();
	const char	*cursor = NULL, *next;
	int64_t		 until = deadline_ms(LIST_MS);
	int		 rc = 0, pages = 0;

	buf_char(text, '[');
	*ttl_ms = k.conf->refresh;
	do {
		rc = mcp_link_ask(job, link, &(struct mcp_ask){
			.method = "tools/list",
			.params = page_params(a, cursor),
			.timeout_ms = (until - now_us()) / 1000 + 1,
			.max = PAGE_BYTES,
		}, r);
		if (rc == 0 && r->result == NULL) {
			r->fate = MCP_REFUSED;
			r->detail = "it refuses tools/list";
			rc = -1;
		}
		if (rc < 0)
			break;
		page_keep(&k, r->result);
		ttl_take(r->result, ttl_ms);
		next = json_text_or_null(r->result, "nextCursor");
		/* A cursor is opaque, but the same one again leads nowhere. */
		if (next != NULL && (strlen(next) > CURSOR_BYTES || (cursor != NULL && strcmp(next, cursor) == 0)))
			next = NULL;
		cursor = next != NULL ? arena_strdup(a, next) : NULL;
		mcp_reply_close(r);
	} while (cursor != NULL && ++pages < PAGES_MAX && k.kept < MCP_TOOLS_MAX && now_us() < until);
	buf_char(text, ']');
	link->left_out = k.left_out;
	link->fault = k.fault;
	if (k.left_out > 0)
		log_say(LOG_WARN, "mcp_tools_left_out", "%d tools of the server %s, of one because of: %s", k.left_out,
		    k.conf->name, k.fault);
	arena_close(&a);
	return rc;
}

static const char *
page_params(struct arena *a, const char *cursor)
{
	struct buf	*b = buf_new(a);

	jw_open(b, '{');
	if (cursor != NULL) {
		jw_key(b, "cursor");
		jw_string(b, cursor);
	}
	jw_close(b, '}');
	return b->p;
}

static void
page_keep(struct keep *k, json_object *result)
{
	json_object	*tools;

	if (json_get_array(result, "tools", &tools) != JSON_GOT)
		return;
	for (size_t i = 0; i < json_object_array_length(tools); i++)
		tool_keep(k, json_object_array_get_idx(tools, i));
}

/* In MCP's own form, with nothing in it but what we use. */
static void
tool_keep(struct keep *k, json_object *tool)
{
	const char	*name = json_text_or_null(tool, "name"), *about = json_text_or_null(tool, "description"), *fault;
	json_object	*schema = NULL, *annotations = NULL;

	/* What nobody wants is not worth a word. */
	if (name != NULL && k->conf->tools != NULL && !conf_list_has(k->conf->tools, name))
		return;
	(void)json_get_object(tool, "inputSchema", &schema);
	(void)json_get_object(tool, "annotations", &annotations);
	if ((fault = tool_fault(k, tool, schema)) != NULL) {
		k->fault = fault;
		k->left_out++;
		return;
	}
	if (about == NULL)
		about = json_text_or_null(tool, "title");
	if (about == NULL)
		about = "";
	jw_open(k->text, '{');
	jw_key(k->text, "name"), jw_string(k->text, name);
	jw_key(k->text, "description");
	jw_string_n(k->text, about, strlen(about) <= DESCRIPTION_BYTES ? strlen(about) : utf8_whole(about, DESCRIPTION_BYTES));
	jw_key(k->text, "inputSchema"), jw_raw(k->text, json_text(schema));
	hint(k->text, annotations, "readOnlyHint");
	hint(k->text, annotations, "idempotentHint");
	hint(k->text, annotations, "destructiveHint");
	jw_close(k->text, '}');
	k->kept++;
}

/* NULL: it is fine. */
static const char *
tool_fault(const struct keep *k, json_object *tool, json_object *schema)
{
	const char	*name = json_text_or_null(tool, "name"), *type, *fault = NULL;
	struct arena	*a;

	if (k->kept >= MCP_TOOLS_MAX)
		return "too many tools";
	if (k->text->n > LIST_BYTES)
		return "too much text in all";
	if (name == NULL || *name == '\0' || strlen(name) > NAME_BYTES)
		return "no name, or a long one";
	if (schema == NULL || (type = json_text_or_null(schema, "type")) == NULL || strcmp(type, "object") != 0)
		return "a schema that is none of an object";
	if (strlen(json_text(schema)) > SCHEMA_BYTES)
		return "a schema that is too large";
	if (!schema_usable(schema))
		return "a schema that is too deep";
	if (refers_away(schema))
		return "a schema that refers to another address";
	a = arena_open();
	fault = mcp_params_fault(a, schema);
	arena_close(&a);
	return fault;
}

/* A $ref to anything but the schema itself. (The door has bounded the depth.) */
static bool
refers_away(json_object *o)
{
	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if (refers_away(json_object_array_get_idx(o, i)))
				return true;
		return false;
	}
	if (!json_object_is_type(o, json_type_object))
		return false;
	json_object_object_foreach(o, key, value) {
		if ((strcmp(key, "$ref") == 0 || strcmp(key, "$dynamicRef") == 0 || strcmp(key, "$recursiveRef") == 0) &&
		    json_object_is_type(value, json_type_string) && *json_object_get_string(value) != '#')
			return true;
		if (refers_away(value))
			return true;
	}
	return false;
}

static void
hint(struct buf *b, json_object *annotations, const char *key)
{
	bool	 is = false;

	(void)json_get_bool(annotations, key, &is);
	if (!is)
		return;
	jw_key(b, key);
	jw_bool(b, true);
}

/* The new era says how long a list counts; the shortest of its pages is believed, within reason. */
static void
ttl_take(json_object *result, int64_t *ttl_ms)
{
	int64_t	 ms;

	if (json_get_int(result, "ttlMs", &ms) != JSON_GOT)
		return;
	*ttl_ms = ms < TTL_MIN_MS ? TTL_MIN_MS : ms > TTL_MAX_MS ? TTL_MAX_MS : ms;
}

/* -- as tools of ours -- */

int
mcp_tools_read(struct arena *a, const struct conf_mcp *conf, const char *text, struct tool *out)
{
	struct arena	*mine = arena_open();
	json_object	*list = json_read(mine, text, strlen(text), NULL);
	size_t		 n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	int		 kept = 0;

	n = n < MCP_TOOLS_MAX ? n : MCP_TOOLS_MAX;
	for (size_t i = 0; i < n; i++) {
		json_object	*o = json_object_array_get_idx(list, i);

		/* One that was made for another allow-list. */
		if (conf->tools == NULL || conf_list_has(conf->tools, json_text_or_null(o, "name")))
			tool_read(a, conf, o, &out[kept++]);
	}
	arena_close(&mine);
	return kept;
}

/* What a server says of itself makes its tools more harmless only if it is trusted; the configuration knows best. */
static void
tool_read(struct arena *a, const struct conf_mcp *conf, json_object *o, struct tool *t)
{
	const char	*remote = json_text_or_null(o, "name");
	json_object	*schema = NULL;

	(void)json_get_object(o, "inputSchema", &schema);
	*t = (struct tool){
		.name = mcp_tool_name(a, conf, remote),
		.description = arena_strdup(a, json_text_or_null(o, "description")),
		.schema = arena_strdup(a, json_text(schema)),
		.risk = TOOL_WRITES,
		.server = conf,
		.remote = arena_strdup(a, remote),
	};
	if (listed(conf->read_only, remote) || (conf->trust && told(o, "readOnlyHint")))
		t->risk = TOOL_READ_ONLY;
	else if (listed(conf->idempotent, remote) || (conf->trust && told(o, "idempotentHint")))
		t->risk = TOOL_IDEMPOTENT;
	t->confirm = !listed(conf->no_confirm, remote) && (listed(conf->confirm, remote) || told(o, "destructiveHint"));
}

static bool
told(json_object *tool, const char *key)
{
	bool	 is = false;

	(void)json_get_bool(tool, key, &is);
	return is;
}

static bool
listed(const char *list, const char *tool)
{
	return list != NULL && (strcmp(list, "all") == 0 || conf_list_has(list, tool));
}

const char *
mcp_tool_name(struct arena *a, const struct conf_mcp *conf, const char *remote)
{
	char		*name = arena_printf(a, "%s_%s", conf->name, remote);
	size_t		 n = strlen(name);
	uint32_t	 hash = 2166136261u;	/* FNV-1a: to tell names apart, not to keep secrets */

	if (n <= MODEL_NAME_BYTES && strspn(name, NAME_CHARS) == n)
		return name;
	for (const char *p = remote; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	for (char *p = name; *p != '\0'; p++)
		if (strchr(NAME_CHARS, *p) == NULL)
			*p = '_';
	return arena_printf(a, "%.*s_%08x", MODEL_NAME_BYTES - 9, name, hash);
}
