/*
 * turn -- one message and all that answers it.
 *
 * The walk: store the question and read the history (one
 * commit), ask the model, run the tools it wants, ask again (each step a commit
 * before the next begins), store the reply and end the turn (one commit).
 *
 * A turn runs on the fiber and in the arena of its job and does not depend on
 * who listens: the listener is told what happens, may yield, and cannot fail
 * the turn.  What goes wrong is stored with the turn and left on the job.
 *
 * It becomes this worker's by turn_begin(), turn_retry() or turn_take(), and then turn_run() brings it to its
 * end -- unless it is lost on the way: another worker has taken it over (this one was not heard of for
 * too long), or this worker ends and gives it away.  Then `mine` is false again, nothing more can be
 * written, and whoever wants to know its end follows it (store_turn(), watch.h).
 */
#ifndef PARLEY_CHAT_TURN_H
#define PARLEY_CHAT_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "chat/pulse.h"
#include "chat/store.h"
#include "model/client.h"
#include "model/message.h"
#include "model/prompt.h"

struct job;
struct tool_table;
struct turn;

/* Who listens.  All of them may yield; each may be NULL. */
struct turn_listener {
	void	(*begun)(void *arg, const struct turn *);	/* the message is stored */
	void	(*delta)(void *arg, const struct turn *, const char *text, size_t n);
	void	(*called)(void *arg, const struct turn *, const struct call *);	/* about to run */
	void	(*returned)(void *arg, const struct turn *, const struct call *);
	void	*arg;
};

struct turn {
	const struct turn_listener *listener;

	/* How it stands. */
	struct job		*job;
	struct turn_key		 key;		/* conversation and turn are known also when it is not mine */
	bool			 mine;		/* this worker runs it */
	bool			 closed;	/* turn_take() has ended it in place of running it: asked to stop, given up for good, … */
	const char		*state;		/* while mine, and after: TurnState of openapi.yaml */
	struct prompt		 prompt;	/* its messages are the history and this turn's own */
	int			 room;		/* messages allocated */
	int			 first;		/* the place of this turn's first message, the user's */
	const struct tool_table	*tools;
	int64_t			*holds;
	struct answer		 answer;	/* of the present step */
	struct buf		 partial;	/* text of the present step so far */
	struct pulse_turn	 pulse;

	/* What it cost. */
	const char		*model;
	int64_t			 input_tokens;
	int64_t			 output_tokens;
	bool			 estimated;	/* some of them: a server did not say */
	int64_t			 budget_ms;	/* 0: the model may be asked; else until the user has a budget again */
	int64_t			 begin_us, first_byte_us, model_us, tools_us, end_us;
	int			 steps;		/* model calls begun */
};

/*
 * yield.  0: the turn is stored; it is mine and to be run, or (mine false) it waits in the queue, or was known by its
 * Idempotency-Key.  -1: the job has failed and nothing is stored.  listener and job are set before by the caller.
 */
int	 turn_begin(struct turn *, const struct store_begin *);
int	 turn_decide(struct turn *, const char *conversation_id, const struct decision *, int n, const char *key,
	    const char *key_hash);
/* supersede: one that is not the last, too; those after it are out of the history then. */
int	 turn_retry(struct turn *, const char *conversation_id, int turn, bool supersede, const char *key,
	    const char *key_hash);
/* yields.  One without a worker; handed: it was given to this one. mine false: there was nothing to take. */
int	 turn_take(struct turn *, const struct turn_key *, bool handed);

/*
 * yields.  0: the turn has ended as done or cancelled and is stored so, or it waits for the user (state
 * approval_required).  -1: it is stored as failed (the job says why), or it is not mine any more (see above): then the
 * job has not failed, its deadline is NEVER, and it may go on with something else, unless the worker ends (job->stop is still JOB_DRAINED).
 */
int	 turn_run(struct turn *);

/*
 * The id that message `index` of this run gets, from that of the user's first one: so whoever tells of it, on any
 * worker, can name it before it is whole.
 */
void	 turn_message_id(const char *first, int run, int index, char out[37]);

/* This turn's own messages, the user's first. */
const struct message *turn_messages(const struct turn *, int *n);

#endif
