/*
 * stream -- the event stream of a turn, as it is written (openapi.yaml, POST /api/chat).
 *
 * It can tell of a turn that runs here (tell.c) and of one that somebody else runs (attach.c), and go over from the one to the
 * other: where it stands is its place (place.h), and each event carries it as its id.
 *
 * From stream_open() on the stream attends its job: a comment goes out where it has been quiet for long.
 *
 * The same can be told in another protocol: then a voice says at each place what is to be said there.
 * Nothing here fails a job: a client that is gone hears nothing.  All calls yield.
 */
#ifndef PARLEY_API_STREAM_H
#define PARLEY_API_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/place.h"
#include "base/buf.h"

struct call;
struct request;

/* All of them may yield; arg is the voice's own. */
struct stream_voice {
	const char	*media_type;
	const char	*comment;	/* a whole line, or more, that means nothing */
	void		(*turn)(void *arg);	/* which turn it is, is known */
	void		(*queued)(void *arg);
	void		(*delta)(void *arg, const char *, size_t);
	void		(*calls)(void *arg);	/* what is known of the calls has changed */
	void		(*reset)(void *arg);
	void		(*done)(void *arg);
	void		(*error)(void *arg);
	void		(*closed)(void *arg);	/* at last, whether there was an end or not */
	bool		(*look)(void *arg);	/* about once a second; false: not any more */
};

struct stream {
	struct request	*req;
	const struct stream_voice *voice;	/* NULL: as openapi.yaml has it */
	void		*voice_arg;
	int64_t		 look_at;	/* NEVER: the voice does not want to look any more */
	struct buf	 out;
	struct place	 at;
	bool		 named;		/* the client knows which turn it is */
	int64_t		 quiet_since;
};

void	 stream_open(struct stream *, struct request *);	/* the head; the place stays as it is */
void	 stream_flush(struct stream *);				/* the head goes out before there is an event */
void	 stream_data(struct stream *, struct buf *json);		/* a voice's event; takes the JSON's memory */
/* The first event, of this run. */
void	 stream_turn(struct stream *, const char *conversation_id, int turn, int run, const char *message_id);
void	 stream_queued(struct stream *, int position);		/* only when it has changed */
void	 stream_reply(struct stream *);		/* what comes now is the reply, if it was not before */
void	 stream_delta(struct stream *, const char *, size_t);
void	 stream_called(struct stream *, const struct call *);
/* next: the index of the message that comes now, when it was the last call of its own; else 0. */
void	 stream_returned(struct stream *, const struct call *, int next);
/* What was said since the last result is void; run and index are of the message that is said now. */
void	 stream_reset(struct stream *, int run, int index);
/*
 * At the end: what was said since the last result is made to be the response, should it be another.  A turn that was stopped
 * between two steps has the text of the one before, and a question where the model said nothing is the response.
 */
void	 stream_settle(struct stream *, const char *response);
void	 stream_approval(struct stream *, const struct call *);	/* no progress: it is asked again whenever somebody attaches */
void	 stream_done(struct stream *, const char *body);
void	 stream_error(struct stream *);		/* the job's failure */
void	 stream_close(struct stream *);		/* without either: the client may attach again */

#endif
