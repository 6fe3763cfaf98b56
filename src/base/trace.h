/*
 * trace -- W3C Trace Context (level 1): the trace of who asks us, given on to whom we ask.
 *
 * A request that comes with a good traceparent has a trace; one without, or with a bad one, has none, and then
 * none is sent: this program begins no traces, as it has nobody to report spans to.  What goes out has the same trace-id, the
 * same sampled flag and tracestate as it came, and a parent-id of our own, a new one for each message.
 *
 * Nothing fails but by saying so; nothing yields.
 */
#ifndef PARLEY_BASE_TRACE_H
#define PARLEY_BASE_TRACE_H

#include <stdbool.h>

struct arena;

#define TRACE_PARENT	56	/* a traceparent of version 00 and the NUL */
#define TRACE_STATE_MAX	512	/* bytes of a tracestate: so many are to be given on (section 3.3.1.5) */

struct trace {
	char		 id[33];
	char		 parent[17];	/* the span of who asked */
	bool		 sampled;
	const char	*state;		/* tracestate; NULL: none */
};

/*
 * From the two headers, as they came; both may be NULL.  NULL: there is no trace.  A version we do not know is read
 * as far as we know it (section 4.3).  A bad tracestate is left out; of a long one the last members.
 */
const struct trace *trace_read(struct arena *, const char *traceparent, const char *tracestate);

/* As one text, to be kept with a turn, and back; both NULL for NULL. */
const char *trace_text(struct arena *, const struct trace *);
const struct trace *trace_of_text(struct arena *, const char *);

/* The traceparent of a message that we send. */
void	 trace_next(const struct trace *, char out[TRACE_PARENT]);

#endif
