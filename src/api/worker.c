#include "api/worker.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/api.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "chat/pulse.h"
#include "chat/role.h"
#include "chat/watch.h"
#include "chat/work.h"
#include "io/fcgi.h"
#include "io/http.h"
#include "io/pg.h"
#include "run/confine.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "run/notify.h"

#define LISTEN_FD	0	/* FCGI_LISTENSOCK_FILENO, FastCGI 1.0 section 2.2 */

#define LOOK_MS		50	/* how often the drain looks whether all is done */
#define RELEASE_MS	3000	/* for turns that are told to stop: two statements, one of them waited for */
#define SECOND_US	INT64_C(1000000)

/* malloc keeps what lies below anything in use: after a flood that is all it ever had.  Looked at so often; worth a call from so much on. */
#define TRIM_MS		5000
#define TRIM_BYTES	((size_t)16 * 1024 * 1024)

/* This process, from start to end: nothing of a request or a turn. */
static struct {
	const char		*conf_path;
	const struct conf	*conf;
	int64_t			 draining;	/* since; 0: not */
	char			 held[CONFINE_WORDS];	/* what it gave up */
	struct timer		 alive;		/* signs of life for a process manager */
	struct timer		 trim;
} worker;

static const struct conf *conf_read(void);
static int	 log_start(const struct conf *);
static int	 worker_open(const struct conf *);
static void	 descriptors_raise(void);
static void	 worker_say(void);
static void	 alive_say(void *);
static void	 memory_trim(void *);
static void	 term_came(int);
static void	 hup_came(int);
static void	 conf_again(void);
static void	 drain_run(void *);
static bool	 drain_wait(int64_t until);
static void	 role_ask(void *);

int
worker_run(const char *conf_path)
{
	worker.conf_path = conf_path;
	if ((worker.conf = conf_read()) == NULL || log_start(worker.conf) < 0)
		return WORKER_CONF;
	log_crashes();
	descriptors_raise();
	if (worker.conf->worker_confine)
		confine(worker.conf->log_file, worker.held);

	if (worker_open(worker.conf) < 0)
		return WORKER_FAILED;
	worker_say();
	loop_run();

	pulse_stop();
	http_stop();
	pg_stop();
	loop_close();
	log_say(LOG_INFO, "worker_end", "drained");
	return WORKER_ENDED;
}

/* -- start -- */

static const struct conf *
conf_read(void)
{
	struct buf		 why = { 0 };
	const struct conf	*conf = conf_load(worker.conf_path, &why);

	/* Before there is a log, and again for the log when there is one. */
	if (conf == NULL && worker.conf == NULL)
		fputs(buf_text(&why), stderr);
	else if (conf == NULL)
		log_say(LOG_ERROR, "conf", "the old configuration stays: %s", buf_text(&why));
	buf_free(&why);
	return conf;
}

static int
log_start(const struct conf *conf)
{
	enum log_level	 level = LOG_INFO;

	(void)log_level_parse(conf->log_level, &level);
	if (log_open(conf->log_file, level, conf->log_user_key) == 0)
		return 0;
	fprintf(stderr, "log.file: %s: %s\n", conf->log_file, strerror(errno));
	return -1;
}

static int
worker_open(const struct conf *conf)
{
	if (!fcgi_check()) {
		log_say(LOG_ERROR, "worker_start", "libfcgi would use its own, blocking I/O: a fault of the build");
		return -1;
	}
	fiber_stack_size((size_t)conf->worker_stack_size);
	/* SIGUSR1 is how multiwatch passes a first SIGTERM on. */
	if (loop_open() < 0 || loop_signal(SIGTERM, term_came) < 0 || loop_signal(SIGUSR1, term_came) < 0 ||
	    loop_signal(SIGINT, term_came) < 0 || loop_signal(SIGHUP, hup_came) < 0) {
		log_say(LOG_ERROR, "worker_start", "no loop: %s", strerror(errno));
		return -1;
	}
	(void)signal(SIGPIPE, SIG_IGN);

	role_guard(WORKER_ROLE);
	if (pg_start(conf) < 0 || http_start() < 0 || pulse_start(conf) < 0)
		return -1;
	/* A pool for tools alone may know no model. */
	if (strcmp(conf->api_serve, "mcp") != 0 && work_start(conf) < 0)
		return -1;
	fcgi_conf(conf);
	if (fcgi_listen(LISTEN_FD, (int)conf->worker_max_turns, api_serve, api_overloaded) < 0) {
		log_say(LOG_ERROR, "worker_start", "descriptor 0 cannot be listened on: %s", strerror(errno));
		return -1;
	}
	if (notify_watchdog() > 0)
		alive_say(NULL);
	memory_trim(NULL);
	return fiber_start(role_ask, NULL) != NULL ? 0 : -1;
}

