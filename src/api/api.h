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

/* The worker ends: everyone who waits for a whole answer is told now (202) that the turn goes on. */
void	 api_drain(void);
bool	 api_draining(void);

#endif
