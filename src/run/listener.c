#include "run/listener.h"

#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"

/* Bounded by net.core.somaxconn; a burst that does not fit is answered 502 by the web server. */
#define BACKLOG	32768

static int	 unix_open(const char *path, struct buf *why);
static int	 unix_bind(int fd, const struct sockaddr_un *, bool again);
static bool	 unix_is_stale(const struct sockaddr_un *);
static int	 tcp_open(const char *where, struct buf *why);
static int	 tcp_split(const char *where, char *host, size_t size, const char **port);
static bool	 port_is(const char *text);
static int	 tcp_bind(const struct addrinfo *);

int
listener_open(const char *where, struct buf *why)
{
	if (strncmp(where, "unix:", 5) == 0)
		return unix_open(where + 5, why);
	if (strncmp(where, "tcp:", 4) == 0)
		return tcp_open(where + 4, why);
	buf_printf(why, "%s: neither unix:/path nor tcp:host:port", where);
	errno = EINVAL;
	return -1;
}

void
listener_remove(const char *where, int fd)
{
	struct sockaddr_un	 sa;
	socklen_t		 n = sizeof sa;

	/* Somebody may have put a socket of his own there meanwhile: ours is refusing then. */
	if (strncmp(where, "unix:", 5) == 0 && getsockname(fd, (struct sockaddr *)&sa, &n) == 0) {
		(void)close(fd);
		if (unix_is_stale(&sa))
			(void)unlink(sa.sun_path);
	} else
		(void)close(fd);
}

bool
listener_is(int fd)
{
	int		 on = 0;
	socklen_t	 n = sizeof on;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on != 0;
}

/* -- unix -- */

static int
unix_open(const char *path, struct buf *why)
{
	struct sockaddr_un	 sa = { .sun_family = AF_UNIX };
	int			 fd;

	if (path[0] != '/' || strlen(path) >= sizeof sa.sun_path) {
		buf_printf(why, "%s: a socket's path begins with / and has at most %zu bytes",
		    path, sizeof sa.sun_path - 1);
		errno = EINVAL;
		return -1;
	}
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd != -1 && unix_bind(fd, &sa, true) == 0 && chmod(path, 0660) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	buf_printf(why, "%s: %s", path,
	    errno == EADDRINUSE ? "somebody listens there already" : strerror(errno));
	if (fd != -1)
		(void)close(fd);
	return -1;
}

static int
unix_bind(int fd, const struct sockaddr_un *sa, bool again)
{
	/* Nobody may connect between bind() and chmod() who could not afterwards. */
	mode_t	 mask = umask(0117);
	int	 rc = bind(fd, (const struct sockaddr *)sa, sizeof *sa);

	(void)umask(mask);
	if (rc == 0 || errno != EADDRINUSE || !again)
		return rc;
	if (!unix_is_stale(sa)) {
		errno = EADDRINUSE;
		return -1;
	}
	(void)unlink(sa->sun_path);
	return unix_bind(fd, sa, false);
}

/* A socket that refuses has nobody behind it. */
static bool
unix_is_stale(const struct sockaddr_un *sa)
{
	struct stat	 st;
	int		 fd;
	bool		 stale;

	if (lstat(sa->sun_path, &st) == -1 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	stale = fd != -1 && connect(fd, (const struct sockaddr *)sa, sizeof *sa) == -1 &&
	    errno == ECONNREFUSED;
	if (fd != -1)
		(void)close(fd);
	return stale;
}

/* -- tcp -- */

static int
tcp_open(const char *where, struct buf *why)
{
	struct addrinfo	 hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo	*found;
	char		 host[256];
	const char	*port;
	int		 rc, fd;

	if (tcp_split(where, host, sizeof host, &port) < 0) {
		buf_printf(why, "%s: not host:port", where);
		errno = EINVAL;
		return -1;
	}
	if ((rc = getaddrinfo(host, port, &hints, &found)) != 0) {
		buf_printf(why, "%s: %s", where, gai_strerror(rc));
		return -1;
	}
	if ((fd = tcp_bind(found)) == -1)
		buf_printf(why, "%s: %s", where, strerror(errno));
	freeaddrinfo(found);
	return fd;
}

static int
tcp_split(const char *where, char *host, size_t size, const char **port)
{
	const char	*colon = strrchr(where, ':');
	size_t		 n;

	/* An empty host would be all addresses: nobody asked for those.  getaddrinfo() takes a port modulo 65536. */
	if (colon == NULL || colon == where || !port_is(colon + 1))
		return -1;
	n = (size_t)(colon - where);
	if (where[0] == '[' && where[n - 1] == ']') {
		where++;
		n -= 2;
	}
	if (n == 0 || n >= size)
		return -1;
	memcpy(host, where, n);
	host[n] = '\0';
	*port = colon + 1;
	return 0;
}

static bool
port_is(const char *text)
{
	size_t	 n = strspn(text, "0123456789");

	return n >= 1 && n <= 5 && text[n] == '\0' && strtol(text, NULL, 10) <= UINT16_MAX;
}

static int
tcp_bind(const struct addrinfo *a)
{
	int	 fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, e;

	if (fd != -1 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
	    bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	e = errno;
	if (fd != -1)
		(void)close(fd);
	errno = e;
	return -1;
}
