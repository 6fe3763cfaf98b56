#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run/deadline.h"
#include "run/fiber.h"
#include "run/loop.h"

#define TIMERS	2000

static int		 fired, disordered, signals, watched;
static int64_t		 last;
static struct timer	 timers[TIMERS], tick;
static int		 pair[2];

static void
on_timer(void *arg)
{
	struct timer	*t = arg;

	disordered += t->at < last || now_us() < t->at;
	last = t->at;
	fired++;
}

static void
on_end(void *arg)
{
	(void)arg;
	loop_stop();
}

static void
on_again(void *arg)
{
	fired++;
	timer_set(arg, 0);
}

static void
test_timers(void)
{
	struct timer	 end = { .fn = on_end }, again = { .fn = on_again, .arg = &again };
	int		 want = 0;

	srandom(7);
	for (int i = 0; i < TIMERS; i++) {
		timers[i] = (struct timer){ .fn = on_timer, .arg = &timers[i] };
		timer_set(&timers[i], now_us() + random() % 50000);
	}
	for (int i = 0; i < TIMERS; i += 2)
		timer_set(&timers[i], now_us() + random() % 50000);
	for (int i = 0; i < TIMERS; i += 3)
		timer_clear(&timers[i]);
	timer_clear(&timers[0]);
	for (int i = 0; i < TIMERS; i++)
		want += i % 3 != 0;
	timer_set(&end, deadline_ms(80));
	loop_run();
	ok(fired == want, "timers fire once, cleared ones never");
	ok(disordered == 0, "in order and not too early");

	fired = 0;
	timer_set(&again, 0);
	timer_set(&end, deadline_ms(20));
	loop_run();
	timer_clear(&again);
	ok(fired > 1, "a timer that sets itself to now does not hold the loop");
}

static void
on_signal(int sig)
{
	signals += sig == SIGUSR2;
	ok(fiber_self() == NULL, "a signal is told on the loop's stack");
	loop_stop();
}

static void
on_watch(void *arg, uint32_t events)
{
	char	 c;

	(void)arg;
	if ((events & EPOLLIN) && read(pair[0], &c, 1) == 1)
		watched++;
	if (watched == 2)
		loop_stop();
}

static void
test_watch(void)
{
	ok(loop_watch(pair[0], EPOLLOUT, on_watch, NULL) == 0 &&
	    loop_watch(pair[0], EPOLLIN, on_watch, NULL) == 0, "watched, and changed");
	ok(write(pair[1], "xy", 2) == 2, "two bytes");
	loop_run();
	ok(watched == 2, "level-triggered: told twice of two bytes read one by one");
	loop_unwatch(pair[0]);
	loop_unwatch(pair[0]);
	loop_unwatch(12345);
	ok(loop_watch(pair[0], EPOLLIN | EPOLLEXCLUSIVE, on_watch, NULL) == 0 &&
	    loop_watch(pair[0], EPOLLIN | EPOLLEXCLUSIVE, on_watch, NULL) == 0, "an exclusive watch may be set anew");
	loop_unwatch(pair[0]);
	ok(true, "unwatching is harmless");
}

static void
writes_later(void *arg)
{
	loop_sleep(deadline_ms(20));
	(void)!write(pair[1], arg, 1);
}

static void
waits(void *arg)
{
	int64_t	 start = now_us();
	int	 null = open("/dev/null", O_RDONLY), reused;
	char	 c, x[] = "x";

	(void)arg;
	ok(loop_wait_fd(pair[0], EPOLLOUT, deadline_ms(1000)) == EPOLLOUT, "writable at once");
	ok(loop_wait_fd(pair[0], EPOLLIN, deadline_ms(20)) == 0 && now_us() - start >= 20000, "not readable in time");
	(void)fiber_start(writes_later, x);
	ok(loop_wait_fd(pair[0], EPOLLIN, deadline_ms(1000)) == EPOLLIN, "readable when written to");
	ok(loop_wait_fd(pair[0], EPOLLIN, deadline_ms(1000)) == EPOLLIN, "and again, while unread");
	(void)!read(pair[0], &c, 1);

	/* A wait that ended by time must leave nothing behind. */
	ok(loop_wait_fd(pair[0], EPOLLIN, deadline_ms(1)) == 0, "a wait in vain");
	(void)!write(pair[1], "y", 1);
	start = now_us();
	ok(fiber_park(deadline_ms(20)) < 0, "its event comes too late and wakes nobody");
	(void)!read(pair[0], &c, 1);

	/* The number of a closed descriptor is given to another. */
	ok(loop_wait_fd(pair[0], EPOLLOUT, deadline_ms(1000)) > 0, "known to epoll");
	reused = pair[0];
	(void)close(pair[0]);
	(void)close(pair[1]);
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pair[0] == reused, "closed, and its number used again");
	(void)fiber_start(writes_later, x);
	ok(loop_wait_fd(pair[0], EPOLLIN, deadline_ms(1000)) == EPOLLIN, "the new one is waited for");
	(void)!read(pair[0], &c, 1);

	(void)shutdown(pair[1], SHUT_WR);
	ok(loop_wait_fd(pair[0], EPOLLIN | EPOLLRDHUP, deadline_ms(1000)) == (EPOLLIN | EPOLLRDHUP), "a peer that left");
	errno = 0;
	ok(loop_wait_fd(9999, EPOLLIN, deadline_ms(10)) < 0 && errno == EBADF, "no descriptor");
	(void)close(null);
	loop_stop();
}

static void
woken_early(void *arg)
{
	int64_t	 until = deadline_ms(30);

	(void)arg;
	ok(loop_wait_fd_or_wake(pair[0], EPOLLIN, deadline_ms(1000)) == 0, "another wake ends this kind of wait");
	ok(loop_wait_fd(pair[0], EPOLLIN, until) == 0 && now_us() >= until, "but not the usual one");
	loop_stop();
}

static void
on_tick(void *arg)
{
	fiber_wake(arg);
	timer_set(&tick, deadline_ms(5));
}

int
main(void)
{
	struct timer	 kick = { .fn = on_end };

	ok(loop_open() == 0, "open");
	test_timers();

	ok(loop_signal(SIGUSR2, on_signal) == 0, "a signal");
	(void)raise(SIGUSR2);
	(void)raise(SIGUSR2);
	loop_run();
	ok(signals == 1, "two at a time are one");

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return 1;
	test_watch();
	(void)fiber_start(waits, NULL);
	loop_run();

	(void)close(pair[0]);
	(void)close(pair[1]);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return 1;
	tick = (struct timer){ .fn = on_tick };
	tick.arg = fiber_start(woken_early, NULL);
	timer_set(&tick, deadline_ms(5));
	timer_set(&kick, deadline_ms(2000));
	loop_run();
	ok(now_us() < kick.at, "in time");
	timer_clear(&tick);
	timer_clear(&kick);
	loop_close();
	return done_testing();
}
