/*
 * sse -- server-sent events, both ways (HTML standard, section 9.2).
 *
 * The reader takes bytes cut anywhere, with CR, LF or CRLF, a BOM, comments, and several
 * data lines joined by LF; event, id and unknown fields are understood or ignored as the
 * standard says.  An event larger than the limit is an error.  An event that the end of
 * the stream cuts off is none; who wants it all the same gives the reader "\n\n".  Nothing yields.
 */
#ifndef PARLEY_IO_SSE_H
#define PARLEY_IO_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct sse {
	struct buf	 line;
	struct buf	 data;
	struct buf	 event;		/* the event's type; "" is "message" */
	struct buf	 id;		/* last event id */
	size_t		 max;		/* bytes of one event */
	int64_t		 retry_ms;	/* what the server says of coming again, -1: nothing */
	bool		 has_data;
	bool		 cr;		/* the last byte was a CR */
	bool		 begun;		/* past the place of a BOM */
	bool		 taken;		/* the event was handed out: the next call forgets it */
};

void	 sse_open(struct sse *, size_t max);
void	 sse_close(struct sse *);
/* Another stream goes on where one ended; the last id and the retry time stay. */
void	 sse_restart(struct sse *);

/*
 * Consumes bytes up to and including the end of one event: returns 1 when an event is complete (its
 * data in s->data until the next call), 0 when all bytes are used up, -1 when the event is
 * too large (there is no going on then).  *p and *n move on.
 */
int	 sse_take(struct sse *, const char **p, size_t *n);

/* One event: "event:", "id:" and one "data:" line (json must have no line break). id may be NULL. */
void	 sse_put(struct buf *, const char *event, const char *id, const char *json);
void	 sse_put_comment(struct buf *, const char *);

#endif
