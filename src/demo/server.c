#include "demo/server.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#define ACCEPT_AT_ONCE	256	/* then others get their turn */

static void	 limits_raise(void);
static int	 server_listen(struct server *);
static int	 address_split(const char *, char *, size_t, const char **);
static int	 port_write(const struct server *);
static int	 server_serve(struct server *);
static void	 on_ready(evutil_socket_t, short, void *);
static void	 on_rest(evutil_socket_t, short, void *);
static void	 on_signal(evutil_socket_t, short, void *);

int
server_run(struct server *s)
{
	int	 status;

	limits_raise();
	s->fd = server_listen(s);
	if (s->fd < 0)
		return -1;
	if (s->port_file != NULL && port_write(s) < 0) {
		fprintf(stderr, "parley-demo-model: %s: %s\n", s->port_file, strerror(errno));
		(void)close(s->fd);
		return -1;
	}
	status = server_serve(s);
	(void)close(s->fd);
	return status;
}

/* Each stream is a descriptor; the usual soft limit of 1024 is far too few. */
static void
limits_raise(void)
{
	struct rlimit	 rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return;
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

static int
server_listen(struct server *s)
{
	const struct addrinfo	 hints = { .ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
	struct addrinfo	*ai = NULL;
	char		 host[64];
	const char	*port;
	int		 fd = -1, on = 1, error = EAI_NONAME;

	if (address_split(s->listen, host, sizeof host, &port) < 0 ||
	    (error = getaddrinfo(host, port, &hints, &ai)) != 0) {
		fprintf(stderr, "parley-demo-model: %s: %s; use 127.0.0.1:PORT\n",
		    s->listen, gai_strerror(error));
		return -1;
	}
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    listen(fd, 16384) < 0) {
		fprintf(stderr, "parley-demo-model: %s: %s\n", s->listen, strerror(errno));
		if (fd >= 0)
			(void)close(fd);
		fd = -1;
	}
	freeaddrinfo(ai);
	return fd;
}

/* "127.0.0.1:80", "[::1]:80" or "80", which is local too. */
static int
address_split(const char *text, char *host, size_t size, const char **port)
{
	const char	*colon = strrchr(text, ':');
	size_t		 n;

	*port = colon == NULL ? text : colon + 1;
	if (colon == NULL) {
		text = "127.0.0.1";
		colon = text + strlen(text);
	}
	n = (size_t)(colon - text);
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n == 0 || n >= size || **port == '\0')
		return -1;
	memcpy(host, text, n);
	host[n] = '\0';
	return 0;
}

/* Renamed into place: whoever waits for the file never reads half of it. */
static int
port_write(const struct server *s)
{
	struct sockaddr_storage	 ss;
	socklen_t		 len = sizeof ss;
	char			 port[8] = "", *tmp;
	FILE			*f;
	int			 status = -1;

	if (getsockname(s->fd, (struct sockaddr *)&ss, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&ss, len, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0 ||
	    asprintf(&tmp, "%s.%ld", s->port_file, (long)getpid()) < 0)
		return -1;
	f = fopen(tmp, "we");
	if (f != NULL) {
		fprintf(f, "%s\n", port);
		if (fclose(f) == 0)
			status = rename(tmp, s->port_file);
	}
	free(tmp);
	return status;
}

static int
server_serve(struct server *s)
{
	struct event	*term, *intr;
	int		 status = -1;

	s->base = event_base_new();
	if (s->base == NULL) {
		fputs("parley-demo-model: no event loop\n", stderr);
		return -1;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	term = evsignal_new(s->base, SIGTERM, on_signal, s);
	intr = evsignal_new(s->base, SIGINT, on_signal, s);
	s->ready = event_new(s->base, s->fd, EV_READ | EV_PERSIST, on_ready, s);
	s->rest = evtimer_new(s->base, on_rest, s);
	if (term != NULL && intr != NULL && s->ready != NULL && s->rest != NULL &&
	    event_add(term, NULL) == 0 && event_add(intr, NULL) == 0 &&
	    event_add(s->ready, NULL) == 0)
		status = event_base_dispatch(s->base) < 0 ? -1 : 0;

	while (s->conns != NULL)
		conn_close(s->conns);
	for (struct event **ev = (struct event *[]){ term, intr, s->ready, s->rest, NULL };
	    *ev != NULL; ev++)
		event_free(*ev);
	event_base_free(s->base);
	return status;
}

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval	 pause = { .tv_usec = 100000 };
	struct server		*s = arg;
	int			 client, on = 1;

	(void)what;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client < 0) {
			/* Out of descriptors: those who wait stay in the backlog until some are back. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
				(void)event_del(s->ready);
				(void)evtimer_add(s->rest, &pause);
			}
			return;
		}
		/* A piece is sent when it is said, not when the last one was acknowledged. */
		(void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		conn_open(s, client);
	}
}

static void
on_rest(evutil_socket_t fd, short what, void *arg)
{
	struct server	*s = arg;

	(void)fd;
	(void)what;
	(void)event_add(s->ready, NULL);
}

static void
on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct server	*s = arg;

	(void)fd;
	(void)what;
	(void)event_base_loopbreak(s->base);
}
