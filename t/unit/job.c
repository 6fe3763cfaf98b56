#include "tap.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/uuid.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

static struct job	*stopped;
static int		 attended, nested, pair[2];

static void
test_fail(void)
{
	struct job	 job;
	char		 id[UUID_TEXT];

	job_open(&job, NULL);
	ok(uuid_parse(job.request_id, id), "a job has a request id");
	job_detail(&job, "SQLSTATE %s", "00000");
	job_detail(&job, "SQLSTATE %s", "57014");
	ok(job_fail(&job, FAIL_MODEL_ERROR, NULL) == -1, "a failure is -1");
	ok(job.fail == FAIL_MODEL_ERROR && strstr(job.where, "job.c:") != NULL, "named and placed");
	is_text(job.sentence, fail_kind(FAIL_MODEL_ERROR)->sentence, "with the table's sentence");
	is_text(job.detail, "SQLSTATE 57014", "and the last detail");
	ok(job_fail(&job, FAIL_FORBIDDEN, "no %d", 1) == -1 && job.fail == FAIL_MODEL_ERROR, "the first one is kept");
	job_forgive(&job);
	ok(job.fail == FAIL_NONE && job.detail == NULL, "forgiven");
	ok(job_fail_field(&job, "message", "%d is too many", 3) == -1 && job.fail == FAIL_VALIDATION_ERROR, "a field");
	is_text(job.field, "message", "is named");
	is_text(job.sentence, "3 is too many", "and explained");
	job_close(&job);
	ok(job.arena == NULL, "closed");
}

static void
attendant(void *arg)
{
	struct job	*job = arg;

	nested += attended % 2;
	attended++;
	job->attend_at = 0;	/* due at once: must not nest */
	(void)job_wait(job, deadline_ms(5));
	job->attend_at = deadline_ms(10);
	attended++;
}

static void
test_attendant(struct job *job)
{
	int64_t	 until = deadline_ms(100);
	int	 rounds = 0;

	job->attend = attendant;
	job->attend_arg = job;
	job->attend_at = deadline_ms(10);
	while (job_wait(job, until) == 0)
		rounds++;
	ok(job->fail == FAIL_NONE && now_us() >= until, "a wait ends by time without failing");
	ok(attended >= 8 && rounds == attended / 2, "the attendant came as it asked, and each time the waiter looked again");
	ok(nested == 0, "never within itself");

	attended = 0;
	job->attend_at = deadline_ms(10);
	ok(job_wait_fd(job, pair[0], EPOLLIN, deadline_ms(60)) == 0 && attended >= 4, "also while a descriptor is awaited");
	ok(job_wait_fd(job, pair[0], EPOLLOUT, deadline_ms(60)) == EPOLLOUT, "which still gets ready");
	job->attend_at = NEVER;
}

static void
stopper(void *arg)
{
	loop_sleep(deadline_ms(10));
	job_stop(stopped, (enum job_stop)(size_t)arg);
}

static void
test_stop(struct job *job)
{
	int64_t	 start = now_us();

	stopped = job;
	job->masked = true;
	(void)fiber_start(stopper, (void *)(size_t)JOB_CANCELLED);
	ok(job_wait(job, deadline_ms(2000)) == 0 && job->fail == FAIL_NONE, "a masked stop only wakes");
	ok(job->stop == JOB_CANCELLED, "and is remembered");
	ok(job_wait(job, deadline_ms(5)) < 0 && job->fail == FAIL_NONE, "masked waits go on");
	job->masked = false;
	ok(job_wait(job, NEVER) < 0 && job->fail == FAIL_TURN_ABANDONED, "unmasked: the next wait fails");
	job_forgive(job);
	job->stop = JOB_RUNS;

	(void)fiber_start(stopper, (void *)(size_t)JOB_DRAINED);
	ok(job_wait_fd(job, pair[0], EPOLLIN, NEVER) < 0 && job->fail == FAIL_TURN_ABANDONED, "a stop ends a wait for a descriptor");
	job_stop(job, JOB_CANCELLED);
	ok(job->stop == JOB_DRAINED, "the first reason is kept");
	job_stop(job, JOB_FENCED);
	ok(job->stop == JOB_FENCED, "unless it is the fence");
	ok(now_us() - start < 1000000, "all of it at once");
	job_forgive(job);
	job->stop = JOB_RUNS;
	(void)job_wait(job, 0);	/* swallows the wakes */
	(void)job_wait(job, 0);
}

static void
run(void *arg)
{
	struct job	 job;
	int64_t		 end;

	(void)arg;
	job_open(&job, NULL);
	test_attendant(&job);
	test_stop(&job);

	end = job.deadline = deadline_ms(20);
	job.late = FAIL_MODEL_TIMEOUT;
	while (job_wait(&job, NEVER) == 0)
		;
	ok(job.fail == FAIL_MODEL_TIMEOUT && now_us() >= end, "the deadline fails the job under its name");
	job_forgive(&job);
	ok(job_wait_fd(&job, pair[0], EPOLLOUT, NEVER) < 0 && job.fail == FAIL_MODEL_TIMEOUT, "and every later wait");
	job_forgive(&job);
	job.deadline = NEVER;
	ok(job_wait_fd(&job, 9999, EPOLLIN, NEVER) < 0 && job.fail == FAIL_INTERNAL_ERROR && job.detail != NULL,
	    "a descriptor that is none");
	job_close(&job);
	loop_stop();
}

int
main(void)
{
	test_fail();
	if (loop_open() < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return 1;
	(void)fiber_start(run, NULL);
	loop_run();
	loop_close();
	return done_testing();
}
