#include "chat/pulse.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "chat/rows.h"
#include "chat/watch.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

#define BEAT_US		1000000
#define WATCHED_US	200000
#define TELL_MS		10000

/* The turns that run on this worker now; each struct belongs to its turn, which is a row of the database as well. */
static struct pulse_turn	*turns;
static int			 nturns;
/* Its fiber, and what it was started with. */
static struct fiber		*self;
static const struct conf	*settings;
static bool			 ending;
/* When a beat without an answer is told of again. */
static int64_t			 tell_at;

/* What the statement asks, and what it answers. */
struct beat {
	struct buf	*users, *conversations, *turns, *fences, *indexes, *partials;
	int		 n;
	char		*stop;		/* by place: 'c', 'f' or NUL */
	struct watch_beat watches;
};

static void	 cancel(const char *, const char *, int, int);
static void	 pulse_run(void *);
static int	 beat(struct job *, bool leases);
static void	 beat_missed(struct job *, int);
static void	 beat_add(struct job *, struct beat *, struct pulse_turn *);
static int	 beat_ask(struct job *, struct beat *);
static void	 beat_obey(const struct beat *);

int
pulse_start(const struct conf *conf)
{
	settings = conf;
	ending = false;
	return (self = fiber_start(pulse_run, NULL)) != NULL ? 0 : -1;
}

void
pulse_conf(const struct conf *conf)
{
	settings = conf;
}

void
pulse_stop(void)
{
	ending = true;
	if (self != NULL)
		fiber_wake(self);
}

void
pulse_join(struct pulse_turn *p, const struct turn_key *key, struct job *job)
{
	p->key = key;
	p->job = job;
	p->since = now_us();
	p->place = 0;
	p->next = turns;
	p->link = &turns;
	if (turns != NULL)
		turns->link = &p->next;
	turns = p;
	if (nturns++ == 0 && self != NULL)
		fiber_wake(self);
}

void
pulse_leave(struct pulse_turn *p)
{
	if (p->link == NULL)
		return;
	*p->link = p->next;
	if (p->next != NULL)
		p->next->link = p->link;
	p->next = NULL;
	p->link = NULL;
	nturns--;
}

int
pulse_turns(void)
{
	return nturns;
}

void
pulse_stop_turns(enum job_stop how)
{
	for (struct pulse_turn *p = turns; p != NULL; p = p->next)
		job_stop(p->job, how);
}

void
pulse_wake(void)
{
	if (self != NULL)
		fiber_wake(self);
}

void
pulse_cancel(const char *user, const char *conversation_id, int turn)
{
	cancel(user, conversation_id, turn, turn);
}

void
pulse_cancel_before(const char *user, const char *conversation_id, int turn)
{
	cancel(user, conversation_id, 1, turn - 1);
}

static void
cancel(const char *user, const char *conversation_id, int first, int last)
{
	for (struct pulse_turn *p = turns; p != NULL; p = p->next)
		if (p->key->turn >= first && p->key->turn <= last &&
		    strcmp(p->key->conversation_id, conversation_id) == 0 && strcmp(p->key->user, user) == 0 &&
		    !p->job->masked && p->job->stop == JOB_RUNS)
			job_stop(p->job, JOB_CANCELLED);
}

static void
pulse_run(void *arg)
{
	struct job	 job;
	int64_t		 leases = 0, at;
	int		 rc;

	(void)arg;
	while (!ending) {
		/* Nobody there: the next who joins wakes it, and has a lease without asking for a second at least. */
		if (nturns == 0 && watch_count() == 0) {
			fiber_park(NEVER);
			continue;
		}
		/* Somebody who begins to watch does not wait for the next second. */
		at = now_us();
		if (at < leases && watch_count() == 0) {
			fiber_park(leases);
			continue;
		}
		job_open(&job, settings);
		job.route = "pulse";
		/* An answer that comes after the leases have run out renews nothing. */
		job.deadline = deadline_ms(settings->turn_lease);
		job.late = FAIL_DATABASE_UNAVAILABLE;
		rc = beat(&job, at >= leases);
		job_close(&job);
		if (at >= leases)
			leases = at + BEAT_US;
		loop_sleep(at + (rc == 0 ? WATCHED_US : BEAT_US));
	}
	self = NULL;
}

