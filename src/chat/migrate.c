#include "chat/migrate.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#include "base/buf.h"
#include "base/sha256.h"
#include "chat/single.h"

#define TRIES_MAX	20	/* roles are the cluster's: another database may be migrated at this moment */
#define LOCK_KEY	"7236853120871"	/* any number that is ours */
#define SINGLE		"--single-role"	/* the entry of the ledger that says so */
#define OPTIONAL	"citus.sql"	/* for those who run Citus: it is not ours to apply */
#define LOCK_WAIT	"800ms"	/* below PostgreSQL's deadlock_timeout: it is we who give way, not a worker */

enum outcome { DONE, AGAIN, FAILED };
enum state { THERE, NEW, CHANGED };

struct file {
	char		*name;
	struct buf	 text;
	char		 sha256[SHA256_TEXT];
	enum state	 state;	/* what the ledger says of it */
};

struct migration {
	PGconn		*pg;
	FILE		*out;
	struct file	*files;	/* in their order */
	int		 n;
	bool		 single;	/* one role stands for all: see single.h */
	char		*role;		/* then: that role, quoted */
	bool		 last;	/* the last try: whatever it is, say it */
};

static PGconn	*migrate_connect(const char *, FILE *);
static int	 files_read(struct migration *, const char *);
static void	 files_free(struct migration *);
static int	 file_wanted(const struct dirent *);
static int	 file_order(const struct dirent **, const struct dirent **);
static int	 file_read(struct file *, const char *, FILE *);
static int	 migrate_all(struct migration *);
static enum outcome migrate_try(struct migration *);
static enum outcome ledger_lock(const struct migration *);
static enum outcome way_look(struct migration *);
static enum outcome way_choose(struct migration *, const PGresult *);
static enum outcome ledger_look(const struct migration *, struct file *);
static enum outcome file_apply(const struct migration *, const struct file *);
static enum outcome settings_mend(const struct migration *);
static enum outcome text_send(const struct migration *, const char *, const char *);
static enum outcome file_send(const struct migration *, const struct file *);
static enum outcome sql_outcome(const struct migration *, const char *, PGresult *);
static bool	 error_passes(const PGresult *);
static PGresult	*sql(PGconn *, const char *);
static PGresult	*sql_with(PGconn *, const char *, const char *, const char *);

int
migrate_run(const char *url, const char *dir, bool single, FILE *out)
{
	struct migration	 m = { .out = out, .single = single };
	int			 rc = -1;

	if (files_read(&m, dir) == 0 && (m.pg = migrate_connect(url, out)) != NULL)
		rc = migrate_all(&m);
	PQfinish(m.pg);
	free(m.role);
	files_free(&m);
	return rc;
}

int
migrate_missing(PGconn *pg, const char *dir, struct buf *names, FILE *out)
{
	struct migration	 m = { .pg = pg, .out = out, .last = true };
	int			 rc = files_read(&m, dir);

	for (int i = 0; i < m.n && rc == 0; i++) {
		struct file	*file = &m.files[i];

		if (ledger_look(&m, file) != DONE)
			rc = -1;
		else if (file->state != THERE)
			buf_printf(names, "%s%s", names->n > 0 ? ", " : "", file->name);
	}
	files_free(&m);
	return rc < 0 ? -1 : m.n;
}

static PGconn *
migrate_connect(const char *url, FILE *out)
{
	PGconn	*pg = PQconnectdb(url);

	if (PQstatus(pg) == CONNECTION_OK)
		return pg;
	fprintf(out, "cannot connect: %s", PQerrorMessage(pg));
	PQfinish(pg);
	return NULL;
}

