/*
 * prompt -- what a model is asked: instructions, history, tools.
 *
 * Rendered as the JSON text of "messages" for one model at a time: opaque fields of raw
 * messages (thought signatures, reasoning details) go back only to the model
 * that sent them.  Replayed history is always valid for strict servers: arguments are
 * JSON objects, every call is followed by its result, ids are as they came.
 *
 * What a turn's user saw when it failed or was cancelled stands in the history as a sentence in
 * brackets, so that the model knows.  Tool results are cut to tools.max_to_model bytes with a note.
 * Nothing yields.
 */
#ifndef PARLEY_MODEL_PROMPT_H
#define PARLEY_MODEL_PROMPT_H

#include "base/buf.h"
#include "model/message.h"

struct conf;

struct prompt {
	const char	*instructions;	/* agent.instructions */
	const char	*local_time;	/* "Friday, 2026-11-20 11:00 (Europe/Berlin)": date, time and zone of the turn */
	const char	*notice;	/* what else the model must know, such as what is missing; NULL: nothing */
	struct message	*messages;	/* oldest first, this turn's last */
	int		 nmessages;
	int		 oldest_kept;	/* messages before it are left out: a cut at a turn boundary */
	struct message	*earlier;	/* what tools did in earlier runs of this turn, shown after its question */
	int		 nearlier;
	const char	*tools;		/* JSON array of {"type":"function","function":{…}}, NULL: none */
};

/* Writes the array of messages as `model` (see message.h) is to see them. */
void	 prompt_messages(const struct prompt *, const struct conf *, const char *model, struct buf *);

/*
 * Leaves out whole turns, oldest first, until about half of the history's bytes are gone; false when only the newest
 * turn is left.
 */
bool	 prompt_cut(struct prompt *);

#endif
