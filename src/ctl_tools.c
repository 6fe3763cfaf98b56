#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libpq-fe.h>

#include "auth/claims.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "ctl.h"
#include "ctl_mcp.h"
#include "io/json.h"
#include "tool/tool.h"
#include "tool/tool_build.h"

#define CONNECT_SECONDS	"5"
#define ORIGIN_SQL	"sql"
#define TOKEN_MAX	((size_t)16 * 1024)

/* A line of the table, whoever offers the tool. */
struct line {
	const char	*name;
	const char	*origin;
	const char	*risk;
	bool		 confirm;
	const char	*schema;
	struct line	*next;
};

struct table {
	struct arena	*arena;
	const struct conf *conf;
	const char	*token;		/* the caller's, NULL: none */
	struct line	*first, **last;
	struct ctl_mcp	*answers;	/* of conf->nmcp servers; NULL: they could not be asked */
	bool		 failed;	/* a source could not be asked, which was said */
};

static void	 sql_list(struct table *);

static const char *const	 risks[] = { [TOOL_WRITES] = "writes", [TOOL_IDEMPOTENT] = "idempotent",
				     [TOOL_READ_ONLY] = "read_only" };
static void	 mcp_list(struct table *);

/* Whom tools come from; each adds its lines, or says on stderr why it has none. */
static void	(*const sources[])(struct table *) = { sql_list, mcp_list };

static void
line_add(struct table *t, const struct line *l)
{
	struct line	*copy = arena_new(t->arena, struct line);

	*copy = *l;
	copy->next = NULL;
	*t->last = copy;
	t->last = &copy->next;
}

/* -- the database's -- */

/* The connection as the workers have it; NULL: there is none, which is said. */
static PGconn *
database_open(const struct conf *conf)
{
	const char *const	 keys[] = { "dbname", "connect_timeout", "application_name", NULL };
	const char *const	 values[] = { conf->database_url, CONNECT_SECONDS, "parleyctl", NULL };
	PGconn			*pg;

	if (conf->database_url == NULL) {
		fprintf(stderr, "parleyctl: database.url is not set\n");
		return NULL;
	}
	pg = PQconnectdbParams(keys, values, 1);
	if (PQstatus(pg) == CONNECTION_OK)
		return pg;
	fprintf(stderr, "parleyctl: the database: %s", PQerrorMessage(pg));
	PQfinish(pg);
	return NULL;
}

/* NULL: it failed, which is said. */
static PGresult *
database_ask(PGconn *pg, const char *sql, const char *const *params, int nparams)
{
	PGresult	*res = PQexecParams(pg, sql, nparams, NULL, params, NULL, NULL, 0);

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		return res;
	fprintf(stderr, "parleyctl: the database: %s", PQresultErrorMessage(res));
	PQclear(res);
	return NULL;
}

static void
sql_lines(struct table *t, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++) {
		const char	*text = PQgetvalue(res, i, 3);
		json_object	*schema = json_read(t->arena, text, strlen(text), NULL);
		struct tool	 one = {
			.name = arena_strdup(t->arena, PQgetvalue(res, i, 0)),
			.risk = tool_risk_of(PQgetvalue(res, i, 1)),
			.confirm = *PQgetvalue(res, i, 2) == 't',
		};

		tool_rule(t->conf, &one);
		line_add(t, &(struct line){
			.name = one.name,
			.origin = ORIGIN_SQL,
			.risk = risks[one.risk],
			.confirm = one.confirm,
			.schema = arena_strdup(t->arena, schema != NULL ? json_text(schema) : text),
		});
	}
}

static void
sql_list(struct table *t)
{
	PGconn		*pg;
	PGresult	*res = NULL;

	if (!t->conf->tools_sql)
		return;
	if ((pg = database_open(t->conf)) != NULL)
		res = database_ask(pg, "SELECT name, risk, confirm, schema FROM parley.tools_list()", NULL, 0);
	if (res != NULL)
		sql_lines(t, res);
	t->failed |= res == NULL;
	PQclear(res);
	PQfinish(pg);
}

/* -- other servers' -- */

static bool
line_is(const struct table *t, const char *name)
{
	for (const struct line *l = t->first; l != NULL; l = l->next)
		if (strcmp(l->name, name) == 0)
			return true;
	return false;
}

