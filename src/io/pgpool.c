#include "io/pgpool.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/pgcancel.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

/* For so long a refused connection is taken as the limit that the server sets us. */
#define GRANTED_MS	1000
/* Where nobody has a connection, a caller waits so much longer than one attempt may take. */
#define REFUSED_PATIENCE_MS	500

/* Somebody in the queue; on the stack of his fiber. */
struct waiter {
	struct fiber	*fiber;
	struct permit	 permit;
	bool		 granted;
	struct waiter	*next, **link;
};

struct pool {
	int		 held;		/* permits */
	int		 tools;		/* of them by tools */
	struct pg_conn	*idle;		/* the last used first: the others may rest */
	int		 live;		/* connections, lent or idle */
	int		 opening;
	int		 granted;	/* so many the server lets us have, */
	int64_t		 granted_until;	/* as far as we know */
	struct waiter	*first, **last;
};

/* Connections only: whatever a lost one was doing is found in the database again. */
static struct pool	 pools[2];
static int	 connections = 1;
/* How often all connections have been given up at once. */
static unsigned	 era;

static void	 idle_drop(void);
static struct pool *pool_of(enum pg_use);
static int	 pool_size(enum pg_use);
static struct permit permit_of(const struct job *, enum pg_use);
static bool	 permit_is_free(const struct pool *, const struct permit *);
static void	 permit_count(struct pool *, const struct permit *, int);
static int	 permit_take(struct job *, const struct permit *, int64_t until);
static void	 permit_give(struct permit);
static struct pg_conn *idle_take(struct pool *);
static bool	 conn_is_quiet(const struct pg_conn *);
static int64_t	 connect_until(struct job *, const struct pool *, int64_t since, int64_t until);
static struct pg_conn *conn_open(struct job *, struct pool *, int64_t since, int64_t until);
static void	 conn_free(struct pool *, struct pg_conn *);
static bool	 job_is_over(const struct job *);

void
pgpool_start(int n)
{
	connections = n;
}

struct pg_conn *
pgpool_take(struct job *job, enum pg_use use)
{
	struct pool	*p = pool_of(use);
	struct permit	 permit = permit_of(job, use);
	int64_t		 since = now_us(), until = deadline_ms(job->conf->database_wait);
	struct pg_conn	*c;

	while (permit_take(job, &permit, until) == 0) {
		if ((c = idle_take(p)) != NULL || (c = conn_open(job, p, since, connect_until(job, p, since, until))) != NULL) {
			c->permit = permit;
			return c;
		}
		/* Refused; but those that were granted to us serve as well, a little later. */
		p->granted = p->live + p->opening;
		p->granted_until = deadline_ms(GRANTED_MS);
		permit_give(permit);
		/* If it has none for us either, a caller should hear of it soon. */
		if (p->live == 0)
			until = deadline_first(until, since + 1000 * (job->conf->database_connect_timeout + REFUSED_PATIENCE_MS));
		if (p->granted == 0 || job_is_over(job) || now_us() >= until) {
			(void)job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
			break;
		}
	}
	return NULL;
}

void
pgpool_give(struct pg_conn *c)
{
	struct pool	*p = pool_of(c->permit.use);

	if (c->era != era) {
		pgpool_drop(c);
		return;
	}
	c->next = p->idle;
	p->idle = c;
	permit_give(c->permit);
}

void
pgpool_drop(struct pg_conn *c)
{
	struct permit	 permit = c->permit;

	conn_free(pool_of(permit.use), c);
	permit_give(permit);
}

void
pgpool_cancel(struct pg_conn *c)
{
	struct permit	 permit = c->permit;

	pool_of(permit.use)->live--;
	pgcancel_send(c->pg);
	free(c);
	permit_give(permit);
}

void
pgpool_distrust(void)
{
	era++;
	idle_drop();
}

void
pgpool_stop(void)
{
	idle_drop();
}

static void
idle_drop(void)
{
	for (int i = 0; i < 2; i++)
		while (pools[i].idle != NULL) {
			struct pg_conn	*c = pools[i].idle;

			pools[i].idle = c->next;
			conn_free(&pools[i], c);
		}
}

static struct pool *
pool_of(enum pg_use use)
{
	struct pool	*p = &pools[use == PG_PULSE];

	if (p->last == NULL)
		p->last = &p->first;
	return p;
}

static int
pool_size(enum pg_use use)
{
	return use == PG_PULSE ? 1 : connections;
}

