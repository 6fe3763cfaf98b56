/*
 * store -- the SQL calls: each function here is one statement and one commit.
 *
 * The rules (one live turn, steps before effects, fences, isolation) are the database's;
 * see schema/001-core.sql, where each function called here is described.  All of them yield.
 *
 * They return 0, or -1 with the job failed (database_unavailable, internal_error).  A write that meets a fence that is
 * not its own fails the job as turn_abandoned and sets job->stop to JOB_FENCED (the turn belongs to somebody
 * else or has ended) or JOB_CANCELLED (its conversation was deleted): nothing more may be written for it.
 */
#ifndef PARLEY_CHAT_STORE_H
#define PARLEY_CHAT_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "chat/word.h"
#include "model/message.h"

struct answer;
struct buf;
struct job;

/* A turn's place and the right to write it. */
struct turn_key {
	const char	*user;
	char		 conversation_id[37];
	int		 turn;
	int		 run;
	int64_t		 fence;
};

enum on_busy { ON_BUSY_QUEUE, ON_BUSY_REJECT, ON_BUSY_INTERRUPT };

struct store_begin {			/* in */
	const char	*user;
	const char	*conversation_id;	/* NULL: make a new one, with new_id */
	const char	*new_id;	/* also used when the id is unknown and create_unknown is set */
	bool		 create_unknown;
	const char	*message_id;
	const char	*content;
	const char	*time_zone;	/* checked; NULL: UTC */
	enum on_busy	 on_busy;
	enum word	 word;		/* content is nothing but this: it decides when exactly one call waits */
	const char	*key;		/* Idempotency-Key, NULL: none */
	const char	*key_hash;	/* of the request that the key is bound to */
};

enum store_got {
	STORE_BEGUN,		/* it runs, and is the caller's */
	STORE_ELSEWHERE,	/* key names the conversation and the turn: it waits, or another runs it, or it has ended;
				 * next may be the caller's: one that waited for the user has been told no */
	STORE_GONE,		/* another has it, or it has ended */
	STORE_ENDED		/* it was ended here; next may be the caller's */
};

struct store_begun {			/* out; beyond waits, key and next only for STORE_BEGUN */
	enum store_got	 got;
	bool		 waits;		/* STORE_ELSEWHERE: stored just now, behind a live one */
	struct turn_key	 key;
	struct turn_key	 next;		/* turn 0: none */
	struct message	*history;	/* oldest first, nhistory of them; then what tools did in earlier runs of this turn, */
	int		 nhistory;
	int		 nearlier;	/* nearlier; then this run's own messages, the user's first */
	int		 nown;
	const char	*local_time;	/* see prompt.h */
	int64_t		*holds;		/* ms for each of conf->models */
	int64_t		 left_ms;	/* until the turn's deadline, may be negative */
	int64_t		 input_tokens;	/* of the steps so far */
	int64_t		 output_tokens;
	int64_t		 budget_ms;	/* 0: the model may be asked; else until there is a budget again */
	const struct trace *trace;	/* of the request that asked for the turn; NULL: none */
};

/*
 * Stores a message and its turn.  When the connection is lost after it was sent, it is said again for up to
 * three seconds and finds out what has happened.  call_tokens: see budget.h.  The turn belongs to the job's trace.
 * Failures: conversation_not_found, conversation_busy, queue_full, rate_limited, budget_exceeded, idempotency_mismatch,
 * validation_error (time_zone).
 */
int	 store_begin(struct job *, const struct store_begin *, int64_t call_tokens, struct store_begun *);

/*
 * The last turn of a conversation begins anew from its message, as the next run; with supersede any, and those after
 * it are superseded (schema/006-feedback.sql).  key NULL: none.
 * Failures: turn_not_found, turn_not_retryable, rate_limited, budget_exceeded, idempotency_mismatch.
 */
int	 store_retry(struct job *, const char *conversation_id, int turn, bool supersede, const char *key,
	    const char *key_hash, int64_t call_tokens, struct store_begun *);

/* A decision of the user on a call that waits. */
struct decision {
	const char	*call_id;	/* the call's uuid */
	bool		 yes;
};

/*
 * STORE_BEGUN when all calls of the turn are decided now: it goes on, and is the caller's; STORE_ELSEWHERE while some
 * are missing, or the key was used for this before.  key NULL: none.
 * Failures: conversation_not_found, not_found (no such question), approval_already_decided, idempotency_mismatch.
 */
int	 store_decide(struct job *, const char *conversation_id, const struct decision *, int n, const char *key,
	    const char *key_hash, struct store_begun *);

/* Makes a turn without a worker the caller's: one that was handed to it (STORE_BEGUN, STORE_GONE), */
int	 store_load(struct job *, const struct turn_key *, struct store_begun *);
/* or one whose lease has expired or was given up (STORE_ENDED as well: cancelled, or given up for good). */
int	 store_take(struct job *, const struct turn_key *, bool take_next, struct store_begun *);