static int
files_read(struct migration *m, const char *dir)
{
	struct dirent	**found;
	int		  rc = 0;

	if ((m->n = scandir(dir, &found, file_wanted, file_order)) < 0) {
		fprintf(m->out, "%s: %s\n", dir, strerror(errno));
		m->n = 0;
		return -1;
	}
	if (m->n == 0) {
		fprintf(m->out, "%s: there is no .sql file\n", dir);
		rc = -1;
	}
	if ((m->files = calloc((size_t)m->n + 1, sizeof *m->files)) == NULL)
		abort();
	for (int i = 0; i < m->n; i++) {
		if ((m->files[i].name = strdup(found[i]->d_name)) == NULL)
			abort();
		if (rc == 0)
			rc = file_read(&m->files[i], dir, m->out);
		free(found[i]);
	}
	free(found);
	return rc;
}

static void
files_free(struct migration *m)
{
	for (int i = 0; i < m->n; i++) {
		free(m->files[i].name);
		buf_free(&m->files[i].text);
	}
	free(m->files);
}

static int
file_wanted(const struct dirent *d)
{
	size_t	 n = strlen(d->d_name);

	return n > 4 && isalnum((unsigned char)d->d_name[0]) && strcmp(d->d_name + n - 4, ".sql") == 0 &&
	    strcmp(d->d_name, OPTIONAL) != 0;
}

