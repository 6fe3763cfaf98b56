/*
 * wait -- clients on this worker who wait for a whole answer, for the drain to tell.
 *
 * A worker that ends keeps nobody waiting: each is attended at once, and those who come after that
 * as soon as they begin to wait.  What the attendant does (202, or the state as it is) is the waiter's business.
 */
#ifndef PARLEY_API_WAIT_H
#define PARLEY_API_WAIT_H

#include <stdint.h>

struct job;
struct request;

struct waiter {				/* belongs to who waits; on its stack */
	struct job	*job;
	struct waiter	*next, **link;
};

/*
 * How long a request waits for the end of its turn before it is answered 202: client.max_wait, or what the client would
 * rather have where that is less (Prefer: wait=SECONDS, RFC 7240 section 4.3).
 */
int64_t	 wait_until(const struct request *);

/* The job is attended at `until`, or when the worker begins to end. */
void	 wait_join(struct waiter *, struct job *, int64_t until, void (*attend)(void *), void *arg);
void	 wait_leave(struct waiter *);	/* harmless when not joined */

/* yields.  202: the turn is in this state and goes on (client.max_wait); dropped when all is said already. */
void	 wait_accepted(struct request *, const char *conversation_id, int turn, const char *state);

#endif
