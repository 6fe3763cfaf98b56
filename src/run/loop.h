/*
 * loop -- one epoll, one heap of timers, the fibers that became ready.
 *
 * Callbacks (watches, timers) run on the loop's own stack and must not yield;
 * they wake fibers.  Fibers run only after a whole batch of events has been
 * handled, so an event can never reach a fiber that has just been recycled.
 */
#ifndef PARLEY_RUN_LOOP_H
#define PARLEY_RUN_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
	int64_t	 at;
	void	(*fn)(void *);
	void	*arg;
	int	 place;		/* in the heap, from 1; 0: not set */
};

int	 loop_open(void);		/* -1: errno */
void	 loop_run(void);		/* until loop_stop() */
void	 loop_stop(void);		/* safe in a callback or on a fiber, not in a signal handler */
void	 loop_close(void);

/*
 * A set timer fires once.  Setting it again moves it.  The struct belongs to the caller and must be cleared before
 * it goes away.
 */
void	 timer_set(struct timer *, int64_t at);
void	 timer_clear(struct timer *);

/*
 * events: EPOLLIN, EPOLLOUT, EPOLLRDHUP … (level-triggered).  One watch for each descriptor; watching again changes
 * it.  A stale event is never delivered, even when the number was closed and reused.
 */
int	 loop_watch(int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg);
void	 loop_unwatch(int fd);		/* before the descriptor is closed; harmless when not watched */

/*
 * yields until the descriptor is ready (the events, > 0) or the time is up (0) or it cannot be watched (-1).  Only on
 * a fiber; one fiber per descriptor.
 */
int	 loop_wait_fd(int fd, uint32_t events, int64_t until);
/* yields; the same, but 0 also when the fiber is woken for another reason. */
int	 loop_wait_fd_or_wake(int fd, uint32_t events, int64_t until);
/* yields */
void	 loop_sleep(int64_t until);

/* After loop_open().  fn runs on the loop's stack soon after the signal arrived (self-pipe); SA_RESTART everywhere. */
int	 loop_signal(int sig, void (*fn)(int sig));

#endif
