#include "chat/migrate.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>
#include <openssl/evp.h>

#include "base/buf.h"

#define TRIES_MAX	20	/* roles are the cluster's: another database may be migrated at this moment */
#define LOCK_KEY	"7236853120871"	/* any number that is ours */

enum applied { APPLIED, WAS_APPLIED, AGAIN, FAILED };

struct migration {
	const char	*name;
	struct buf	 text;
	char		 sha256[65];
};

static PGconn	*migrate_connect(const char *, FILE *);
static int	 file_wanted(const struct dirent *);
static int	 file_order(const struct dirent **, const struct dirent **);
static int	 file_apply(PGconn *, const char *, const char *, FILE *);
static int	 file_read(const char *, struct migration *, FILE *);
static void	 sha256_hex(const struct buf *, char [65]);
static enum applied migration_try(PGconn *, const struct migration *, FILE *);
static enum applied migration_end(PGconn *, enum applied, const struct migration *, FILE *);
static enum applied ledger_look(PGconn *, const struct migration *, FILE *);
static enum applied sql_failed(const PGresult *, const struct migration *, FILE *);
static PGresult	*sql(PGconn *, const char *);
static PGresult	*sql_with(PGconn *, const char *, const char *, const char *);

int
migrate_run(const char *url, const char *dir, FILE *out)
{
	struct dirent	**files;
	PGconn		*pg;
	int		 n, rc = 0;

	if ((n = scandir(dir, &files, file_wanted, file_order)) < 0) {
		fprintf(out, "%s: %s\n", dir, strerror(errno));
		return -1;
	}
	if (n == 0)
		fprintf(out, "%s: there is no .sql file\n", dir);
	rc = n == 0 ? -1 : 0;
	if ((pg = migrate_connect(url, out)) == NULL)
		rc = -1;
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = file_apply(pg, dir, files[i]->d_name, out);
		free(files[i]);
	}
	free(files);
	PQfinish(pg);
	return rc;
}

static PGconn *
migrate_connect(const char *url, FILE *out)
{
	PGconn	*pg = PQconnectdb(url);

	if (PQstatus(pg) == CONNECTION_OK) {
		PQclear(sql(pg, "SET client_min_messages = warning"));
		return pg;
	}
	fprintf(out, "cannot connect: %s", PQerrorMessage(pg));
	PQfinish(pg);
	return NULL;
}

static int
file_wanted(const struct dirent *d)
{
	size_t	 n = strlen(d->d_name);

	return n > 4 && isalnum((unsigned char)d->d_name[0]) && strcmp(d->d_name + n - 4, ".sql") == 0;
}

