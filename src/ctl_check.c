#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <libpq-fe.h>

#include "auth/jwk.h"
#include "auth/token.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "chat/migrate.h"
#include "ctl.h"
#include "ctl_mcp.h"

#define CONNECT_SECONDS	"5"
#define FETCH_SECONDS	15L

/* How many FAIL lines there were. */
static int	 failed;

__attribute__((format(printf, 1, 2))) static void
good(const char *fmt, ...)
{
	va_list	 ap;

	fputs("ok   ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

__attribute__((format(printf, 1, 2))) static void
bad(const char *fmt, ...)
{
	va_list	 ap;

	fputs("FAIL ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	failed++;
}

/* Messages of libpq come in several lines. */
static const char *
one_line(const char *text)
{
	static char	 line[512];
	size_t		 n = 0;

	for (; *text != '\0' && n < sizeof line - 1; text++)
		if (*text != '\n' && *text != '\t')
			line[n++] = *text;
		else if (n > 0 && line[n - 1] != ' ')
			line[n++] = ' ';
	while (n > 0 && line[n - 1] == ' ')
		n--;
	line[n] = '\0';
	return line;
}

/* -- fetching -- */

struct body {
	struct buf	 text;
	size_t		 max;
};

static size_t
body_add(char *p, size_t size, size_t n, void *arg)
{
	struct body	*b = arg;

	if (b->text.n + size * n > b->max)
		return 0;
	buf_add(&b->text, p, size * n);
	return size * n;
}

/* The status, or 0 and a reason. */
static long
fetch(const char *url, const char *key, const char *ca_file, struct body *body, char why[CURL_ERROR_SIZE])
{
	CURL			*c = curl_easy_init();
	struct curl_slist	*headers = NULL;
	struct buf		 auth = { 0 };
	long			 status = 0;

	why[0] = '\0';
	if (key != NULL) {
		buf_printf(&auth, "Authorization: Bearer %s", key);
		headers = curl_slist_append(NULL, buf_text(&auth));
	}
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_TIMEOUT, FETCH_SECONDS);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, body_add);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, body);
	if (ca_file != NULL)
		curl_easy_setopt(c, CURLOPT_CAINFO, ca_file);
	if (curl_easy_perform(c) == CURLE_OK)
		curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(c);
	buf_free(&auth);
	return status;
}

/* -- keys -- */

static void
check_secret(const struct conf *conf)
{
	if (conf->auth_secret == NULL)
		return;
	if (!token_alg_allowed(conf, "HS256") && !token_alg_allowed(conf, "HS384") && !token_alg_allowed(conf, "HS512"))
		bad("auth: there is a shared secret, but auth.algorithms allows none of HS256, HS384, HS512:"
		    " add one or remove the secret");
	else
		good("auth: a shared secret of %zu bytes", strlen(conf->auth_secret));
}

static bool
file_read(const char *path, struct buf *text)
{
	char	 piece[4096];
	size_t	 n;
	FILE	*f = fopen(path, "re");
	bool	 whole;

	if (f == NULL)
		return false;
	while ((n = fread(piece, 1, sizeof piece, f)) > 0 && text->n <= JWK_SET_BYTES)
		buf_add(text, piece, n);
	whole = !ferror(f);
	fclose(f);
	return whole;
}

static void
check_keys(const char *source, const struct buf *text)
{
	struct buf	 why = { 0 };
	struct jwk_set	*set = jwk_set_read(buf_text(text), text->n, &why);

	if (set == NULL)
		bad("auth: %s is no JWK set, %s: give the address of the issuer's keys, often …/.well-known/jwks.json",
		    source, buf_text(&why));
	else if (set->n == 0)
		bad("auth: %s has no key that can be used (%d left out, see above): RSA of 2048 bits, EC or Ed25519 are",
		    source, set->skipped);
	else
		good("auth: %s has %d key%s (%d left out)", source, set->n, set->n == 1 ? "" : "s", set->skipped);
	jwk_set_free(&set);
	buf_free(&why);
}

