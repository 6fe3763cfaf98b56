/*
 * pool -- a parent and its workers, which here do no more than tell who they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "run/deadline.h"
#include "run/listener.h"
#include "run/pool.h"
#include "tap.h"

static char	 dir[64], where[96], mistake[96];
static int	 hup[2];

static void
on_hup(int sig)
{
	(void)sig;
	if (write(hup[1], "h", 1) != 1)
		_exit(9);
}

/* arg: an exit status to refuse with, or NULL. */
static int
work(void *arg)
{
	struct sigaction	 sa = { .sa_handler = on_hup, .sa_flags = SA_RESTART };
	char			 text[32];

	if (arg != NULL && *(int *)arg != 0)
		return *(int *)arg;
	/* As a configuration with a mistake would. */
	if (arg != NULL && access(mistake, F_OK) == 0)
		return 2;
	(void)sigaction(SIGHUP, &sa, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int	 fd = accept(0, NULL, NULL);

		snprintf(text, sizeof text, "%d", (int)getpid());
		if (fd < 0)
			return 7;
		/* Whoever only looked whether somebody listens has gone. */
		if (write(fd, text, strlen(text) + 1) < 0 && errno != EPIPE)
			return 8;
		close(fd);
	}
}

static pid_t
pool_start(const char *at, int workers, int *refuse)
{
	pid_t	 pid = fork();

	if (pid == 0) {
		(void)alarm(60);
		/* What it logs is not for a test's output. */
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(9);
		exit(pool_run(at, workers, work, refuse));
	}
	return pid;
}