static void
mcp_lines(struct table *t, const struct ctl_mcp *m)
{
	for (int i = 0; i < m->ntools; i++) {
		const struct tool	*one = &m->tools[i];

		if (line_is(t, one->name))
			fprintf(stderr, "parleyctl: %s of the server %s is not offered: there is another tool of this name\n",
			    one->name, m->server->name);
		else
			line_add(t, &(struct line){ .name = one->name, .origin = m->server->name, .risk = risks[one->risk],
			    .confirm = one->confirm, .schema = one->schema });
	}
}

static void
mcp_list(struct table *t)
{
	struct ctl_mcp	*answers = arena_array(t->arena, struct ctl_mcp, t->conf->nmcp + 1);

	if (t->conf->nmcp == 0)
		return;
	if (ctl_mcp_ask(t->conf, t->arena, t->token, answers) < 0) {
		fprintf(stderr, "parleyctl: the servers of tools cannot be asked before database.url is right\n");
		t->failed = true;
		return;
	}
	t->answers = answers;
	for (int i = 0; i < t->conf->nmcp; i++) {
		mcp_lines(t, &answers[i]);
		t->failed |= answers[i].why != NULL;
	}
}

/* What each of them said. */
static void
answers_print(const struct table *t)
{
	int	 width = (int)strlen("SERVER");

	for (int i = 0; i < t->conf->nmcp; i++)
		width = (int)strlen(t->conf->mcp[i].name) > width ? (int)strlen(t->conf->mcp[i].name) : width;
	printf("\n%-*s  ANSWER\n", width, "SERVER");
	for (int i = 0; i < t->conf->nmcp; i++) {
		const struct ctl_mcp	*m = &t->answers[i];

		printf("%-*s  ", width, m->server->name);
		if (m->why != NULL)
			printf("%s %s: %s\n", m->server->url, m->why, m->mend);
		else if (m->wants_token)
			printf("%s wants the caller's own token: give one with --token-file FILE\n", m->server->url);
		else if (m->left_out > 0)
			printf("%s speaks %s, %d tools; %d more are not offered, one of them because of: %s\n", m->server->url,
			    m->version, m->ntools, m->left_out, m->fault);
		else
			printf("%s speaks %s, %d tools\n", m->server->url, m->version, m->ntools);
	}
}

/* -- the table -- */

static void
table_print(const struct table *t)
{
	int	 name = (int)strlen("NAME"), origin = (int)strlen("ORIGIN");

	for (const struct line *l = t->first; l != NULL; l = l->next) {
		name = (int)strlen(l->name) > name ? (int)strlen(l->name) : name;
		origin = (int)strlen(l->origin) > origin ? (int)strlen(l->origin) : origin;
	}
	printf("%-*s  %-*s  %-10s  %-7s  %s\n", name, "NAME", origin, "ORIGIN", "RISK", "CONFIRM", "SCHEMA");
	for (const struct line *l = t->first; l != NULL; l = l->next)
		printf("%-*s  %-*s  %-10s  %-7s  %s\n", name, l->name, origin, l->origin, l->risk,
		    l->confirm ? "yes" : "no", l->schema);
}

static int
tools_list(const struct conf *conf, const char *token)
{
	struct table	 t = { .arena = arena_open(), .conf = conf, .token = token };

	t.last = &t.first;
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		sources[i](&t);
	if (t.first != NULL || !t.failed)
		table_print(&t);
	if (t.answers != NULL)
		answers_print(&t);
	arena_close(&t.arena);
	return t.failed ? 1 : 0;
}

/* -- a call -- */

static bool
arguments_fit(const char *text)
{
	struct arena	*a = arena_open();
	const char	*why = "it is no object";
	bool		 fit = json_object_is_type(json_read(a, text, strlen(text), &why), json_type_object);

	if (!fit)
		fprintf(stderr, "parleyctl: the arguments must be one JSON object: %s\n", why);
	arena_close(&a);
	return fit;
}

/*
 * The result on stdout: 0, or 1 where it says what went wrong.  -1: the database has no such tool, or (said) could
 * not be asked.
 */
