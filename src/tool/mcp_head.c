#include "tool/mcp_head.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include <json-c/linkhash.h>
#include <openssl/evp.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/json.h"
#include "tool/mcp_wire.h"

#define HEADERS_MAX	32
#define SAFE_INTEGER	INT64_C(9007199254740991)	/* what a double holds exactly */
#define TOKEN_CHARS	"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* A list of headers under construction. */
struct list {
	struct arena	*arena;
	const char	**v;
	int		 n;
};

/* The walk through a schema. */
struct walk {
	struct list	 list;		/* names that were found, or headers that are made */
	const char	*fault;
};

static void	 add(struct list *, const char *);
static bool	 plain(const char *);
static void	 schema_walk(struct walk *, json_object *, bool reachable, bool marked);
static void	 mark_check(struct walk *, json_object *property, json_object *mark, bool reachable);
static void	 value_walk(struct list *, json_object *schema, json_object *arguments);
static const char *value_text(struct arena *, json_object *);

const char *const *
mcp_headers(struct arena *a, const struct mcp_peer *p, const struct mcp_ask *ask, const char *last_event_id)
{
	struct list	 l = { .arena = a, .v = arena_array(a, const char *, HEADERS_MAX + 16) };

	add(&l, "Accept: application/json, text/event-stream");
	add(&l, "Content-Type: application/json");
	if (strcmp(p->conf->auth, "caller") == 0 && p->token != NULL)
		add(&l, arena_printf(a, "Authorization: Bearer %s", p->token));
	else if (strcmp(p->conf->auth, "key") == 0)
		add(&l, p->conf->header != NULL ? arena_printf(a, "%s: %s", p->conf->header, p->conf->key) :
		    arena_printf(a, "Authorization: Bearer %s", p->conf->key));

	/* 2025-03-26 does not know the header; nor does whoever has not heard initialize yet. */
	if (p->version != NULL && strcmp(p->version, "2025-03-26") != 0)
		add(&l, arena_printf(a, "MCP-Protocol-Version: %s", p->version));
	if (p->session != NULL)
		add(&l, arena_printf(a, "Mcp-Session-Id: %s", p->session));
	if (last_event_id != NULL)
		add(&l, arena_printf(a, "Last-Event-ID: %s", last_event_id));
	if (ask != NULL && ask->traceparent != NULL)
		add(&l, arena_printf(a, "traceparent: %s", ask->traceparent));
	if (ask != NULL && ask->tracestate != NULL)
		add(&l, arena_printf(a, "tracestate: %s", ask->tracestate));
	if (p->modern && ask != NULL) {
		add(&l, arena_printf(a, "Mcp-Method: %s", ask->method));
		if (ask->name != NULL)
			add(&l, mcp_header(a, "Mcp-Name", ask->name));
		for (int i = 0; ask->headers != NULL && ask->headers[i] != NULL; i++)
			add(&l, ask->headers[i]);
	}
	return l.v;
}

const char *
mcp_header(struct arena *a, const char *name, const char *value)
{
	size_t		 n = strlen(value);
	unsigned char	*text;

	if (n == 0)
		return arena_printf(a, "%s;", name);
	if (plain(value))
		return arena_printf(a, "%s: %s", name, value);
	text = arena_alloc(a, n / 3 * 4 + 8);
	EVP_EncodeBlock(text, (const unsigned char *)value, (int)n);
	return arena_printf(a, "%s: =?base64?%s?=", name, (const char *)text);
}

/* Printable ASCII, no blank at either end, and not what could be taken for the encoded form. */
static bool
plain(const char *s)
{
	size_t	 n = strlen(s);

	if (s[0] == ' ' || s[n - 1] == ' ' || (strncmp(s, "=?base64?", 9) == 0 && n >= 11 && strcmp(s + n - 2, "?=") == 0))
		return false;
	for (; *s != '\0'; s++)
		if (*s < 0x20 || *s > 0x7e)
			return false;
	return true;
}

static void
add(struct list *l, const char *header)
{
	if (l->n < HEADERS_MAX + 15)
		l->v[l->n++] = header;
}

/* -- x-mcp-header -- */

