#include <string.h>
#include <sys/epoll.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "io/pghosts.h"
#include "io/pgpool.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

/* A server that refuses is left alone for so long: every turn would try it otherwise. */
#define REFUSED_MS	200
/* While it goes on refusing, the log says so every so often. */
#define TELL_MS		10000

/* One attempt at one host; on the stack of the fiber that waits for it. */
struct opening {
	PGconn		*pg;
	int		 host;		/* see pghosts.h */
	int64_t		 patience;	/* ms, for what was sent */
	struct fiber	*fiber;
	struct timer	 start;
	int		 fd;		/* watched; -1: none */
	bool		 done;
	bool		 tell;		/* to the log, should it fail */
};

/* When the last refusal came: forgotten with the process. */
static int64_t	 refused_at = INT64_MIN / 2;
/* When a refusal is told of again. */
static int64_t	 tell_at;

static int	 opening_run(struct job *, struct opening *, int64_t until);
static int64_t	 share(int64_t until, int n);
static void	 opening_start(void *);
static void	 opening_ready(void *, uint32_t);
static void	 opening_step(struct opening *, PostgresPollingStatusType);
static int	 refusal_wait(struct job *, int64_t since, int64_t until);
static void	 opening_failed(struct job *, const struct opening *);
static void	 notice_ignore(void *, const PGresult *);

PGconn *
pg_open(struct job *job, int64_t since, int64_t until)
{
	int64_t	 patience = job->conf->database_connect_timeout;
	int	 n = pghosts_count();
	bool	 tell = now_us() >= tell_at;

	if (refusal_wait(job, since, until) < 0)
		return NULL;

	/* One after another; what one leaves of its time is for the next. */
	until = deadline_first(until, deadline_ms(patience));
	for (int i = 0; i < n; i++) {
		struct opening	 o = { .host = pghosts_nth(i), .patience = patience, .fiber = fiber_self(), .fd = -1,
		    .tell = tell };
		int		 rc = opening_run(job, &o, share(until, n - i));

		if (rc > 0) {
			pghosts_worked(o.host);
			tell_at = 0;
			PQsetnonblocking(o.pg, 1);
			return o.pg;
		}
		PQfinish(o.pg);
		if (rc < 0)
			return NULL;
	}
	refused_at = now_us();
	(void)deadline_every(&tell_at, TELL_MS);
	job_detail(job, "no connection to the database");
	return NULL;
}

/* yields.  1: connected, 0: not, -1: the job is over; then o->pg is to be closed. */
static int
opening_run(struct job *job, struct opening *o, int64_t until)
{
	/* libpq's steps run on the loop's own stack: TLS and name lookups want more than a fiber has. */
	o->start.fn = opening_start;
	o->start.arg = o;
	timer_set(&o->start, now_us());
	while (!o->done && (job_wait(job, until) == 0 || o->done))
		;
	timer_clear(&o->start);
	if (o->fd != -1)
		loop_unwatch(o->fd);
	o->fd = -1;
	if (o->done && PQstatus(o->pg) == CONNECTION_OK)
		return 1;
	if (!o->done && now_us() < until)
		return -1;
	opening_failed(job, o);
	return 0;
}

/* Of the time that is left, for the first of n. */
static int64_t
share(int64_t until, int n)
{
	int64_t	 now = now_us();

	return until > now ? now + (until - now) / n : now;
}

/*
 * yields.  What was refused to others while this caller was here is his answer too.  What was refused before
 * he came is old news, as the server may be back: he waits until the next attempt is due.
 */
static int
refusal_wait(struct job *job, int64_t since, int64_t until)
{
	int64_t	 due = refused_at + 1000 * REFUSED_MS;

	if (refused_at < since) {
		until = deadline_first(until, due);
		while (now_us() < until)
			if (job_wait(job, until) < 0 && job->fail != FAIL_NONE)
				return -1;
		if (now_us() >= due)
			return 0;
	}
	job_detail(job, "the database refused a connection a moment ago");
	return -1;
}

/* -- on the loop's stack -- */

static void
opening_start(void *arg)
{
	struct opening	*o = arg;

	o->pg = pghosts_connect(o->host, o->patience);
	(void)PQsetNoticeReceiver(o->pg, notice_ignore, NULL);
	opening_step(o, PQstatus(o->pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING);
}

static void
opening_ready(void *arg, uint32_t events)
{
	struct opening	*o = arg;

	(void)events;
	/* PQconnectPoll may close the socket and go on with another of the same number. */
	loop_unwatch(o->fd);
	o->fd = -1;
	opening_step(o, PQconnectPoll(o->pg));
}

static void
opening_step(struct opening *o, PostgresPollingStatusType now)
{
	uint32_t	 events = now == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT;

	if (now == PGRES_POLLING_READING || now == PGRES_POLLING_WRITING) {
		o->fd = PQsocket(o->pg);
		if (loop_watch(o->fd, events, opening_ready, o) == 0)
			return;
		o->fd = -1;
	}
	o->done = true;
	fiber_wake(o->fiber);
}

/* Says why in the log, while it lasts every now and then. The text speaks of host, port, role and database, never of a password. */
static void
opening_failed(struct job *job, const struct opening *o)
{
	char	*text = arena_strdup(job->arena, o->done ? PQerrorMessage(o->pg) : "no answer in time");

	for (char *c = text; *c != '\0'; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	if (o->tell && job_log(job, LOG_WARN, "database_refused")) {
		if (pghosts_count() > 1)
			log_int("host", o->host + 1);
		log_str("reason", text);
		log_end();
	}
}

/* A notice may quote values. */
static void
notice_ignore(void *arg, const PGresult *res)
{
	(void)arg;
	if (log_begin(LOG_DEBUG, "notice")) {
		log_str("severity", PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED));
		log_str("sqlstate", PQresultErrorField(res, PG_DIAG_SQLSTATE));
		log_end();
	}
}