static int
call_sql(const struct conf *conf, const char *name, const char *arguments, const char *user, bool *asked)
{
	char		 key[UUID_TEXT], id[UUID_TEXT], max[24];
	const char	*params[] = { user, key, id, name, arguments, max };
	PGconn		*pg = database_open(conf);
	PGresult	*res = NULL;
	int		 status = -1;

	uuid_new(key);
	uuid_new(id);
	snprintf(max, sizeof max, "%lld", (long long)conf->tools_max_result);
	if (pg != NULL)
		res = database_ask(pg, "SELECT result, is_error"
		    "  FROM parley.tool_call($1::text, $2::uuid, $3::uuid, $4::text, $5::json, $6::int)", params, 6);
	*asked = res != NULL;
	if (res != NULL && PQntuples(res) > 0) {
		puts(PQgetvalue(res, 0, 0));
		status = *PQgetvalue(res, 0, 1) == 't';
	}
	PQclear(res);
	PQfinish(pg);
	return status;
}

static int
call_mcp(const struct conf *conf, const struct conf_mcp *m, const char *name, const char *arguments, const char *user,
    const char *token)
{
	struct arena		*a = arena_open();
	struct mcp_result	 got;
	int			 status = 1;

	if (ctl_mcp_call(conf, a, m, name, arguments, user, token, &got) == 0) {
		puts(got.json);
		status = got.is_error;
	}
	arena_close(&a);
	return status;
}

/* The database's tools first, as for the model. */
static int
tools_call(const struct conf *conf, const char *name, const char *arguments, const char *user, const char *token)
{
	const struct conf_mcp	*m = ctl_mcp_of(conf, name);
	bool			 asked = true;
	int			 status = -1;

	if (!user_is_sane(user)) {
		fprintf(stderr, "parleyctl: no token could name this user\n");
		return 1;
	}
	if (!arguments_fit(arguments))
		return 1;
	if (conf->tools_sql)
		status = call_sql(conf, name, arguments, user, &asked);
	if (status >= 0 || !asked)
		return status >= 0 ? status : 1;
	if (m != NULL)
		return call_mcp(conf, m, name, arguments, user, token);
	fprintf(stderr, "parleyctl: there is no tool %s\n", name);
	return 1;
}

/* -- the command line -- */

/* The one line of a file, as a token stands on no command line, where everybody can read it.  false: there is none, which is said. */
static bool
token_read(const char *path, struct buf *token)
{
	char	 piece[TOKEN_MAX];
	FILE	*f = fopen(path, "re");
	size_t	 n = f != NULL ? fread(piece, 1, sizeof piece, f) : 0;

	if (f != NULL)
		fclose(f);
	while (n > 0 && (piece[n - 1] == '\n' || piece[n - 1] == '\r' || piece[n - 1] == ' '))
		n--;
	buf_add(token, piece, n);
	explicit_bzero(piece, sizeof piece);
	if (f == NULL)
		fprintf(stderr, "parleyctl: %s: %m\n", path);
	else if (n == 0 || n == TOKEN_MAX || strlen(buf_text(token)) != n || strpbrk(buf_text(token), " \t\r\n") != NULL)
		fprintf(stderr, "parleyctl: %s: not one token\n", path);
	else
		return true;
	return false;
}

struct words {
	const char	*user, *token_file;
	char		**rest;		/* "call", a name, arguments; none for the list */
	int		 n;
};

/* Options may stand on either side of what is called.  false: it makes no sense. */
static bool
words_read(int argc, char **argv, struct words *w)
{
	static const struct option	 options[] = { { "user", required_argument, NULL, 'u' },
					     { "token-file", required_argument, NULL, 't' }, { 0 } };
	int				 c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'u')
			w->user = optarg;
		else if (c == 't')
			w->token_file = optarg;
		else
			return false;
	}
	w->rest = argv + optind;
	w->n = argc - optind;
	if (w->n == 0)
		return w->user == NULL;
	return strcmp(w->rest[0], "call") == 0 && w->n >= 2 && w->n <= 3 && w->user != NULL;
}

int
ctl_tools(int argc, char **argv, const struct conf *(*conf_read)(void))
{
	const struct conf	*conf;
	struct words		 w = { 0 };
	struct buf		 text = { 0 };
	const char		*token = NULL;
	int			 status = 1;

	if (!words_read(argc, argv, &w))
		return -1;
	if ((conf = conf_read()) == NULL)
		return 1;
	if (w.token_file == NULL || token_read(w.token_file, &text)) {
		token = w.token_file != NULL ? buf_text(&text) : NULL;
		status = w.n == 0 ? tools_list(conf, token) :
		    tools_call(conf, w.rest[1], w.n == 3 ? w.rest[2] : "{}", w.user, token);
	}
	if (text.n > 0)
		explicit_bzero(text.p, text.n);
	buf_free(&text);
	return status;
}