const char *
mcp_params_fault(struct arena *a, json_object *schema)
{
	struct walk	 w = { .list = { .arena = a, .v = arena_array(a, const char *, HEADERS_MAX + 16) } };

	/* Most schemas have none: the text tells faster than the tree. */
	if (strstr(json_text(schema), "\"x-mcp-header\"") == NULL)
		return NULL;
	schema_walk(&w, schema, true, false);
	return w.fault;
}

/*
 * Marks count where `properties` alone lead to them; anywhere else they make the tool invalid.  marked: the caller
 * has looked at this one's own.
 */
static void
schema_walk(struct walk *w, json_object *o, bool reachable, bool marked)
{
	json_object	*mark;

	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			schema_walk(w, json_object_array_get_idx(o, i), false, false);
		return;
	}
	if (!json_object_is_type(o, json_type_object))
		return;
	if (!marked && json_object_object_get_ex(o, "x-mcp-header", NULL))
		w->fault = "x-mcp-header where no argument can be found";
	json_object_object_foreach(o, key, value) {
		if (strcmp(key, "properties") == 0 && json_object_is_type(value, json_type_object)) {
			json_object_object_foreach(value, name, sub) {
				(void)name;
				if (json_object_object_get_ex(sub, "x-mcp-header", &mark))
					mark_check(w, sub, mark, reachable);
				schema_walk(w, sub, reachable, true);
			}
		} else if (strcmp(key, "enum") != 0 && strcmp(key, "const") != 0 && strcmp(key, "default") != 0 &&
		    strcmp(key, "examples") != 0)
			schema_walk(w, value, false, false);
	}
}

static void
mark_check(struct walk *w, json_object *property, json_object *mark, bool reachable)
{
	const char	*name = json_object_is_type(mark, json_type_string) ? json_object_get_string(mark) : "";
	const char	*type = json_text_or_null(property, "type");

	if (!reachable)
		w->fault = "x-mcp-header where no argument can be found";
	else if (*name == '\0' || strlen(name) > 64 || name[strspn(name, TOKEN_CHARS)] != '\0')
		w->fault = "an x-mcp-header that is no name of a header";
	else if (type == NULL || (strcmp(type, "string") != 0 && strcmp(type, "integer") != 0 && strcmp(type, "boolean") != 0))
		w->fault = "x-mcp-header at an argument that is no text, whole number or boolean";
	for (int i = 0; i < w->list.n; i++)
		if (strcasecmp(w->list.v[i], name) == 0)
			w->fault = "the same x-mcp-header twice";
	if (w->list.n == HEADERS_MAX)
		w->fault = "too many x-mcp-header";
	add(&w->list, name);
}

const char *const *
mcp_params_headers(struct arena *a, json_object *schema, json_object *arguments)
{
	struct list	 l = { .arena = a };

	if (strstr(json_text(schema), "\"x-mcp-header\"") == NULL)
		return NULL;
	l.v = arena_array(a, const char *, HEADERS_MAX + 16);
	value_walk(&l, schema, arguments);
	return l.v;
}

/* An argument that is absent or null has no header. */
static void
value_walk(struct list *l, json_object *schema, json_object *arguments)
{
	json_object	*properties, *value, *mark;
	const char	*text;

	if (json_get_object(schema, "properties", &properties) != JSON_GOT)
		return;
	json_object_object_foreach(properties, name, sub) {
		if (!json_object_object_get_ex(arguments, name, &value) || value == NULL)
			continue;
		if (json_object_object_get_ex(sub, "x-mcp-header", &mark) && (text = value_text(l->arena, value)) != NULL)
			add(l, mcp_header(l->arena, arena_printf(l->arena, "Mcp-Param-%s", json_object_get_string(mark)), text));
		if (json_object_is_type(value, json_type_object))
			value_walk(l, sub, value);
	}
}

/* NULL: a value that such an argument does not have. */
static const char *
value_text(struct arena *a, json_object *v)
{
	int64_t	 n;

	switch (json_object_get_type(v)) {
	case json_type_string:
		return json_object_get_string(v);
	case json_type_boolean:
		return json_object_get_boolean(v) ? "true" : "false";
	case json_type_int:
		n = json_object_get_int64(v);
		return n >= -SAFE_INTEGER && n <= SAFE_INTEGER ? arena_printf(a, "%" PRId64, n) : NULL;
	default:
		return NULL;
	}
}
