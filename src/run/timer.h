/*
 * timer -- the heap behind timer_set() and timer_clear() of loop.h.
 *
 * For the loop alone: it asks when the next timer is due, and has the due ones
 * called on its own stack.  The heap points at structs of others and owns none.
 */
#ifndef PARLEY_RUN_TIMER_H
#define PARLEY_RUN_TIMER_H

#include <stdint.h>

int64_t	 timers_next(void);		/* NEVER when none is set */
void	 timers_run(int64_t now);	/* those that are due now; one set anew meanwhile may wait for the next call */
void	 timers_forget(void);		/* clears all and frees the heap */

#endif
