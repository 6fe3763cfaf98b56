#include "run/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/timer.h"

#define BATCH		256	/* events fetched at a time; more just wait for the next turn */
#define SLEEP_MAX	60000	/* ms; a loop with nothing to do wakes once a minute */

/*
 * What is known of a descriptor.  The number may be closed and given out again
 * at any time, so each registration carries a generation, which the
 * kernel hands back with the event: an event of an older one is ignored.
 */
struct slot {
	void		(*fn)(void *, uint32_t);	/* a watch; NULL: none */
	void		*arg;
	struct fiber	*waiter;	/* a fiber in loop_wait_fd(); NULL: none */
	uint32_t	 ready;		/* what it waited for */
	uint32_t	 gen;
	bool		 known;		/* epoll may have it: try to modify first */
};

/* The loop of this process, which lives and dies with it. */
static struct {
	int		 epoll;
	int		 wakeup;	/* eventfd that the signal handler writes */
	bool		 open, stop;
	struct slot	*slots;		/* by descriptor; moves when it grows */
	int		 nslots;
	void		(*on_signal[NSIG])(int);
} loop;

/* Apart from the rest: all that a signal handler touches. */
static volatile sig_atomic_t	 signal_came[NSIG];

static int	 loop_timeout(void);
static void	 loop_dispatch(const struct epoll_event *);
static struct slot *slot_of(int fd);
static int	 slot_arm(int fd, uint32_t events);
static void	 slot_forget(int fd);
static void	 signal_handler(int);
static void	 signals_run(void *, uint32_t);

int
loop_open(void)
{
	memset(&loop, 0, sizeof loop);
	loop.epoll = epoll_create1(EPOLL_CLOEXEC);
	loop.wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop.epoll < 0 || loop.wakeup < 0) {
		int	 e = errno;

		loop_close();
		errno = e;
		return -1;
	}
	loop.open = true;
	return loop_watch(loop.wakeup, EPOLLIN, signals_run, NULL);
}

void
loop_close(void)
{
	for (int s = 1; s < NSIG; s++)
		if (loop.on_signal[s] != NULL)
			(void)signal(s, SIG_DFL);
	if (loop.wakeup >= 0)
		(void)close(loop.wakeup);
	if (loop.epoll >= 0)
		(void)close(loop.epoll);
	free(loop.slots);
	timers_forget();
	memset(&loop, 0, sizeof loop);
	loop.epoll = loop.wakeup = -1;
}

void
loop_run(void)
{
	struct epoll_event	 batch[BATCH];

	assert(loop.open && fiber_self() == NULL);
	loop.stop = false;
	fiber_run_ready();
	while (!loop.stop) {
		int	 n = epoll_wait(loop.epoll, batch, BATCH, loop_timeout());

		for (int i = 0; i < n; i++)
			loop_dispatch(&batch[i]);
		timers_run(now_us());
		/* Only now: no event of this batch can meet a fiber that is new on its stack. */
		fiber_run_ready();
	}
}

void
loop_stop(void)
{
	loop.stop = true;
}

/* epoll counts milliseconds: rounded up, for a timer must not find itself too early. */
static int
loop_timeout(void)
{
	int64_t	 next = timers_next(), us;

	if (next == NEVER)
		return SLEEP_MAX;
	us = next - now_us();
	if (us <= 0)
		return 0;
	return us > (int64_t)SLEEP_MAX * 1000 ? SLEEP_MAX : (int)((us + 999) / 1000);
}

static void
loop_dispatch(const struct epoll_event *e)
{
	int		 fd = (int)(uint32_t)e->data.u64;
	uint32_t	 gen = (uint32_t)(e->data.u64 >> 32);
	struct slot	*s = slot_of(fd);

	if (s->gen != gen)
		return;
	if (s->fn != NULL) {
		s->fn(s->arg, e->events);
	} else if (s->waiter != NULL) {
		s->ready = e->events;
		fiber_wake(s->waiter);
	}
}

int
loop_watch(int fd, uint32_t events, void (*fn)(void *, uint32_t), void *arg)
{
	struct slot	*s = slot_of(fd);

	assert(s->waiter == NULL);
	/* An exclusive registration cannot be modified (epoll_ctl(2)). */
	if (events & EPOLLEXCLUSIVE)
		slot_forget(fd);
	if (slot_arm(fd, events) < 0) {
		s->fn = NULL;
		return -1;
	}
	s->fn = fn;
	s->arg = arg;
	return 0;
}