static int
pool_end(pid_t pid)
{
	int	 status = -1;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The worker that answers within five seconds, or 0. */
static pid_t
worker_pid(void)
{
	struct sockaddr_un	 sa = { .sun_family = AF_UNIX };
	char			 text[32];
	int64_t			 until = deadline_ms(5000);

	strcpy(sa.sun_path, where + 5);
	do {
		int	 fd = socket(AF_UNIX, SOCK_STREAM, 0);
		ssize_t	 n = -1;

		if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
			n = read(fd, text, sizeof text);
		close(fd);
		if (n > 0)
			return atoi(text);
		usleep(20000);
	} while (now_us() < until);
	return 0;
}

static void
test_life(void)
{
	pid_t		 pool = pool_start(where, 1, NULL), first = worker_pid(), second;
	int64_t		 at;
	struct stat	 st;
	char		 c;

	ok(first > 0 && first != pool, "a worker serves");
	ok(stat(where + 5, &st) == 0 && (st.st_mode & 0777) == 0660, "its socket has mode 0660");
	ok(pool_end(pool_start(where, 1, NULL)) == 1, "a second pool does not take the socket away");
	ok(worker_pid() == first, "... the first one serves on");

	(void)kill(pool, SIGHUP);
	ok(read(hup[0], &c, 1) == 1, "SIGHUP is passed on");

	at = now_us();
	(void)kill(first, SIGKILL);
	second = worker_pid();
	ok(second > 0 && second != first, "a worker that dies is replaced");
	ok(now_us() - at >= 90000, "... after a while");

	(void)kill(pool, SIGTERM);
	ok(pool_end(pool) == 0, "SIGTERM ends the pool");
	ok(kill(second, 0) == -1 && errno == ESRCH, "... and its workers");
	ok(lstat(where + 5, &st) == -1, "... and removes the socket");
}

static void
test_stale(void)
{
	pid_t	 pool = pool_start(where, 2, NULL), worker = worker_pid();

	(void)kill(pool, SIGKILL);
	ok(pool_end(pool) == -1, "a pool is killed");
	for (int i = 0; i < 250 && kill(worker, 0) == 0; i++)
		usleep(20000);
	ok(kill(worker, 0) == -1, "... its workers do not stay");
	ok(access(where + 5, F_OK) == 0, "... its socket does");
	pool = pool_start(where, 2, NULL);
	ok(worker_pid() > 0, "... and is no obstacle to the next");
	(void)kill(pool, SIGINT);
	ok(pool_end(pool) == 0, "SIGINT ends it as well");
}

/* All that answer, until n have: true if these are they. */
static bool
workers_are(const pid_t *want, int n)
{
	int	 seen = 0;

	for (int i = 0; i < 500 && seen != (1 << n) - 1; i++) {
		pid_t	 pid = worker_pid();
		int	 j = 0;

		while (j < n && want[j] != pid)
			j++;
		if (j == n)
			return false;
		seen |= 1 << j;
	}
	return true;
}

/* The two that answer. */
static void
workers_two(pid_t *two)
{
	two[0] = two[1] = worker_pid();
	for (int i = 0; i < 5000 && two[1] == two[0]; i++)
		two[1] = worker_pid();
}

static bool
is_gone(pid_t pid)
{
	for (int i = 0; i < 500 && kill(pid, 0) == 0; i++)
		usleep(20000);
	return kill(pid, 0) == -1;
}

static void
test_roll(void)
{
	int	 none = 0, fd;
	pid_t	 pool = pool_start(where, 2, &none), before[2], after[2];

	workers_two(before);
	(void)kill(pool, SIGUSR2);
	ok(is_gone(before[0]) && is_gone(before[1]), "SIGUSR2 replaces every worker");
	ok(worker_pid() > 0, "... and somebody serves");
	workers_two(after);
	ok(after[0] != before[0] && after[0] != before[1] && after[1] != after[0], "... two, as before");

	fd = creat(mistake, 0600);
	close(fd);
	(void)kill(pool, SIGUSR2);
	usleep(1500000);
	ok(kill(after[0], 0) == 0 && kill(after[1], 0) == 0, "with a mistake in the configuration the old ones stay");
	ok(workers_are(after, 2), "... and serve");
	(void)unlink(mistake);
	(void)kill(pool, SIGUSR2);
	ok(is_gone(after[0]) && is_gone(after[1]) && worker_pid() > 0, "the next rolling restart is none the worse");

	(void)kill(pool, SIGUSR2);
	usleep(100000);
	(void)kill(pool, SIGTERM);
	ok(pool_end(pool) == 0, "SIGTERM in the middle of one ends all");
}

static void
test_refusals(void)
{
	struct buf	 why = { 0 };
	int		 two = 2, fd;
	char		 path[120];

	ok(pool_end(pool_start(where, 3, &two)) == 2, "workers that refuse their configuration end the pool");
	ok(listener_open("/no/kind", &why) == -1, "a place without a kind is refused");
	ok(listener_open("tcp::8000", &why) == -1, "... and a port without an address");
	ok(listener_open("tcp:127.0.0.1:65536", &why) == -1 && listener_open("tcp:127.0.0.1:4294967376", &why) == -1 &&
	    listener_open("tcp:127.0.0.1:80x", &why) == -1 && listener_open("tcp:127.0.0.1:-1", &why) == -1, "... and a port that is none");
	ok(listener_open("unix:relative", &why) == -1, "... and a relative path");
	ok(!listener_is(0) && !listener_is(99), "not every descriptor is a listening socket");

	snprintf(path, sizeof path, "unix:%s/file", dir);
	fd = creat(path + 5, 0600);
	close(fd);
	ok(listener_open(path, &why) == -1 && access(path + 5, F_OK) == 0, "a file that is no socket is left alone");
	(void)unlink(path + 5);

	fd = listener_open("tcp:127.0.0.1:0", &why);
	ok(fd >= 0 && listener_is(fd), "a TCP address can be listened on");
	listener_remove("tcp:127.0.0.1:0", fd);
	fd = listener_open("tcp:[::1]:0", &why);
	ok(fd >= 0 || strstr(buf_text(&why), "[::1]:0") != NULL, "an IPv6 address is understood");
	if (fd >= 0)
		listener_remove("tcp:[::1]:0", fd);
	buf_free(&why);
}

int
main(void)
{
	strcpy(dir, "/tmp/ppoolXXXXXX");
	if (mkdtemp(dir) == NULL || pipe(hup) < 0)
		return 99;
	snprintf(where, sizeof where, "unix:%s/s", dir);
	snprintf(mistake, sizeof mistake, "%s/mistake", dir);
	(void)umask(0);
	test_life();
	test_stale();
	test_roll();
	test_refusals();
	(void)rmdir(dir);
	return done_testing();
}
