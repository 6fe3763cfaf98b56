#include "io/fcgi.h"

#include <errno.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fastcgi.h>
#include <fcgios.h>

#include "base/conf.h"
#include "base/uuid.h"
#include "io/fcgi_conn.h"
#include "run/deadline.h"
#include "run/loop.h"

/* Of a record's content, and so of the buffer. */
#define OUT_MAX		((size_t)16 * 1024)

static void	 record_open(struct buf *, size_t);
static void	 record_head(const struct fcgi *, char *, unsigned char type, size_t);
static int	 bytes_wait(struct fcgi *);
static void	 bytes_refuse(struct fcgi *);

bool
fcgi_check(void)
{
	return dlsym(RTLD_DEFAULT, "OS_Read") == (void *)OS_Read &&
	    dlsym(RTLD_DEFAULT, "OS_Write") == (void *)OS_Write &&
	    dlsym(RTLD_DEFAULT, "OS_IpcClose") == (void *)OS_IpcClose;
}

const char *
fcgi_param(struct fcgi *c, const char *name)
{
	return FCGX_GetParam(name, c->rq.envp);
}

int
fcgi_body(struct fcgi *c, struct buf *b, size_t max)
{
	const char	*length = fcgi_param(c, "CONTENT_LENGTH");
	size_t		 want = length != NULL ? strtoul(length, NULL, 10) : 0;
	size_t		 had = b->n;
	int		 n;

	if (c->finished || c->rq.in == NULL)
		return -1;
	if (want > max)
		return 1;
	do {
		buf_reserve(b, want > 0 && b->n - had <= want ? want - (b->n - had) + 1 : 4096);
		n = FCGX_GetStr(b->p + b->n, (int)(b->cap - b->n - 1), c->rq.in);
		if (n > 0)
			b->n += (size_t)n;
		b->p[b->n] = '\0';
		if (b->n - had > max)
			return 1;
	} while (n > 0 && FCGX_HasSeenEOF(c->rq.in) == 0);

	/* A web server that passes a body on as it comes may have to break off. */
	if (FCGX_GetError(c->rq.in) != 0 || b->n - had < want)
		return -1;

	/* A turn may stay for minutes: it need not keep the 8 KiB that its body came through. */
	if (FCGX_HasSeenEOF(c->rq.in) != 0)
		FCGX_FreeStream(&c->rq.in);
	return 0;
}

int
fcgi_write(struct fcgi *c, const void *p, size_t n)
{
	const char	*at = p;

	while (n > 0 && !fcgi_gone(c)) {
		size_t	 room = OUT_MAX, step;

		if (c->out.n == 0)
			record_open(&c->out, n < OUT_MAX ? n : OUT_MAX);
		room -= c->out.n - FCGI_HEADER_LEN;
		step = n < room ? n : room;
		buf_add(&c->out, at, step);
		at += step;
		n -= step;
		if (step == room)
			(void)fcgi_flush(c);
	}
	return fcgi_gone(c) ? -1 : 0;
}

int
fcgi_flush(struct fcgi *c)
{
	if (fcgi_gone(c))
		return -1;
	if (c->out.n > 0) {
		record_head(c, c->out.p, FCGI_STDOUT, c->out.n - FCGI_HEADER_LEN);
		(void)OS_Write(c->fd, c->out.p, c->out.n);
	}
	buf_free(&c->out);
	return c->broken ? -1 : 0;
}

/* Room for its header, which is written when its size is known. */
static void
record_open(struct buf *b, size_t n)
{
	static const char	 blank[FCGI_HEADER_LEN];

	buf_reserve(b, FCGI_HEADER_LEN + n);
	buf_add(b, blank, sizeof blank);
}

/* FastCGI 1.0, section 3.3. */
static void
record_head(const struct fcgi *c, char *to, unsigned char type, size_t n)
{
	FCGI_Header	 h = {
		.version = FCGI_VERSION_1,
		.type = type,
		.requestIdB1 = (unsigned char)(c->rq.requestId >> 8),
		.requestIdB0 = (unsigned char)c->rq.requestId,
		.contentLengthB1 = (unsigned char)(n >> 8),
		.contentLengthB0 = (unsigned char)n,
	};

	memcpy(to, &h, sizeof h);
}

bool
fcgi_gone(const struct fcgi *c)
{
	return c->finished || c->broken;
}

/*
 * The request has been read to its end, so what is there now is the end of the connection, which is all that nginx
 * says, or an FCGI_ABORT_REQUEST (FastCGI, section 5.4).
 */
bool
fcgi_hung_up(struct fcgi *c)
{
	unsigned char	 head[2];
	ssize_t		 n;

	if (fcgi_gone(c))
		return true;
	n = recv(c->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || (n == 2 && head[1] == FCGI_ABORT_REQUEST))
		c->broken = true;
	return c->broken;
}

/*
 * The handler still holds parameters, so those stay until it returns.  The connection goes on
 * without it, on a fiber of its own: to its next request, or to its end.
 */
void
fcgi_finish(struct fcgi *c)
{
	if (c->finished)
		return;
	fcgi_hand_on(c, fcgi_end(c));
	c->finished = true;
	FCGX_FreeStream(&c->rq.in);
}

