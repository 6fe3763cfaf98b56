#include "io/pg.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/decimal.h"
#include "base/log.h"
#include "io/pghosts.h"
#include "io/pgpool.h"
#include "run/deadline.h"
#include "run/job.h"

/* What is asked before anything else, once for a process. */
static struct {
	const char	*sql;
	void		(*look)(const PGresult *);
} first;

static bool	 job_is_over(struct job *);
static int	 first_ask(struct job *, struct pg_conn *);
static int	 conn_say(struct job *, struct pg_conn *, const char *, const char *const *, int);
static int	 conn_tell(struct job *, struct pg_conn *, const char *, const char *);
static PGresult	*conn_say_plainly(struct job *, struct pg_conn *, PGresult *, const char *, const char *const *, int);
static struct pg_conn *conn_send(struct job *, enum pg_use, const char *, const char *const *, int);
static PGresult	*conn_answer(struct job *, struct pg_conn *);
static bool	 result_is_error(const PGresult *);
static void	 conn_give_up(struct job *, struct pg_conn *);
static int	 answer_flush(struct job *, PGconn *, int64_t);
static int	 answer_wait(struct job *, PGconn *, int64_t);
static int	 events_wait(struct job *, PGconn *, uint32_t, int64_t);
static int	 conn_lost(struct job *);
static int	 rows_hold(struct job *, struct pg_rows *, PGresult *);
static int	 rows_error(struct job *, struct pg_rows *);
static bool	 sqlstate_is_outage(const char *);
static bool	 sqlstate_is_wait(const char *);
static bool	 sqlstate_is_unknown(const char *);
static bool	 server_is_leaving(const struct pg_rows *);
static bool	 conn_is_clean(const struct pg_conn *, const struct pg_rows *);
static void	 result_clear(void *);

int
pg_start(const struct conf *conf)
{
	if (pghosts_start(conf->database_url) == 0) {
		pgpool_start((int)conf->database_connections);
		pgknown_start(conf->database_prepare);
		return 0;
	}
	/* Without libpq's words, which may quote the password. */
	log_say(LOG_ERROR, "database", "database.url is neither a connection URI nor a list of keyword=value");
	return -1;
}

void
pg_stop(void)
{
	pgpool_stop();
}

void
pg_on_first_connect(const char *sql, void (*look)(const PGresult *))
{
	first.sql = sql;
	first.look = look;
}

int
pg_query_n(struct job *job, enum pg_use use, struct pg_rows *rows, const char *sql,
    const char *const *params, int nparams)
{
	struct pg_conn	*c;
	PGresult	*res;
	int		 rc;

	memset(rows, 0, sizeof *rows);
	if ((c = conn_send(job, use, sql, params, nparams)) == NULL)
		return -1;

	/* From here on it may have been done. */
	rows->unknown = true;
	res = conn_answer(job, c);
	if (res != NULL && c->named && result_is_error(res))
		res = conn_say_plainly(job, c, res, sql, params, nparams);
	if (res == NULL) {
		conn_give_up(job, c);
		return -1;
	}
	rows->unknown = false;
	rc = rows_hold(job, rows, res);
	if (server_is_leaving(rows))
		pgpool_distrust();
	if (conn_is_clean(c, rows))
		pgpool_give(c);
	else
		pgpool_drop(c);
	return rc;
}

/* Its answer would not be waited for: then it is not sent either. */
static bool
job_is_over(struct job *job)
{
	if (job->stop != JOB_RUNS && !job->masked)
		return job_fail(job, FAIL_TURN_ABANDONED, NULL) < 0;
	if (job->deadline <= now_us())
		return job_fail(job, job->late, NULL) < 0;
	return false;
}

