/*
 * act -- a step in which the model wants tools: commit what it said, run each
 * call, store each result.
 *
 * Calls of tools that want the user's yes (tool.h) are not run: when the others have run, the question is stored and the turn
 * waits for the answer, without a worker.
 *
 * The assistant message and its calls are committed before any of them runs; the
 * database refuses the next step while a call lacks its result.  Calls run one after another in the
 * model's order.  A call that has its result is not made again; a remote one that was sent by a worker that
 * died before it had the result is not repeated unless that is known to be harmless (see tool.h: risk): its outcome is
 * unknown, and that is its result.  What a tool, or a model that asks for nonsense, does wrong is a result for the
 * model and not a failure of the turn.
 */
#ifndef PARLEY_CHAT_ACT_H
#define PARLEY_CHAT_ACT_H

struct answer;
struct message;
struct turn;

int	 turn_act(struct turn *);	/* yields; 1: the turn waits for the user; -1: the job has failed */
/* yields.  The calls of the turn's last message that have no result yet, when another worker has committed it. */
int	 turn_act_rest(struct turn *);

/* A new message of this turn, with the answer's text and calls; not stored yet. */
struct message *turn_append(struct turn *, const struct answer *);

#endif
