/*
 * attach -- an event stream of a turn that somebody else runs.
 *
 * Each look at the turn (follow.h) is compared with the place of the stream, and what is new is told: the position
 * in the queue, texts, calls, results, the text of the present step.  Text that does not begin with what was told,
 * or another run, is announced by `reset`: of the present step where only that is another, else all over again.
 *
 * What a worker has said last is stored with its next pulse: a client that comes back at once has heard more than
 * the database knows.  So text that is only too short is given a moment to come up.
 */
#ifndef PARLEY_API_ATTACH_H
#define PARLEY_API_ATTACH_H

#include <stdbool.h>

struct follow;
struct message;
struct request;
struct stream;

/*
 * yields until the turn is over: 0, all is told and the end is left to the caller; also when the worker ends or the client
 * has gone (then the turn is live in f->now, or it has no state).  -1: the job has failed.
 *
 * The stream is opened once the turn has been read.  accepted: the turn is there for certain, so
 * a database that is away is waited for from the first look on.
 */
int	 attach_run(struct request *, struct stream *, struct follow *, bool accepted);

/*
 * yields.  For a turn that goes on here after a question: what was said and done in it before, these messages, up to the calls
 * of its last step.
 */
void	 attach_before(struct stream *, const struct message *, int n);

#endif
