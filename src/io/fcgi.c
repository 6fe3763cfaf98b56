#include "io/fcgi.h"

#include <errno.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fcgiapp.h>
#include <fcgios.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "io/record.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/loop.h"

#define ROLE_RESPONDER	1	/* FCGI_RESPONDER, FastCGI 1.0 section 6.2 */

/* What is left of a body when its answer is ready is read up to here: a client that sends more meets a reset. */
#define DRAIN_MAX	(1024 * 1024)
#define DRAIN_MS	2000

/* After fcgi_listen_stop(): how long a connection just made may take to send its first byte. */
#define FRESH_MS	500

/* Out of descriptors or memory: the listener stays away from the loop for so long. */
#define ACCEPT_AGAIN_MS	100

struct fcgi {				/* lives on its fiber's stack */
	FCGX_Request	 rq;
	int		 fd;		/* -1: closed, or given to another fiber */
	struct record	 record;
	const struct conf *conf;	/* of the present request */
	int64_t		 read_by;	/* the request must have arrived */
	bool		 begun;		/* its first byte has */
	bool		 kept;		/* has served a request before */
	bool		 idle;		/* waits for the next one */
	bool		 late;		/* nothing more is read from it */
	bool		 broken;	/* nothing is written either */
	bool		 finished;
	struct fcgi	*next, **link;
};

/*
 * The connections of this worker.  Nothing here outlives one: a worker that
 * dies loses sockets and no more.
 */
static struct {
	const struct conf *conf;
	fcgi_handler	*serve, *full;
	int		 fd;
	bool		 tcp;
	bool		 watched;
	bool		 stopping;
	int		 max;		/* requests */
	int		 most;		/* connections */
	int		 connections;
	int		 idle;
	int		 serving;
	struct fcgi	*all;
	struct fcgi	**by_fd;	/* libfcgi gives its I/O functions a descriptor only */
	int		 nby_fd;
	struct timer	 again;		/* accepts again after it could not */
	struct timer	 fresh;		/* ends the patience with silent ones */
} listener = { .fd = -1 };

static void	 listener_watch(void);
static void	 listener_unwatch(void);
static void	 listener_ready(void *, uint32_t);
static void	 listener_again(void *);
static void	 fresh_end(void *);
static void	 connection_run(void *);
static void	 connection_run_on(void *);
static void	 connection_serve(int, bool);
static void	 connection_open(struct fcgi *, int);
static void	 connection_close(struct fcgi *);
static void	 connection_leave(void);
static int	 request_read(struct fcgi *);
static int	 request_drop(struct fcgi *);
static void	 request_serve(struct fcgi *);
static bool	 request_close(struct fcgi *);
static bool	 body_drain(struct fcgi *);
static void	 linger(int);
static void	 linger_run(void *);
static struct fcgi *fcgi_of(int);
static int	 bytes_wait(struct fcgi *);
static void	 signals_aside(struct sigaction [3], bool);

void
fcgi_conf(const struct conf *conf)
{
	listener.conf = conf;
}

int
fcgi_listen(int fd, int max, fcgi_handler *serve, fcgi_handler *full)
{
	struct sigaction	 kept[3];
	struct sockaddr_storage	 sa;
	socklen_t		 n = sizeof sa;
	int			 flags = fcntl(fd, F_GETFL);

	if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    getsockname(fd, (struct sockaddr *)&sa, &n) == -1)
		return -1;

	/* FCGX_Init installs handlers of its own, without SA_RESTART. */
	signals_aside(kept, true);
	FCGX_Init();
	signals_aside(kept, false);

	listener.fd = fd;
	listener.tcp = sa.ss_family == AF_INET || sa.ss_family == AF_INET6;
	listener.stopping = false;
	listener.serve = serve;
	listener.full = full;
	listener.max = max;
	listener.most = max + (max / 10 > 16 ? max / 10 : 16);
	listener.again.fn = listener_again;
	listener.fresh.fn = fresh_end;
	listener_watch();
	return listener.watched ? 0 : -1;
}

void
fcgi_listen_stop(void)
{
	struct fcgi	*c;

	if (listener.fd == -1 || listener.stopping)
		return;
	listener.stopping = true;
	timer_clear(&listener.again);
	listener_unwatch();

	/* A shut-down socket reads as ended: that wakes the fiber which waits for it. */
	for (c = listener.all; c != NULL; c = c->next)
		if (c->idle)
			(void)shutdown(c->fd, SHUT_RD);
	timer_set(&listener.fresh, deadline_ms(FRESH_MS));
}

int
fcgi_active(void)
{
	return listener.connections - listener.idle;
}

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

	if (c->finished)
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
	return FCGX_GetError(c->rq.in) != 0 || b->n - had < want ? -1 : 0;
}

int
fcgi_write(struct fcgi *c, const void *p, size_t n)
{
	const char	*at = p;

	while (n > 0 && !fcgi_gone(c)) {
		int	 step = n < 65536 ? (int)n : 65536;

		if (FCGX_PutStr(at, step, c->rq.out) != step)
			return -1;
		at += step;
		n -= (size_t)step;
	}
	return fcgi_gone(c) ? -1 : 0;
}