/* Running turns of anybody without a living worker, at most max; orphans: look for those without any lease, too. */
int	 store_expired(struct job *, int max, bool orphans, struct turn_key **, int *n);

/* Gives a running turn to whoever takes it first; a turn that is no longer the caller's stays as it is. */
int	 store_release(struct job *, const struct turn_key *);

/*
 * The user wants a turn to stop.  *state becomes "cancelled" (it had no worker) or "running" (its
 * worker will be told); next as in store_end.  Failures: turn_not_found, turn_not_running.
 */
int	 store_cancel(struct job *, const char *conversation_id, int turn, bool take_next, const char **state,
	    struct turn_key *next);

/*
 * Commits an assistant message with its calls, before any of them runs; fills m->created_at.  budget_ms: 0: the model may be asked again; else not
 * before there is a budget again, in so many milliseconds.
 */
int	 store_step(struct job *, const struct turn_key *, struct message *m, const struct answer *, int64_t *budget_ms);

/*
 * 1: the turn waits for the user's word on these calls (positions) of message index, and has no worker any more; each comes
 * with the question to ask when the tool has none of its own.  Fills their approval, question and expires_at; or
 * the result of one that is not worth a question, as its arguments are wrong.  0: none was, and the turn goes on.
 */
int	 store_ask(struct job *, const struct turn_key *, int index, struct call *, const int *positions,
	    const char *const *questions, int n);

/*
 * Runs a SQL tool: effect, result and fence check are one transaction.  Fills the call's result, is_error, executed_at and
 * duration_ms.  What the tool raises is a result, not a failure.  One that
 * the user has to approve is not run before he has: the database looks.
 */
int	 store_tool_run(struct job *, const struct turn_key *, int index, int position, struct call *);
/*
 * A remote call is about to be sent: committed before it is, so that after a crash nobody takes it for not done.  A call that
 * has its result (call->result is filled then) must not be sent.
 */
int	 store_tool_start(struct job *, const struct turn_key *, int index, int position, struct call *);
/*
 * Stores a result that a remote tool gave, or that was found without running anything (unknown tool, broken arguments):
 * call->result, is_error are given.
 */
int	 store_tool_answer(struct job *, const struct turn_key *, int index, int position, struct call *);

/*
 * Runs a SQL tool outside any conversation for the job's user: call->id, tool_name and parameters are given, key is a new
 * uuid.  Effect, record and result are one transaction.  The call's result stays NULL where there is no such tool.
 */
int	 store_tool_call(struct job *, const char *key, struct call *);

struct store_end {
	const char	*state;		/* "done", "failed", "cancelled" */
	const char	*error_code;	/* of a failed one */
	const char	*sentence;	/* what the user was told */
	struct message	*reply;		/* NULL: none; created_at is filled */
	const struct answer *answer;	/* NULL: none */
	int64_t		 input_tokens;	/* of the whole turn */
	int64_t		 output_tokens;
	bool		 estimated;	/* some of them are a guess */
	const char	*model;		/* for the client */
	const char	*timings;	/* JSON object */
	bool		 take_next;	/* the caller can run another turn */
	struct turn_key	 next;		/* out: the queued one that it is to run; turn 0: none */
};

/*
 * Ends the turn; calls without a result get one that says so.  Tries again until the job's deadline while the
 * database is away.  The next queued turn of the conversation runs from now on: it is the caller's, or with
 * take_next false anybody's.
 */
int	 store_end(struct job *, const struct turn_key *, struct store_end *);

/* Stores a provider's "not before" for all workers. */
int	 store_hold(struct job *, int model, int64_t ms);

/* -- reading: the result is JSON text in the shapes of openapi.yaml, made by the database or here, appended to out -- */

int	 store_conversations(struct job *, int limit, const char *cursor, const char *q, struct buf *out);
/* all_runs: also what earlier runs of retried turns said. */
int	 store_conversation(struct job *, const char *id, int limit, const char *cursor, bool all_runs, struct buf *out);
int	 store_rename(struct job *, const char *id, const char *title, struct buf *out);
int	 store_delete(struct job *, const char *id);
/* The newest run of a turn as it stands. */
struct store_turn {
	int		 run;
	const char	*state;
	const char	*error_code;
	const char	*sentence;
	const char	*model;
	struct message	*messages;
	int		 nmessages;
	int64_t		 input_tokens;
	int64_t		 output_tokens;
	int		 ahead;		/* of a queued one: how many are before it, the live one included */
	const struct message *partial;	/* what has been said of the present step, as far as it is stored; NULL: nothing */
	const char	*digest;	/* see watch.h */
};
/* text: with partial.  Failure: turn_not_found. */
int	 store_turn(struct job *, const char *conversation_id, int turn, bool text, struct store_turn *out);
int	 store_health(struct job *);
/* How it goes, in all workers: a JSON array of [name, labels, amount]; see schema/ops.sql. */
int	 store_metrics(struct job *, const char **json);

#endif
