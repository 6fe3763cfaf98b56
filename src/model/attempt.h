/*
 * attempt -- one request to one model, until its answer is complete or known to be none.
 *
 * attempt_open() sends it and waits for the head; attempt_read() waits for text, the end, or
 * a fault, and state says which.  It gives out nothing itself: wire.content does.  An answer
 * that is no stream is understood as well.
 *
 * A zeroed struct is no attempt; attempt_close() makes it one again, gives all memory back and
 * really closes the exchange.  Until then a finished exchange stays open: closed right after
 * [DONE] it would cost its connection.
 */
#ifndef PARLEY_MODEL_ATTEMPT_H
#define PARLEY_MODEL_ATTEMPT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "io/sse.h"
#include "model/fault.h"
#include "model/request.h"
#include "model/wire.h"

struct conf_model;
struct http;
struct job;
struct prompt;

enum attempt_state { ATTEMPT_NONE, ATTEMPT_READING, ATTEMPT_COMPLETE, ATTEMPT_FAULT };
enum attempt_form { FORM_UNKNOWN, FORM_STREAM, FORM_BODY };

struct attempt {
	struct job	*job;
	enum attempt_state state;
	struct http	*http;
	struct request	 request;
	enum attempt_form form;
	struct sse	 sse;
	struct buf	 body;		/* of an answer that is no stream, or of a refusal */
	struct wire	 wire;
	struct fault	 fault;		/* of ATTEMPT_FAULT */
	const char	*detail;	/* curl's word on it, NULL: none */
	int64_t		 first_byte;	/* when the answer began, 0: not yet */
};

void	 attempt_open(struct attempt *, struct job *, const struct conf_model *, const struct prompt *);	/* yields */
/* yields until more than `given` bytes of content are whole, or the state is no longer ATTEMPT_READING */
void	 attempt_read(struct attempt *, size_t given);
void	 attempt_close(struct attempt *);

#endif
