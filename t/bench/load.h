/*
 * load -- a load generator for the bench: many requests to POST /api/chat
 * from one process, on one epoll loop.
 *
 * It speaks raw HTTP/1.1 to a server on this machine and nowhere else.  Each
 * of C slots is one client: it has a user's token, at most one request in
 * flight, and its own conversation if asked for.  Bounded in requests, in time
 * and per request.  One JSON object on stdout says how it went.
 */
#ifndef PARLEY_BENCH_LOAD_H
#define PARLEY_BENCH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"

#define LOAD_USERS_MAX		1000
#define LOAD_SLOTS_MAX		20000
#define LOAD_REQUESTS_MAX	5000000
#define LOAD_SECONDS_MAX	3600
#define LOAD_MARK		64	/* of a line of the framing */
#define LOAD_LINE		1024	/* what is kept of a line of the answer */
#define LOAD_KINDS		16	/* distinct statuses or codes that are told apart */

/* What may go wrong beside an HTTP status. */
enum load_error { ERROR_CONNECT, ERROR_CLOSED, ERROR_PROTOCOL, ERROR_TIMEOUT, ERROR_STREAM, ERROR_COUNT };

/* One answer, fed as it comes; see load_parse.c. */
struct answer {
	enum { ANSWER_HEAD, ANSWER_LENGTH, ANSWER_SIZE, ANSWER_CHUNK, ANSWER_CRLF, ANSWER_TRAILER, ANSWER_REST,
	    ANSWER_DONE } state;
	int		 status;
	bool		 first;		/* a byte of the body has come */
	bool		 delta;		/* and a first piece of text */
	bool		 done, failed;	/* events of a stream */
	bool		 close;
	int64_t		 left;		/* of the body or chunk */
	size_t		 n, marked;	/* bytes in line and mark */
	char		 line[LOAD_LINE];	/* of the head, then of the body */
	char		 mark[LOAD_MARK];	/* size of a chunk: a chunk may end inside a line of the body */
	char		 conversation[40];
	char		 code[40];	/* error_code */
	char		 event[16];
};

void	 answer_reset(struct answer *);
/* -1: this is no HTTP; else the bytes used, fewer than n only when the answer ended. */
ptrdiff_t answer_feed(struct answer *, const char *, size_t n);

struct slot {
	enum { SLOT_IDLE, SLOT_CONNECTING, SLOT_SENDING, SLOT_READING } state;
	int		 fd;		/* -1: none */
	int		 number;
	bool		 open;		/* counted as in flight */
	int64_t		 began, deadline;	/* us */
	int64_t		 first, delta;	/* us after began, -1: not yet */
	struct buf	 out;
	size_t		 sent;
	struct answer	 answer;
	char		 conversation[40];
};

/* A growing list of durations in us. */
struct times {
	uint32_t	*v;
	size_t		 n, cap;
};

struct count {
	char		 name[40];
	int64_t		 n;
};

struct load {
	/* The options. */
	struct sockaddr_in to;
	const char	*path;
	char		*tokens[LOAD_USERS_MAX];
	int		 ntokens;
	const char	*body;
	int		 concurrency;
	int64_t		 requests;	/* 0: no limit but the time */
	int64_t		 seconds;	/* 0: no limit but the requests */
	int64_t		 timeout;	/* us of one request */
	int64_t		 ramp;		/* us: the clients appear one after another in this time */
	bool		 same, stream, burst, keepalive;
	const char	*hold_signal;

	struct slot	*slots;
	int		 epoll;
	int64_t		 start, stop;	/* us; nothing new is begun after stop */
	int64_t		 begun, ended;	/* requests */
	int		 connecting, open, peak;
	int64_t		 all_open;	/* us after start, -1: never */
	int64_t		 last;		/* us after start of the last answer */
	int64_t		 ok;
	int64_t		 errors[ERROR_COUNT];
	struct count	 statuses[LOAD_KINDS], codes[LOAD_KINDS];
	struct times	 latency, first, delta;
	char		 scratch[65536];	/* one recv() */
};

int64_t	 load_now(void);			/* us */
int	 load_run(struct load *);		/* -1: could not run at all */
void	 load_count(struct count *, const char *name);
void	 times_add(struct times *, int64_t us);
void	 load_report(struct load *, FILE *);

#endif
