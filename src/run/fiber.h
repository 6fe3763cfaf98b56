/*
 * fiber -- straight-line code that waits without holding up the others.
 *
 * A stackful coroutine on a stack of its own (worker.stack_size, a guard page
 * below), entered by ucontext and then switched by _setjmp() and _longjmp(); ASan is told
 * of each switch.  Stacks are kept for reuse.  All fibers of a process run on its one thread, one at a time, and
 * change over only where a call is declared to yield: there are no data races
 * between two such calls, and no locks.
 *
 * Wakes may be spurious: whoever parks does it in a loop on his own condition.
 * errno is not kept across a park.  A running fiber costs one page of stack
 * and its two mappings.
 */
#ifndef PARLEY_RUN_FIBER_H
#define PARLEY_RUN_FIBER_H

#include <stddef.h>
#include <stdint.h>

struct fiber;

void	 fiber_stack_size(size_t);	/* before the first fiber */

/* Makes a fiber that will run fn(arg) when the loop comes to it; NULL when no stack can be mapped. */
struct fiber *fiber_start(void (*fn)(void *), void *arg);
struct fiber *fiber_self(void);		/* NULL on the loop's own stack */

/* yields until fiber_wake() (0) or the time (-1).  Only on a fiber. */
int	 fiber_park(int64_t until);
void	 fiber_wake(struct fiber *);	/* it runs after the present batch of events; waking twice is once;
					 * woken while it runs (or before it began), its next park returns at once;
					 * never after it has ended */

int	 fiber_count(void);		/* alive */

/* For the loop: runs all that are woken, until none is. */
void	 fiber_run_ready(void);

#endif
