#include "http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/deadline.h"

static const char	 good_answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Test:  a b \r\n\r\nhello";

void
start(struct server *s, void (*script)(int listener))
{
	struct sockaddr_in	 at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t		 len = sizeof at;
	int			 fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, 512) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		exit(99);
	snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d/path?q", ntohs(at.sin_port));
	fflush(stdout);
	s->pid = fork();
	if (s->pid == 0) {
		alarm(60);
		script(fd);
		_exit(0);
	}
	close(fd);
}

int
finish(struct server *s)
{
	int	 status = -1;

	waitpid(s->pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void
stop(struct server *s)
{
	kill(s->pid, SIGKILL);
	finish(s);
}

static void
say(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		_exit(3);
}

/* Reads one request, whose head goes to `head`; the size of its body, -1 at EOF. */
static long
hear(int fd, char *head, size_t size)
{
	char	*end = NULL, *length;
	size_t	 n = 0;
	long	 body, rest;

	head[0] = '\0';
	while (end == NULL) {
		ssize_t	 got = recv(fd, head + n, size - 1 - n, 0);

		if (got <= 0)
			return -1;
		head[n += (size_t)got] = '\0';
		end = strstr(head, "\r\n\r\n");
	}
	end += 4;
	length = strcasestr(head, "content-length:");
	body = length != NULL && length < end ? atol(length + 15) : 0;
	rest = body - (long)(head + n - end);
	while (rest > 0) {
		static char	 sink[65536];
		ssize_t		 got = recv(fd, sink, rest < 65536 ? (size_t)rest : 65536, 0);

		if (got <= 0)
			return -1;
		/* Bodies of these tests are x from end to end. */
		for (ssize_t i = 0; i < got; i++)
			if (sink[i] != 'x')
				_exit(4);
		rest -= got;
	}
	*end = '\0';
	return body;
}

static int
take(int listener)
{
	char	 head[4096];
	int	 fd = accept(listener, NULL, NULL);

	hear(fd, head, sizeof head);
	return fd;
}

static bool
sees_end(int fd, int ms)
{
	struct pollfd	 p = { .fd = fd, .events = POLLIN };
	char		 c;

	return poll(&p, 1, ms) == 1 && recv(fd, &c, 1, 0) <= 0;
}

void
script_good(int listener)
{
	for (;;) {
		int	 fd = take(listener);

		say(fd, good_answer);
		close(fd);
	}
}

void
script_chunked(int listener)
{
	int	 fd = take(listener);

	say(fd, "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	usleep(20000);
	say(fd, "2;x=y\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n");
	sees_end(fd, 5000);
}

void
script_empty(int listener)
{
	say(take(listener), "HTTP/1.1 204 No Content\r\n\r\n");
	pause();
}

void
script_cut(int listener)
{
	int	 fd = take(listener);

	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
	close(fd);
}

void
script_cut_chunk(int listener)
{
	int	 fd = take(listener);

	say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n");
	close(fd);
}

void
script_reset(int listener)
{
	struct linger	 hard = { .l_onoff = 1 };
	int		 fd = take(listener);

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	close(fd);
}

void
script_silent(int listener)
{
	take(listener);
	pause();
}

void
script_head_only(int listener)
{
	say(take(listener), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
	pause();
}

void
script_idle(int listener)
{
	say(take(listener), "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n01234");
	pause();
}

void
script_drip(int listener)
{
	int	 fd = take(listener);

	say(fd, "HTTP/1.1 200 OK\r\n\r\n");
	for (int i = 0; i < 10; i++) {
		say(fd, ".");
		usleep(40000);
	}
	close(fd);
}

void
script_not_http(int listener)
{
	int	 fd = take(listener);

	say(fd, "SSH-2.0-OpenSSH_9.2\r\n");
	close(fd);
}

void
script_bad_chunk(int listener)
{
	say(take(listener), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n");
	pause();
}

void
script_big_head(int listener)
{
	int	 fd = take(listener);
	char	 line[1200] = "X: ";

	memset(line + 3, 'a', 1000);
	strcpy(line + 1003, "\r\n");
	say(fd, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 100; i++)
		if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
			_exit(0);
	_exit(sees_end(fd, 5000) ? 0 : 1);
}

/* A long body; content with a client that makes it wait. */
void
script_big_body(int listener)
{
	int	 fd = take(listener);
	char	 piece[4096];
	int64_t	 slowest = 0;

	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
	for (int i = 0; i < BIG / 4096; i++) {
		int64_t	 before = now_us();

		memset(piece, 'a' + i % 26, sizeof piece);
		if (send(fd, piece, sizeof piece, MSG_NOSIGNAL) != sizeof piece)
			_exit(1);
		if (now_us() - before > slowest)
			slowest = now_us() - before;
	}
	_exit(slowest > 150000 ? 0 : 2);
}

void
script_sees_close(int listener)
{
	int	 fd = take(listener);

	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n01234");
	_exit(sees_end(fd, 5000) ? 0 : 1);
}

/* One good answer, then the kept connection dies on its next request, unanswered. */
void
script_dies_kept(int listener)
{
	char	 head[4096];
	int	 fd = accept(listener, NULL, NULL);

	hear(fd, head, sizeof head);
	say(fd, good_answer);
	if (hear(fd, head, sizeof head) != 100000)
		_exit(1);
	close(fd);
	fd = accept(listener, NULL, NULL);
	if (hear(fd, head, sizeof head) != 100000)
		_exit(2);
	say(fd, good_answer);
	_exit(0);
}

/* Three requests; the first two may share a connection, the third must not. */
void
script_counts(int listener)
{
	char	 head[4096];
	int	 one = accept(listener, NULL, NULL), two;

	hear(one, head, sizeof head);
	say(one, good_answer);
	if (hear(one, head, sizeof head) != 0)
		_exit(1);
	say(one, good_answer);
	two = accept(listener, NULL, NULL);
	hear(two, head, sizeof head);
	close(two);
	/* Unanswered on a connection of its own: it must not come again. */
	_exit(poll(&(struct pollfd){ .fd = listener, .events = POLLIN }, 1, 300) == 0 ? 0 : 2);
}

void
script_shows_head(int listener)
{
	char	 head[4096], answer[8192];
	int	 fd = accept(listener, NULL, NULL);
	long	 body = hear(fd, head, sizeof head);

	snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nX-Body: %ld\r\n\r\n%s", body, head);
	say(fd, answer);
	close(fd);
}

/* Takes them all before it answers any. */
void
script_crowd(int listener)
{
	int	 fd[100];

	for (int i = 0; i < 100; i++)
		fd[i] = take(listener);
	for (int i = 0; i < 100; i++)
		say(fd[i], good_answer);
	sees_end(fd[0], 5000);
}

void
script_too_large(int listener)
{
	say(take(listener), "HTTP/1.1 200 OK\r\nContent-Length: 51\r\n\r\n"
	    "0123456789012345678901234567890123456789012345678901");
	pause();
}
