/*
 * http_exchange -- one request and its answer as curl sees them, for http.c alone.
 *
 * The options of an easy handle, and the callbacks that move bytes between it and
 * the struct.  The callbacks run on the loop's stack (or inside http_read() when it
 * un-pauses) and only fill buffers and wake the fiber.  Nothing yields.
 */
#ifndef PARLEY_IO_HTTP_EXCHANGE_H
#define PARLEY_IO_HTTP_EXCHANGE_H

#include <curl/curl.h>

#include "base/buf.h"
#include "io/http.h"

struct http {
	struct job	*job;
	CURL		*easy;		/* NULL when the transfer is over */
	struct curl_slist *headers;

	curl_off_t	 sending;	/* bytes of the request's body */

	struct buf	 head;		/* the header lines, a NUL after each */
	int		 status;
	bool		 head_done;
	struct buf	 body;		/* read up to `taken` */
	size_t		 taken;
	size_t		 received, max_body;
	size_t		 trailers;	/* bytes of them */

	int64_t		 started, first_byte, last_byte;	/* 0: not yet */
	int64_t		 first_by, total_by;
	int64_t		 idle_ms;

	bool		 waiting;	/* the fiber wants to be woken */
	bool		 paused;
	bool		 shared;	/* the connection has other exchanges on it */
	bool		 done;
	enum http_error	 error;
	const char	*detail;
	char		 text[CURL_ERROR_SIZE];
};

/*
 * curl's buffers for each exchange (16 and 64 KiB by default).  Pieces of a stream are small, but
 * under HTTP/2 the buffer must hold a whole TLS record: with less, curl 7.88 leaves
 * the end of a body in its own memory until something else arrives on the connection.
 */
#define RECEIVE_SIZE		2048L
#define RECEIVE_SIZE_TLS	16384L
#define SEND_SIZE		16384L		/* the smallest curl takes */

CURLcode exchange_set(struct http *, const struct http_ask *);	/* all options of h->easy */
enum http_error exchange_meaning(CURL *, CURLcode, const char *text);
void	 exchange_wake(struct http *);
bool	 exchange_has_sent(const struct http *);	/* all of the request's body */
/* Nothing waits to be sent: if the request's body has gone, its buffer goes as well. */
void	 exchange_sent(CURL *);

#endif
