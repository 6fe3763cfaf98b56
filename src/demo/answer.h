/*
 * answer -- what the demo model says, and its form on the wire: one JSON
 * object or a stream of chunks, as OpenAI's chat completions have them.
 */
#ifndef PARLEY_DEMO_ANSWER_H
#define PARLEY_DEMO_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "demo/request.h"

#define ANSWER_CALLS_MAX	20

struct reply;

struct answer_call {
	const char	*name;
	const char	*arguments;	/* JSON object text */
};

struct answer {
	const char	*text;		/* may be "" beside calls */
	struct answer_call calls[ANSWER_CALLS_MAX];
	int		 ncalls;
};

/* How it is to be said. */
struct manner {
	struct slice	 model;		/* as in the request's text, escapes and all */
	bool		 stream;
	bool		 include_usage;
	size_t		 asked;		/* bytes of the prompt: its tokens are estimated */
	int		 delay;		/* ms the pieces are spread over */
	int		 pieces;	/* of a text */
	uint64_t	 number;	/* makes the ids unique */
};

struct reply *answer_reply(const struct answer *, const struct manner *);

#endif
