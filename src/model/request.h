/*
 * request -- one chat-completions request as it goes out.
 *
 * The body is one text, which curl then sends together with its own head.  It is the caller's until request_free(),
 * which gives it back as soon as it has been sent: ten thousand turns wait for their answers at once.
 * Nothing yields.
 */
#ifndef PARLEY_MODEL_REQUEST_H
#define PARLEY_MODEL_REQUEST_H

#include "base/buf.h"

struct arena;
struct conf;
struct conf_model;
struct prompt;
struct trace;

struct request {
	struct buf	 body;
	size_t		 size;		/* of the body, also when that is gone */
};

/* The arena is for what is needed on the way. */
void	 request_make(struct request *, struct arena *, const struct conf *, const struct conf_model *, const struct prompt *);
void	 request_free(struct request *);	/* its body */

const char *request_url(struct arena *, const struct conf_model *);
/* NULL at the end; trace NULL: none. */
const char *const *request_headers(struct arena *, const struct conf_model *, const struct trace *);
/* Who is asked, as messages remember it: base_url + ' ' + model. */
const char *request_who(struct arena *, const struct conf_model *);

#endif
