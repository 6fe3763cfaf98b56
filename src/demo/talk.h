/*
 * talk -- a conversation as the request brings it, and the calls made since
 * the user spoke.
 *
 * The brain runs its plan from the beginning on every request.  talk_call()
 * gives a tool's result if the messages hold it; the first one that is
 * missing becomes a call of the answer, and the run ends there: next time its result is
 * there and the run gets further.  So no state is kept between requests.
 *
 * Everything belongs to the arena.
 */
#ifndef PARLEY_DEMO_TALK_H
#define PARLEY_DEMO_TALK_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json_object.h>

struct answer;
struct arena;

/* A tool's result. */
struct result {
	const char	*text;		/* as it came; may be JSON that was cut off */
	json_object	*json;		/* NULL: not whole JSON */
	const char	*error;		/* its sentence, NULL: it worked */
};

struct talk_step {
	const char	*tool;
	const char	*result;	/* NULL: none came */
};

struct talk {
	struct arena	*arena;
	struct answer	*answer;	/* in the making */
	json_object	*messages, *tools;
	const char	*text;		/* the user's last message */
	int		 at;		/* its place */
	const char	*said;		/* the assistant's last text before it, "" */
	const char	*before;	/* the user's message before that, "" */
	struct talk_step *steps;	/* calls since, oldest first */
	int		 nsteps, next;
};

/* NULL, or what a strict server would say against the messages. */
const char *talk_open(struct talk *, struct arena *, json_object *asked, struct answer *);

bool	 talk_has_tool(const struct talk *, const char *name);

/* 0: r is the result.  -1: the call is now part of the answer, and others may follow beside it. */
int	 talk_call(struct talk *, const char *tool, const char *arguments, struct result *r);

/* What role the message has, and its text ("" when it has none). */
const char *talk_role(const struct talk *, int i);
const char *talk_text(const struct talk *, int i);
int	 talk_count(const struct talk *);
/* The result of the newest call with a task of its own before the user's message; NULL: none. */
json_object *talk_last_task(const struct talk *);

#endif
