#include "tap.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/deadline.h"
#include "run/fiber.h"
#include "run/loop.h"

#define MANY	12000

static char		 trace[64];
static int		 reached, finished, spins;
static struct fiber	*first;

static void
ping(void *arg)
{
	(void)arg;
	strcat(trace, "a");
	ok(fiber_park(NEVER) == 0, "woken");
	strcat(trace, "c");
}

static void
pong(void *arg)
{
	strcat(trace, "b");
	fiber_wake(arg);
	fiber_wake(arg);
	strcat(trace, "B");
}

static void
self_wake(void *arg)
{
	int64_t	 start = now_us();

	(void)arg;
	fiber_wake(fiber_self());
	fiber_wake(fiber_self());
	ok(fiber_park(NEVER) == 0, "woken while running: the next park returns at once");
	ok(fiber_park(deadline_ms(20)) < 0 && now_us() - start >= 20000, "but only one; the next ends by time");
	ok(fiber_park(0) < 0, "a time in the past still yields");
	loop_stop();
}

static void
touch(char *p, int depth)
{
	volatile char	 frame[512];

	frame[0] = *p;
	frame[511] = (char)depth;
	if (depth > 0)
		touch(p, depth - 1);
	reached += frame[511] == (char)depth;
}

static void
one_of_many(void *arg)
{
	char	 mark = (char)(size_t)arg;

	touch(&mark, 10);
	(void)fiber_park(deadline_ms(50 + (int64_t)(size_t)arg % 50));
	if (mark == (char)(size_t)arg && ++finished == MANY)
		loop_stop();
}

static void
spinner(void *arg)
{
	int	 left = 20000;

	(void)arg;
	while (left-- > 0) {
		spins++;
		(void)fiber_park(0);
	}
	loop_stop();
}

static void
never_ends(void *arg)
{
	char	*held = strdup("held by a stack that waits");

	(void)arg;
	(void)fiber_park(NEVER);
	free(held);
}

__attribute__((noinline)) static int
overflow(int depth)
{
	volatile char	 frame[4096];

	frame[depth % 4096] = 1;
	return depth < 0 ? 0 : overflow(depth + 1) + frame[depth % 4096];
}

static void
overflows(void *arg)
{
	(void)arg;
	_exit(overflow(0) & 0);
}

static void
test_guard(void)
{
	struct rlimit	 no_core = { 0, 0 };
	int		 status = 0;
	pid_t		 pid = fork();

	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)close(STDERR_FILENO);
		if (loop_open() == 0 && fiber_start(overflows, NULL) != NULL)
			loop_run();
		_exit(0);
	}
	(void)waitpid(pid, &status, 0);
	ok(status != 0, "the guard page ends a fiber that goes too deep");
}

int
main(void)
{
	int64_t	 start;

	test_guard();
	fiber_stack_size(64 * 1024);
	ok(loop_open() == 0, "loop open");
	ok(fiber_self() == NULL, "the loop is no fiber");

	first = fiber_start(ping, NULL);
	(void)fiber_start(pong, first);
	ok(fiber_count() == 2 && trace[0] == '\0', "started, not yet run");
	fiber_run_ready();
	is_text(trace, "abBc", "they change over where they park");
	ok(fiber_count() == 0, "and end");

	(void)fiber_start(self_wake, NULL);
	loop_run();

	start = now_us();
	for (size_t i = 0; i < MANY; i++)
		if (fiber_start(one_of_many, (void *)i) == NULL)
			break;
	ok(fiber_count() == MANY, "%d fibers", MANY);
	loop_run();
	ok(finished == MANY && reached == MANY * 11 && fiber_count() == 0, "all of them ran");
	printf("# %lld ms\n", (long long)(now_us() - start) / 1000);

	start = now_us();
	(void)fiber_start(spinner, NULL);
	loop_run();
	ok(spins == 20000, "switching");
	printf("# %.2f us for each turn of the loop\n", (double)(now_us() - start) / spins);

	(void)fiber_start(never_ends, NULL);
	fiber_run_ready();
	loop_close();
	return done_testing();
}