/* Each turn has one for its client and often one for its model. */
static void
descriptors_raise(void)
{
	struct rlimit	 r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

static void
worker_say(void)
{
	if (log_begin(LOG_INFO, "worker_start")) {
		log_str("message", "ready");
		log_str("confined", worker.held);
		log_end();
	}
}

/* On the loop's stack: a worker whose loop stands still says nothing, and is replaced. */
static void
alive_say(void *arg)
{
	(void)arg;
	notify_send("WATCHDOG=1");
	worker.alive = (struct timer){ .fn = alive_say };
	timer_set(&worker.alive, now_us() + notify_watchdog() / 3);
}

/* On the loop's stack: gives free memory back to the system. */
static void
memory_trim(void *arg)
{
	(void)arg;
	if (mallinfo2().fordblks > TRIM_BYTES)
		(void)malloc_trim(TRIM_BYTES / 4);
	worker.trim = (struct timer){ .fn = memory_trim };
	timer_set(&worker.trim, now_us() + TRIM_MS * 1000);
}

/* -- signals, on the loop's stack -- */

static void
term_came(int sig)
{
	(void)sig;
	if (worker.draining != 0) {
		if (now_us() - worker.draining >= SECOND_US)
			_exit(WORKER_ENDED);
		return;
	}
	worker.draining = now_us();
	notify_send("STOPPING=1");
	if (fiber_start(drain_run, NULL) == NULL)
		loop_stop();
}

static void
hup_came(int sig)
{
	char	 state[64];

	(void)sig;
	snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now_us());
	notify_send(state);
	conf_again();
	notify_send("READY=1");
}

static void
conf_again(void)
{
	const struct conf	*conf;

	if (log_reopen() < 0)
		log_say(LOG_ERROR, "log", "log.file cannot be reopened: %s", strerror(errno));
	if ((conf = conf_read()) == NULL)
		return;
	/* Running jobs keep the one they began with: it is not freed. */
	worker.conf = conf;
	if (log_start(conf) < 0)
		log_say(LOG_ERROR, "log", "log.file cannot be opened: %s", strerror(errno));
	fcgi_conf(conf);
	pulse_conf(conf);
	work_conf(conf);
	fcgi_max((int)conf->worker_max_turns);
	log_say(LOG_INFO, "conf", "the configuration was read again");
}

/* -- the end -- */

static void
drain_run(void *arg)
{
	(void)arg;
	if (log_begin(LOG_INFO, "drain")) {
		log_int("requests", fcgi_active());
		log_int("turns", pulse_turns());
		log_end();
	}
	work_stop();
	fcgi_listen_stop();
	api_drain();
	if (!drain_wait(deadline_ms(worker.conf->worker_drain_timeout))) {
		log_say(LOG_WARN, "drain", "%d turns are released", pulse_turns());
		pulse_stop_turns(JOB_DRAINED);
		work_end();
		watch_stop_all();
		api_end();
		(void)drain_wait(deadline_ms(RELEASE_MS));
	}
	loop_stop();
}

/* True: nothing is left to do. */
static bool
drain_wait(int64_t until)
{
	while (fcgi_active() > 0 || pulse_turns() > 0 || work_taking() > 0) {
		if (now_us() >= until)
			return false;
		loop_sleep(deadline_first(until, deadline_ms(LOOK_MS)));
	}
	return true;
}

/* -- the role -- */

/* Once at the start; if the database is down, the first connection of anybody looks. */
static void
role_ask(void *arg)
{
	struct job	 job;
	struct pg_rows	 rows;

	(void)arg;
	job_open(&job, worker.conf);
	if (pg_query(&job, PG_TURN, &rows, "SELECT 1") < 0)
		log_say(LOG_WARN, "worker_start", "the database cannot be reached yet");
	job_close(&job);
	/* Not before the role has been looked at: it may have been the end.  Without a database we serve errors. */
	notify_send("READY=1");
}