/* -- permits -- */

static struct permit
permit_of(const struct job *job, enum pg_use use)
{
	struct permit	 permit = { .use = use };

	_Static_assert(sizeof permit.user == sizeof job->user_hash, "a user is called as in the log");
	memcpy(permit.user, job->user_hash, sizeof permit.user);
	return permit;
}

static bool
permit_is_free(const struct pool *p, const struct permit *permit)
{
	int	 size = pool_size(permit->use), tools = size > 1 ? size / 2 : 1;

	if (permit->use == PG_TOOL && p->tools >= tools)
		return false;
	if (pgshare_is_used(permit, permit->use == PG_TOOL ? tools : size))
		return false;
	/* None granted: somebody must try. */
	if (now_us() < p->granted_until && p->granted > 0 && p->granted < size)
		size = p->granted;
	return p->held < size;
}

static void
permit_count(struct pool *p, const struct permit *permit, int n)
{
	p->held += n;
	if (permit->use == PG_TOOL)
		p->tools += n;
	pgshare_count(permit, n);
}

static int
permit_take(struct job *job, const struct permit *permit, int64_t until)
{
	struct pool	*p = pool_of(permit->use);
	struct waiter	 w = { .fiber = fiber_self(), .permit = *permit };

	if (permit_is_free(p, permit)) {
		permit_count(p, permit, 1);
		return 0;
	}
	w.link = p->last;
	*p->last = &w;
	p->last = &w.next;
	while (!w.granted && job_wait(job, until) == 0)
		;
	if (w.granted)		/* it has left the queue and is counted */
		return 0;

	*w.link = w.next;
	if (w.next != NULL)
		w.next->link = w.link;
	else
		p->last = w.link;
	job_detail(job, "no database connection became free in time");
	return job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
}

/* Hands the permit to the first who may have it. */
static void
permit_give(struct permit permit)
{
	struct pool	*p = pool_of(permit.use);
	struct waiter	*w;

	permit_count(p, &permit, -1);
	for (w = p->first; w != NULL; w = w->next)
		if (permit_is_free(p, &w->permit))
			break;
	if (w == NULL)
		return;
	*w->link = w->next;
	if (w->next != NULL)
		w->next->link = w->link;
	else
		p->last = w->link;
	permit_count(p, &w->permit, 1);
	w->granted = true;
	fiber_wake(w->fiber);
}

/* -- connections -- */

static struct pg_conn *
idle_take(struct pool *p)
{
	struct pg_conn	*c;

	while ((c = p->idle) != NULL) {
		p->idle = c->next;
		if (conn_is_quiet(c))
			return c;
		conn_free(p, c);
	}
	return NULL;
}

/*
 * Between two statements a server says only that it ends.  (A changed setting or a notice
 * would be told as well, and costs us no more than a new connection.)
 */
static bool
conn_is_quiet(const struct pg_conn *c)
{
	struct pollfd	 p = { .fd = PQsocket(c->pg), .events = POLLIN };

	return PQstatus(c->pg) == CONNECTION_OK && p.fd >= 0 && poll(&p, 1, 0) == 0;
}

/* Who has waited long for those whose connections were lost just now has little patience left for the server. */
static int64_t
connect_until(struct job *job, const struct pool *p, int64_t since, int64_t until)
{
	int64_t	 enough = since + 1000 * job->conf->database_connect_timeout, now = now_us();

	if (p->live > 0)
		return until;
	return deadline_first(until, (enough > now ? enough : now) + 1000 * REFUSED_PATIENCE_MS);
}

static struct pg_conn *
conn_open(struct job *job, struct pool *p, int64_t since, int64_t until)
{
	PGconn		*pg;
	struct pg_conn	*c;
	unsigned	 begun = era;

	p->opening++;
	pg = pg_open(job, since, until);
	p->opening--;
	if (pg == NULL)
		return NULL;
	if ((c = calloc(1, sizeof *c)) == NULL)
		arena_exhausted();
	c->pg = pg;
	/* One that was being made when the others were given up may go to the same server. */
	c->era = begun;
	p->live++;
	return c;
}

static void
conn_free(struct pool *p, struct pg_conn *c)
{
	p->live--;
	/* Says goodbye without waiting: the socket is non-blocking for libpq. */
	PQfinish(c->pg);
	free(c);
}

static bool
job_is_over(const struct job *job)
{
	return (job->stop != JOB_RUNS && !job->masked) || job->deadline <= now_us();
}