/* yields.  One statement for all turns that have run for a second: most never come this far.  -1: no answer. */
static int
beat(struct job *job, bool leases)
{
	int64_t		 old = now_us() - BEAT_US;
	struct beat	 b = {
		.users = buf_new(job->arena),
		.conversations = buf_new(job->arena),
		.turns = buf_new(job->arena),
		.fences = buf_new(job->arena),
		.indexes = buf_new(job->arena),
		.partials = buf_new(job->arena),
	};

	/* A beat that failed has left the places of its own statement behind. */
	for (struct pulse_turn *p = turns; p != NULL; p = p->next)
		p->place = 0;
	for (struct pulse_turn *p = turns; p != NULL && leases; p = p->next)
		if (p->since <= old)
			beat_add(job, &b, p);
	watch_ask(job, &b.watches);
	if (b.n == 0 && b.watches.n == 0)
		return 0;

	if (beat_ask(job, &b) < 0) {
		beat_missed(job, b.n);
		return -1;
	}
	tell_at = 0;
	beat_obey(&b);
	watch_tell(&b.watches);
	return 0;
}

/* The leases are longer than a second or two; whoever loses one finds out by its fence. */
static void
beat_missed(struct job *job, int n)
{
	if (!deadline_every(&tell_at, TELL_MS) || !job_log(job, LOG_WARN, "pulse_missed"))
		return;
	log_str("detail", job->detail);
	log_int("turns", n);
	log_end();
}

static void
beat_add(struct job *job, struct beat *b, struct pulse_turn *p)
{
	const struct turn_key	*k = p->key;
	const char		*turn = pg_num(job, k->turn), *fence = pg_num(job, k->fence);
	const char		*index = pg_num(job, p->index);
	const char		*text = NULL;
	size_t			 n = 0;

	p->place = ++b->n;
	rows_array_add(b->users, k->user, strlen(k->user));
	rows_array_add(b->conversations, k->conversation_id, strlen(k->conversation_id));
	rows_array_add(b->turns, turn, strlen(turn));
	rows_array_add(b->fences, fence, strlen(fence));
	rows_array_add(b->indexes, index, strlen(index));

	/* A character may have arrived by half; text that is none would spoil the statement for all. */
	if (p->partial != NULL && p->partial->n > 0) {
		n = utf8_whole(p->partial->p, p->partial->n);
		if (utf8_valid(p->partial->p, n))
			text = p->partial->p;
	}
	rows_array_add(b->partials, text, n);
}

static int
beat_ask(struct job *job, struct beat *b)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_PULSE, &rows,
	    "SELECT watched, place, say"
	    "  FROM parley.pulse($1::int, $2::text[], $3::uuid[], $4::int[], $5::bigint[], $6::int[], $7::text[],"
	    "       $8::text[], $9::uuid[], $10::int[], $11::boolean[], $12::text[])",
	    pg_num(job, job->conf->turn_lease), rows_array_end(b->users), rows_array_end(b->conversations),
	    rows_array_end(b->turns), rows_array_end(b->fences), rows_array_end(b->indexes),
	    rows_array_end(b->partials), rows_array_end(b->watches.users), rows_array_end(b->watches.conversations),
	    rows_array_end(b->watches.turns), rows_array_end(b->watches.texts), rows_array_end(b->watches.seen)) < 0)
		return -1;
	b->stop = arena_alloc(job->arena, (size_t)b->n + 1);
	b->watches.changed = arena_alloc(job->arena, (size_t)b->watches.n + 1);
	for (int i = 0; i < rows.n; i++) {
		int64_t	 place = pg_int(&rows, i, "place");
		bool	 watched = pg_bool(&rows, i, "watched");

		if (watched && place >= 1 && place <= b->watches.n)
			b->watches.changed[place] = true;
		if (!watched && place >= 1 && place <= b->n)
			b->stop[place] = *pg_text(&rows, i, "say");
	}
	return 0;
}

/* While the statement was under way turns have left, and others have joined: those have no place. */
static void
beat_obey(const struct beat *b)
{
	struct pulse_turn	*next;

	for (struct pulse_turn *p = turns; p != NULL; p = next) {
		int	 place = p->place;

		next = p->next;
		p->place = 0;
		/* One that stores its end just now would be told that it has ended. */
		if (place == 0 || b->stop[place] == '\0' || p->job->masked || p->job->stop != JOB_RUNS)
			continue;
		job_stop(p->job, b->stop[place] == 'c' ? JOB_CANCELLED : JOB_FENCED);
	}
}