static void
check_jwks(const struct conf *conf)
{
	struct body	 body = { .max = JWK_SET_BYTES };
	char		 why[CURL_ERROR_SIZE];
	long		 status;

	if (conf->auth_jwks_file != NULL) {
		if (file_read(conf->auth_jwks_file, &body.text))
			check_keys(conf->auth_jwks_file, &body.text);
		else
			bad("auth: %s: %m: correct auth.jwks_file or its permissions", conf->auth_jwks_file);
	} else if (conf->auth_jwks_url != NULL) {
		status = fetch(conf->auth_jwks_url, NULL, NULL, &body, why);
		if (status == 200)
			check_keys(conf->auth_jwks_url, &body.text);
		else if (status != 0)
			bad("auth: %s answered %ld, not 200: correct auth.jwks_url (redirects are not followed)",
			    conf->auth_jwks_url, status);
		else
			bad("auth: %s cannot be fetched (%s): correct auth.jwks_url or start the issuer",
			    conf->auth_jwks_url, one_line(why));
	}
	buf_free(&body.text);
}

static void
check_auth(const struct conf *conf)
{
	if (conf->auth_secret == NULL && conf->auth_jwks_file == NULL && conf->auth_jwks_url == NULL)
		bad("auth: no token can be checked: set auth.secret_file, auth.jwks_url or auth.jwks_file");
	check_secret(conf);
	check_jwks(conf);
	if (conf->auth_issuer != NULL && conf->auth_audience != NULL)
		good("auth: tokens must be from %s and for %s", conf->auth_issuer, conf->auth_audience);
	else
		good("auth: %s not set: what else the same keys sign is taken as well, so set it if you can",
		    conf->auth_issuer == NULL ? "auth.issuer is" : "auth.audience is");
}

/* -- the database -- */

/* One value of one row; NULL: the statement failed, which is said. */
static const char *
ask(PGconn *pg, const char *sql, char value[256])
{
	PGresult	*res = PQexec(pg, sql);
	bool		 right = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1;

	if (right)
		snprintf(value, 256, "%s", PQgetvalue(res, 0, 0));
	else
		bad("database: %s: run `parleyctl migrate`, and connect as parley_worker (or as the single role)", one_line(PQresultErrorMessage(res)));
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
	good("database: %s is the only role (single role): row level security is forced and binds it,"
	    " but a statement of this role could switch it off", PQuser(pg));
	good("tools: single role: they run as %s too, so one can read and change whatever else there is of its user,"
	    " messages among it", PQuser(pg));
	good("tools: single role: one that sets parley.user_id or search_path reaches other users: read those"
	    " that you add");
	good("database: single role: statement_timeout (10s) and enable_seqscan (off) are set on %s in this database:"
	    " other programs that share both have them too", PQuser(pg));
}

static void
check_role(PGconn *pg)
{
	char	 value[256];

	if (ask(pg, "SELECT CASE WHEN rolsuper THEN 'is a superuser' WHEN rolbypassrls THEN 'has BYPASSRLS' ELSE '' END"
	    "  FROM pg_catalog.pg_roles WHERE rolname = current_user", value) == NULL)
		return;
	if (*value != '\0') {
		bad("database: the role %s %s, so row level security does not bind it and no worker starts:"
		    " connect as parley_worker", PQuser(pg), value);
		return;
	}
	if (ask(pg, "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	    " WHERE n.nspname = 'parley' AND c.relkind IN ('r', 'p')"
	    "   AND pg_has_role(current_user, c.relowner, 'USAGE')", value) == NULL)
		return;
	if (is_single(pg))
		check_single(pg);
	else if (strcmp(value, "0") != 0)
		bad("database: the role %s owns the tables: row level security is forced and still binds it,"
		    " but it could switch it off: connect as parley_worker", PQuser(pg));
	else
		good("database: %s is neither superuser nor owner", PQuser(pg));
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
		bad("database: row level security is not forced on %s:"
		    " ALTER TABLE parley.… ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", value);
	else
		good("database: row level security is forced on all tables of users");
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
		bad("tools: %s: mend or drop it", value);
		return;
	}
	if (is_single(pg)) {
		good("tools: none of them undoes the isolation");
		return;
	}
	if (ask(pg, "SELECT has_schema_privilege('parley_tool', 'tools', 'CREATE')"
	    " OR has_schema_privilege('parley_worker', 'tools', 'CREATE')", value) == NULL)
		return;
	if (*value == 't')
		bad("tools: whoever runs tools may make new ones: REVOKE CREATE ON SCHEMA tools");
	else
		good("tools: none of them undoes the isolation");
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
		bad("database: %s: run `parleyctl migrate`, or name the directory of its files with --schema", one_line(text));
	else if (missing.n > 0)
		bad("database: %s not applied: run `parleyctl migrate`", buf_text(&missing));
	else
		good("database: all %d files of %s are applied", n, dir);
	buf_free(&missing);
	free(text);
}

