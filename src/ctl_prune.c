/* parleyctl prune: what has been silent for long goes, a little at a time. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "ctl_ops.h"

/* So many conversations, or users, in one transaction. */
#define BATCH		"50"
#define OLDER_MIN	3600

struct prune {
	PGconn		*pg;
	char		 before[64];	/* the time, as the database says it */
	const char	*mode;		/* "t": do it; "f": a dry run */
	const char	*word;
};

static int	 prune_all(struct prune *, int64_t seconds);
static int	 conversations_prune(const struct prune *);
static int	 rows_prune(const struct prune *);
static int	 table_prune(const struct prune *, const char *table);
static int	 facts_prune(const struct prune *);

int
ctl_prune(int argc, char **argv, const struct conf *(*conf_read)(void))
{
	static const struct option	 options[] = { { "older-than", required_argument, NULL, 'o' }, { "dry-run", no_argument, NULL, 'n' },
					     { 0 } };
	struct prune			 p = { .mode = "t", .word = "deleted" };
	int64_t				 seconds = 0;
	const struct conf		*conf;
	int				 c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c == '?' || (c == 'o' && !ops_seconds(optarg, OLDER_MIN, &seconds)))
			return -1;
		if (c == 'n')
			p.mode = "f", p.word = "to delete";
	}
	/* Nothing goes because somebody forgot to say how much. */
	if (optind != argc || seconds == 0)
		return -1;
	if ((conf = conf_read()) == NULL || (p.pg = ops_open(conf)) == NULL)
		return 1;
	status = prune_all(&p, seconds) < 0 ? 1 : 0;
	PQfinish(p.pg);
	return status;
}

static int
prune_all(struct prune *p, int64_t seconds)
{
	char		 text[24];
	PGresult	*res;

	/* One time for all that follows, by the clock that has written the others. */
	snprintf(text, sizeof text, "%" PRId64, seconds);
	res = ops_ask(p->pg, "SELECT clock_timestamp() - $1::bigint * interval '1 second'", text);
	if (res == NULL)
		return -1;
	snprintf(p->before, sizeof p->before, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	if (conversations_prune(p) < 0 || rows_prune(p) < 0 || facts_prune(p) < 0)
		return -1;
	return 0;
}

static int
conversations_prune(const struct prune *p)
{
	char		*user = strdup(""), *id = strdup("00000000-0000-0000-0000-000000000000");
	int64_t		 done = 0, seen = 0;
	PGresult	*res = NULL;

	/* Each batch goes on behind the last one, so what is passed over is not looked at again. */
	while (user != NULL && id != NULL && (res = ops_ask(p->pg,
	    "WITH found AS MATERIALIZED (SELECT f.user_id, f.id FROM parley.prune_find($1::timestamptz, $2::text, $3::uuid, " BATCH ") f),"
	    " pruned AS MATERIALIZED (SELECT f.user_id, f.id, parley.prune_conversation(f.user_id, f.id, $1::timestamptz, $4::boolean) AS done"
	    "  FROM found f)"
	    " SELECT count(*), count(*) FILTER (WHERE p.done), (array_agg(p.user_id ORDER BY p.user_id COLLATE \"C\" DESC, p.id DESC))[1],"
	    "  (array_agg(p.id ORDER BY p.user_id COLLATE \"C\" DESC, p.id DESC))[1] FROM pruned p",
	    p->before, user, id, p->mode)) != NULL && *PQgetvalue(res, 0, 0) != '0') {
		seen += strtoll(PQgetvalue(res, 0, 0), NULL, 10);
		done += strtoll(PQgetvalue(res, 0, 1), NULL, 10);
		free(user);
		free(id);
		user = strdup(PQgetvalue(res, 0, 2));
		id = strdup(PQgetvalue(res, 0, 3));
		PQclear(res);
	}
	free(user);
	free(id);
	if (res == NULL)
		return -1;
	PQclear(res);
	printf("%-28s %10" PRId64 " %s", "parley.conversations", done, p->word);
	if (seen > done)
		printf(", %" PRId64 " left alone: live, or gone meanwhile", seen - done);
	putchar('\n');
	return 0;
}

/* What belongs to no conversation. */
static int
rows_prune(const struct prune *p)
{
	PGresult	*res = ops_ask(p->pg, "SELECT name FROM parley.prune_tables($1::timestamptz)", p->before);
	int		 rc = res == NULL ? -1 : 0;

	for (int i = 0; rc == 0 && i < PQntuples(res); i++)
		rc = table_prune(p, PQgetvalue(res, i, 0));
	PQclear(res);
	return rc;
}

static int
table_prune(const struct prune *p, const char *table)
{
	char		*user = strdup("");
	int64_t		 done = 0;
	PGresult	*res = NULL;

	while (user != NULL && (res = ops_ask(p->pg,
	    "WITH found AS MATERIALIZED (SELECT u FROM parley.prune_users($1::text, $2::timestamptz, $3::text, " BATCH ") u)"
	    " SELECT sum(parley.prune_rows($1::text, $2::timestamptz, f.u, $4::boolean)), max(f.u COLLATE \"C\") FROM found f",
	    table, p->before, user, p->mode)) != NULL && !PQgetisnull(res, 0, 1)) {
		done += strtoll(PQgetvalue(res, 0, 0), NULL, 10);
		free(user);
		user = strdup(PQgetvalue(res, 0, 1));
		PQclear(res);
	}
	free(user);
	if (res == NULL)
		return -1;
	PQclear(res);
	printf("%-28s %10" PRId64 " %s\n", table, done, p->word);
	return 0;
}

static int
facts_prune(const struct prune *p)
{
	PGresult	*res = ops_ask(p->pg,
	    "WITH gone AS (DELETE FROM parley.facts f WHERE $1::boolean AND f.expires_at < clock_timestamp() - interval '1 day' RETURNING 1)"
	    " SELECT CASE WHEN $1::boolean THEN (SELECT count(*) FROM gone)"
	    "  ELSE (SELECT count(*) FROM parley.facts f WHERE f.expires_at < clock_timestamp() - interval '1 day') END", p->mode);

	if (res == NULL)
		return -1;
	printf("%-28s %10s %s\n", "parley.facts", PQgetvalue(res, 0, 0), p->word);
	PQclear(res);
	return 0;
}
