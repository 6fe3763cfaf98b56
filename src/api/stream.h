/*
 * stream -- the event stream of a turn: contract section 3.
 *
 * Event ids are "run.index.bytes.calls.hash": the place in the turn up to which the client
 * has heard (message index, bytes of its text, call events of it, a hash of these bytes), so that any worker can go on from
 * there, and sees whether the text that it has does (a step that was asked again says something else).
 * Nothing here fails a turn: a client that is gone hears nothing.  All calls yield.
 */
#ifndef PARLEY_API_STREAM_H
#define PARLEY_API_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct call;
struct request;
struct turn;

struct stream {
	struct request	*req;
	struct buf	 out;
	int		 index;		/* of the message that is being said */
	size_t		 bytes;
	int		 calls;
	int64_t		 quiet_since;
};

/* The head and the first event, "turn". */
void	 stream_open(struct stream *, struct request *, const struct turn *);
void	 stream_delta(struct stream *, const struct turn *, const char *, size_t);
void	 stream_called(struct stream *, const struct turn *, const struct call *);
void	 stream_returned(struct stream *, const struct turn *, const struct call *);
void	 stream_done(struct stream *, const struct turn *, const char *body);
void	 stream_error(struct stream *, const struct turn *);	/* the job's failure */
void	 stream_keepalive(struct stream *);	/* a comment, when it has been quiet for long */
int64_t	 stream_keepalive_at(const struct stream *);	/* NEVER: the client is gone */
void	 stream_close(struct stream *);

#endif
