#include "chat/work.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/uuid.h"
#include "chat/pulse.h"
#include "chat/store.h"
#include "chat/turn.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

#define LOOK_US		1000000
/* As many are asked for in one look; where there were so many, the next look is when these are begun. */
#define LOOK_MAX	64
/* How often it is looked whether those are begun. */
#define BEGUN_MS	20
/* A look that fails is told of every so often. */
#define TELL_MS		10000
/* A turn without any lease is looked for every so many looks: the search is wider. */
#define ORPHANS_EVERY	2
/* work_once() looks whether its turns are done. */
#define DONE_MS		50
/* For those that are given back when its time is over: two statements, one of them waited for. */
#define RELEASE_MS	3000

/* What a fiber is to run: the only thing that it is given. */
struct work {
	struct turn_key	 key;
	char		*user;		/* the key's */
	bool		 handed;
};

/* The fiber that looks, what it was started with, and how many turns are being taken: forgotten with the process. */
static struct fiber	*self;
static const struct conf *settings;
static bool		 ending, ended;
static int		 taking;
/* How many turns became this process's, or were ended by it: for who tells of it at the end. */
static int		 taken;
/* When a look that failed is told of again. */
static int64_t		 tell_at;

static void	 look_run(void *);
static int	 look(bool orphans);
static void	 look_soon(int64_t until);
static bool	 rest_wait(int64_t until);
static void	 look_fail(struct job *);
static void	 work_fail(struct job *);
static void	 work_begin(const struct turn_key *, bool handed);
static void	 work_do(void *);

int
work_start(const struct conf *conf)
{
	settings = conf;
	ending = false;
	return (self = fiber_start(look_run, NULL)) != NULL ? 0 : -1;
}

void
work_conf(const struct conf *conf)
{
	settings = conf;
}

void
work_stop(void)
{
	ending = true;
	if (self != NULL)
		fiber_wake(self);
}

int
work_taking(void)
{
	return taking;
}

void
work_end(void)
{
	ended = true;
}

bool
work_wanted(void)
{
	return !ending && settings != NULL;
}

int
work_once(const struct conf *conf, int64_t until, int *released)
{
	bool	 asked = false;
	int	 n = 0;

	settings = conf;
	self = fiber_self();
	*released = 0;
	while (!ending && now_us() < until) {
		/* One that was not begun in this time would be found again. */
		if ((n = look(true)) < 0 && !asked)
			return -1;
		asked = true;
		if (rest_wait(deadline_first(until, deadline_ms(LOOK_US / 1000))) && n == 0)
			break;
	}

	work_stop();
	if (!rest_wait(now_us())) {
		*released = pulse_turns() + taking;
		pulse_stop_turns(JOB_DRAINED);
		work_end();
		(void)rest_wait(deadline_ms(RELEASE_MS));
	}
	self = NULL;
	return taken;
}

/* yields.  True: nothing runs here any more. */
static bool
rest_wait(int64_t until)
{
	while (pulse_turns() > 0 || taking > 0) {
		if (now_us() >= until)
			return false;
		loop_sleep(deadline_first(until, deadline_ms(DONE_MS)));
	}
	return true;
}

/* -- looking for turns without a worker -- */

static void
look_run(void *arg)
{
	unsigned char	 phase[2];
	int64_t		 next;

	(void)arg;
	/* Workers that were started together do not look together. */
	random_bytes(phase, sizeof phase);
	next = now_us() + (phase[0] << 8 | phase[1]) * (LOOK_US / 65536);
	for (int64_t nth = 0; !ending; nth++) {
		while (!ending && now_us() < next)
			fiber_park(next);
		if (ending)
			break;
		next = now_us() + LOOK_US;
		if (look(nth % ORPHANS_EVERY == 0) >= LOOK_MAX) {
			look_soon(next);
			next = now_us();
		}
	}
	self = NULL;
}

/* yields.  Those that were found would be found again until they are taken. */
static void
look_soon(int64_t until)
{
	while (!ending && taking > 0 && now_us() < until)
		loop_sleep(deadline_first(until, deadline_ms(BEGUN_MS)));
}

/* yields.  How many were found; -1: the database could not be asked. */
static int
look(bool orphans)
{
	int64_t		 room = settings->worker_max_turns - pulse_turns() - taking;
	struct turn_key	*keys;
	struct job	 job;
	int		 n = 0;

	if (room <= 0)
		return 0;
	job_open(&job, settings);
	job.route = "work";
	job.deadline = deadline_ms(settings->turn_lease);
	job.late = FAIL_DATABASE_UNAVAILABLE;
	if (store_expired(&job, (int)(room < LOOK_MAX ? room : LOOK_MAX), orphans, &keys, &n) == 0) {
		tell_at = 0;
		for (int i = 0; i < n && !ending; i++)
			work_begin(&keys[i], false);
	} else {
		look_fail(&job);
		n = -1;
	}
	job_close(&job);
	return n;
}

/* The database may be away, or not yet migrated: the next look will tell. */
static void
look_fail(struct job *job)
{
	if (deadline_every(&tell_at, TELL_MS))
		work_fail(job);
}

static void
work_fail(struct job *job)
{
	if (!job_log(job, LOG_WARN, "work_missed"))
		return;
	log_str("detail", job->detail);
	log_end();
}

/* -- running them -- */

void
work_run(const struct turn_key *key)
{
	if (key->turn != 0)
		work_begin(key, true);
}

static void
work_begin(const struct turn_key *key, bool handed)
{
	struct work	*w = calloc(1, sizeof *w);

	if (w == NULL || (w->user = strdup(key->user)) == NULL)
		arena_exhausted();
	w->key = *key;
	w->key.user = w->user;
	w->handed = handed;
	/* Without a stack for it the turn stays where it is, and its lease will tell. */
	if (fiber_start(work_do, w) == NULL) {
		free(w->user);
		free(w);
		return;
	}
	taking++;
}

/* On a fiber of its own: like a request that nobody waits for. */
static void
work_do(void *arg)
{
	static const struct turn_listener	 nobody;
	struct work				*w = arg;
	struct job				 job;
	struct turn				 t = { .listener = &nobody, .job = &job };
	int					 rc;

	job_open(&job, settings);
	job.route = w->handed ? "queue" : "takeover";
	job.user = w->key.user;
	log_user_hash(w->key.user, job.user_hash);
	rc = turn_take(&t, &w->key, w->handed);
	taking--;
	if (rc == 0 && (t.mine || t.closed))
		taken++;
	/* Not before: whether it is ours must be known, to be given away. */
	if (ended)
		job_stop(&job, JOB_DRAINED);
	if (rc == 0 && t.mine)
		(void)turn_run(&t);
	else if (job.fail != FAIL_NONE)
		work_fail(&job);
	job_close(&job);
	free(w->user);
	free(w);
}