/* In ASCII digits come before letters: so do the numbered files. */
static int
file_order(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
file_apply(PGconn *pg, const char *dir, const char *name, FILE *out)
{
	struct migration	 m = { .name = name };
	struct buf		 path = { 0 };
	enum applied		 how = FAILED;

	buf_printf(&path, "%s/%s", dir, name);
	if (file_read(buf_text(&path), &m, out) == 0) {
		for (int i = 0; i < TRIES_MAX; i++) {
			PQclear(sql(pg, "BEGIN"));
			how = migration_end(pg, migration_try(pg, &m, out), &m, out);
			if (how != AGAIN)
				break;
			nanosleep(&(struct timespec){ .tv_nsec = 50000000L * (i + 1) }, NULL);
		}
	}
	if (how == AGAIN)
		fprintf(out, "%s: the roles are being changed by others all the time; try again later\n", name);
	if (how == APPLIED)
		fprintf(out, "%s: applied\n", name);
	buf_free(&path);
	buf_free(&m.text);
	if (how == WAS_APPLIED)
		fprintf(out, "%s: already there\n", name);
	return how == APPLIED || how == WAS_APPLIED ? 0 : -1;
}

static int
file_read(const char *path, struct migration *m, FILE *out)
{
	FILE	*f = fopen(path, "r");
	char	 part[4096];
	size_t	 n;
	int	 bad;

	while (f != NULL && (n = fread(part, 1, sizeof part, f)) > 0)
		buf_add(&m->text, part, n);
	bad = f == NULL || ferror(f);
	if (bad)
		fprintf(out, "%s: %s\n", path, strerror(errno));
	if (f != NULL)
		fclose(f);
	sha256_hex(&m->text, m->sha256);
	return bad ? -1 : 0;
}

static void
sha256_hex(const struct buf *text, char hex[65])
{
	unsigned char	 digest[EVP_MAX_MD_SIZE];
	unsigned	 n = 0;

	EVP_Digest(buf_text(text), text->n, digest, &n, EVP_sha256(), NULL);
	for (unsigned i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* Inside a transaction of its own. */
static enum applied
migration_try(PGconn *pg, const struct migration *m, FILE *out)
{
	PGresult	*res;
	enum applied	 how;

	if ((how = ledger_look(pg, m, out)) != APPLIED)
		return how;
	res = sql(pg, buf_text(&m->text));
	how = sql_failed(res, m, out);
	PQclear(res);
	if (how != APPLIED)
		return how;
	res = sql_with(pg, "INSERT INTO parley.migrations (name, sha256) VALUES ($1, $2)", m->name, m->sha256);
	how = sql_failed(res, m, out);
	PQclear(res);
	return how;
}

static enum applied
migration_end(PGconn *pg, enum applied how, const struct migration *m, FILE *out)
{
	PGresult	*res = sql(pg, how == APPLIED ? "COMMIT" : "ROLLBACK");

	if (how == APPLIED)
		how = sql_failed(res, m, out);
	PQclear(res);
	return how;
}

/* APPLIED: go on and apply it. */
static enum applied
ledger_look(PGconn *pg, const struct migration *m, FILE *out)
{
	PGresult	*res;
	enum applied	 how;

	/* One at a time, here and on other machines; the lock ends with the transaction. */
	res = sql(pg,
	    "SELECT pg_catalog.pg_advisory_xact_lock(" LOCK_KEY ");"
	    "DO $$ BEGIN IF pg_catalog.to_regclass('parley.migrations') IS NULL THEN"
	    "	CREATE SCHEMA IF NOT EXISTS parley;"
	    "	CREATE TABLE parley.migrations ("
	    "	    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
	    "	COMMENT ON TABLE parley.migrations IS 'The files that parleyctl migrate has applied.';"
	    "	COMMENT ON COLUMN parley.migrations.name IS 'The name of the file.';"
	    "	COMMENT ON COLUMN parley.migrations.sha256 IS 'What it held.';"
	    "	COMMENT ON COLUMN parley.migrations.applied_at IS 'When it was applied.';"
	    "END IF; END $$");
	how = sql_failed(res, m, out);
	PQclear(res);
	if (how != APPLIED)
		return how;

	res = sql_with(pg, "SELECT sha256 = $2 FROM parley.migrations WHERE name = $1", m->name, m->sha256);
	how = sql_failed(res, m, out);
	if (how == APPLIED && PQntuples(res) > 0)
		how = *PQgetvalue(res, 0, 0) == 't' ? WAS_APPLIED : FAILED;
	if (how == FAILED && PQntuples(res) > 0)
		fprintf(out, "%s: was changed after it had been applied; changes belong in a new file\n", m->name);
	PQclear(res);
	return how;
}

/* APPLIED: it has not failed. */
static enum applied
sql_failed(const PGresult *res, const struct migration *m, FILE *out)
{
	/* Two databases of a cluster that make or change the same role: it passes. */
	static const char *const passing[] = { "40P01", "40001", "23505", "42710", "42P06" };
	ExecStatusType		 status = PQresultStatus(res);
	const char		*state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char		*context = PQresultErrorField(res, PG_DIAG_CONTEXT);

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY)
		return APPLIED;
	for (size_t i = 0; state != NULL && i < sizeof passing / sizeof passing[0]; i++)
		if (strcmp(state, passing[i]) == 0)
			return AGAIN;
	/* This one has no code of its own. */
	if (strstr(PQresultErrorMessage(res), "tuple concurrently updated") != NULL)
		return AGAIN;
	fprintf(out, "%s: %s%s%s", m->name, PQresultErrorMessage(res), context != NULL ? context : "",
	    context != NULL ? "\n" : "");
	return FAILED;
}

static PGresult *
sql(PGconn *pg, const char *text)
{
	return PQexec(pg, text);
}

static PGresult *
sql_with(PGconn *pg, const char *text, const char *name, const char *sha256)
{
	return PQexecParams(pg, text, 2, NULL, (const char *const []){ name, sha256 }, NULL, NULL, 0);
}