int
fcgi_flush(struct fcgi *c)
{
	if (fcgi_gone(c) || FCGX_FFlush(c->rq.out) != 0)
		return -1;
	return 0;
}

bool
fcgi_gone(const struct fcgi *c)
{
	return c->finished || FCGX_GetError(c->rq.out) != 0;
}

/*
 * The handler still holds parameters, so those stay until it returns.  The connection goes on
 * without it, on a fiber of its own: to its next request, or to its end.
 */
void
fcgi_finish(struct fcgi *c)
{
	int	 fd = c->fd;
	bool	 keep;

	if (c->finished)
		return;
	keep = request_close(c);
	c->finished = true;
	listener.by_fd[fd] = NULL;
	c->fd = c->rq.ipcFd = -1;
	FCGX_FreeStream(&c->rq.in);
	FCGX_FreeStream(&c->rq.out);
	FCGX_FreeStream(&c->rq.err);
	if (!c->broken && !c->late &&
	    fiber_start(keep ? connection_run_on : linger_run, (void *)(intptr_t)fd) != NULL)
		listener.connections++;
	else
		(void)close(fd);
}

/* -- the listening socket -- */

static void
listener_watch(void)
{
	/* Exclusive: one connection wakes one worker, not all of them. */
	if (!listener.watched && !listener.stopping)
		listener.watched = loop_watch(listener.fd, EPOLLIN | EPOLLEXCLUSIVE,
		    listener_ready, NULL) == 0;
}

static void
listener_unwatch(void)
{
	if (listener.watched)
		loop_unwatch(listener.fd);
	listener.watched = false;
}

/* On the loop's stack. */
static void
listener_ready(void *arg, uint32_t events)
{
	int	 fd, one = 1;

	(void)arg;
	(void)events;

	/*
	 * The kernel wakes the first in line, always: one connection is taken and
	 * the watch renewed, which moves this worker to the end of the line.
	 */
	listener_unwatch();
	fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd == -1 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_say(LOG_ERROR, "accept", "no connection can be accepted: %s", strerror(errno));
		timer_set(&listener.again, deadline_ms(ACCEPT_AGAIN_MS));
		return;
	}
	if (fd != -1) {
		if (listener.tcp)
			(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (fiber_start(connection_run, (void *)(intptr_t)fd) != NULL)
			listener.connections++;
		else
			(void)close(fd);
	}
	if (listener.connections < listener.most)
		listener_watch();
}

static void
listener_again(void *arg)
{
	(void)arg;
	if (listener.connections < listener.most)
		listener_watch();
}

static void
fresh_end(void *arg)
{
	struct fcgi	*c;

	(void)arg;
	for (c = listener.all; c != NULL; c = c->next)
		if (!c->begun && c->fd != -1)
			(void)shutdown(c->fd, SHUT_RD);
}

/* -- a connection -- */

static void
connection_run(void *arg)
{
	connection_serve((int)(intptr_t)arg, false);
}

static void
connection_run_on(void *arg)
{
	connection_serve((int)(intptr_t)arg, true);
}

static void
connection_serve(int fd, bool kept)
{
	struct fcgi	 c;

	connection_open(&c, fd);
	c.kept = kept;
	while (c.fd != -1 && request_read(&c) == 0) {
		request_serve(&c);
		if (!c.finished)
			(void)request_close(&c);
		FCGX_Finish_r(&c.rq);
		c.kept = true;
	}
	connection_close(&c);
}

static void
connection_open(struct fcgi *c, int fd)
{
	memset(c, 0, sizeof *c);
	c->fd = fd;
	if (fd >= listener.nby_fd) {
		int	 n = fd < 512 ? 1024 : fd * 2;

		listener.by_fd = realloc(listener.by_fd, sizeof(struct fcgi *) * (size_t)n);
		if (listener.by_fd == NULL)
			abort();
		memset(listener.by_fd + listener.nby_fd, 0,
		    sizeof(struct fcgi *) * (size_t)(n - listener.nby_fd));
		listener.nby_fd = n;
	}
	listener.by_fd[fd] = c;
	c->next = listener.all;
	c->link = &listener.all;
	if (c->next != NULL)
		c->next->link = &c->next;
	listener.all = c;

	/* Without the flag FCGX_Accept_r would begin by closing the descriptor it is given. */
	FCGX_InitRequest(&c->rq, -1, 0);
	c->rq.ipcFd = fd;
	c->rq.keepConnection = 1;
}

static void
connection_close(struct fcgi *c)
{
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	connection_leave();
}

/* There may be room again for those in the backlog. */
static void
connection_leave(void)
{
	listener.connections--;
	if (listener.again.place == 0 && listener.connections < listener.most)
		listener_watch();
}

