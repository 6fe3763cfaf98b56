/* parleyctl user: all that there is of a user, to be handed over or to be erased. */
#include "ctl_user.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "config.h"
#include "ctl.h"
#include "ctl_ops.h"
#include "io/json.h"

static int	 user_export(PGconn *, const char *user);
static int	 export_write(PGconn *, const char *user, const PGresult *tables);
static int	 table_write(PGconn *, const char *user, const char *table);

int
ctl_user(int argc, char **argv, const struct conf *(*conf_read)(void))
{
	static const struct option	 options[] = { { "yes", no_argument, NULL, 'y' }, { 0 } };
	const struct conf		*conf;
	PGconn				*pg;
	bool				 yes = false, erase;
	int				 c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'y')
			return -1;
		yes = true;
	}
	if (optind + 2 != argc)
		return -1;
	erase = strcmp(argv[optind], "erase") == 0;
	if (!erase && (strcmp(argv[optind], "export") != 0 || yes))
		return -1;
	if (!ops_user(argv[optind + 1]))
		return 1;
	if ((conf = conf_read()) == NULL || (pg = ops_open(conf)) == NULL)
		return 1;
	status = erase ? user_erase(pg, argv[optind + 1], yes) : user_export(pg, argv[optind + 1]);
	PQfinish(pg);
	return status;
}

int64_t
user_total(const PGresult *tables)
{
	int64_t	 total = 0;

	for (int i = 0; i < PQntuples(tables); i++)
		if (*PQgetvalue(tables, i, 1) == 't')
			total += strtoll(PQgetvalue(tables, i, 2), NULL, 10);
	return total;
}

bool
user_closed(const PGresult *tables)
{
	bool	 closed = false;

	for (int i = 0; i < PQntuples(tables); i++) {
		if (*PQgetvalue(tables, i, 1) != 't' || !PQgetisnull(tables, i, 2))
			continue;
		fprintf(stderr, "parleyctl: %s cannot be looked into: GRANT SELECT, DELETE ON %s (and USAGE on its schema) TO parley_owner\n",
		    PQgetvalue(tables, i, 0), PQgetvalue(tables, i, 0));
		closed = true;
	}
	return closed;
}

/* One snapshot of all tables; a row is written as it comes. */
static int
user_export(PGconn *pg, const char *user)
{
	PGresult	*tables;
	int		 rc = -1;
	bool		 closed;

	if (ops_begin(pg, "ISOLATION LEVEL REPEATABLE READ READ ONLY") < 0)
		return 1;
	tables = PQexecParams(pg, USER_TABLES, 1, NULL, &user, NULL, NULL, 0);
	if (PQresultStatus(tables) != PGRES_TUPLES_OK)
		ops_complain(tables);
	else if (user_total(tables) == 0)
		fprintf(stderr, "parleyctl: nothing is known of a user %s\n", user);
	else
		rc = export_write(pg, user, tables);
	closed = rc == 0 && user_closed(tables);
	PQclear(tables);
	return rc < 0 || ops_commit(pg) < 0 || closed ? 1 : 0;
}

static int
export_write(PGconn *pg, const char *user, const PGresult *tables)
{
	struct buf	 head = { 0 };
	const char	*comma = "";
	int		 rc = 0;

	jw_open(&head, '{');
	jw_key(&head, "user"), jw_string(&head, user);
	jw_key(&head, "parley"), jw_string(&head, PACKAGE_VERSION);
	printf("%s,\"tables\":{", buf_text(&head));
	for (int i = 0; i < PQntuples(tables) && rc == 0; i++) {
		if (*PQgetvalue(tables, i, 1) != 't' || PQgetisnull(tables, i, 2))
			continue;
		buf_clear(&head);
		jw_string(&head, PQgetvalue(tables, i, 0));
		printf("%s\n%s:[", comma, buf_text(&head));
		rc = table_write(pg, user, PQgetvalue(tables, i, 0));
		putchar(']');
		comma = ",";
	}
	/* What breaks off must not look whole. */
	if (rc == 0)
		puts("\n}}");
	buf_free(&head);
	return rc;
}

static int
table_write(PGconn *pg, const char *user, const char *table)
{
	const char *const	 params[] = { user, table };
	const char		*comma = "";
	PGresult		*res;
	int			 rc = 0;

	if (PQsendQueryParams(pg, "SELECT r FROM parley.user_rows($1::text, $2::text) r", 2, NULL, params, NULL, NULL, 0) != 1 ||
	    PQsetSingleRowMode(pg) != 1) {
		fprintf(stderr, "parleyctl: the database: %s", PQerrorMessage(pg));
		return -1;
	}
	while ((res = PQgetResult(pg)) != NULL) {
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE) {
			printf("%s\n%s", comma, PQgetvalue(res, 0, 0));
			comma = ",";
		} else if (PQresultStatus(res) != PGRES_TUPLES_OK) {
			ops_complain(res);
			rc = -1;
		}
		PQclear(res);
	}
	return rc;
}
