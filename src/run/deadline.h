/*
 * deadline -- points in time.
 *
 * Inside the program a time is an int64_t of microseconds on CLOCK_MONOTONIC;
 * NEVER is later than all.  The clock of the world (created_at, deadlines that
 * outlive a worker) is PostgreSQL's alone.
 */
#ifndef PARLEY_RUN_DEADLINE_H
#define PARLEY_RUN_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#define NEVER	INT64_MAX

int64_t	 now_us(void);
int64_t	 deadline_ms(int64_t ms);	/* that many milliseconds from now */
/* Has *next come?  Then it is moved on by so much.  For what is to be said now and then; 0 is at once. */
bool	 deadline_every(int64_t *next, int64_t ms);

static inline int64_t
deadline_first(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

#endif
