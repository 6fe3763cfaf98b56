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

#endif
