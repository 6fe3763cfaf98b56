/*
 * client -- asks a model, retries, falls back.
 *
 * One ask is one step of a turn: the models of the configuration are tried in
 * their order, each with its retries (backoff with jitter, Retry-After, the
 * shared "not before" of a provider), all inside the turn's deadline and
 * only until the first delta has been given out.  A context overflow cuts the prompt
 * once, for the whole ask.  The answer is driven by content, not by finish_reason (see wire.h).
 *
 * Use: model_open(); while ((got = model_next(m, &text)) > 0) …; then model_answer().
 */
#ifndef PARLEY_MODEL_CLIENT_H
#define PARLEY_MODEL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/message.h"

struct job;
struct model;
struct prompt;

struct answer {
	const char	*content;	/* never NULL */
	const char	*raw;		/* the message as received, with opaque fields: JSON object text */
	const char	*model;		/* base_url + ' ' + model, as in struct message */
	const char	*model_name;	/* for the client: what the server said it is, else what was asked */
	bool		 refusal;	/* the content is a refusal */
	bool		 cut;		/* ended by max_tokens */
	/* id (a new uuid), call_id (never empty, unique in the answer), tool_name, parameters and broken are set. */
	struct call	*calls;
	int		 ncalls;
	int64_t		 input_tokens;	/* as reported; estimated where not */
	int64_t		 output_tokens;
	bool		 estimated;	/* the tokens are a guess */
	int64_t		 first_byte_us;	/* from model_open() */
	int64_t		 total_us;
	int		 attempts;	/* requests made */
};

/* The prompt must live until model_close(); the client may cut it. */
struct model *model_open(struct job *, struct prompt *);

/*
 * yields.  1: the next piece of text (valid until the next call); 0: the answer is complete; -1: it failed
 * (the job says why: model_error, model_unavailable, model_timeout, context_too_long, turn_timeout).
 */
int	 model_next(struct model *, const char **text, size_t *n);

/*
 * After 0: the whole answer.  After -1: what had come (content only, maybe ""), for keeping as interrupted.
 * Its texts belong to the job's arena.
 */
const struct answer *model_answer(const struct model *);
void	 model_close(struct model **);	/* really closes the exchange; NULL is fine */

/*
 * A provider's "not before", shared by all workers through the database: turn_begin brings it
 * (milliseconds from now for models[i], 0: none) and `hold` is called when a server asks for one.
 */
void	 model_holds(struct model *, const int64_t *ms, int n);
void	 model_on_hold(struct model *, void (*hold)(void *arg, int model, int64_t ms), void *arg);

#endif