/* yields.  The statement is on its way, and with it everything is possible. */
static struct pg_conn *
conn_send(struct job *job, enum pg_use use, const char *sql, const char *const *params, int nparams)
{
	struct pg_conn	*c;

	/* A connection found dead before a byte was sent costs one more attempt. */
	for (int i = 0; i < 2; i++) {
		if ((c = pgpool_take(job, use)) == NULL)
			return NULL;
		if (job_is_over(job)) {
			pgpool_give(c);
			return NULL;
		}
		if (first.sql != NULL && first_ask(job, c) < 0)
			return NULL;
		switch (conn_say(job, c, sql, params, nparams)) {
		case 1:
			return c;
		case 0:
			pgpool_drop(c);
			continue;
		default:
			conn_give_up(job, c);
			return NULL;
		}
	}
	(void)conn_lost(job);
	return NULL;
}

/* yields.  1: it is on its way; 0: the connection was found dead; -1: it was lost before, and the job has failed. */
static int
conn_say(struct job *job, struct pg_conn *c, const char *sql, const char *const *params, int nparams)
{
	const char		*name = NULL;
	enum pgknown_how	 how = pgknown_ask(&c->known, sql, &name);

	if (how == PGKNOWN_TELL) {
		switch (conn_tell(job, c, name, sql)) {
		case 1:
			how = PGKNOWN_NAMED;
			break;
		case 0:
			how = PGKNOWN_PLAIN;
			break;
		default:
			return -1;
		}
	}
	c->named = how == PGKNOWN_NAMED;
	return c->named ? PQsendQueryPrepared(c->pg, name, nparams, params, NULL, NULL, 0) :
	    PQsendQueryParams(c->pg, sql, nparams, NULL, params, NULL, NULL, 0);
}

/* yields.  1: the connection knows the statement by its name; 0: it does not; -1: it was lost, and the job has failed. */
static int
conn_tell(struct job *job, struct pg_conn *c, const char *name, const char *sql)
{
	PGresult	*res;
	const char	*state;
	int		 rc;

	if (PQsendPrepare(c->pg, name, sql, 0, NULL) == 0 || (res = conn_answer(job, c)) == NULL)
		return job->fail != FAIL_NONE ? -1 : conn_lost(job);
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	/* 42P05: somebody has told it by this name, so it is this text. */
	rc = PQresultStatus(res) == PGRES_COMMAND_OK || (state != NULL && strcmp(state, "42P05") == 0);
	if (rc == 1)
		pgknown_told(&c->known, name);
	PQclear(res);
	return rc;
}

/* yields.  A statement that failed for its name alone has not been done: it is said as it is. */
static PGresult *
conn_say_plainly(struct job *job, struct pg_conn *c, PGresult *res, const char *sql, const char *const *params, int nparams)
{
	const char	*state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (state == NULL || !pgknown_failed(&c->known, state))
		return res;
	PQclear(res);
	if (PQsendQueryParams(c->pg, sql, nparams, NULL, params, NULL, NULL, 0) == 0) {
		(void)conn_lost(job);
		return NULL;
	}
	return conn_answer(job, c);
}

/* yields.  -1: the connection is gone. */
static int
first_ask(struct job *job, struct pg_conn *c)
{
	PGresult	*res = NULL;
	const char	*sql = first.sql;

	if (PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 0) == 1)
		res = conn_answer(job, c);
	if (res != NULL && PQresultStatus(res) == PGRES_TUPLES_OK) {
		first.look(res);
		first.sql = NULL;
		PQclear(res);
		return 0;
	}
	if (res != NULL)
		job_detail(job, "SQLSTATE %s at the first look", PQresultErrorField(res, PG_DIAG_SQLSTATE));
	PQclear(res);
	pgpool_drop(c);
	return job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
}

