/*
 * parley.fcgi -- the worker, and with --listen the parent of some.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/worker.h"
#include "base/standard.h"
#include "run/confine.h"
#include "run/listener.h"
#include "run/pool.h"

struct options {
	const char	*conf;
	const char	*listen;
	int		 workers;
	char		 program[PATH_MAX];	/* where we were when we were started */
};

static const char	usage[] =
"usage: parley.fcgi [-c FILE] [--listen unix:PATH|tcp:HOST:PORT [--workers N]]\n"
"\n"
"Answers Parley's HTTP interface behind a web server that speaks FastCGI.\n"
"\n"
"  -c, --config FILE   the configuration (default: $PARLEY_CONF, else\n"
"                      " PARLEY_SYSCONFDIR "/parley.conf)\n"
"  -l, --listen WHERE  open this socket and keep workers on it; without it\n"
"                      descriptor 0 must be a listening socket\n"
"  -w, --workers N     how many (default: one for each processor)\n"
"  -V, --version\n"
"  -h, --help\n";

static int	 options_read(struct options *, int argc, char **argv);
static bool	 workers_read(const char *, int *);
static int	 work(void *);

int
main(int argc, char **argv)
{
	struct options	 o = { 0 };
	int		 rc;

	if (standard_fill() < 0)
		return 1;
	if ((rc = options_read(&o, argc, argv)) >= 0)
		return rc;
	if (o.listen != NULL) {
		if (readlink("/proc/self/exe", o.program, sizeof o.program - 1) == -1)
			return fprintf(stderr, "parley.fcgi: /proc/self/exe: %s\n", strerror(errno)), 1;
		/* It hands the environment on as it got it, with the secrets in it. */
		confine_memory();
		return pool_run(o.listen, o.workers, work, &o);
	}
	if (!listener_is(STDIN_FILENO)) {
		fputs("parley.fcgi: descriptor 0 is not a listening socket.\n"
		    "Start it from spawn-fcgi, systemd, lighttpd or mod_fcgid, or by itself:\n"
		    "  parley.fcgi --listen unix:/run/parley/parley.sock\n", stderr);
		return 2;
	}
	return worker_run(o.conf);
}

/* -1: go on; else the exit status. */
static int
options_read(struct options *o, int argc, char **argv)
{
	static const struct option	 longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "listen", required_argument, NULL, 'l' },
		{ "workers", required_argument, NULL, 'w' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 }
	};
	int	 c;

	while ((c = getopt_long(argc, argv, "c:l:w:Vh", longs, NULL)) != -1) {
		if (c == 'c')
			o->conf = optarg;
		else if (c == 'l')
			o->listen = optarg;
		else if (c == 'V')
			return puts("parley " PACKAGE_VERSION) < 0;
		else if (c == 'h')
			return fputs(usage, stdout) < 0;
		else if (c != 'w' || !workers_read(optarg, &o->workers))
			return fputs(usage, stderr), 2;
	}
	if (optind < argc || (o->workers > 0 && o->listen == NULL))
		return fputs(usage, stderr), 2;
	if (o->workers == 0) {
		long	 n = sysconf(_SC_NPROCESSORS_ONLN);

		o->workers = n < 1 ? 1 : n > POOL_WORKERS_MAX ? POOL_WORKERS_MAX : (int)n;
	}
	return -1;
}

static bool
workers_read(const char *text, int *n)
{
	char	*end;
	long	 l = strtol(text, &end, 10);

	*n = (int)l;
	return *end == '\0' && end != text && l >= 1 && l <= POOL_WORKERS_MAX;
}

/* The program that lies there now: a rolling restart takes up what has been installed meanwhile. */
static int
work(void *arg)
{
	const struct options	*o = arg;

	if (o->conf != NULL)
		(void)execl(o->program, "parley.fcgi", "-c", o->conf, (char *)NULL);
	else
		(void)execl(o->program, "parley.fcgi", (char *)NULL);
	fprintf(stderr, "%s: %s\n", o->program, strerror(errno));
	return 1;
}
