/* What a confined process can no longer do, tried in a child of its own. */
#include "config.h"

#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/confine.h"

static char	 folder[] = "/tmp/parley-confine-XXXXXX";
static char	 log_path[64], beside[64], elsewhere[64];

/* Runs one attempt in a confined child: 0 if it went well, else its errno. */
static int
tried(int (*attempt)(void), char held[CONFINE_WORDS])
{
	int	 pipes[2], result = -1, status;
	pid_t	 pid;

	if (pipe(pipes) == -1 || (pid = fork()) == -1)
		return -1;
	if (pid == 0) {
		confine(log_path, held);
		errno = 0;
		result = attempt() == -1 ? errno : 0;
		if (write(pipes[1], &result, sizeof result) != sizeof result ||
		    write(pipes[1], held, CONFINE_WORDS) != CONFINE_WORDS)
			_exit(1);
		_exit(0);
	}
	close(pipes[1]);
	if (read(pipes[0], &result, sizeof result) != sizeof result || read(pipes[0], held, CONFINE_WORDS) != CONFINE_WORDS)
		result = -1;
	close(pipes[0]);
	(void)waitpid(pid, &status, 0);
	return result;
}

static int
written(const char *path)
{
	int	 fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	return fd == -1 ? -1 : close(fd);
}

static int	 nothing(void) { return 0; }
static int	 write_log(void) { return written(log_path); }
static int	 write_beside(void) { return written(beside); }
static int	 write_elsewhere(void) { return written(elsewhere); }
static int	 write_null(void) { return written("/dev/null"); }
static int	 remove_log(void) { return unlink(log_path); }
static int	 make_folder(void) { return mkdir(beside, 0700); }
static int	 read_elsewhere(void) { return open("/etc/passwd", O_RDONLY); }
static int	 unix_socket(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static int	 odd_socket(void) { return socket(AF_ALG, SOCK_SEQPACKET, 0); }
static int	 trace(void) { return (int)ptrace(PTRACE_TRACEME, 0, 0, 0); }

static int
run_program(void)
{
	char	 name[] = "true", *argv[] = { name, NULL };

	return execv("/bin/true", argv);
}

static int
dump_core(void)
{
	struct rlimit	 r;

	if (getrlimit(RLIMIT_CORE, &r) == -1 || r.rlim_max > 0)
		return 0;
	errno = EPERM;
	return -1;
}

int
main(void)
{
	char	 held[CONFINE_WORDS];

	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(log_path, sizeof log_path, "%s/log", folder);
	snprintf(beside, sizeof beside, "%s/beside", folder);
	snprintf(elsewhere, sizeof elsewhere, "/tmp/parley-confine.%d", (int)getpid());
	ok(written(log_path) == 0, "a log file");

	ok(tried(nothing, held) == 0, "nothing fails, whatever the kernel has: %s", held);
	ok(strstr(held, "privileges") != NULL, "no new privileges");
	ok(tried(read_elsewhere, held) == 0, "what may be read is read");
	ok(tried(write_log, held) == 0, "the log is written");
	ok(tried(write_null, held) == 0, "and /dev/null");
	ok(tried(unix_socket, held) == 0, "a Unix socket is made");
	if (strstr(held, "files") != NULL) {
		ok(tried(write_beside, held) == 0, "a log is made anew beside the old one");
		ok(unlink(beside) == 0, "(which is taken away again)");
		ok(tried(write_elsewhere, held) == EACCES, "no file is made elsewhere");
		ok(tried(remove_log, held) == EACCES, "none is removed");
		ok(tried(make_folder, held) == EACCES, "no folder is made");
	}
	if (strstr(held, "files") != NULL || strstr(held, "calls") != NULL)
		ok(tried(run_program, held) != 0, "no program is started");
	if (strstr(held, "calls") != NULL) {
		ok(tried(run_program, held) == EPERM, "as the call is refused");
		ok(tried(trace, held) == EPERM, "nothing is traced");
		ok(tried(odd_socket, held) == EAFNOSUPPORT, "no socket of an odd family");
	}
	if (strstr(held, "memory") != NULL)
		ok(tried(dump_core, held) == EPERM, "no core file");

	unlink(log_path);
	rmdir(folder);
	return done_testing();
}
