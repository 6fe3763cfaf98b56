#include <errno.h>
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

#include <fcgios.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "io/fcgi_conn.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/loop.h"

#define ROLE_RESPONDER	1	/* FCGI_RESPONDER, FastCGI 1.0 section 6.2 */

/* After fcgi_listen_stop(): how long a connection just made may take to send its first byte. */
#define FRESH_MS	500

/* Out of descriptors or memory: the listener stays away from the loop for so long. */
#define ACCEPT_AGAIN_MS	100

/* From the fiber of a handler that goes on to the fiber of its connection. */
struct handover {
	int		 fd;
	bool		 keep;
	struct record	 record;
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
static void	 listener_leave(void);
static int	 connection_accept(void);
static void	 listener_again(void *);
static void	 fresh_end(void *);
static void	 signals_aside(struct sigaction [3], bool);
static void	 connection_run(void *);
static void	 connection_run_on(void *);
static void	 connection_serve(struct fcgi *);
static void	 connection_open(struct fcgi *, int);
static void	 connection_close(struct fcgi *);
static void	 connection_leave(void);
static void	 by_fd_grow(int);
static int	 request_drain(struct fcgi *);
static int	 request_read(struct fcgi *);
static int	 body_begin(struct fcgi *);
static int	 request_drop(struct fcgi *);
static void	 request_serve(struct fcgi *);

void
fcgi_conf(const struct conf *conf)
{
	listener.conf = conf;
}

int
fcgi_listen(int fd, int max, fcgi_handler *serve, fcgi_handler *full)
{
	struct sigaction	 kept[3];
	struct sockaddr_storage	 sa = { 0 };
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
	fcgi_max(max);
	listener.again.fn = listener_again;
	listener.fresh.fn = fresh_end;
	listener_watch();
	return listener.watched ? 0 : -1;
}

void
fcgi_max(int max)
{
	listener.max = max;
	listener.most = max + (max / 10 > 16 ? max / 10 : 16);
}

/* Puts the handlers of the signals that FCGX_Init takes aside, and back. */
static void
signals_aside(struct sigaction kept[3], bool aside)
{
	static const int	 taken[] = { SIGPIPE, SIGUSR1, SIGTERM };

	for (int i = 0; i < 3; i++)
		(void)sigaction(taken[i], aside ? NULL : &kept[i], aside ? &kept[i] : NULL);
}

void
fcgi_listen_stop(void)
{
	struct fcgi	*c;

	if (listener.fd == -1 || listener.stopping)
		return;
	listener_leave();
	listener.stopping = true;
	timer_clear(&listener.again);

	/* A shut-down socket reads as ended: that wakes the fiber which waits for it. */
	for (c = listener.all; c != NULL; c = c->next)
		if (c->idle)
			(void)shutdown(c->fd, SHUT_RD);
	timer_set(&listener.fresh, deadline_ms(FRESH_MS));
}

/*
 * Where each worker has a socket of its own (lighttpd's bin-path), what waits in its line would wait for nobody: it is
 * taken.  Then the socket is let go, so that who comes later is refused there and tries another.  Workers that share
 * one keep it open among them; their line is empty when one leaves, but for a moment.
 */
static void
listener_leave(void)
{
	int	 fd;

	listener_unwatch();
	while (listener.connections < listener.most && connection_accept() == 0)
		;
	if ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) != -1) {
		/* The number stays taken: it was given to us as descriptor 0. */
		(void)dup2(fd, listener.fd);
		(void)close(fd);
	}
}

bool
fcgi_takes_more(void)
{
	return !listener.stopping;
}

int
fcgi_active(void)
{
	return listener.connections - listener.idle;
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
	(void)arg;
	(void)events;

	/*
	 * The kernel wakes the first in line, always: one connection is taken and
	 * the watch renewed, which moves this worker to the end of the line.
	 */
	listener_unwatch();
	if (connection_accept() == -1 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_say(LOG_ERROR, "accept", "no connection can be accepted: %s", strerror(errno));
		timer_set(&listener.again, deadline_ms(ACCEPT_AGAIN_MS));
		return;
	}
	if (listener.connections < listener.most)
		listener_watch();
}

/* -1: errno. */
static int
connection_accept(void)
{
	int	 fd, one = 1;

	if ((fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC)) == -1)
		return -1;
	if (listener.tcp)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (fiber_start(connection_run, (void *)(intptr_t)fd) != NULL)
		listener.connections++;
	else
		(void)close(fd);
	return 0;
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
	struct fcgi	 c;

	connection_open(&c, (int)(intptr_t)arg);
	connection_serve(&c);
}

/* After an fcgi_finish(). */
static void
connection_run_on(void *arg)
{
	struct handover	 h = *(struct handover *)arg;
	struct fcgi	 c;

	free(arg);
	if (!h.keep) {
		fcgi_linger(h.fd);
		connection_leave();
		return;
	}
	connection_open(&c, h.fd);
	c.record = h.record;
	c.begun = c.kept = true;
	connection_serve(&c);
}