/* In ASCII digits come before letters: so do the numbered files. */
static int
file_order(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
file_read(struct file *file, const char *dir, FILE *out)
{
	struct buf	 path = { 0 };
	FILE		*f;
	char		 part[4096];
	size_t		 n;
	bool		 bad;

	buf_printf(&path, "%s/%s", dir, file->name);
	f = fopen(buf_text(&path), "r");
	while (f != NULL && (n = fread(part, 1, sizeof part, f)) > 0)
		buf_add(&file->text, part, n);
	bad = f == NULL || ferror(f);
	if (bad)
		fprintf(out, "%s: %s\n", buf_text(&path), strerror(errno));
	if (f != NULL)
		fclose(f);
	bad |= !sha256_hex(buf_text(&file->text), file->text.n, file->sha256);
	buf_free(&path);
	return bad ? -1 : 0;
}

static int
migrate_all(struct migration *m)
{
	static const char *const said[] = {
		[THERE] = "already there", [NEW] = "applied", [CHANGED] = "applied again",
	};
	enum outcome		 outcome = AGAIN;

	for (int i = 1; outcome == AGAIN; i++) {
		m->last = i == TRIES_MAX;
		if ((outcome = migrate_try(m)) == AGAIN)
			nanosleep(&(struct timespec){ .tv_nsec = 50000000L * i }, NULL);
	}
	if (outcome != DONE)
		return -1;

	/* Not before: until the commit nothing has happened. */
	for (int i = 0; i < m->n; i++)
		fprintf(m->out, "%s: %s\n", m->files[i].name, said[m->files[i].state]);
	return 0;
}

/* One transaction: who works meanwhile sees the old tables with the old functions, or the new with the new. */
static enum outcome
migrate_try(struct migration *m)
{
	enum outcome	 outcome;

	outcome = sql_outcome(m, "BEGIN", sql(m->pg, "BEGIN ISOLATION LEVEL READ COMMITTED"));
	if (outcome == DONE)
		outcome = ledger_lock(m);
	if (outcome == DONE)
		outcome = way_look(m);
	for (int i = 0; i < m->n && outcome == DONE; i++) {
		outcome = ledger_look(m, &m->files[i]);
		if (outcome == DONE && m->files[i].state != THERE)
			outcome = file_apply(m, &m->files[i]);
	}
	if (outcome == DONE)
		outcome = settings_mend(m);
	if (outcome == DONE)
		return sql_outcome(m, "COMMIT", sql(m->pg, "COMMIT"));
	PQclear(sql(m->pg, "ROLLBACK"));
	return outcome;
}

static enum outcome
ledger_lock(const struct migration *m)
{
	/*
	 * One at a time, here and on other machines; the lock ends with the transaction.  For locks
	 * of tables nobody waits long: all workers would stand in the line behind us.  Settings are
	 * the transaction's too, as a pooler may give the connection to somebody else; the time that
	 * the role gives a worker's statement is not enough for an index.
	 */
	return sql_outcome(m, "parley.migrations", sql(m->pg,
	    "SELECT pg_catalog.pg_advisory_xact_lock(" LOCK_KEY ");"
	    "SET LOCAL lock_timeout = '" LOCK_WAIT "';"
	    "SET LOCAL statement_timeout = 0;"
	    "SET LOCAL client_min_messages = warning;"
	    /* Since PostgreSQL 16 who makes a role is not in it, unless this says so before. */
	    "SELECT pg_catalog.set_config(s.name, 'set, inherit', true) FROM pg_catalog.pg_settings s"
	    "    WHERE s.name = 'createrole_self_grant';"
	    "DO $$ BEGIN IF pg_catalog.to_regclass('parley.migrations') IS NULL THEN"
	    "	CREATE SCHEMA IF NOT EXISTS parley;"
	    "	CREATE TABLE parley.migrations ("
	    "	    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
	    "	COMMENT ON TABLE parley.migrations IS 'The files that parleyctl migrate has applied.';"
	    "	COMMENT ON COLUMN parley.migrations.name IS 'The name of the file.';"
	    "	COMMENT ON COLUMN parley.migrations.sha256 IS 'What it held.';"
	    "	COMMENT ON COLUMN parley.migrations.applied_at IS 'When it was applied.';"
	    "END IF; END $$"));
}

/* The way that a database went when it was made is its way for good. */
static enum outcome
way_look(struct migration *m)
{
	PGresult	*res;
	enum outcome	 outcome;

	res = sql(m->pg, "SELECT count(*) > 0, coalesce(bool_or(m.name = '" SINGLE "'), false),"
	    "    (SELECT n.nspowner::regrole FROM pg_catalog.pg_namespace n WHERE n.nspname = 'parley'),"
	    "    quote_ident(current_user), (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r"
	    "    WHERE r.rolname = current_user) FROM parley.migrations m");
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return sql_outcome(m, "parley.migrations", res);
	free(m->role);
	if ((m->role = strdup(PQgetvalue(res, 0, 3))) == NULL)
		abort();
	outcome = way_choose(m, res);
	PQclear(res);
	return outcome;
}

static enum outcome
way_choose(struct migration *m, const PGresult *res)
{
	bool		 made = *PQgetvalue(res, 0, 0) == 't', single = *PQgetvalue(res, 0, 1) == 't';
	const char	*owner = PQgetvalue(res, 0, 2);

	if (single && strcmp(owner, m->role) != 0) {
		fprintf(m->out, "this database was made with a single role: run this as %s, not as %s\n", owner, m->role);
		return FAILED;
	}
	if (single || !m->single) {
		m->single = single;
		return DONE;
	}
	if (made) {
		fprintf(m->out, "this database was made with five roles: --single-role is for a new one\n");
		return FAILED;
	}
	if (*PQgetvalue(res, 0, 4) == 't') {
		fprintf(m->out, "row level security does not bind %s: as a single role it would keep no users apart\n", m->role);
		return FAILED;
	}
	return sql_outcome(m, SINGLE, sql(m->pg, "INSERT INTO parley.migrations (name, sha256) VALUES ('" SINGLE "', '')"));
}

static enum outcome
ledger_look(const struct migration *m, struct file *file)
{
	PGresult	*res;

	res = sql_with(m->pg, "SELECT sha256 = $2 FROM parley.migrations WHERE name = $1", file->name, file->sha256);
	if (PQntuples(res) == 0)
		file->state = NEW;
	else
		file->state = *PQgetvalue(res, 0, 0) == 't' ? THERE : CHANGED;
	return sql_outcome(m, file->name, res);
}

static enum outcome
file_apply(const struct migration *m, const struct file *file)
{
	enum outcome	 outcome;

	/* Tables are not made twice; what a word names can be applied over itself. */
	if (file->state == CHANGED && isdigit((unsigned char)file->name[0])) {
		fprintf(m->out, "%s: was changed after it had been applied; changes belong in a new file\n", file->name);
		return FAILED;
	}
	if ((outcome = file_send(m, file)) != DONE)
		return outcome;
	return sql_outcome(m, file->name, sql_with(m->pg,
	    "INSERT INTO parley.migrations AS m (name, sha256) VALUES ($1, $2)"
	    " ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, applied_at = excluded.applied_at",
	    file->name, file->sha256));
}

/*
 * What 001-core.sql sets on the role is not in the database but beside it: one that was restored under another name, or
 * without --create, has lost it.  What somebody has set otherwise stays.
 */
static enum outcome
settings_mend(const struct migration *m)
{
	return text_send(m, "settings of the role",
	    "DO $$ DECLARE v record; BEGIN"
	    "	IF to_regclass('parley.turns') IS NOT NULL AND NOT EXISTS ("
	    "	    SELECT FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase"
	    "	    JOIN pg_catalog.pg_roles r ON r.oid = s.setrole"
	    "	    WHERE d.datname = current_database() AND r.rolname = 'parley_worker') THEN"
	    "		FOR v IN SELECT * FROM (VALUES ('statement_timeout', '10s'), ('enable_seqscan', 'off'),"
	    "		    ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off')) s (name, value) LOOP"
	    "			EXECUTE format('ALTER ROLE parley_worker IN DATABASE %I SET %I = %L',"
	    "			    current_database(), v.name, v.value);"
	    "		END LOOP;"
	    "	END IF;"
	    "END $$");
}

static enum outcome
file_send(const struct migration *m, const struct file *file)
{
	enum outcome	 outcome;

	if (!m->single)
		return text_send(m, file->name, buf_text(&file->text));
	if ((outcome = sql_outcome(m, SINGLE, single_begin(m->pg))) != DONE)
		return outcome;
	if ((outcome = text_send(m, file->name, buf_text(&file->text))) != DONE)
		return outcome;
	return sql_outcome(m, SINGLE, single_guard(m->pg));
}

static enum outcome
text_send(const struct migration *m, const char *name, const char *plain)
{
	struct buf	 text = { 0 };
	enum outcome	 outcome;

	if (m->single)
		single_text(&text, plain, m->role);
	outcome = sql_outcome(m, name, sql(m->pg, m->single ? buf_text(&text) : plain));
	buf_free(&text);
	return outcome;
}

/* Says what went wrong, with the name of what was being done; takes the result. */
static enum outcome
sql_outcome(const struct migration *m, const char *name, PGresult *res)
{
	ExecStatusType	 status = PQresultStatus(res);
	const char	*context = PQresultErrorField(res, PG_DIAG_CONTEXT);
	enum outcome	 outcome = FAILED;

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY)
		outcome = DONE;
	else if (!m->last && error_passes(res))
		outcome = AGAIN;
	else {
		fprintf(m->out, "%s: %s%s%s", name, PQresultErrorMessage(res), context != NULL ? context : "",
		    context != NULL ? "\n" : "");
		if (context != NULL && (strstr(context, "\"CREATE ROLE") || strstr(context, "\"GRANT parley_")))
			fprintf(m->out, "Run this as a role with CREATEROLE, or, where one role is all there is, with --single-role.\n");
	}
	PQclear(res);
	return outcome;
}

static bool
error_passes(const PGresult *res)
{
	/*
	 * Two databases of a cluster make or change the same role (40001, 23505, 42710, 42P06),
	 * or a worker holds the table (40P01, 55P03).
	 */
	static const char *const passing[] = { "40P01", "40001", "23505", "42710", "42P06", "55P03" };
	const char		*state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	for (size_t i = 0; state != NULL && i < sizeof passing / sizeof passing[0]; i++)
		if (strcmp(state, passing[i]) == 0)
			return true;
	/* This one has no code of its own. */
	return strstr(PQresultErrorMessage(res), "tuple concurrently updated") != NULL;
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
