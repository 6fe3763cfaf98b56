/*
 * reply -- what goes out for one request: a head and a list of timed steps.
 *
 * The answers of the brain and the scripts of tests are both compiled into
 * this form, and one player (conn.c) puts it on the wire.  A reply has an arena of its
 * own that holds every byte of it; reply_close() gives all back.
 */
#ifndef PARLEY_DEMO_REPLY_H
#define PARLEY_DEMO_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct arena;

enum step_kind {
	STEP_BYTES,	/* count times text, each a piece of the body */
	STEP_WAIT,	/* ms */
	STEP_DRIP,	/* text byte by byte, ms apart */
	STEP_GARBAGE,	/* text on the connection, in place of a head */
	STEP_CUT,	/* close in the middle */
	STEP_RESET,	/* the same with a TCP reset */
	STEP_HANG	/* nothing more, for ever */
};

struct step {
	enum step_kind	 kind;
	const char	*text;
	size_t		 n;
	int		 ms;
	int		 count;
	struct step	*next;
};

enum framing { FRAMING_CHUNKED, FRAMING_LENGTH, FRAMING_BARE };

struct reply {
	struct arena	*arena;
	int		 status;
	enum framing	 framing;	/* bare: the script wrote Content-Length itself */
	struct buf	*fields;	/* header lines, each with CRLF */
	bool		 typed;		/* Content-Type is among them */
	bool		 stream;	/* and it is, or will be, text/event-stream */
	bool		 close;		/* the connection ends with it */
	size_t		 length;	/* of all STEP_BYTES, for FRAMING_LENGTH */
	struct step	*first;
	struct step	**last;
};

struct reply *reply_open(int status);
void	 reply_close(struct reply **);	/* NULL is fine */

void	 reply_field(struct reply *, const char *name, const char *value);
struct step *reply_step(struct reply *, enum step_kind, const char *text, size_t n, int ms);
void	 reply_wait(struct reply *, int ms);		/* 0 adds nothing */
void	 reply_data(struct reply *, const char *json);	/* one event of a stream */

/* A whole answer of one JSON text. */
struct reply *reply_json(int status, const char *json);
/* The same for an error, in OpenAI's form (notes: {"error":{message,type,param,code}}). */
struct reply *reply_error(int status, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

/* Decides the framing, when the last step is in. */
void	 reply_seal(struct reply *);
/* Status line and header fields. */
void	 reply_head(const struct reply *, struct buf *out);

#endif