static void
check_database(const struct conf *conf, const char *schema_dir)
{
	const char *const	 keys[] = { "dbname", "connect_timeout", "application_name", NULL };
	const char *const	 values[] = { conf->database_url, CONNECT_SECONDS, "parleyctl", NULL };
	PGconn			*pg;

	if (conf->database_url == NULL) {
		bad("database: database.url is not set: give it a connection string, e.g. postgresql://parley_worker@/parley");
		return;
	}
	pg = PQconnectdbParams(keys, values, 1);
	if (PQstatus(pg) != CONNECTION_OK)
		bad("database: %s: correct database.url or start PostgreSQL", one_line(PQerrorMessage(pg)));
	else if (PQserverVersion(pg) < 150000)
		bad("database: PostgreSQL %d is too old: 15 or newer is needed", PQserverVersion(pg) / 10000);
	else {
		good("database: PostgreSQL %d.%d answers", PQserverVersion(pg) / 10000, PQserverVersion(pg) % 10000);
		check_role(pg);
		check_isolation(pg);
		check_tools(pg);
		check_schema(pg, schema_dir);
	}
	PQfinish(pg);
}

/* -- the model -- */

/* GET /models costs nothing; a server that does not know it is there all the same. */
static void
check_model(const struct conf *conf, const struct conf_model *m)
{
	struct body	 body = { .max = 16 * 1024 * 1024 };
	struct buf	 url = { 0 };
	char		 why[CURL_ERROR_SIZE];
	const char	*name = *m->name != '\0' ? m->name : "model";
	long		 status;

	if (m->base_url == NULL || m->model == NULL) {
		bad("model: [%s] has no %s: set it", name, m->base_url == NULL ? "base_url" : "model");
		return;
	}
	buf_printf(&url, "%s/models", m->base_url);
	status = fetch(buf_text(&url), m->key, conf->model_ca_file, &body, why);
	if (status == 0)
		bad("model: [%s] %s cannot be reached (%s): correct base_url or start the server",
		    name, m->base_url, one_line(why));
	else if (status == 401 || status == 403)
		bad("model: [%s] %s refuses the key (%ld): correct key_file or the environment", name, m->base_url, status);
	else if (status >= 500)
		bad("model: [%s] %s answers %ld: try again later, or correct base_url", name, m->base_url, status);
	else
		good("model: [%s] %s answers", name, m->base_url);
	buf_free(&url);
	buf_free(&body.text);
}

/* -- servers of tools -- */

static void
check_mcp(const struct conf *conf)
{
	struct arena	*a = arena_open();
	struct ctl_mcp	*answers = arena_array(a, struct ctl_mcp, conf->nmcp + 1);

	if (ctl_mcp_ask(conf, a, NULL, answers) < 0) {
		bad("mcp: the servers of tools cannot be asked: mend the database first");
		arena_close(&a);
		return;
	}
	for (int i = 0; i < conf->nmcp; i++) {
		const struct ctl_mcp	*m = &answers[i];

		if (m->why != NULL)
			bad("mcp: [%s] %s %s: %s", m->server->name, m->server->url, m->why, m->mend);
		else if (m->wants_token)
			good("mcp: [%s] %s is there, and wants the token of a user", m->server->name, m->server->url);
		else
			good("mcp: [%s] %s speaks %s, %d tools (%d left out)", m->server->name, m->server->url, m->version,
			    m->ntools, m->left_out);
	}
	arena_close(&a);
}

/* One line for each mistake. */
static void
check_reading(const char *why)
{
	while (*why != '\0') {
		size_t	 n = strcspn(why, "\n");

		if (n > 0)
			bad("configuration: %.*s", (int)n, why);
		why += n + (why[n] == '\n');
	}
}

int
ctl_check(const struct conf *conf, const char *conf_why, const char *schema_dir)
{
	if (conf == NULL) {
		check_reading(conf_why);
		return failed;
	}
	good("configuration: read");
	curl_global_init(CURL_GLOBAL_DEFAULT);
	check_auth(conf);
	check_database(conf, schema_dir);
	if (conf->nmodels == 0)
		bad("model: there is none: set model.base_url and model.model");
	for (int i = 0; i < conf->nmodels; i++)
		check_model(conf, &conf->models[i]);
	check_mcp(conf);
	curl_global_cleanup();
	return failed;
}
