#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/json.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "tool/mcp.h"
#include "tool/mcp_lists.h"
#include "tool/mcp_tools.h"
#include "tool/tool.h"

#define FETCH_MS	15000	/* for finding out the era and reading all pages */
#define WAIT_MS		3000	/* of this a reader of the whole table waits; then without that server */
#define AGAIN_MS	INT64_C(10000)	/* a server that was down is left alone for so long, or until its list were old */

/* What this worker knows of a server that is the same for all users. */
struct known {
	const struct conf_mcp	*conf;
	const struct conf	*settings;	/* that it stands in */
	struct known		*next;
	char			*text;		/* of its tools; NULL: it is down, or not yet asked */
	int64_t			 until;		/* then it is to be asked again */
	bool			 asking;
	bool			 doubted;	/* a call has shown that the list is old: the fact is, too */
};

/* Copies of public facts with an expiry; forgotten, they are read again. */
static struct known	*known;
/* Who waits for them to come in, and whether one has since the last time they were read. */
static struct fiber	*waiting;
static bool		 news;

static void	 facts_read(struct job *);
static struct known *known_of(const struct conf_mcp *);
static void	 known_set(struct known *, const char *text, int64_t ms);
static int64_t	 pause_ms(const struct conf_mcp *);
static void	 fetch_start(struct known *);
static void	 fetch_run(void *);
static void	 wait_for_all(struct job *);
static const char *facts_key(struct job *, const struct conf_mcp *);

void
mcp_lists_shared(struct job *job, struct arena *a, struct mcp_lists *out)
{
	const struct conf	*conf = job->conf;

	mcp_lists_open(out, a, conf);
	news = false;
	facts_read(job);
	for (int i = 0; i < conf->nmcp; i++) {
		struct known	*k = known_of(&conf->mcp[i]);

		k->settings = conf;
		if (!mcp_asks_caller(k->conf) && !k->asking && now_us() >= k->until)
			fetch_start(k);
	}
	wait_for_all(job);
	for (int i = 0; i < conf->nmcp; i++)
		if (!mcp_asks_caller(&conf->mcp[i]))
			mcp_lists_add(out, a, &conf->mcp[i], known_of(&conf->mcp[i])->text);
}

bool
mcp_lists_news(void)
{
	return news;
}

void
mcp_doubt(const struct conf_mcp *conf)
{
	struct known	*k = known_of(conf);

	k->until = 0;
	k->doubted = true;
	news = true;
}

/* yields.  What other workers have found out, for those that are old here. */
static void
facts_read(struct job *job)
{
	struct pg_rows	 rows;
	struct buf	*keys = buf_new(job->arena);
	int		 n = 0;

	jw_open(keys, '[');
	for (int i = 0; i < job->conf->nmcp; i++) {
		struct known	*k = known_of(&job->conf->mcp[i]);

		if (!mcp_asks_caller(k->conf) && !k->asking && !k->doubted && now_us() >= k->until) {
			jw_string(keys, facts_key(job, k->conf));
			n++;
		}
	}
	jw_close(keys, ']');
	if (n == 0)
		return;
	if (pg_query(job, PG_TURN, &rows, "SELECT key, value, left_ms FROM parley.mcp_facts($1::json)", keys->p) < 0) {
		if (job->stop == JOB_RUNS)
			job_forgive(job);
		return;
	}
	for (int r = 0; r < rows.n; r++)
		for (int i = 0; i < job->conf->nmcp; i++)
			if (strcmp(pg_text(&rows, r, "key"), facts_key(job, &job->conf->mcp[i])) == 0)
				known_set(known_of(&job->conf->mcp[i]), pg_text(&rows, r, "value"), pg_int(&rows, r, "left_ms"));
	pg_free(&rows);
}

/* Servers are few, and known by name and address: a configuration that is read again has others of the same name. */
static struct known *
known_of(const struct conf_mcp *conf)
{
	struct known	*k;

	for (k = known; k != NULL; k = k->next)
		if (strcmp(k->conf->name, conf->name) == 0 && strcmp(k->conf->url, conf->url) == 0) {
			/* Other settings may let other tools pass. */
			if (k->conf != conf)
				k->until = 0;
			k->conf = conf;
			return k;
		}
	k = calloc(1, sizeof *k);
	if (k == NULL)
		arena_exhausted();
	k->conf = conf;
	k->next = known;
	known = k;
	return k;
}

static void
known_set(struct known *k, const char *text, int64_t ms)
{
	free(k->text);
	k->text = text != NULL ? strdup(text) : NULL;
	if (text != NULL && k->text == NULL)
		arena_exhausted();
	k->until = deadline_ms(ms);
	k->doubted = false;
}

static int64_t
pause_ms(const struct conf_mcp *conf)
{
	return conf->refresh < AGAIN_MS ? conf->refresh : AGAIN_MS;
}

static void
fetch_start(struct known *k)
{
	k->asking = true;
	if (fiber_start(fetch_run, k) == NULL) {
		k->asking = false;
		known_set(k, NULL, pause_ms(k->conf));
	}
}

/* On a fiber of its own: nobody's job. */
static void
fetch_run(void *arg)
{
	struct known		*k = arg;
	const struct conf_mcp	*conf = k->conf;
	struct mcp_reply	 r;
	struct mcp_link		 link;
	struct pg_rows		 rows;
	struct job		 job;
	struct buf		 text = { 0 };
	int64_t			 ms;
	bool			 got;

	job_open(&job, k->settings);
	job.route = "mcp_tools";
	job.deadline = deadline_ms(FETCH_MS);
	mcp_link_make(&link, conf, NULL, NULL);
	got = mcp_tools_ask(&job, &link, &text, &ms, &r) == 0;
	if (!got) {
		mcp_log(&job, &link.peer, "tools/list", &r);
		mcp_reply_close(&r);
	}
	known_set(k, got ? text.p : NULL, got ? ms : pause_ms(conf));
	k->asking = false;
	news = true;
	if (waiting != NULL)
		fiber_wake(waiting);
	mcp_link_close(&job, &link);
	/* For the other workers. */
	if (got)
		(void)pg_query(&job, PG_TURN, &rows, "SELECT parley.fact_set($1, $2, $3::bigint)", facts_key(&job, conf), text.p,
		    pg_num(&job, ms));
	buf_free(&text);
	job_close(&job);
}

/* yields until all that were asked have answered, but not for long. */
static void
wait_for_all(struct job *job)
{
	int64_t	 until = deadline_ms(WAIT_MS);
	bool	 all;

	waiting = job->fiber;
	do {
		all = true;
		for (struct known *k = known; k != NULL; k = k->next)
			all = all && !k->asking;
	} while (!all && (job_wait(job, until) == 0 || (job->fail == FAIL_NONE && now_us() < until)));
	waiting = NULL;
}

static const char *
facts_key(struct job *job, const struct conf_mcp *conf)
{
	return arena_printf(job->arena, "mcp:tools:%s|%s|%s", conf->name, conf->url, conf->tools != NULL ? conf->tools : "");
}
