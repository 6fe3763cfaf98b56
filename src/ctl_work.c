#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/log.h"
#include "chat/pulse.h"
#include "chat/role.h"
#include "chat/work.h"
#include "io/http.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/loop.h"

/* From cron once a minute: the next one should not find this one still at work. */
#define SECONDS_DEFAULT	50
#define SECONDS_MAX	86400

#define REST_MS		2000	/* for farewells to servers of tools */
#define LOOK_MS		10

/* What main() asks of the loop, and what came of it. */
struct shift {
	const struct conf	*conf;
	long			 seconds;
	int			 taken, released;	/* taken -1: the database could not be asked */
};

static bool	 options_read(int argc, char **argv, long *seconds);
static int	 shift_open(const struct conf *);
static int	 log_start(const struct conf *);
static void	 shift_run(void *);
static void	 term_came(int);

int
ctl_work(int argc, char **argv, const struct conf *(*conf_read)(void))
{
	struct shift	 s = { .seconds = SECONDS_DEFAULT };

	if (!options_read(argc, argv, &s.seconds))
		return -1;
	if ((s.conf = conf_read()) == NULL || shift_open(s.conf) < 0 || fiber_start(shift_run, &s) == NULL)
		return 1;
	loop_run();
	pulse_stop();
	http_stop();
	pg_stop();
	loop_close();

	if (s.taken < 0) {
		fprintf(stderr, "parleyctl: the database could not be asked; parleyctl check says why\n");
		return 1;
	}
	printf(s.taken == 1 ? "%d turn was taken up" : "%d turns were taken up", s.taken);
	if (s.released > 0)
		printf(", %d given back when the time was over", s.released);
	putchar('\n');
	return 0;
}

/* --once is asked for, so that nobody takes this for something that stays. */
static bool
options_read(int argc, char **argv, long *seconds)
{
	static const struct option	 options[] = {
		{ "once", no_argument, NULL, 'o' },
		{ "seconds", required_argument, NULL, 's' },
		{ 0 }
	};
	bool				 once = false;
	char				*end;
	int				 c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'o') {
			once = true;
			continue;
		}
		errno = 0;
		if (c != 's' || (*seconds = strtol(optarg, &end, 10), errno != 0 || end == optarg || *end != '\0') ||
		    *seconds < 1 || *seconds > SECONDS_MAX)
			return false;
	}
	return once && optind == argc;
}

/* What a worker has but for its listening socket. */
static int
shift_open(const struct conf *conf)
{
	if (log_start(conf) < 0)
		return -1;
	if (conf->database_url == NULL) {
		fprintf(stderr, "parleyctl: database.url is not set\n");
		return -1;
	}
	fiber_stack_size((size_t)conf->worker_stack_size);
	(void)signal(SIGPIPE, SIG_IGN);
	role_guard(1);
	if (loop_open() == 0 && loop_signal(SIGTERM, term_came) == 0 && loop_signal(SIGINT, term_came) == 0 &&
	    pg_start(conf) == 0 && http_start() == 0 && pulse_start(conf) == 0)
		return 0;
	fprintf(stderr, "parleyctl: no loop: %s\n", strerror(errno));
	return -1;
}

/* Cron mails what is said on stderr: without a file of its own only what is wrong is said. */
static int
log_start(const struct conf *conf)
{
	enum log_level	 level = LOG_ERROR;

	if (conf->log_file != NULL)
		(void)log_level_parse(conf->log_level, &level);
	if (log_open(conf->log_file, level, conf->log_user_key) == 0)
		return 0;
	fprintf(stderr, "parleyctl: log.file: %s: %s\n", conf->log_file, strerror(errno));
	return -1;
}

static void
shift_run(void *arg)
{
	struct shift	*s = arg;
	int64_t		 rest;

	s->taken = work_once(s->conf, now_us() + INT64_C(1000000) * s->seconds, &s->released);
	pulse_stop();
	for (rest = deadline_ms(REST_MS); fiber_count() > 1 && now_us() < rest; )
		loop_sleep(deadline_ms(LOOK_MS));
	loop_stop();
}

/* Whoever ends it early: as when the time is over. */
static void
term_came(int sig)
{
	(void)sig;
	work_stop();
}
