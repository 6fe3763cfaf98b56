#include "ctl_check.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#include "base/buf.h"
#include "base/conf.h"
#include "chat/migrate.h"

#define CONNECT_SECONDS	"5"
/* More apart, and tokens, leases and people disagree about what time it is. */
#define SKEW_MS		3000

/* One value of one row; NULL: the statement failed, which is said. */
static const char *
ask(PGconn *pg, const char *sql, char value[256])
{
	PGresult	*res = PQexec(pg, sql);
	bool		 right = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1;

	if (right)
		snprintf(value, 256, "%s", PQgetvalue(res, 0, 0));
	else
		check_bad("database: %s: run `parleyctl migrate`, and connect as parley_worker (or as the single role)",
		    check_line(PQresultErrorMessage(res)));
	PQclear(res);
	return right ? value : NULL;
}

/* True: it was made with --single-role. */
static bool
is_single(PGconn *pg)
{
	PGresult	*res = PQexec(pg, "SELECT FROM parley.migrations WHERE name = '--single-role'");
	bool		 single = PQntuples(res) == 1;

	PQclear(res);
	return single;
}

/* What roles of their own would do; no mistake, but to be known. */
static void
check_single(PGconn *pg)
{
	check_good("database: %s is the only role (single role): row level security is forced and binds it,"
	    " but a statement of this role could switch it off", PQuser(pg));
	check_good("tools: single role: they run as %s too, so one can read and change whatever else there is of its user,"
	    " messages among it", PQuser(pg));
	check_good("tools: single role: one that sets parley.user_id, parley.backup or search_path reaches other users:"
	    " read those that you add");
	check_good("database: single role: statement_timeout (10s) and enable_seqscan (off) are set on %s in this database:"
	    " other programs that share both have them too", PQuser(pg));
}

/* false: row level security does not bind it, or nothing is known. */
static bool
check_role(PGconn *pg)
{
	char	 value[256];

	if (ask(pg, "SELECT CASE WHEN rolsuper THEN 'is a superuser' WHEN rolbypassrls THEN 'has BYPASSRLS' ELSE '' END"
	    "  FROM pg_catalog.pg_roles WHERE rolname = current_user", value) == NULL)
		return false;
	if (*value != '\0') {
		check_bad("database: the role %s %s, so row level security does not bind it and no worker starts:"
		    " connect as parley_worker", PQuser(pg), value);
		return false;
	}
	if (ask(pg, "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	    " WHERE n.nspname = 'parley' AND c.relkind IN ('r', 'p')"
	    "   AND pg_has_role(current_user, c.relowner, 'USAGE')", value) == NULL)
		return false;
	if (is_single(pg))
		check_single(pg);
	else if (strcmp(value, "0") != 0)
		check_bad("database: the role %s owns the tables: row level security is forced and still binds it,"
		    " but it could switch it off: connect as parley_worker", PQuser(pg));
	else
		check_good("database: %s is neither superuser nor owner", PQuser(pg));
	return true;
}

/* Set on the role in the database: a restore may have lost it. */
static void
check_settings(PGconn *pg)
{
	char	 value[256];

	if (ask(pg, "SHOW statement_timeout", value) == NULL)
		return;
	if (strcmp(value, "0") == 0)
		check_bad("database: the role %s has no statement_timeout here, as after a restore: run `parleyctl migrate`", PQuser(pg));
	else
		check_good("database: no statement takes longer than %s", value);
}

static void
check_isolation(PGconn *pg)
{
	char	 value[256];

	if (ask(pg, "SELECT coalesce(string_agg(c.relname, ', '), '')"
	    "  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	    "  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped"
	    " WHERE n.nspname = 'parley' AND c.relkind IN ('r', 'p')"
	    "   AND NOT (c.relrowsecurity AND c.relforcerowsecurity)", value) == NULL)
		return;
	if (*value != '\0')
		check_bad("database: row level security is not forced on %s:"
		    " ALTER TABLE parley.… ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", value);
	else
		check_good("database: row level security is forced on all tables of users");
}

