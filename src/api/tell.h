/*
 * tell -- what a client gets to hear of a turn: an event stream, a whole answer, or 202 when it takes too long.
 *
 * A turn that is this worker's runs on the fiber of the request, and is listened to as it goes.  Any other is followed
 * (follow.h): one that waits in the queue, that was known by its Idempotency-Key, that has been taken over by another
 * worker in the middle; the client notices nothing.
 */
#ifndef PARLEY_API_TELL_H
#define PARLEY_API_TELL_H

#include <stdbool.h>

#include "api/follow.h"
#include "api/stream.h"
#include "api/wait.h"
#include "chat/turn.h"

struct body;
struct request;

struct tell {
	struct request	*req;
	struct turn	 turn;		/* begun; when it is not mine, only its conversation and number count */
	struct turn_listener listener;
	struct stream	 stream;
	struct waiter	 waiter;
	struct follow	 follow;
	bool		 stream_wanted;
	bool		 page_wanted;	/* the newest page of the conversation in place of the turn's messages */
};

/* Sets up the turn. */
void	 tell_open(struct tell *, struct request *);
/* The same, and what the body and the Accept header say of the answer.  -1: validation_error. */
int	 tell_read(struct tell *, struct request *);
/*
 * Before turn_begin() or turn_retry(): from now until tell_run() the end of the worker does not stop the job, for
 * whether the turn was stored must be known, to be told.  -1: the end has come already.
 */
int	 tell_hold(struct tell *);
/* yields.  After turn_begin() or turn_retry(): brings the turn to its end, or follows it; and answers. */
int	 tell_run(struct tell *);
/* yields.  An event stream of a turn that may run anywhere, or may not be there at all. */
int	 tell_events(struct tell *);

#endif
