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

struct store_begin {			/* in */
	const char	*user;
	const char	*conversation_id;	/* NULL: make a new one, with new_id */
	const char	*new_id;	/* also used when the id is unknown and create_unknown is set */
	bool		 create_unknown;
	const char	*message_id;
	const char	*content;
	const char	*time_zone;	/* checked; NULL: UTC */
};

struct store_begun {			/* out */
	struct turn_key	 key;
	struct message	*history;	/* oldest first; the last one is the user's message of this turn */
	int		 nhistory;
	const char	*local_time;	/* see prompt.h */
	int64_t		*holds;		/* ms for each of conf->models */
};

/* conversation_not_found, conversation_busy, validation_error (time_zone) are failures of it. */
int	 store_begin(struct job *, const struct store_begin *, struct store_begun *);

/* Commits an assistant message with its calls, before any of them runs; fills m->created_at. */
int	 store_step(struct job *, const struct turn_key *, struct message *m, const struct answer *);

/*
 * Runs a SQL tool: effect, result and fence check are one transaction.  Fills the call's result, is_error, executed_at and
 * duration_ms.  What the tool raises is a result, not a failure.
 */
int	 store_tool_run(struct job *, const struct turn_key *, int index, int position, struct call *);
/* Stores a result that was found without running anything (unknown tool, broken arguments): call->result, is_error are given. */
int	 store_tool_answer(struct job *, const struct turn_key *, int index, int position, struct call *);

struct store_end {
	const char	*state;		/* "done", "failed", "cancelled" */
	const char	*error_code;	/* of a failed one */
	const char	*sentence;	/* what the user was told */
	struct message	*reply;		/* NULL: none; created_at is filled */
	const struct answer *answer;	/* NULL: none */
	int64_t		 input_tokens;	/* of the whole turn */
	int64_t		 output_tokens;
	const char	*model;		/* for the client */
	const char	*timings;	/* JSON object */
};

/*
 * Ends the turn; calls without a result get one that says so.  Tries again until the job's deadline while the
 * database is away.
 */
int	 store_end(struct job *, const struct turn_key *, struct store_end *);

/* Stores a provider's "not before" for all workers. */
int	 store_hold(struct job *, int model, int64_t ms);

/* -- reading: the result is JSON text of the contract's shapes, made by the database or here, appended to out -- */

int	 store_conversations(struct job *, int limit, const char *cursor, const char *q, struct buf *out);
int	 store_conversation(struct job *, const char *id, int limit, const char *cursor, struct buf *out);
int	 store_rename(struct job *, const char *id, const char *title, struct buf *out);
int	 store_delete(struct job *, const char *id);
/* The newest run of a turn as it stands. */
struct store_turn {
	const char	*state;
	const char	*error_code;
	const char	*sentence;
	const char	*model;
	struct message	*messages;
	int		 nmessages;
	int64_t		 input_tokens;
	int64_t		 output_tokens;
};
int	 store_turn(struct job *, const char *conversation_id, int turn, struct store_turn *out);
int	 store_health(struct job *);

#endif