/* yields.  The result, or NULL: there was no answer, and the job has failed. */
static PGresult *
conn_answer(struct job *job, struct pg_conn *c)
{
	int64_t		 until = deadline_ms(job->conf->database_statement_timeout);
	PGresult	*res = NULL, *next;

	if (answer_flush(job, c->pg, until) < 0)
		return NULL;
	/*
	 * The rows, and that the command is complete, are sent before the commit: only the NULL after all results says that
	 * the server is ready again, and that it was done.  An error that comes later than the rows is the commit's, or
	 * says why the connection ended.  PQgetResult is called only when it cannot block, as on a connection that is closed.
	 */
	while (PQstatus(c->pg) == CONNECTION_BAD || answer_wait(job, c->pg, until) == 0) {
		if ((next = PQgetResult(c->pg)) == NULL)
			return res != NULL ? res : (conn_lost(job), NULL);
		if (res == NULL || (!result_is_error(res) && result_is_error(next))) {
			PQclear(res);
			res = next;
		} else
			PQclear(next);
	}
	PQclear(res);
	return NULL;
}

static bool
result_is_error(const PGresult *res)
{
	return PQresultStatus(res) == PGRES_FATAL_ERROR || PQresultStatus(res) == PGRES_BAD_RESPONSE;
}

/*
 * A tool that nobody waits for any more is stopped (what it did is answered for by a later commit, its turn's end);
 * unless the turn is somebody else's now (fenced), or will be (drained): then what it does may count.  Other statements
 * are short, or wait for a lock until the server's own statement_timeout; one that outlives even that waits for a
 * synchronous standby, and must not be stopped: see pgcancel.h.
 */
static void
conn_give_up(struct job *job, struct pg_conn *c)
{
	bool	 wanted = job->masked || job->stop == JOB_RUNS || job->stop == JOB_CANCELLED;

	/* Lost, or silent for longer than any statement may take: the others to that server are no better. */
	if (job->fail == FAIL_DATABASE_UNAVAILABLE)
		pgpool_distrust();
	if (c->permit.use == PG_TOOL && wanted && PQstatus(c->pg) == CONNECTION_OK)
		pgpool_cancel(c);
	else
		pgpool_drop(c);
}

static int
answer_flush(struct job *job, PGconn *pg, int64_t until)
{
	int	 rc, events;

	/* While a long statement goes out the server may talk as well: nobody listening would be a deadlock. */
	while ((rc = PQflush(pg)) == 1) {
		if ((events = events_wait(job, pg, EPOLLIN | EPOLLOUT, until)) < 0)
			return -1;
		if ((events & EPOLLIN) != 0 && PQconsumeInput(pg) == 0)
			return conn_lost(job);
	}
	return rc < 0 ? conn_lost(job) : 0;
}

static int
answer_wait(struct job *job, PGconn *pg, int64_t until)
{
	while (PQisBusy(pg)) {
		if (events_wait(job, pg, EPOLLIN, until) < 0)
			return -1;
		/* An end of the connection is a result too, and the better one: it may hold the server's reason. */
		if (PQconsumeInput(pg) == 0 && PQisBusy(pg))
			return conn_lost(job);
	}
	return 0;
}

static int
events_wait(struct job *job, PGconn *pg, uint32_t events, int64_t until)
{
	int	 got = job_wait_fd(job, PQsocket(pg), events, until);

	if (got > 0)
		return got;
	if (got == 0) {
		job_detail(job, "no answer within %lld ms",
		    (long long)job->conf->database_statement_timeout);
		(void)job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
	}
	return -1;
}

static int
conn_lost(struct job *job)
{
	job_detail(job, "the connection to the database was lost");
	return job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
}

/* -- results -- */

static int
rows_hold(struct job *job, struct pg_rows *rows, PGresult *res)
{
	rows->held = arena_new(job->arena, PGresult *);
	*rows->held = rows->res = res;
	arena_defer(job->arena, result_clear, rows->held);
	switch (PQresultStatus(res)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
		rows->n = PQntuples(res);
		return 0;
	default:
		return rows_error(job, rows);
	}
}

const char *
pg_error(const struct pg_rows *rows, int field)
{
	return rows->res == NULL ? NULL : PQresultErrorField(rows->res, field);
}

