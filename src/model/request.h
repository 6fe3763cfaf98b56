/*
 * request -- one chat-completions request as it goes out.
 *
 * The body stays in pieces: what all requests of a model share is never copied into it
 * (ten thousand turns wait with theirs at once).  request_make() writes the
 * head and the messages, and points to the table's text of the tools, which must live as long; request_free() gives
 * it back.  Nothing yields.
 */
#ifndef PARLEY_MODEL_REQUEST_H
#define PARLEY_MODEL_REQUEST_H

#include <sys/uio.h>

#include "base/buf.h"

struct arena;
struct conf;
struct conf_model;
struct prompt;
struct trace;

struct request {
	struct buf	 head;		/* model and options */
	struct buf	 messages;
	struct iovec	 body[6];
	int		 nbody;
};

void	 request_make(struct request *, const struct conf *, const struct conf_model *, const struct prompt *);
void	 request_free(struct request *);
size_t	 request_size(const struct request *);	/* bytes of the body */

const char *request_url(struct arena *, const struct conf_model *);
/* NULL at the end; trace NULL: none. */
const char *const *request_headers(struct arena *, const struct conf_model *, const struct trace *);
/* Who is asked, as messages remember it: base_url + ' ' + model. */
const char *request_who(struct arena *, const struct conf_model *);

#endif
