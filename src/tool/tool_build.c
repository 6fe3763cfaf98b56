#include "tool/tool_build.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "io/json.h"
#include "io/pg.h"
#include "tool/mcp.h"

#define NAME_MAX_BYTES	64	/* what the model APIs take as a function's name */

static void	 add_sql(struct arena *, const struct conf *, struct pg_rows *, struct tool_table *);
static void	 add_remote(const struct mcp_lists *, struct tool_table *);
static void	 notice_make(struct arena *, const char *down, struct tool_table *);
static const char *compact(struct arena *, const char *);
static void	 table_json(struct arena *, struct tool_table *);
static bool	 name_good(const char *);
static int	 by_name(const void *, const void *);

void
tool_build(struct arena *a, const struct conf *conf, struct pg_rows *rows, const struct mcp_lists *remote, struct tool_table *t)
{
	t->tools = arena_array(a, struct tool, rows->n + remote->ntools + 1);
	add_sql(a, conf, rows, t);
	add_remote(remote, t);
	notice_make(a, remote->down, t);
	table_json(a, t);
}

void
tool_build_more(struct arena *a, const struct tool_table *base, const struct mcp_lists *more, struct tool_table *t)
{
	t->tools = arena_array(a, struct tool, base->ntools + more->ntools + 1);
	if (base->ntools > 0)
		memcpy(t->tools, base->tools, sizeof *t->tools * (size_t)base->ntools);
	t->ntools = base->ntools;
	t->down = base->down;
	add_remote(more, t);
	notice_make(a, more->down, t);
	table_json(a, t);
}

/* Sorted already when this begins, and again when it ends. */
static void
add_remote(const struct mcp_lists *remote, struct tool_table *t)
{
	int	 nsorted = t->ntools;

	for (int i = 0; i < remote->ntools; i++) {
		const struct tool	*o = &remote->tools[i];

		if (nsorted > 0 && bsearch(o, t->tools, (size_t)nsorted, sizeof *o, by_name) != NULL)
			log_say(LOG_WARN, "tool_left_out", "there is another tool of the same name: %s", o->name);
		else
			t->tools[t->ntools++] = *o;
	}
	qsort(t->tools, (size_t)t->ntools, sizeof *t->tools, by_name);
	/* A server that names two of its tools alike has one of them here. */
	for (int i = 1; i < t->ntools; i++)
		while (i < t->ntools && strcmp(t->tools[i - 1].name, t->tools[i].name) == 0)
			memmove(&t->tools[i], &t->tools[i + 1], sizeof *t->tools * (size_t)(--t->ntools - i));
}

static void
notice_make(struct arena *a, const char *down, struct tool_table *t)
{
	if (down != NULL)
		t->down = t->down == NULL ? arena_strdup(a, down) : arena_printf(a, "%s, %s", t->down, down);
	if (t->down != NULL)
		t->notice = arena_printf(a, "These servers of tools cannot be reached now, so their tools are missing: %s."
		    " If the user asks for what they do, say so.", t->down);
}

const struct tool *
tool_find(const struct tool_table *t, const char *name)
{
	struct tool	 key = { .name = name };

	if (t->ntools == 0)
		return NULL;
	return bsearch(&key, t->tools, (size_t)t->ntools, sizeof *t->tools, by_name);
}

static void
add_sql(struct arena *a, const struct conf *conf, struct pg_rows *rows, struct tool_table *t)
{
	for (int i = 0; i < rows->n; i++) {
		const char	*name = pg_text(rows, i, "name"), *text;

		if (!name_good(name)) {
			log_say(LOG_WARN, "tool_left_out", "no model would take this name: %s", name);
			continue;
		}
		if ((text = compact(a, pg_text(rows, i, "schema"))) == NULL) {
			log_say(LOG_WARN, "tool_left_out", "its schema is no JSON object: %s", name);
			continue;
		}
		t->tools[t->ntools++] = (struct tool){
			.name = arena_strdup(a, name),
			.description = arena_strdup(a, pg_text(rows, i, "description")),
			.schema = text,
			.output = compact(a, pg_text(rows, i, "output")),
			.risk = tool_risk_of(pg_text(rows, i, "risk")),
			.confirm = pg_bool(rows, i, "confirm"),
		};
		tool_rule(conf, &t->tools[t->ntools - 1]);
	}
	qsort(t->tools, (size_t)t->ntools, sizeof *t->tools, by_name);
}

void
tool_rule(const struct conf *conf, struct tool *t)
{
	if (conf_list_has(conf->tools_read_only, t->name))
		t->risk = TOOL_READ_ONLY;
	else if (conf_list_has(conf->tools_idempotent, t->name))
		t->risk = TOOL_IDEMPOTENT;
	if (conf_list_has(conf->tools_confirm, t->name))
		t->confirm = true;
	if (conf_list_has(conf->tools_no_confirm, t->name))
		t->confirm = false;
}

/* The database writes blanks that each request would pay for.  NULL: no JSON object. */
static const char *
compact(struct arena *to, const char *text)
{
	struct arena	*a = arena_open();
	json_object	*o = text != NULL ? json_read(a, text, strlen(text), NULL) : NULL;

	text = json_object_is_type(o, json_type_object) ? arena_strdup(to, json_text(o)) : NULL;
	arena_close(&a);
	return text;
}

/* Once for all requests of this table. */
static void
table_json(struct arena *a, struct tool_table *t)
{
	struct buf	*b;

	if (t->ntools == 0)
		return;
	b = buf_new(a);
	jw_open(b, '[');
	for (int i = 0; i < t->ntools; i++) {
		const struct tool	*one = &t->tools[i];

		jw_open(b, '{');
		jw_key(b, "type");
		jw_string(b, "function");
		jw_key(b, "function");
		jw_open(b, '{');
		jw_key(b, "name");
		jw_string(b, one->name);
		if (one->description != NULL) {
			jw_key(b, "description");
			jw_string(b, one->description);
		}
		jw_key(b, "parameters");
		jw_raw(b, one->schema);
		jw_close(b, '}');
		jw_close(b, '}');
	}
	jw_close(b, ']');
	t->json = b->p;
}

static bool
name_good(const char *s)
{
	size_t	 n = s != NULL ? strlen(s) : 0;

	return n > 0 && n <= NAME_MAX_BYTES &&
	    strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

enum tool_risk
tool_risk_of(const char *s)
{
	if (s != NULL && strcmp(s, "read_only") == 0)
		return TOOL_READ_ONLY;
	if (s != NULL && strcmp(s, "idempotent") == 0)
		return TOOL_IDEMPOTENT;
	return TOOL_WRITES;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct tool *)a)->name, ((const struct tool *)b)->name);
}
