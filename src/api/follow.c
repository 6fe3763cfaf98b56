#include "api/follow.h"

#include <string.h>

#include "base/arena.h"
#include "run/deadline.h"
#include "run/job.h"

/* Should a change not be told, or none that is told concern the queue: a look all the same. */
#define LOOK_MS		10000
/* Between two looks while the database is away. */
#define PAUSE_MS	1000

int
follow_look(struct follow *f)
{
	struct job		*job = f->job;
	struct arena		*own = job->arena, *fresh = arena_open();
	struct store_turn	 now;
	int			 rc;

	job->arena = fresh;
	rc = store_turn(job, f->conversation_id, f->turn, f->text, &now);
	job->arena = own;
	if (rc < 0) {
		arena_close(&f->failed);
		f->failed = fresh;
		return -1;
	}

	/* The pulse may have asked for the old digest until now. */
	f->now = now;
	f->watch.digest = now.digest;
	arena_close(&f->arena);
	f->arena = fresh;
	return 0;
}

int
follow_bear(struct follow *f, int64_t until)
{
	struct job	*job = f->job;
	int64_t		 again = deadline_first(until, deadline_ms(PAUSE_MS));

	if (job->fail != FAIL_DATABASE_UNAVAILABLE || job->stop != JOB_RUNS)
		return -1;
	job_forgive(job);
	while (!f->quit && now_us() < again)
		if (job_wait(job, again) < 0 && job->fail != FAIL_NONE)
			return -1;
	return f->quit || now_us() >= until ? -1 : 0;
}

static void
follow_join(struct follow *f)
{
	if (f->watch.link != NULL)
		return;
	f->watch.job = f->job;
	f->watch.conversation_id = f->conversation_id;
	f->watch.turn = f->turn;
	f->watch.text = f->text;
	watch_join(&f->watch);
}

int
follow_next(struct follow *f, int64_t until)
{
	follow_join(f);
	while (!f->quit) {
		if (watch_wait(&f->watch, deadline_first(until, deadline_ms(LOOK_MS))) < 0 &&
		    (f->job->fail != FAIL_NONE || now_us() >= until))
			return -1;
		if (f->quit)
			break;
		if (follow_look(f) == 0)
			return 0;
		if (follow_bear(f, until) < 0)
			return -1;
	}
	return -1;
}

int
follow_to_end(struct follow *f, int64_t until)
{
	while (follow_is_live(f))
		if (follow_next(f, until) < 0)
			return -1;
	return 0;
}

bool
follow_is_live(const struct follow *f)
{
	return strcmp(f->now.state, "running") == 0 || strcmp(f->now.state, "queued") == 0;
}

void
follow_quit(struct follow *f)
{
	/* The wait ends for a change: it knows no other reason. */
	f->quit = true;
	f->watch.changed = true;
}

int
follow_fail(const struct follow *f)
{
	enum fail	 code = fail_by_code(f->now.error_code);

	if (f->now.sentence != NULL)
		return job_fail(f->job, code, "%s", f->now.sentence);
	return job_fail(f->job, code, NULL);
}

/* The reason stays with the job when the look that found it goes. */
static void
failure_keep(struct job *job)
{
	struct job_failure	 why = job_failure_take(job);

	why.sentence = arena_strdup(job->arena, why.sentence);
	why.field = arena_strdup(job->arena, why.field);
	why.detail = arena_strdup(job->arena, why.detail);
	why.where = arena_strdup(job->arena, why.where);
	(void)job_failure_put(job, &why);
}

void
follow_close(struct follow *f)
{
	if (f->job == NULL)
		return;
	watch_leave(&f->watch);
	if (f->job->fail != FAIL_NONE)
		failure_keep(f->job);
	else
		job_forgive(f->job);	/* a detail that was said of a failure long forgotten */
	arena_close(&f->failed);
	arena_close(&f->arena);
}