void
loop_unwatch(int fd)
{
	if (fd < 0 || fd >= loop.nslots || loop.slots[fd].fn == NULL)
		return;
	loop.slots[fd].fn = NULL;
	slot_forget(fd);
}

int
loop_wait_fd(int fd, uint32_t events, int64_t until)
{
	int	 got;

	do
		got = loop_wait_fd_or_wake(fd, events, until);
	while (got == 0 && now_us() < until);
	return got;
}

int
loop_wait_fd_or_wake(int fd, uint32_t events, int64_t until)
{
	struct slot	*s = slot_of(fd);
	uint32_t	 ready;

	assert(fiber_self() != NULL && s->fn == NULL && s->waiter == NULL);
	if (slot_arm(fd, events | EPOLLONESHOT) < 0)
		return -1;
	s->waiter = fiber_self();
	s->ready = 0;
	(void)fiber_park(until);

	s = slot_of(fd);	/* the table may have moved meanwhile */
	s->waiter = NULL;
	ready = s->ready;
	/* Events 0 would not do: errors and hang-ups are always reported. */
	if (ready == 0)
		slot_forget(fd);
	return (int)ready;
}

void
loop_sleep(int64_t until)
{
	do
		(void)fiber_park(until);
	while (now_us() < until);
}

static struct slot *
slot_of(int fd)
{
	int	 n = loop.nslots > 0 ? loop.nslots : 64;

	assert(fd >= 0);
	if (fd < loop.nslots)
		return &loop.slots[fd];
	while (n <= fd)
		n *= 2;
	loop.slots = realloc(loop.slots, sizeof *loop.slots * (size_t)n);
	if (loop.slots == NULL)
		arena_exhausted();
	memset(loop.slots + loop.nslots, 0,
	    sizeof *loop.slots * (size_t)(n - loop.nslots));
	loop.nslots = n;
	return &loop.slots[fd];
}

/*
 * One system call where the descriptor is as we last saw it.  The kernel drops
 * a registration when a descriptor is closed, so both guesses may be wrong.
 */
static int
slot_arm(int fd, uint32_t events)
{
	struct slot		*s = slot_of(fd);
	struct epoll_event	 e = { .events = events };
	int			 rc;

	e.data.u64 = (uint64_t)++s->gen << 32 | (uint32_t)fd;
	rc = epoll_ctl(loop.epoll, s->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e);
	if (rc < 0 && errno == ENOENT)
		rc = epoll_ctl(loop.epoll, EPOLL_CTL_ADD, fd, &e);
	else if (rc < 0 && errno == EEXIST)
		rc = epoll_ctl(loop.epoll, EPOLL_CTL_MOD, fd, &e);
	s->known = rc == 0;
	return rc;
}

static void
slot_forget(int fd)
{
	struct slot	*s = slot_of(fd);

	/* It fails when the descriptor has been closed: then all is well too. */
	if (s->known)
		(void)epoll_ctl(loop.epoll, EPOLL_CTL_DEL, fd, NULL);
	s->known = false;
	s->gen++;
}

int
loop_signal(int sig, void (*fn)(int))
{
	struct sigaction	 sa;

	assert(sig > 0 && sig < NSIG);
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = signal_handler;
	sa.sa_flags = SA_RESTART;
	(void)sigemptyset(&sa.sa_mask);
	loop.on_signal[sig] = fn;
	return sigaction(sig, &sa, NULL);
}

/* May run on a library's helper thread: it touches nothing but these two. */
static void
signal_handler(int sig)
{
	static const uint64_t	 one = 1;
	int			 e = errno;

	signal_came[sig] = 1;
	if (write(loop.wakeup, &one, sizeof one) < 0)
		errno = e;	/* full: then it is readable as well */
	errno = e;
}

static void
signals_run(void *arg, uint32_t events)
{
	uint64_t	 n;

	(void)arg;
	(void)events;
	if (read(loop.wakeup, &n, sizeof n) < 0)
		return;
	for (int s = 1; s < NSIG; s++) {
		if (!signal_came[s])
			continue;
		signal_came[s] = 0;
		if (loop.on_signal[s] != NULL)
			loop.on_signal[s](s);
	}
}
