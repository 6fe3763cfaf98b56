#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "tool/mcp.h"
#include "tool/mcp_lists.h"
#include "tool/mcp_tools.h"
#include "tool/tool.h"

#define FETCH_MS	15000
#define WAIT_MS		5000	/* a turn waits so long for the lists of its user, all servers together */
#define AGAIN_MS	10000	/* a server that was down is left alone for so long */

/*
 * A server is asked for this user on a fiber of its own, which may outlive the turn that wanted it: the next turn finds
 * the row.  Turn and fiber share the errand; the last one gives it back, and wipes the token.
 */
struct errand {
	struct arena		*arena;
	int			 users;
	const struct conf	*settings;
	const struct conf_mcp	*server;
	const char		*user;
	char			*token;
	struct fiber		*waiter;	/* NULL: it has gone */
	bool			 done;
	const char		*text;		/* NULL: the server is down */
};

static bool	 caller_asked(const struct conf *);
static int	 rows_read(struct job *, struct pg_rows *);
static struct errand *errand_start(struct job *, const struct conf_mcp *);
static void	 errand_run(void *);
static void	 errand_give(struct errand *);
static void	 errands_wait(struct job *, struct errand **, int n);

bool
mcp_lists_own(struct job *job, struct arena *a, struct mcp_lists *out)
{
	const struct conf	*conf = job->conf;
	struct errand		**errands;
	struct pg_rows		 rows;
	int			 n;

	if (job->user == NULL || !caller_asked(conf))
		return false;
	mcp_lists_open(out, a, conf);
	errands = arena_array(a, struct errand *, conf->nmcp);
	n = rows_read(job, &rows);
	for (int i = 0; i < conf->nmcp; i++) {
		const struct conf_mcp	*m = &conf->mcp[i];
		int			 r = 0;

		if (!mcp_asks_caller(m))
			continue;
		while (r < n && (strcmp(pg_text(&rows, r, "server"), m->name) != 0 || strcmp(pg_text(&rows, r, "url"), m->url) != 0))
			r++;
		/* Without the token the names are still needed: the calls then say why they cannot be made. */
		if (r < n && (pg_int(&rows, r, "left_ms") > 0 || job->token == NULL))
			mcp_lists_add(out, a, m, pg_text(&rows, r, "tools"));
		else if (job->token != NULL)
			errands[i] = errand_start(job, m);
	}
	errands_wait(job, errands, conf->nmcp);
	for (int i = 0; i < conf->nmcp; i++)
		if (errands[i] != NULL) {
			mcp_lists_add(out, a, &conf->mcp[i], errands[i]->text);
			errands[i]->waiter = NULL;
			errand_give(errands[i]);
		}
	return true;
}

static bool
caller_asked(const struct conf *conf)
{
	for (int i = 0; i < conf->nmcp; i++)
		if (mcp_asks_caller(&conf->mcp[i]))
			return true;
	return false;
}

/* yields.  How many rows; a database that is away will be noticed by the turn itself. */
static int
rows_read(struct job *job, struct pg_rows *rows)
{
	if (pg_query(job, PG_TURN, rows, "SELECT server, url, tools, left_ms FROM parley.mcp_lists($1::text)", job->user) == 0)
		return rows->n;
	if (job->stop == JOB_RUNS)
		job_forgive(job);
	return 0;
}

static struct errand *
errand_start(struct job *job, const struct conf_mcp *server)
{
	struct arena	*a = arena_open();
	struct errand	*e = arena_new(a, struct errand);

	*e = (struct errand){ .arena = a, .users = 2, .settings = job->conf, .server = server,
	    .user = arena_strdup(a, job->user), .token = arena_strdup(a, job->token), .waiter = job->fiber };
	if (fiber_start(errand_run, e) == NULL) {
		e->done = true;
		e->users = 1;
	}
	return e;
}

static void
errand_run(void *arg)
{
	struct errand		*e = arg;
	struct mcp_reply	 r;
	struct mcp_link		 link;
	struct pg_rows		 rows;
	struct job		 job;
	struct buf		*text = buf_new(e->arena);
	int64_t			 ms;

	job_open(&job, e->settings);
	job.route = "mcp_tools";
	job.user = e->user;
	log_user_hash(e->user, job.user_hash);
	job.deadline = deadline_ms(FETCH_MS);
	mcp_link_make(&link, e->server, e->user, e->token);
	if (mcp_tools_ask(&job, &link, text, &ms, &r) == 0) {
		e->text = text->p;
	} else {
		mcp_log(&job, &link.peer, "tools/list", &r);
		mcp_reply_close(&r);
		ms = AGAIN_MS;
	}
	if (job.fail != FAIL_NONE)
		job_forgive(&job);
	job.deadline = deadline_ms(FETCH_MS);
	(void)pg_query(&job, PG_TURN, &rows, "SELECT parley.mcp_list_set($1::text, $2::text, $3::text, $4::text, $5::bigint)",
	    e->user, e->server->name, e->server->url, e->text, pg_num(&job, ms));
	e->done = true;
	if (e->waiter != NULL)
		fiber_wake(e->waiter);
	job_close(&job);
	errand_give(e);
}

static void
errand_give(struct errand *e)
{
	struct arena	*a = e->arena;

	if (--e->users > 0)
		return;
	explicit_bzero(e->token, strlen(e->token));
	arena_close(&a);
}

/* yields until all are done, or the turn would rather go on. */
static void
errands_wait(struct job *job, struct errand **errands, int n)
{
	int64_t	 until = deadline_ms(WAIT_MS);
	bool	 all;

	do {
		all = true;
		for (int i = 0; i < n; i++)
			all = all && (errands[i] == NULL || errands[i]->done);
	} while (!all && (job_wait(job, until) == 0 || (job->fail == FAIL_NONE && now_us() < until)));
}
