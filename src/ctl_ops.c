#include "ctl_ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/claims.h"
#include "base/conf.h"

#define CONNECT_SECONDS	"5"
#define TRIES_MAX	10
#define PLAIN_MAX	256
#define ROLE_MAX	256	/* a name has 63 bytes, quoted twice as many */

/* The role that may, quoted; found when the connection is made. */
static char	 role[ROLE_MAX];

static bool	 role_find(PGconn *);
static int	 done(PGresult *);
static PGresult	*try(PGconn *, const char *, const char *const *, int);
static bool	 passes(const PGresult *);
static bool	 seconds_read(const char *, int64_t *);

PGconn *
ops_open(const struct conf *conf)
{
	const char *const	 keys[] = { "dbname", "connect_timeout", "application_name", "client_encoding", NULL };
	const char *const	 values[] = { conf->database_ops_url, CONNECT_SECONDS, "parleyctl", "UTF8", NULL };
	PGconn			*pg;

	if (conf->database_ops_url == NULL) {
		fprintf(stderr, "parleyctl: none of database.ops_url, database.owner_url, database.url is set\n");
		return NULL;
	}
	pg = PQconnectdbParams(keys, values, 1);
	if (PQstatus(pg) == CONNECTION_OK && role_find(pg))
		return pg;
	if (PQstatus(pg) != CONNECTION_OK)
		fprintf(stderr, "parleyctl: the database: %s", PQerrorMessage(pg));
	PQfinish(pg);
	return NULL;
}

/* With a single role it is that one. */
static bool
role_find(PGconn *pg)
{
	PGresult	*res = PQexec(pg, "SELECT quote_ident(r.rolname), pg_has_role(current_user, r.oid, 'MEMBER'), current_user"
	    "  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
	    "  JOIN pg_catalog.pg_roles r ON r.oid = p.proowner"
	    " WHERE n.nspname = 'parley' AND p.proname = 'stats'");
	bool		 found = false;

	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		ops_complain(res);
	else if (PQntuples(res) != 1)
		fprintf(stderr, "parleyctl: the database lacks what this needs: run `parleyctl migrate`\n");
	else if (*PQgetvalue(res, 0, 1) != 't')
		/* Not "grant it": this may be the workers' role, which must never be able to. */
		fprintf(stderr, "parleyctl: %s may not look across users: name a role in database.ops_url that is a member of %s"
		    " (GRANT %s TO it, never to the role of the workers)\n",
		    PQgetvalue(res, 0, 2), PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 0));
	else
		found = snprintf(role, sizeof role, "%s", PQgetvalue(res, 0, 0)) < (int)sizeof role;
	PQclear(res);
	return found;
}

void
ops_complain(const PGresult *res)
{
	fprintf(stderr, "parleyctl: the database: %s", PQresultErrorMessage(res));
}

int
ops_begin(PGconn *pg, const char *mode)
{
	char	 sql[sizeof role + 128];

	/* A single role has the timeout of the workers, which is not for this. */
	snprintf(sql, sizeof sql, "BEGIN %s; SET LOCAL ROLE %s; SET LOCAL statement_timeout = 0", mode, role);
	return done(PQexec(pg, sql));
}

int
ops_commit(PGconn *pg)
{
	return done(PQexec(pg, "COMMIT"));
}

/* Of a command, which has no rows; takes the result. */
static int
done(PGresult *res)
{
	int	 rc = 0;

	if (PQresultStatus(res) != PGRES_COMMAND_OK) {
		ops_complain(res);
		rc = -1;
	}
	PQclear(res);
	return rc;
}

PGresult *
ops_ask_n(PGconn *pg, const char *sql, const char *const *params, int nparams)
{
	PGresult	*res = NULL;

	for (int i = 1; ; i++) {
		if (ops_begin(pg, "ISOLATION LEVEL READ COMMITTED") < 0)
			return NULL;
		res = try(pg, sql, params, nparams);
		if (PQresultStatus(res) == PGRES_TUPLES_OK)
			break;
		PQclear(PQexec(pg, "ROLLBACK"));
		if (i == TRIES_MAX || !passes(res)) {
			ops_complain(res);
			PQclear(res);
			return NULL;
		}
		PQclear(res);
	}
	if (ops_commit(pg) == 0)
		return res;
	PQclear(res);
	return NULL;
}

static PGresult *
try(PGconn *pg, const char *sql, const char *const *params, int nparams)
{
	return PQexecParams(pg, sql, nparams, NULL, params, NULL, NULL, 0);
}

/* It met a turn that is being written just now. */
static bool
passes(const PGresult *res)
{
	const char	*state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	return state != NULL && (strcmp(state, "40P01") == 0 || strcmp(state, "40001") == 0);
}

bool
ops_seconds(const char *text, int64_t least, int64_t *seconds)
{
	if (seconds_read(text, seconds) && *seconds >= least)
		return true;
	fprintf(stderr, "parleyctl: a time is a whole number and s, min, h or d, such as 90min or 365d, and at least %s here: %s\n",
	    least == 3600 ? "1h" : "1s", ops_plain(text));
	return false;
}

static bool
seconds_read(const char *text, int64_t *seconds)
{
	static const struct {
		const char	*name;
		int64_t		 factor;
	} units[] = { { "s", 1 }, { "min", 60 }, { "h", 3600 }, { "d", 86400 } };
	char	*end;

	errno = 0;
	*seconds = strtoll(text, &end, 10);
	if (*text < '0' || *text > '9' || errno != 0)
		return false;
	end += strspn(end, " ");
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (strcmp(end, units[i].name) == 0)
			/* PostgreSQL's own calendar ends some time. */
			return !__builtin_mul_overflow(*seconds, units[i].factor, seconds) && *seconds <= 86400 * INT64_C(36500);
	return false;
}

bool
ops_user(const char *user)
{
	if (user_is_sane(user))
		return true;
	fprintf(stderr, "parleyctl: no token could name this user: one is 1 to %d bytes of UTF-8 without control characters\n", USER_MAX);
	return false;
}

const char *
ops_plain(const char *text)
{
	static char	 lines[4][PLAIN_MAX];
	static int	 next;
	char		*line = lines[next++ % 4];

	snprintf(line, PLAIN_MAX, "%s", text != NULL ? text : "-");
	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return line;
}
