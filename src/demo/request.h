/*
 * request -- the little HTTP/1.1 that the demo model speaks (RFC 9112).
 *
 * Pure functions over bytes that the caller holds; every slice points into
 * them and lives as long as they do.  A request is bounded: a head of
 * REQUEST_HEAD_MAX bytes, a body of REQUEST_BODY_MAX.  Nothing is allocated.
 */
#ifndef PARLEY_DEMO_REQUEST_H
#define PARLEY_DEMO_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#define REQUEST_HEAD_MAX	(32 * 1024)
#define REQUEST_BODY_MAX	(32 * 1024 * 1024)	/* 2,000 messages of 2,000 characters, with room */

struct slice {
	const char	*p;
	size_t		 n;
};

struct request {
	struct slice	 method;
	struct slice	 target;
	struct slice	 fields;	/* the header lines, each with its line end */
	size_t		 head;		/* bytes up to the body */
	size_t		 length;	/* Content-Length, 0 when absent */
	bool		 chunked;
	bool		 close;		/* the connection ends with the answer */
	bool		 expects;	/* Expect: 100-continue */
};

bool	 slice_is(struct slice, const char *);		/* exact */
bool	 slice_is_word(struct slice, const char *);	/* any case (ASCII) */
bool	 slice_starts(struct slice, const char *);
struct slice slice_of(const char *);

/* 1: the head is whole; 0: more bytes are needed; else minus the HTTP status that refuses it. */
int	 request_parse(const char *, size_t, struct request *);

/* Takes the next header line; *at starts as request.fields.  False at the end. */
bool	 request_field(struct slice *at, struct slice *name, struct slice *value);

/*
 * The body behind a parsed head.  1: whole, and *used counts the bytes of the
 * message; a chunked body is put together in place, so the bytes change.
 * 0: more bytes are needed; else minus a status.
 */
int	 request_body(const struct request *, char *, size_t, struct slice *body, size_t *used);

#endif
