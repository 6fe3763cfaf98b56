/*
 * kit -- the SQL calls that only POST /api/chatkit makes: schema/chatkit.sql.
 *
 * Each is one statement and one commit, yields, and returns 0, or -1 with the job failed (database_unavailable,
 * internal_error, and what is said below).  Everything belongs to the job's arena.
 */
#ifndef PARLEY_CHAT_KIT_H
#define PARLEY_CHAT_KIT_H

#include <stdbool.h>

#include "model/message.h"

struct job;

struct kit_thread {			/* a conversation */
	const char	*id;
	const char	*title;
	const char	*created_at;	/* RFC 3339 */
};

/* conversation_not_found */
int	 kit_thread(struct job *, const char *id, struct kit_thread *);
/* By when they were begun; after NULL: from the first. */
int	 kit_threads(struct job *, int limit, bool oldest_first, const char *after, struct kit_thread **, int *n);

/*
 * All messages of at most `turns` turns from turn `from` on (0: the first, or the last), in one direction;
 * oldest first in any case.  Those of another's conversation are none.
 */
int	 kit_messages(struct job *, const char *id, int from, int turns, bool oldest_first, struct message **, int *n);

struct kit_place {
	int		 turn;		/* 0: there is no such message in this conversation */
	int		 index;
	enum role	 role;
	bool		 shown;		/* not of an earlier run, nor of a superseded turn */
};
/* conversation_not_found */
int	 kit_place(struct job *, const char *id, const char *message_id, struct kit_place *);

enum kit_wish { KIT_MESSAGE, KIT_RETRY, KIT_DECISION };
/*
 * Before anything is answered: would this be taken?  key NULL: none; *known: its turn is there already.
 * Failures: those of turn_begin(), turn_retry() and turn_decide(), but for what a decision is about.
 */
int	 kit_check(struct job *, const char *id, enum kit_wish, const char *key, const char *key_hash, bool *known);

/* n items, each with the id of its message.  Failures: conversation_not_found, not_found (one of the items). */
int	 kit_feedback(struct job *, const char *id, const char *const *items, const char *const *messages, int n,
	    const char *kind);

#endif
