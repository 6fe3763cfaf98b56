#include "io/http_exchange.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"

#define HEAD_MAX	(64 * 1024)	/* all header lines together */
#define UNREAD_MAX	(64 * 1024)	/* then the transfer is paused */
#define UNREAD_SHARED_MAX	(16 * 1024 * 1024)	/* over HTTP/2: then it is given up */

static CURLcode	 set_manners(struct http *, const struct http_ask *);
static CURLcode	 set_request(struct http *, const struct http_ask *);
static CURLcode	 set_headers(struct http *, const struct http_ask *);
static CURLcode	 set_callbacks(struct http *);
static bool	 is_packed(const char *, size_t);
static size_t	 on_head(char *, size_t, size_t, void *);
static size_t	 on_body(char *, size_t, size_t, void *);

CURLcode
exchange_set(struct http *h, const struct http_ask *ask)
{
	CURLcode	 rc;

	if ((rc = set_manners(h, ask)) != CURLE_OK ||
	    (rc = set_request(h, ask)) != CURLE_OK ||
	    (rc = set_headers(h, ask)) != CURLE_OK ||
	    (rc = set_callbacks(h)) != CURLE_OK)
		return rc;
	return CURLE_OK;
}

/* Goes on to the next option only when the one before was taken. */
#define set(option, value)	\
	(rc = rc != CURLE_OK ? rc : curl_easy_setopt(h->easy, CURLOPT_ ## option, (value)))

/* How we speak, whatever is asked. */
static CURLcode
set_manners(struct http *h, const struct http_ask *ask)
{
	bool		 tls = strncasecmp(ask->url, "https:", 6) == 0;
	CURLcode	 rc = CURLE_OK;

	set(PROTOCOLS_STR, "http,https");
	set(FOLLOWLOCATION, 0L);
	set(USERAGENT, "parley");
	set(NOSIGNAL, 1L);
	set(TCP_NODELAY, 1L);
	set(TCP_KEEPALIVE, 1L);
	set(SUPPRESS_CONNECT_HEADERS, 1L);
	set(BUFFERSIZE, tls ? RECEIVE_SIZE_TLS : RECEIVE_SIZE);
	set(UPLOAD_BUFFERSIZE, SEND_SIZE);
	set(CONNECTTIMEOUT_MS, (long)ask->connect_ms);

	/*
	 * Giving up while a name is being looked up must not wait for the
	 * thread that does it: getaddrinfo() may take half a minute.
	 */
	set(QUICK_EXIT, 1L);

	/*
	 * With a CA directory (Debian compiles one in) curl does not keep the
	 * CA store, and parses the whole bundle for each new connection.
	 */
	set(CAPATH, NULL);
	if (ask->ca_file != NULL)
		set(CAINFO, ask->ca_file);

	/*
	 * Rather wait for a connection that is being made than make another,
	 * if HTTP/2 may come of it.  Never over plain HTTP: there curl learns the
	 * version from the first answer, and all others would wait for that.
	 */
	set(HTTP_VERSION, (long)(tls ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	set(PIPEWAIT, tls ? 1L : 0L);

	/* Only on a connection kept from before does curl send a request again. */
	set(FRESH_CONNECT, ask->once ? 1L : 0L);
	return rc;
}

static CURLcode
set_request(struct http *h, const struct http_ask *ask)
{
	CURLcode	 rc = CURLE_OK;

	h->sending = (curl_off_t)ask->nbody;
	set(URL, ask->url);
	if (ask->nbody > 0 || strcmp(ask->method, "POST") == 0) {
		/* As a text, not through a callback: over HTTP/1.1 curl then sends it together with the head. */
		set(POSTFIELDSIZE_LARGE, h->sending);
		set(POSTFIELDS, ask->nbody > 0 ? ask->body : "");
	} else
		set(HTTPGET, 1L);
	if (strcmp(ask->method, "HEAD") == 0)
		set(NOBODY, 1L);
	else if (strcmp(ask->method, "GET") != 0 && strcmp(ask->method, "POST") != 0)
		set(CUSTOMREQUEST, ask->method);
	return rc;
}

static CURLcode
set_headers(struct http *h, const struct http_ask *ask)
{
	CURLcode	 rc = CURLE_OK;

	/* No "Expect: 100-continue": servers that ignore it cost a second each. */
	h->headers = curl_slist_append(NULL, "Expect:");
	for (int i = 0; ask->headers != NULL && ask->headers[i] != NULL; i++) {
		struct curl_slist	*more = curl_slist_append(h->headers, ask->headers[i]);

		if (more == NULL)
			return CURLE_OUT_OF_MEMORY;
		h->headers = more;
	}
	set(HTTPHEADER, h->headers);
	return rc;
}

static CURLcode
set_callbacks(struct http *h)
{
	CURLcode	 rc = CURLE_OK;

	set(PRIVATE, h);
	set(ERRORBUFFER, h->text);
	set(HEADERFUNCTION, on_head);
	set(HEADERDATA, h);
	set(WRITEFUNCTION, on_body);
	set(WRITEDATA, h);
	return rc;
}

/* One header line, status lines and the empty line at the end as well. */
static size_t
on_head(char *p, size_t size, size_t n, void *arg)
{
	struct http	*h = arg;
	size_t		 len = size * n;
	const char	*space;

	n = len;
	/* A trailer: nobody asks for them, but curl keeps them all. */
	if (h->head_done && (h->trailers += len) <= HEAD_MAX)
		return n;
	if (h->head_done || h->head.n + len > HEAD_MAX) {
		h->error = HTTP_TOO_LARGE;
		return 0;
	}
	while (len > 0 && strchr("\r\n \t", p[len - 1]) != NULL)
		len--;
	if (len == 0) {
		/* A 1xx is not the answer (RFC 9110 section 15.2): another head follows. */
		h->head_done = h->status >= 200;
		exchange_wake(h);
		return n;
	}
	if (len > 5 && strncmp(p, "HTTP/", 5) == 0) {
		space = memchr(p, ' ', len);
		h->status = space != NULL ? atoi(space) : 0;
		h->shared = p[5] >= '2';
		buf_clear(&h->head);
		return n;
	}
	if (is_packed(p, len)) {
		h->error = HTTP_GARBLED;
		return 0;
	}
	buf_add(&h->head, p, len);
	buf_char(&h->head, '\0');
	return n;
}

/*
 * RFC 9112 section 7: no coding but chunked was asked for (TE).  curl would unpack others all the same, and a kilobyte of them
 * becomes a megabyte or, packed twice, all the memory there is.
 */
static bool
is_packed(const char *line, size_t n)
{
	static const char	 name[] = "Transfer-Encoding:";
	size_t			 at = sizeof name - 1;

	if (n < at || strncasecmp(line, name, at) != 0)
		return false;
	while (at < n && (line[at] == ' ' || line[at] == '\t'))
		at++;
	return n - at != 7 || strncasecmp(line + at, "chunked", 7) != 0;
}

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct http	*h = arg;
	size_t		 unread = h->body.n - h->taken;

	n *= size;
	/*
	 * Over HTTP/2 a pause saves nothing: curl 7.88 keeps what comes (a body of
	 * 20 MB in 100 MB), and may hold up all exchanges of the connection.
	 */
	if (!h->shared && unread >= UNREAD_MAX) {
		h->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (n > h->max_body - h->received || unread + n > UNREAD_SHARED_MAX) {
		h->error = HTTP_TOO_LARGE;
		return 0;
	}
	h->received += n;
	h->last_byte = now_us();
	if (h->first_byte == 0)
		h->first_byte = h->last_byte;
	buf_add(&h->body, p, n);
	exchange_wake(h);
	return n;
}

bool
exchange_has_sent(const struct http *h)
{
	curl_off_t	 sent = 0;

	return curl_easy_getinfo(h->easy, CURLINFO_SIZE_UPLOAD_T, &sent) == CURLE_OK && sent == h->sending;
}

/*
 * A model thinks for seconds, and curl would keep the buffer of the request's body until its answer has
 * ended: a third of the memory of a waiting turn.  To set the size frees it; should curl need one again,
 * it makes it.
 */
void
exchange_sent(CURL *easy)
{
	struct http	*h = NULL;

	if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, &h) == CURLE_OK && h != NULL && exchange_has_sent(h))
		(void)curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_SIZE);
}

void
exchange_wake(struct http *h)
{
	if (h->waiting)
		fiber_wake(h->job->fiber);
}

enum http_error
exchange_meaning(CURL *easy, CURLcode code, const char *text)
{
	long	 sent = 0;

	/* Not one byte of the request went out: no name, no connection, no TLS. */
	if (curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &sent) != CURLE_OK || sent == 0)
		return HTTP_UNREACHABLE;
	switch (code) {
	case CURLE_UNSUPPORTED_PROTOCOL:	/* an answer without a status line */
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
		return HTTP_GARBLED;
	case CURLE_OUT_OF_MEMORY:		/* a header line over curl's own limit */
		return HTTP_TOO_LARGE;
	case CURLE_RECV_ERROR:
		/* curl has no code of its own for this one. */
		return strstr(text, "chunked-encoding") != NULL ? HTTP_GARBLED : HTTP_BROKEN;
	default:
		return HTTP_BROKEN;
	}
}
