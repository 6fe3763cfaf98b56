/*
 * decisions -- `approvals` in the body of POST /api/chat: the user's yes or no to calls that wait for it.
 *
 * The member approvals of a ChatRequest (openapi.yaml).  Nothing yields.
 */
#ifndef PARLEY_API_DECISIONS_H
#define PARLEY_API_DECISIONS_H

#define DECISIONS_MAX	64	/* in one request; no model asks for half as much in one step */

struct decision;
struct request;

/* In the job's arena; n is 0 when there is no such field (or null).  -1: validation_error. */
int	 decisions_read(struct request *, struct decision **, int *n);

#endif
