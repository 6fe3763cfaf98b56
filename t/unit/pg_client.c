/*
 * pg_client -- statements through io/pg for t/pg.t, which is in command.
 *
 * A line of input is a word and its arguments, separated by tabs:
 *
 *	ask ID turn|tool|pulse DEADLINE_MS SQL	(0: none) starts a fiber
 *	stop ID cancelled|fenced|drained	stops its job
 *	quit
 *
 * Each statement ends in a line "ID rc fail sqlstate unknown rows ms value",
 * with "-" for what is empty.  The last words of the command line are the limits:
 * URL CONNECTIONS WAIT_MS STATEMENT_MS.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

struct ask {
	char		 id[16];
	enum pg_use	 use;
	int64_t		 deadline;
	char		*sql;
	struct job	 job;
	struct ask	*next;
};

static struct conf	 conf;
static struct ask	*asks;
static struct buf	 input;

static const char *
or_dash(const char *s)
{
	return s != NULL && s[0] != '\0' ? s : "-";
}

static void
ask_run(void *arg)
{
	struct ask	*a = arg, **at;
	struct pg_rows	 rows;
	int		 rc;

	job_open(&a->job, &conf);
	if (a->deadline > 0)
		a->job.deadline = deadline_ms(a->deadline);
	rc = pg_query(&a->job, a->use, &rows, a->sql);
	printf("%s %d %s %s %d %d %d %s\n", a->id, rc,
	    a->job.fail != FAIL_NONE ? fail_kind(a->job.fail)->code : "-", or_dash(rows.sqlstate),
	    rows.unknown, rows.n, (int)((now_us() - a->job.started) / 1000),
	    rows.n > 0 ? or_dash(pg_col(&rows, 0, 0)) : "-");
	fflush(stdout);
	if (rc == 0)
		pg_free(&rows);
	for (at = &asks; *at != a; at = &(*at)->next)
		;
	*at = a->next;
	job_close(&a->job);
	free(a->sql);
	free(a);
}

static void
ask_start(const char *id, const char *use, const char *deadline, const char *sql)
{
	struct ask	*a = calloc(1, sizeof *a);

	snprintf(a->id, sizeof a->id, "%s", id);
	a->use = strcmp(use, "tool") == 0 ? PG_TOOL : strcmp(use, "pulse") == 0 ? PG_PULSE : PG_TURN;
	a->deadline = strtoll(deadline, NULL, 10);
	a->sql = strdup(sql);
	a->next = asks;
	asks = a;
	if (fiber_start(ask_run, a) == NULL)
		abort();
}

static enum job_stop
stop_named(const char *name)
{
	return strcmp(name, "fenced") == 0 ? JOB_FENCED : strcmp(name, "drained") == 0 ? JOB_DRAINED : JOB_CANCELLED;
}

static void
line_obey(char *line)
{
	char	*word[5] = { NULL };

	for (int i = 0; i < 5; i++)
		word[i] = i < 4 ? strsep(&line, "\t") : line;
	if (strcmp(word[0], "quit") == 0)
		loop_stop();
	else if (strcmp(word[0], "ask") == 0)
		ask_start(word[1], word[2], word[3], word[4]);
	else
		for (struct ask *a = asks; a != NULL; a = a->next)
			if (strcmp(a->id, word[1]) == 0)
				job_stop(&a->job, stop_named(word[2]));
}

static void
input_ready(void *arg, uint32_t events)
{
	char	*end;
	ssize_t	 n;

	(void)arg;
	(void)events;
	buf_reserve(&input, 4096);
	n = read(STDIN_FILENO, input.p + input.n, 4096);
	if (n <= 0) {
		loop_stop();
		return;
	}
	input.n += (size_t)n;
	while ((end = memchr(input.p, '\n', input.n)) != NULL) {
		*end = '\0';
		line_obey(input.p);
		buf_drop(&input, (size_t)(end - input.p) + 1);
	}
}

/* Said once, before anything else. */
static void
look(const PGresult *res)
{
	printf("look %s\n", PQgetvalue(res, 0, 0));
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	if (argc != 5 || loop_open() < 0)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	conf.database_url = argv[1];
	conf.database_connections = strtoll(argv[2], NULL, 10);
	conf.database_wait = strtoll(argv[3], NULL, 10);
	conf.database_connect_timeout = 2000;
	conf.database_statement_timeout = strtoll(argv[4], NULL, 10);
	if (pg_start(&conf) < 0)
		return 3;
	pg_on_first_connect("SELECT current_user::text", look);
	if (loop_watch(STDIN_FILENO, EPOLLIN, input_ready, NULL) < 0)
		return 4;
	loop_run();
	pg_stop();
	loop_close();
	buf_free(&input);
	return 0;
}
