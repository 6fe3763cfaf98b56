#include "run/job.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/arena.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/loop.h"

static bool	 wait_is_over(struct job *);
static bool	 attend(struct job *);
static int64_t	 wait_end(const struct job *, int64_t until);

void
job_open(struct job *job, const struct conf *conf)
{
	memset(job, 0, sizeof *job);
	job->arena = arena_open();
	job->conf = conf;
	job->fiber = fiber_self();
	job->started = now_us();
	job->deadline = NEVER;
	job->late = FAIL_TURN_TIMEOUT;
	job->attend_at = NEVER;
	uuid_new(job->request_id);
}

void
job_close(struct job *job)
{
	arena_close(&job->arena);
	job->fiber = NULL;
}

int
job_fail_(struct job *job, enum fail code, const char *file, int line, const char *fmt, ...)
{
	va_list	 ap;

	/* The first to know is right; what fails after it fails because of it. */
	if (job->fail != FAIL_NONE)
		return -1;
	job->fail = code;
	job->where = arena_printf(job->arena, "%s:%d", file, line);
	job->sentence = fail_kind(code)->sentence;
	if (fmt != NULL) {
		va_start(ap, fmt);
		job->sentence = arena_vprintf(job->arena, fmt, ap);
		va_end(ap);
	}
	return -1;
}

int
job_fail_field_(struct job *job, const char *field, const char *file, int line, const char *fmt, ...)
{
	va_list	 ap;

	if (job->fail != FAIL_NONE)
		return -1;
	job->fail = FAIL_VALIDATION_ERROR;
	job->field = arena_strdup(job->arena, field);
	job->where = arena_printf(job->arena, "%s:%d", file, line);
	va_start(ap, fmt);
	job->sentence = arena_vprintf(job->arena, fmt, ap);
	va_end(ap);
	return -1;
}

void
job_detail(struct job *job, const char *fmt, ...)
{
	va_list	 ap;

	if (job->fail != FAIL_NONE)
		return;
	va_start(ap, fmt);
	job->detail = arena_vprintf(job->arena, fmt, ap);
	va_end(ap);
}

void
job_forgive(struct job *job)
{
	job->fail = FAIL_NONE;
	job->sentence = job->field = job->detail = job->where = NULL;
	job->retry_after = 0;
}

struct job_failure
job_failure_take(struct job *job)
{
	struct job_failure	 f = {
		.fail = job->fail,
		.sentence = job->sentence,
		.field = job->field,
		.detail = job->detail,
		.where = job->where,
		.retry_after = job->retry_after,
	};

	job_forgive(job);
	return f;
}

int
job_failure_put(struct job *job, const struct job_failure *f)
{
	job->fail = f->fail;
	job->sentence = f->sentence;
	job->field = f->field;
	job->detail = f->detail;
	job->where = f->where;
	job->retry_after = f->retry_after;
	return -1;
}

int
job_wait(struct job *job, int64_t until)
{
	bool	 woken;

	assert(job->fiber == fiber_self());
	for (;;) {
		if (wait_is_over(job))
			return -1;
		/*
		 * The attendant may have parked and so swallowed the wake that
		 * this wait is for: the caller looks at his condition again.
		 */
		if (job->attend_at <= now_us() && !job->attending)
			return attend(job) ? 0 : -1;
		woken = fiber_park(wait_end(job, until)) == 0;
		if (wait_is_over(job))
			return -1;
		if (woken)
			return 0;
		if (until <= now_us())
			return -1;
	}
}

int
job_wait_fd(struct job *job, int fd, uint32_t events, int64_t until)
{
	int	 got;

	assert(job->fiber == fiber_self());
	for (;;) {
		if (wait_is_over(job))
			return -1;
		if (job->attend_at <= now_us() && !job->attending && !attend(job))
			return -1;
		got = loop_wait_fd_or_wake(fd, events, wait_end(job, until));
		if (got > 0)
			return got;
		if (got < 0) {
			job_detail(job, "epoll: %s", strerrorname_np(errno));
			return job_fail(job, FAIL_INTERNAL_ERROR, NULL);
		}
		if (until <= now_us())
			return wait_is_over(job) ? -1 : 0;
	}
}

/* Past its deadline, or told to stop: then the job has failed. */
static bool
wait_is_over(struct job *job)
{
	if (job->stop != JOB_RUNS && !job->masked) {
		(void)job_fail(job, FAIL_TURN_ABANDONED, NULL);
		return true;
	}
	if (job->deadline <= now_us()) {
		(void)job_fail(job, job->late, NULL);
		return true;
	}
	return false;
}

/* false when the job has failed by it. */
static bool
attend(struct job *job)
{
	enum fail	 before = job->fail;

	job->attending = true;
	job->attend_at = NEVER;		/* it asks anew if it wants */
	job->attend(job->attend_arg);
	job->attending = false;
	return job->fail == before && !wait_is_over(job);
}

static int64_t
wait_end(const struct job *job, int64_t until)
{
	until = deadline_first(until, job->deadline);
	return job->attending ? until : deadline_first(until, job->attend_at);
}

void
job_stop(struct job *job, enum job_stop why)
{
	/* Fenced says the most: what this job would still write is refused. */
	if (job->stop == JOB_RUNS || why == JOB_FENCED)
		job->stop = why;
	if (job->fiber != NULL)
		fiber_wake(job->fiber);
}

bool
job_log(const struct job *job, enum log_level level, const char *event)
{
	if (!log_begin(level, event))
		return false;
	log_str("request_id", job->request_id);
	log_str("route", job->route);
	if (job->user_hash[0] != '\0')
		log_str("user", job->user_hash);
	if (job->conversation_id[0] != '\0')
		log_str("conversation_id", job->conversation_id);
	if (job->turn != 0)
		log_int("turn", job->turn);
	if (job->trace != NULL)
		log_str("trace", job->trace->id);
	return true;
}