void
fcgi_hand_on(struct fcgi *c, bool keep)
{
	struct handover	*h;

	if ((h = malloc(sizeof *h)) == NULL)
		arena_exhausted();
	*h = (struct handover){ .fd = c->fd, .keep = keep, .record = c->record };
	fcgi_forget(c);
	c->rq.ipcFd = -1;
	if (!c->broken && !c->late && fiber_start(connection_run_on, h) != NULL) {
		listener.connections++;
		return;
	}
	(void)close(h->fd);
	free(h);
}

static void
connection_serve(struct fcgi *c)
{
	while (c->fd != -1 && request_drain(c) == 0 && request_read(c) == 0) {
		request_serve(c);
		if (!c->finished)
			(void)fcgi_end(c);
		FCGX_Finish_r(&c->rq);
		c->kept = true;
	}
	connection_close(c);
}

static void
connection_open(struct fcgi *c, int fd)
{
	memset(c, 0, sizeof *c);
	c->fd = fd;
	by_fd_grow(fd);
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
by_fd_grow(int fd)
{
	int	 n = fd < 512 ? 1024 : fd * 2, had = listener.nby_fd;

	if (fd < had)
		return;
	listener.by_fd = realloc(listener.by_fd, sizeof(struct fcgi *) * (size_t)n);
	if (listener.by_fd == NULL)
		arena_exhausted();
	memset(listener.by_fd + had, 0, sizeof(struct fcgi *) * (size_t)(n - had));
	listener.nby_fd = n;
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

struct fcgi *
fcgi_of(int fd)
{
	return fd >= 0 && fd < listener.nby_fd ? listener.by_fd[fd] : NULL;
}

void
fcgi_forget(struct fcgi *c)
{
	listener.by_fd[c->fd] = NULL;
	c->fd = -1;
}

void
fcgi_begin(struct fcgi *c)
{
	c->begun = true;
	c->conf = listener.conf;
	c->read_by = deadline_ms(c->conf->client_read_timeout);
}

int
fcgi_idle(struct fcgi *c)
{
	int	 ready;

	if (listener.stopping)
		return 0;
	c->idle = true;
	listener.idle++;
	ready = loop_wait_fd(c->fd, EPOLLIN, NEVER);
	listener.idle--;
	c->idle = false;
	return ready;
}

/* -- a request -- */

/*
 * yields.  A body that the handler did not want must be read before the next
 * request can be; only now, for the web server may have waited for the end of the answer.
 * -1: the connection is closed.
 */
static int
request_drain(struct fcgi *c)
{
	char	 rest[512];
	size_t	 most = DRAIN_MAX, n;
	int	 got = 1;

	c->read_by = deadline_ms(DRAIN_MS);
	while (c->record.begun && !record_is_over(&c->record) && most > 0 && got > 0) {
		n = record_rest(&c->record);
		got = OS_Read(c->fd, rest, n < sizeof rest ? n : sizeof rest);
		most -= got > 0 && (size_t)got < most ? (size_t)got : most;
	}
	if (most > 0 && got > 0)
		return 0;
	(void)OS_IpcClose(c->fd, 1);
	c->rq.ipcFd = -1;
	return -1;
}

/* yields until a whole head is there.  -1: the connection is closed. */
static int
request_read(struct fcgi *c)
{
	memset(&c->record, 0, sizeof c->record);
	c->conf = listener.conf;
	c->begun = false;
	c->read_by = deadline_ms(c->conf->client_read_timeout);

	/* With the listening socket -1 every error ends in a closed connection and -EBADF. */
	if (FCGX_Accept_r(&c->rq) != 0)
		return -1;
	FCGX_FreeStream(&c->rq.out);
	FCGX_FreeStream(&c->rq.err);
	/*
	 * What libfcgi does not understand ends the parameters for it as if they were whole, and it would go on
	 * in the middle of the record.
	 */
	if (FCGX_GetError(c->rq.in) != 0)
		return request_drop(c);
	if (c->rq.role != ROLE_RESPONDER)
		return request_drop(c);
	return body_begin(c);
}

/*
 * yields.  The end of an empty body is part of the request: read now, while nobody
 * waits for an answer, it need not be waited for afterwards.
 */
static int
body_begin(struct fcgi *c)
{
	const char	*length = fcgi_param(c, "CONTENT_LENGTH");
	int		 ch;

	if (length != NULL && strtoul(length, NULL, 10) > 0)
		return 0;
	ch = FCGX_GetChar(c->rq.in);
	if (ch != -1)
		(void)FCGX_UnGetChar(ch, c->rq.in);
	else if (FCGX_GetError(c->rq.in) != 0)
		return request_drop(c);
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
