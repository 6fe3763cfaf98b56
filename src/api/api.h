/*
 * api -- the door: what the worker calls for each request.
 */
#ifndef PARLEY_API_API_H
#define PARLEY_API_API_H

#include <stdbool.h>

struct conf;
struct fcgi;

void	 api_serve(struct fcgi *, const struct conf *);	/* yields; a whole request */
void	 api_overloaded(struct fcgi *, const struct conf *);	/* yields; answers 503 overloaded */

/* The worker begins to end: everyone who waits for a whole answer is told now (202) that the turn goes on. */
void	 api_drain(void);
/*
 * Its time is up: all requests are stopped (JOB_DRAINED).  Turns are given away, streams are closed without an end,
 * and what is neither answers 503 overloaded, as does what still arrives.
 */
void	 api_end(void);
bool	 api_ended(void);

#endif