/* What a function in the schema tools must not be: `tools` is where the isolation ends if anybody is careless. */
static const char	 tools_sql[] =
    "SELECT coalesce(string_agg(format('tools.%s %s', p.proname, w.why), '; ' ORDER BY p.proname), '')"
    "  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " CROSS JOIN LATERAL (VALUES"
    "   (p.proowner IN (SELECT r.oid FROM pg_catalog.pg_roles r"
    "     WHERE r.rolname IN (current_user, 'parley_worker', 'parley_tool'))"
    "    AND NOT EXISTS (SELECT FROM parley.migrations WHERE name = '--single-role'),"
    "    'belongs to a role that runs tools (ALTER FUNCTION … OWNER TO parley_owner)'),"
    "   (pg_get_functiondef(p.oid) ~* 'parley\"?\\.\"?backup|pg_parley',"
    "    'names what opens the rows of all users where there is a single role'),"
    "   (p.prosecdef, 'is SECURITY DEFINER (ALTER FUNCTION … SECURITY INVOKER)'),"
    "   (EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c ~* '^(role|session_authorization|parley\\.user_id)=')"
    "     OR pg_get_functiondef(p.oid) ~* ("
    "       '\\m(set|reset)\\s+((local|session)\\s+)?\"?(role|session\\s+authorization|parley\"?\\.\"?user_id)\\M"
    "|\\mset_config\\s*\\(\\s*''(role|session_authorization|parley\\.user_id)'''),"
    "    'sets the role or parley.user_id (it runs as its user already)')) w (bad, why)"
    " WHERE n.nspname = 'tools' AND p.prokind IN ('f', 'p') AND w.bad";

static void
check_tools(PGconn *pg)
{
	char	 value[256];

	if (ask(pg, tools_sql, value) == NULL)
		return;
	if (*value != '\0') {
		check_bad("tools: %s: mend or drop it", value);
		return;
	}
	if (is_single(pg)) {
		check_good("tools: none of them undoes the isolation");
		return;
	}
	if (ask(pg, "SELECT has_schema_privilege('parley_tool', 'tools', 'CREATE')"
	    " OR has_schema_privilege('parley_worker', 'tools', 'CREATE')", value) == NULL)
		return;
	if (*value == 't')
		check_bad("tools: whoever runs tools may make new ones: REVOKE CREATE ON SCHEMA tools");
	else
		check_good("tools: none of them undoes the isolation");
}

/* -- tried, not read in the catalog -- */

/* Tables of users that the role of the moment may read. */
static const char	 tables_sql[] =
    "SELECT c.oid::regclass FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace"
    "  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped"
    " WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND has_schema_privilege(s.oid, 'USAGE')"
    "   AND has_table_privilege(c.oid, 'SELECT')";

struct somebody {
	const char	*role;	/* NULL: the one that logs in */
	const char	*user;	/* an SQL expression */
	const char	*who;
};

/* The tables that show such a user a row, in `seen`.  -1: it could not be tried, which is said. */
static int
walls_try(PGconn *pg, const struct somebody *s, struct buf *seen)
{
	PGresult	*tables;
	struct buf	 sql = { 0 };
	char		 value[256];
	int		 rc = 0;

	buf_printf(&sql, "BEGIN; SELECT set_config('parley.user_id', %s, true)", s->user);
	if (s->role != NULL)
		buf_printf(&sql, "; SET LOCAL ROLE %s", s->role);
	PQclear(PQexec(pg, buf_text(&sql)));
	tables = PQexec(pg, tables_sql);
	for (int i = 0; i < PQntuples(tables) && rc == 0; i++) {
		buf_clear(&sql);
		buf_printf(&sql, "SELECT EXISTS (SELECT FROM %s)", PQgetvalue(tables, i, 0));
		if (ask(pg, buf_text(&sql), value) == NULL)
			rc = -1;
		else if (*value == 't')
			buf_printf(seen, "%s%s", seen->n > 0 ? ", " : "", PQgetvalue(tables, i, 0));
	}
	if (PQresultStatus(tables) != PGRES_TUPLES_OK) {
		check_bad("database: as %s: %s", s->who, check_line(PQresultErrorMessage(tables)));
		rc = -1;
	}
	PQclear(tables);
	PQclear(PQexec(pg, "ROLLBACK"));
	buf_free(&sql);
	return rc;
}

/* As the role of the workers, then as that of the tools: nothing is seen by nobody, nor by a user there never was. */
static void
check_walls(PGconn *pg)
{
	static const struct somebody	 all[] = {
		{ NULL, "''", "without parley.user_id" },
		{ NULL, "gen_random_uuid()::text", "as a user there never was" },
		{ "parley_tool", "''", "by a tool without parley.user_id" },
		{ "parley_tool", "gen_random_uuid()::text", "by a tool for a user there never was" },
	};
	struct buf	 seen = { 0 };
	char		 tool[256];
	int		 rc = 0;

	/* With a single role there is none to become. */
	*tool = '\0';
	if (!is_single(pg) && ask(pg, "SELECT coalesce((SELECT CASE WHEN pg_has_role(r.oid, 'MEMBER') THEN 'yes' ELSE 'no' END"
	    "  FROM pg_catalog.pg_roles r WHERE r.rolname = 'parley_tool'), '')", tool) == NULL)
		return;
	if (*tool == 'n')
		check_bad("database: %s is no member of parley_tool, so no tool can run: GRANT parley_tool TO %s", PQuser(pg), PQuser(pg));
	for (size_t i = 0; i < (*tool == 'y' ? 4 : 2) && rc == 0 && seen.n == 0; i++) {
		rc = walls_try(pg, &all[i], &seen);
		if (seen.n > 0)
			check_bad("database: %s rows of %s are seen: give them row level security, and a policy USING (user_id ="
			    " nullif(current_setting('parley.user_id', true), ''))", all[i].who, buf_text(&seen));
	}
	if (rc == 0 && seen.n == 0)
		check_good("database: tried: no row of any table is seen without its user, nor by another");
	buf_free(&seen);
}

/* Whoever crosses users must have no text to carry. */
static void
check_crossing(PGconn *pg)
{
	char	 value[256];

	if (ask(pg, "SELECT coalesce(string_agg(DISTINCT format('%s reads %s.%s', r.rolname, c.relname, a.attname), ', '), '')"
	    "  FROM pg_catalog.pg_roles r, pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
	    " WHERE r.rolname IN ('parley_pulse', 'parley_ops') AND c.relnamespace = 'parley'::regnamespace"
	    "   AND (c.relname, a.attname) IN (('messages', 'content'), ('messages', 'raw'), ('live', 'partial'), ('conversations', 'title'),"
	    "    ('tool_calls', 'parameters'), ('tool_calls', 'result'), ('turns', 'sentence'))"
	    "   AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')", value) == NULL)
		return;
	if (*value != '\0')
		check_bad("database: a role that looks across users could read what they say: %s: REVOKE that", value);
	else
		check_good("database: what looks across users can read no message");
}

/* -- what else it must have -- */

static void
check_connections(PGconn *pg, const struct conf *conf)
{
	/* One more for the pulse. */
	long	 each = (long)conf->database_connections + 1, granted;
	char	 value[256];

	if (ask(pg, "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int", value) == NULL)
		return;
	granted = strtol(value, NULL, 10);
	if (granted < each)
		check_bad("database: it grants %ld connections, and one worker may take %ld: raise max_connections or lower"
		    " database.connections", granted, each);
	else
		check_good("database: it grants %ld connections, which is enough for %ld workers of %ld each", granted, granted / each, each);
}

static int64_t
world_ms(void)
{
	struct timespec	 ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Its answer lies somewhere between question and reply. */
static void
check_clock(PGconn *pg)
{
	char	 value[256];
	int64_t	 before = world_ms(), after, there, apart;

	if (ask(pg, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", value) == NULL)
		return;
	after = world_ms();
	there = strtoll(value, NULL, 10);
	apart = there < before ? before - there : there > after ? there - after : 0;
	if (apart > SKEW_MS)
		check_bad("database: its clock and this machine's are %lld ms apart: run an NTP client on both", (long long)apart);
	else
		check_good("database: its clock agrees with this machine's");
}

/* Every file of the directory must be in the list of what was applied, as it is now. */
static void
check_schema(PGconn *pg, const char *dir)
{
	struct buf	 missing = { 0 };
	char		*text = NULL;
	size_t		 size = 0;
	FILE		*out = open_memstream(&text, &size);
	int		 n;

	if (out == NULL)
		abort();
	n = migrate_missing(pg, dir, &missing, out);
	fclose(out);
	if (n < 0)
		check_bad("database: %s: run `parleyctl migrate`, or name the directory of its files with --schema", check_line(text));
	else if (missing.n > 0)
		check_bad("database: %s not applied: run `parleyctl migrate`", buf_text(&missing));
	else
		check_good("database: all %d files of %s are applied", n, dir);
	buf_free(&missing);
	free(text);
}

void
check_database(const struct conf *conf, const char *schema_dir)
{
	const char *const	 keys[] = { "dbname", "connect_timeout", "application_name", NULL };
	const char *const	 values[] = { conf->database_url, CONNECT_SECONDS, "parleyctl", NULL };
	PGconn			*pg;
	bool			 bound;

	if (conf->database_url == NULL) {
		check_bad("database: database.url is not set: give it a connection string, e.g. postgresql://parley_worker@/parley");
		return;
	}
	pg = PQconnectdbParams(keys, values, 1);
	if (PQstatus(pg) != CONNECTION_OK)
		check_bad("database: %s: correct database.url or start PostgreSQL", check_line(PQerrorMessage(pg)));
	else if (PQserverVersion(pg) < 150000)
		check_bad("database: PostgreSQL %d is too old: 15 or newer is needed", PQserverVersion(pg) / 10000);
	else {
		check_good("database: PostgreSQL %d.%d answers", PQserverVersion(pg) / 10000, PQserverVersion(pg) % 10000);
		bound = check_role(pg);
		check_settings(pg);
		check_isolation(pg);
		if (bound)
			check_walls(pg);
		if (!is_single(pg))
			check_crossing(pg);
		check_tools(pg);
		check_schema(pg, schema_dir);
		check_connections(pg, conf);
		check_clock(pg);
	}
	PQfinish(pg);
}
