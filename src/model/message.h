/*
 * message -- what was said: the unit of history, prompt and answer.
 *
 * A conversation is a sequence of turns; a turn's messages are ordered by (run,
 * index).  Results of tool calls are kept with their call, not as messages of
 * their own; the prompt makes them so.  Everything belongs to the job's arena.
 */
#ifndef PARLEY_MODEL_MESSAGE_H
#define PARLEY_MODEL_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

enum role { ROLE_USER, ROLE_ASSISTANT };

struct call {
	const char	*id;		/* ours, a uuid */
	const char	*call_id;	/* the model server's own, as it must be sent back */
	const char	*tool_name;
	const char	*parameters;	/* strict JSON object text; "{}" where the model's was broken */
	const char	*broken;	/* what the model sent instead of JSON, else NULL; never replayed */
	bool		 repaired;	/* parameters are a guess at what broken meant */
	const char	*result;	/* JSON text; NULL: none yet */
	bool		 is_error;
	bool		 started;	/* a remote call was sent; whether it was done is not known without a result */
	const char	*approval;	/* "needed", "waiting", "approved", "denied", "expired"; NULL: nobody has to be asked */
	const char	*question;	/* what the user is or was asked */
	const char	*expires_at;	/* RFC 3339: until when it can be answered */
	const char	*executed_at;	/* RFC 3339, NULL: not yet */
	int64_t		 duration_ms;
};

struct message {
	const char	*id;		/* uuid */
	int		 turn;
	int		 run;
	int		 index;
	enum role	 role;
	const char	*content;	/* never NULL, may be "" */
	const char	*raw;		/* the model's message as received (JSON object), NULL: none */
	const char	*model;		/* who said it: conf_model's base_url + ' ' + model; NULL for a user */
	const char	*created_at;	/* RFC 3339 */
	const char	*turn_state;	/* "running", "done", … */
	const char	*error_code;	/* of its turn's failure, NULL */
	bool		 interrupted;	/* the text was cut off */
	struct call	*calls;
	int		 ncalls;
};

/*
 * Its calls in the order in which they are made and told of: first those that nobody has to be asked about, in the model's
 * order, then the others.
 */
struct call *message_call(const struct message *, int nth);
/* The index of the message that is said after that one: the next, or behind a word of the user's in between. */
int	 message_after(const struct message *, int n, int index);
bool	 call_waits(const struct call *);	/* for the user's word: it has no result, and may not be run */

#endif