/* The message may quote what a user wrote; the code, and the name of a constraint, may not. */
static int
rows_error(struct job *job, struct pg_rows *rows)
{
	const char	*state = PQresultErrorField(rows->res, PG_DIAG_SQLSTATE);
	const char	*constraint = PQresultErrorField(rows->res, PG_DIAG_CONSTRAINT_NAME);

	if (state == NULL || strlen(state) != 5) {
		rows->unknown = true;
		return conn_lost(job);
	}
	memcpy(rows->sqlstate, state, 6);
	rows->unknown = sqlstate_is_unknown(state);
	job_detail(job, "SQLSTATE %s%s%s", state, constraint != NULL ? " " : "",
	    constraint != NULL ? constraint : "");
	return job_fail(job, sqlstate_is_outage(state) || sqlstate_is_wait(state) ? FAIL_DATABASE_UNAVAILABLE :
	    FAIL_INTERNAL_ERROR, NULL);
}

/*
 * Connections (08), resources (53), shutdowns and crashes (57P), and a server that has become
 * read-only after a failover (25006): another connection, perhaps to another server, will do.
 */
static bool
sqlstate_is_outage(const char *s)
{
	return strncmp(s, "08", 2) == 0 || strncmp(s, "53", 2) == 0 ||
	    strncmp(s, "57P", 3) == 0 || strcmp(s, "25006") == 0;
}

/* For a lock: too long (57014 by statement_timeout, 55P03), or in a circle (40P01).  A later moment will do. */
static bool
sqlstate_is_wait(const char *s)
{
	return strcmp(s, "57014") == 0 || strcmp(s, "55P03") == 0 || strcmp(s, "40P01") == 0;
}

/* Other errors roll the statement back; these can also come just after its commit. */
static bool
sqlstate_is_unknown(const char *s)
{
	return strncmp(s, "08", 2) == 0 || strncmp(s, "57P", 3) == 0;
}

/* It has gone or goes (57P), or another has become the one to write to: other connections to it are not worth trying. */
static bool
server_is_leaving(const struct pg_rows *rows)
{
	return rows->unknown || strcmp(rows->sqlstate, "25006") == 0;
}

static bool
conn_is_clean(const struct pg_conn *c, const struct pg_rows *rows)
{
	/* What it was told may not be what it should have been. */
	return PQstatus(c->pg) == CONNECTION_OK && PQtransactionStatus(c->pg) == PQTRANS_IDLE &&
	    !sqlstate_is_outage(rows->sqlstate) && !c->known.stale;
}

static void
result_clear(void *held)
{
	PQclear(*(PGresult **)held);
}

void
pg_free(struct pg_rows *rows)
{
	if (rows->held != NULL) {
		PQclear(*rows->held);
		*rows->held = NULL;
	}
	rows->held = NULL;
	rows->res = NULL;
	rows->n = 0;
}

const char *
pg_col(const struct pg_rows *rows, int row, int column)
{
	const char	*text = PQgetvalue(rows->res, row, column);

	/* There is no such row or column, which is our mistake. */
	assert(text != NULL);
	/* A NULL reads as "" first. */
	return *text == '\0' && PQgetisnull(rows->res, row, column) ? NULL : text;
}

const char *
pg_text(const struct pg_rows *rows, int row, const char *column)
{
	return pg_col(rows, row, PQfnumber(rows->res, column));
}

int64_t
pg_col_int(const struct pg_rows *rows, int row, int column)
{
	const char	*text = pg_col(rows, row, column);

	return text != NULL ? strtoll(text, NULL, 10) : 0;
}

int64_t
pg_int(const struct pg_rows *rows, int row, const char *column)
{
	return pg_col_int(rows, row, PQfnumber(rows->res, column));
}

bool
pg_bool(const struct pg_rows *rows, int row, const char *column)
{
	const char	*text = pg_text(rows, row, column);

	return text != NULL && text[0] == 't';
}

const char *
pg_num(struct job *job, int64_t n)
{
	char	 text[DECIMAL_SIZE];

	return arena_memdup(job->arena, text, decimal_write(text, n));
}

const char *
pg_flag(bool b)
{
	return b ? "t" : "f";
}