/* yields until a whole head is there.  -1: the connection is closed. */
static int
request_read(struct fcgi *c)
{
	const char	*length;
	int		 ch;

	memset(&c->record, 0, sizeof c->record);
	c->conf = listener.conf;
	c->begun = false;
	c->read_by = deadline_ms(c->conf->client_read_timeout);

	/* With the listening socket -1 every error ends in a closed connection and -EBADF. */
	if (FCGX_Accept_r(&c->rq) != 0)
		return -1;
	if (c->rq.role != ROLE_RESPONDER)
		return request_drop(c);

	/*
	 * The end of an empty body is part of the request: read now, while nobody
	 * waits for an answer, it need not be waited for afterwards.
	 */
	length = fcgi_param(c, "CONTENT_LENGTH");
	if (length == NULL || strtoul(length, NULL, 10) == 0) {
		ch = FCGX_GetChar(c->rq.in);
		if (ch != -1)
			(void)FCGX_UnGetChar(ch, c->rq.in);
		else if (FCGX_GetError(c->rq.in) != 0)
			return request_drop(c);
	}
	return 0;
}

static int
request_drop(struct fcgi *c)
{
	c->broken = true;
	FCGX_Free(&c->rq, 1);
	return -1;
}

static void
request_serve(struct fcgi *c)
{
	if (listener.serving >= listener.max) {
		listener.full(c, c->conf);
		return;
	}
	listener.serving++;
	listener.serve(c, c->conf);
	listener.serving--;
}

/* yields.  Sends what is left of the answer, and its end.  True: the connection can serve another request. */
static bool
request_close(struct fcgi *c)
{
	/*
	 * Closing, or reading a next request, over an unread rest of this one's body would lose
	 * the answer: the peer would see a reset before it.
	 */
	if (!body_drain(c) || !record_is_over(&c->record) || listener.stopping)
		c->rq.keepConnection = 0;
	if (FCGX_FClose(c->rq.err) != 0 || FCGX_FClose(c->rq.out) != 0)
		c->rq.keepConnection = 0;
	return c->rq.keepConnection != 0;
}

/* yields.  True: the body has been read to its end. */
static bool
body_drain(struct fcgi *c)
{
	char	 rest[512];
	size_t	 most = DRAIN_MAX;

	if (FCGX_HasSeenEOF(c->rq.in) == 0 && fcgi_flush(c) == 0) {
		c->read_by = deadline_ms(DRAIN_MS);
		while (most > 0 && FCGX_GetStr(rest, sizeof rest, c->rq.in) == sizeof rest)
			most -= sizeof rest;
	}
	return FCGX_HasSeenEOF(c->rq.in) != 0 && FCGX_GetError(c->rq.in) == 0;
}

/*
 * yields.  Closes without losing what is under way: our side first, then wait for the
 * peer's end.  A close with unread input resets, and the web server then reports
 * a 502 in place of the answer.
 */
static void
linger(int fd)
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

static void
linger_run(void *arg)
{
	linger((int)(intptr_t)arg);
	connection_leave();
}

/* -- what libfcgi calls in place of its own; default visibility, or it would not -- */

static struct fcgi *
fcgi_of(int fd)
{
	return fd >= 0 && fd < listener.nby_fd ? listener.by_fd[fd] : NULL;
}

__attribute__((visibility("default"))) int
OS_Read(int fd, char *buf, size_t len)
{
	struct fcgi	*c = fcgi_of(fd);
	ssize_t		 n;

	if (c == NULL || c->late || c->broken)
		return errno = EBADF, -1;
	while ((n = recv(fd, buf, len, MSG_DONTWAIT)) == -1 && (errno == EINTR || errno == EAGAIN))
		if (errno == EAGAIN && bytes_wait(c) <= 0) {
			c->late = true;
			return errno = ETIMEDOUT, -1;
		}
	if (n > 0 && !c->begun) {
		c->begun = true;
		c->conf = listener.conf;
		c->read_by = deadline_ms(c->conf->client_read_timeout);
	}
	if (n < 0 || (n > 0 && !record_pass(&c->record, buf, (size_t)n))) {
		c->broken = true;
		return errno = EPROTO, -1;
	}
	return (int)n;
}

/* yields.  A kept connection may wait for its next request as long as the web server likes. */
static int
bytes_wait(struct fcgi *c)
{
	int	 ready;

	if (c->begun || !c->kept)
		return loop_wait_fd(c->fd, EPOLLIN, c->read_by);
	if (listener.stopping)
		return 0;
	c->idle = true;
	listener.idle++;
	ready = loop_wait_fd(c->fd, EPOLLIN, NEVER);
	listener.idle--;
	c->idle = false;
	return ready;
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
	listener.by_fd[fd] = NULL;
	c->fd = -1;
	if (c->broken || c->late)
		(void)close(fd);
	else
		linger(fd);
	return 0;
}

/* Puts the handlers of the signals that FCGX_Init takes aside, and back. */
static void
signals_aside(struct sigaction kept[3], bool aside)
{
	static const int	 taken[] = { SIGPIPE, SIGUSR1, SIGTERM };

	for (int i = 0; i < 3; i++)
		(void)sigaction(taken[i], aside ? NULL : &kept[i], aside ? &kept[i] : NULL);
}
