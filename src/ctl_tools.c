#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "auth/claims.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "ctl.h"
#include "io/json.h"

#define CONNECT_SECONDS	"5"
#define ORIGIN_SQL	"sql"

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
	struct line	*first, **last;
	bool		 failed;	/* a source could not be asked, which was said */
};

static void	 sql_list(struct table *);

/* Whom tools come from; each adds its lines, or says on stderr why it has none. */
static void	(*const sources[])(struct table *) = { sql_list };

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

		line_add(t, &(struct line){
			.name = arena_strdup(t->arena, PQgetvalue(res, i, 0)),
			.origin = ORIGIN_SQL,
			.risk = arena_strdup(t->arena, PQgetvalue(res, i, 1)),
			.confirm = *PQgetvalue(res, i, 2) == 't',
			.schema = arena_strdup(t->arena, schema != NULL ? json_text(schema) : text),
		});
	}
}

static void
sql_list(struct table *t)
{
	PGconn		*pg = database_open(t->conf);
	PGresult	*res = NULL;

	if (pg != NULL)
		res = database_ask(pg, "SELECT name, risk, confirm, schema FROM parley.tools_list()", NULL, 0);
	if (res != NULL)
		sql_lines(t, res);
	t->failed |= res == NULL;
	PQclear(res);
	PQfinish(pg);
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
tools_list(const struct conf *conf)
{
	struct table	 t = { .arena = arena_open(), .conf = conf };

	t.last = &t.first;
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		sources[i](&t);
	if (t.first != NULL || !t.failed)
		table_print(&t);
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

/* The result on stdout, 1 where it says what went wrong. */
static int
call_print(const PGresult *res, const char *name)
{
	if (PQntuples(res) == 0) {
		fprintf(stderr, "parleyctl: there is no tool %s\n", name);
		return 1;
	}
	puts(PQgetvalue(res, 0, 0));
	return *PQgetvalue(res, 0, 1) == 't' ? 1 : 0;
}

static int
tools_call(const struct conf *conf, const char *name, const char *arguments, const char *user)
{
	char		 key[UUID_TEXT], id[UUID_TEXT], max[24];
	const char	*params[] = { user, key, id, name, arguments, max };
	PGconn		*pg;
	PGresult	*res;
	int		 status = 1;

	if (!user_is_sane(user)) {
		fprintf(stderr, "parleyctl: no token could name this user\n");
		return 1;
	}
	if (!arguments_fit(arguments) || (pg = database_open(conf)) == NULL)
		return 1;
	uuid_new(key);
	uuid_new(id);
	snprintf(max, sizeof max, "%lld", (long long)conf->tools_max_result);
	res = database_ask(pg, "SELECT result, is_error"
	    "  FROM parley.tool_call($1::text, $2::uuid, $3::uuid, $4::text, $5::json, $6::int)", params, 6);
	if (res != NULL)
		status = call_print(res, name);
	PQclear(res);
	PQfinish(pg);
	return status;
}

int
ctl_tools(int argc, char **argv, const struct conf *(*conf_read)(void))
{
	static const struct option	 options[] = { { "user", required_argument, NULL, 'u' }, { 0 } };
	const struct conf		*conf;
	const char			*user = NULL;
	int				 c, n;

	/* --user may stand on either side of what is called. */
	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'u')
			return -1;
		user = optarg;
	}
	n = argc - optind;
	if (n == 0 ? user != NULL : strcmp(argv[optind], "call") != 0 || n < 2 || n > 3 || user == NULL)
		return -1;
	if ((conf = conf_read()) == NULL)
		return 1;
	return n == 0 ? tools_list(conf) : tools_call(conf, argv[optind + 1], n == 3 ? argv[optind + 2] : "{}", user);
}
