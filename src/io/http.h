/*
 * http -- requests to other servers: one curl multi for the whole worker, driven by the loop.
 *
 * A fiber opens a request, waits for the head, reads the body piece by piece,
 * and closes it; closing early really closes the exchange.  curl's callbacks run on
 * the loop's stack.  A reader that is slower than its server pauses the transfer at 64 KiB;
 * over HTTP/2, where curl's pause is of no use, one who is 16 MiB behind is cut off (HTTP_TOO_LARGE).
 *
 * HTTP/2 is used where the server offers it by ALPN, with many exchanges on one connection; the CA
 * store is read once, as long as all requests name the same ca_file.  Only http and https,
 * no redirects, no cookies, no .netrc, no proxy but the environment's.
 *
 * A failure is a value: http_error(); the caller knows what it means.  Only the end of the
 * job itself (HTTP_STOPPED, HTTP_LATE_TOTAL by its deadline) has failed the job as well.
 *
 * A request that dies unanswered on a connection kept from before is sent again on another one,
 * as browsers do (RFC 9110 section 9.3.1), unless `once` is set.
 * The process must ignore SIGPIPE.
 */
#ifndef PARLEY_IO_HTTP_H
#define PARLEY_IO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct http;
struct job;

enum http_error {
	HTTP_OK,
	HTTP_UNREACHABLE,	/* no connection: nothing was sent */
	HTTP_BROKEN,		/* reset or cut, in head or body */
	HTTP_LATE_FIRST,	/* first_byte timeout */
	HTTP_LATE_IDLE,		/* idle timeout */
	HTTP_LATE_TOTAL,	/* total timeout or the job's deadline */
	HTTP_GARBLED,		/* not HTTP, or a broken encoding of it */
	HTTP_TOO_LARGE,		/* head or body over the limit */
	HTTP_STOPPED		/* the job was stopped */
};

struct http_ask {
	const char	*method;	/* "GET", "POST" */
	const char	*url;
	const char *const *headers;	/* "Name: value", NULL at the end; copied */
	const char	*body;		/* NULL: none; must stay valid until http_sent(), or the exchange is closed */
	size_t		 nbody;
	const char	*ca_file;	/* NULL: the system's */
	int64_t		 connect_ms;
	int64_t		 first_byte_ms;	/* from the start to the first byte of the answer's body; 0: none */
	int64_t		 idle_ms;	/* between two bytes of the body; 0: none */
	int64_t		 total_ms;	/* all of it; 0: none but the job's deadline */
	size_t		 max_body;	/* bytes; 0: 16 MiB */
	bool		 once;		/* never sent twice: on a connection of its own */
};

int	 http_start(void);		/* once for a worker, after loop_open() and fork() */
void	 http_stop(void);		/* when no exchange is open */

/* Never fails by itself: errors show at the first http_status(). The job's arena closes it at the latest. */
struct http *http_open(struct job *, const struct http_ask *);
/* yields until the head is there: the status, or -1 (see http_error). */
int	 http_status(struct http *);
/* The head is there, and the request's body has gone: its text is not needed any more. */
bool	 http_sent(const struct http *);
/* A response header by its name (case-insensitive) or NULL; belongs to the exchange. After http_status(). */
const char *http_header(struct http *, const char *name);
/* yields: bytes read (> 0), 0 at the proper end, -1 on failure (what came before it is read first). */
ssize_t	 http_read(struct http *, char *, size_t);
/* The same without a copy: all that has come; good until the next call for this exchange. */
ssize_t	 http_take(struct http *, const char **);
enum http_error http_error(const struct http *);
const char *http_detail(const struct http *);	/* curl's code and text, for the log; "" when all is well */
int64_t	 http_first_byte_us(const struct http *);	/* of the body, since the start; 0 when none came */
void	 http_close(struct http **);	/* NULL is fine */

#endif
