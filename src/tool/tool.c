#include "tool/tool.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "tool/mcp.h"
#include "tool/tool_build.h"

#define AGAIN_US	1000000		/* after a read that failed, before the next */
#define READ_MAX_MS	20000		/* for one reading of the catalog */

struct kept {
	struct tool_table table;	/* first: a table is what the others see of it */
	struct arena	*arena;
	bool		 unusable;	/* expired: the next take waits for another */
};

/* Who waits for the first reading; belongs to the waiting job. */
struct waiter {
	struct fiber	*fiber;
	struct waiter	*next;
	bool		 done;
	bool		 failed;
};

/* A copy of public facts of the database, with an expiry: forgetting it costs one statement. */
static struct kept	*current;
static int64_t		 current_until;		/* then it is read again */
/* At most one reading at a time, however many turns ask. */
static const struct conf *reading;		/* NULL: nobody reads */
static struct waiter	*waiters;
/* What turns get where tools are switched off. */
static const struct tool_table none;

static const struct tool_table *table_of_user(struct job *, const struct tool_table *);
static int	 reader_start(const struct conf *);
static void	 reader(void *);
static struct kept *table_read(struct job *);
static void	 table_use(struct kept *, const struct conf *);
static void	 waiters_wake(bool failed);
static int	 wait_for_table(struct job *);
static void	 give(void *);

const struct tool_table *
tool_table_take(struct job *job)
{
	const struct tool_table	*all = tool_table_shared(job);

	return all != NULL && all != &none ? table_of_user(job, all) : all;
}

const struct tool_table *
tool_table_shared(struct job *job)
{
	if (!job->conf->tools_enabled)
		return &none;
	if (current == NULL || current->unusable) {
		if (wait_for_table(job) < 0)
			return NULL;
	} else if ((now_us() >= current_until || mcp_lists_news()) && reading == NULL) {
		/* In the background: a turn does not pay for it. If nobody can read now, the next turn tries. */
		(void)reader_start(job->conf);
	}
	current->table.users++;
	arena_defer(job->arena, give, current);
	return &current->table;
}

/* yields.  The tools of servers that show each user their own come on top. */
static const struct tool_table *
table_of_user(struct job *job, const struct tool_table *all)
{
	struct mcp_lists	 own;
	struct tool_table	*t;

	if (!mcp_lists_own(job, job->arena, &own))
		return all;
	if (job->fail != FAIL_NONE)
		return NULL;
	t = arena_new(job->arena, struct tool_table);
	tool_build_more(job->arena, all, &own, t);
	return t;
}

void
tool_table_expire(void)
{
	if (current != NULL)
		current->unusable = true;
}

/* yields */
static int
wait_for_table(struct job *job)
{
	struct waiter	*w = arena_new(job->arena, struct waiter);

	if (reading == NULL && reader_start(job->conf) < 0)
		return job_fail(job, FAIL_OVERLOADED, NULL);
	*w = (struct waiter){ .fiber = job->fiber, .next = waiters };
	waiters = w;
	while (!w->done && (job_wait(job, NEVER) == 0 || job->fail == FAIL_NONE))
		;
	if (!w->done) {
		/* The job is over before the reading: leave the queue. */
		for (struct waiter **p = &waiters; *p != NULL; p = &(*p)->next)
			if (*p == w) {
				*p = w->next;
				break;
			}
		return -1;
	}
	if (w->failed) {
		job_detail(job, "the list of tools cannot be read");
		return job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
	}
	return 0;
}

static int
reader_start(const struct conf *conf)
{
	reading = conf;
	if (fiber_start(reader, NULL) != NULL)
		return 0;
	reading = NULL;
	return -1;
}

/* The reading's own fiber and job: it is nobody's turn, and ends with none. */
static void
reader(void *arg)
{
	const struct conf	*conf = reading;
	struct job		 job;
	struct kept		*got;

	(void)arg;
	job_open(&job, conf);
	job.route = "tools";
	job.deadline = deadline_ms(READ_MAX_MS);
	job.late = FAIL_DATABASE_UNAVAILABLE;
	got = table_read(&job);
	if (got != NULL) {
		table_use(got, conf);
	} else {
		if (job_log(&job, LOG_ERROR, "tools_unreadable")) {
			log_str("detail", job.detail);
			log_end();
		}
		/* An old table serves on: the tools are still what they were. */
		current_until = now_us() + AGAIN_US;
	}
	reading = NULL;
	waiters_wake(got == NULL);
	job_close(&job);
}

static struct kept *
table_read(struct job *job)
{
	struct pg_rows	 rows = { 0 };
	struct mcp_lists remote;
	struct kept	*k;
	struct arena	*a;

	if (job->conf->tools_sql && pg_query(job, PG_TURN, &rows,
	    "SELECT name, description, schema, risk, confirm, output"
	    "  FROM parley.tools_list()") < 0)
		return NULL;
	a = arena_open();
	k = arena_new(a, struct kept);
	k->arena = a;
	mcp_lists_shared(job, a, &remote);
	tool_build(a, job->conf, &rows, &remote, &k->table);
	pg_free(&rows);
	return k;
}

/* The worker itself is one user of the current table. */
static void
table_use(struct kept *k, const struct conf *conf)
{
	struct kept	*old = current;

	k->table.users = 1;
	current = k;
	current_until = deadline_ms(conf->tools_refresh);
	if (old != NULL)
		give(old);
}

static void
waiters_wake(bool failed)
{
	while (waiters != NULL) {
		struct waiter	*w = waiters;

		waiters = w->next;
		w->done = true;
		w->failed = failed;
		fiber_wake(w->fiber);
	}
}

static void
give(void *arg)
{
	struct kept	*k = arg;
	struct arena	*a = k->arena;

	if (--k->table.users == 0)
		arena_close(&a);
}