/* Sections 5.3 and 5.5: a stream ends with an empty record, a request with one that says so. */
bool
fcgi_end(struct fcgi *c)
{
	char	 ends[2 * FCGI_HEADER_LEN + sizeof(FCGI_EndRequestBody)] = { 0 };

	if (c->out.n > 0)
		record_head(c, c->out.p, FCGI_STDOUT, c->out.n - FCGI_HEADER_LEN);
	record_head(c, ends, FCGI_STDOUT, 0);
	record_head(c, ends + FCGI_HEADER_LEN, FCGI_END_REQUEST, sizeof(FCGI_EndRequestBody));
	if (!fcgi_gone(c)) {
		buf_add(&c->out, ends, sizeof ends);
		(void)OS_Write(c->fd, c->out.p, c->out.n);
	}
	buf_free(&c->out);
	if (c->broken || (c->rq.in != NULL && FCGX_GetError(c->rq.in) != 0) || c->record.beyond || !fcgi_takes_more())
		c->rq.keepConnection = 0;
	return c->rq.keepConnection != 0;
}

/*
 * Our side first, then wait for the peer's end.  A close with unread input resets, and the web server then reports
 * a 502 in place of the answer.
 */
void
fcgi_linger(int fd)
{
	char	 rest[512];
	int64_t	 until = deadline_ms(DRAIN_MS);
	size_t	 most = DRAIN_MAX;
	ssize_t	 n;

	(void)shutdown(fd, SHUT_WR);
	while (most > 0) {
		n = recv(fd, rest, sizeof rest, MSG_DONTWAIT);
		if (n > 0)
			most -= (size_t)n < most ? (size_t)n : most;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR) ||
		    loop_wait_fd(fd, EPOLLIN, until) <= 0)
			break;
	}
	(void)close(fd);
}

/* -- what libfcgi calls in place of its own; default visibility, or it would not -- */

__attribute__((visibility("default"))) int
OS_Read(int fd, char *buf, size_t len)
{
	struct fcgi	*c = fcgi_of(fd);
	ssize_t		 n;

	if (c == NULL || c->late || c->broken || c->refused)
		return errno = EBADF, -1;
	while ((n = recv(fd, buf, len, MSG_DONTWAIT)) == -1 && (errno == EINTR || errno == EAGAIN))
		if (errno == EAGAIN && bytes_wait(c) <= 0) {
			c->late = true;
			return errno = ETIMEDOUT, -1;
		}
	if (n > 0 && !c->begun)
		fcgi_begin(c);
	/* Who sends faster than we read is never waited for. */
	if (n > 0 && c->read_by <= now_us()) {
		c->late = true;
		return errno = ETIMEDOUT, -1;
	}
	if (n < 0 || (n > 0 && !record_pass(&c->record, buf, (size_t)n))) {
		bytes_refuse(c);
		return errno = EPROTO, -1;
	}
	return (int)n;
}

/*
 * Who breaks the protocol is left alone.  Too many headers are a client's doing: to drop the connection would
 * look like a worker that has died, and web servers shun such a one for seconds.
 */
static void
bytes_refuse(struct fcgi *c)
{
	char		 id[UUID_TEXT];
	struct buf	 b = { 0 };

	if (!c->record.much) {
		c->broken = true;
		return;
	}
	uuid_new(id);
	buf_printf(&b, "Status: 400 Bad Request\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\n\r\n"
	    "{\"status\":\"error\",\"error\":\"Bad Request\",\"error_code\":\"bad_request\","
	    "\"message\":\"The request has too many headers.\",\"request_id\":\"%s\"}", id, id);
	c->rq.requestId = (int)c->record.id;
	(void)fcgi_write(c, b.p, b.n);
	(void)fcgi_end(c);
	buf_free(&b);
	c->refused = true;
}

/* yields.  A kept connection may wait for its next request as long as the web server likes. */
static int
bytes_wait(struct fcgi *c)
{
	return c->begun || !c->kept ? loop_wait_fd(c->fd, EPOLLIN, c->read_by) : fcgi_idle(c);
}

__attribute__((visibility("default"))) int
OS_Write(int fd, char *buf, size_t len)
{
	struct fcgi	*c = fcgi_of(fd);
	int64_t		 until;
	size_t		 done = 0;
	ssize_t		 n;

	if (c == NULL || c->broken)
		return errno = EPIPE, -1;
	until = deadline_ms(c->conf->client_write_timeout);
	while (done < len) {
		n = send(fd, buf + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR &&
		    (errno != EAGAIN || loop_wait_fd(fd, EPOLLOUT, until) <= 0)) {
			c->broken = true;
			return errno = EPIPE, -1;
		}
	}
	return (int)len;
}

__attribute__((visibility("default"))) int
OS_IpcClose(int fd, int politely)
{
	struct fcgi	*c = fcgi_of(fd);

	(void)politely;
	if (c == NULL)
		return 0;
	fcgi_forget(c);
	if (c->broken || c->late)
		(void)close(fd);
	else
		fcgi_linger(fd);
	return 0;
}
