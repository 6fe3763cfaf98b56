#include "run/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "run/deadline.h"
#include "run/listener.h"

#define DELAY_MIN	INT64_C(100000)		/* us */
#define DELAY_MAX	INT64_C(10000000)
#define LIVED_LONG	INT64_C(10000000)

#define ROLL_LOOK	INT64_C(1000000)	/* a successor that lived so long has read its configuration */

#define EXIT_CONF	2	/* as worker_run() says */
#define EXIT_ROLE	3

struct child {
	pid_t	 pid;		/* 0: none */
	int64_t	 born;
	int64_t	 due;		/* when another is to be started */
	int64_t	 delay;
};

struct pool {
	struct child	 children[POOL_WORKERS_MAX];
	int		 n;
	int		 fd;
	int		(*work)(void *);
	void		*arg;
	sigset_t	 signals;	/* taken by sigtimedwait() */
	sigset_t	 before;
	bool		 ending;
	int		 status;

	/* A rolling restart: who is next, n when there is none; its worker that leaves, or 0. */
	int		 slot;
	pid_t		 leaving;
	bool		 told;		/* it has been */
	bool		 again;		/* once more, when this one is over */
};

static void	 children_start(struct pool *);
static void	 child_start(struct pool *, struct child *);
static void	 child_run(struct pool *, pid_t parent) __attribute__((noreturn));
static void	 children_reap(struct pool *);
static void	 child_ended(struct pool *, struct child *, int);
static void	 roll_step(struct pool *);
static void	 roll_back(struct pool *, struct child *);
static bool	 roll_ended(struct pool *, struct child *);
static void	 children_signal(const struct pool *, int);
static int	 children_alive(const struct pool *);
static int	 signal_wait(const struct pool *);

int
pool_run(const char *where, int workers, int (*work)(void *), void *arg)
{
	struct pool	*p = calloc(1, sizeof *p);
	struct buf	 why = { 0 };
	int		 sig, status;

	if (p == NULL || (p->fd = listener_open(where, &why)) == -1) {
		status = errno == EINVAL ? 2 : 1;
		fprintf(stderr, "parley.fcgi: %s\n", p != NULL ? buf_text(&why) : "out of memory");
		buf_free(&why);
		free(p);
		return status;
	}
	p->n = p->slot = workers;
	p->work = work;
	p->arg = arg;
	(void)sigemptyset(&p->signals);
	(void)sigaddset(&p->signals, SIGCHLD);
	(void)sigaddset(&p->signals, SIGHUP);
	(void)sigaddset(&p->signals, SIGINT);
	(void)sigaddset(&p->signals, SIGTERM);
	(void)sigaddset(&p->signals, SIGUSR2);
	(void)sigprocmask(SIG_BLOCK, &p->signals, &p->before);

	children_start(p);
	while (!p->ending || children_alive(p) > 0) {
		sig = signal_wait(p);
		if (sig == SIGTERM || sig == SIGINT) {
			p->ending = true;
			children_signal(p, SIGTERM);
		} else if (sig == SIGHUP)
			children_signal(p, SIGHUP);
		else if (sig == SIGUSR2)
			p->again = true;
		children_reap(p);
		children_start(p);
		roll_step(p);
	}
	listener_remove(where, p->fd);
	status = p->status;
	free(p);
	return status;
}

static void
children_start(struct pool *p)
{
	for (int i = 0; i < p->n && !p->ending; i++)
		if (p->children[i].pid == 0 && p->children[i].due <= now_us())
			child_start(p, &p->children[i]);
}

static void
child_start(struct pool *p, struct child *c)
{
	pid_t	 parent = getpid();

	c->born = now_us();
	c->pid = fork();
	if (c->pid == 0)
		child_run(p, parent);
	if (c->pid == -1) {
		log_say(LOG_ERROR, "pool", "no process for a worker: %s", strerrordesc_np(errno));
		c->pid = 0;
		c->due = c->born + DELAY_MAX;
	}
}

static void
child_run(struct pool *p, pid_t parent)
{
	/* A group of its own: Ctrl-C on a terminal reaches the parent alone, who passes it on. */
	(void)setpgid(0, 0);
	/* A parent that is killed takes its workers with it, gently. */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent || dup2(p->fd, STDIN_FILENO) == -1)
		exit(1);
	(void)close(p->fd);
	(void)sigprocmask(SIG_SETMASK, &p->before, NULL);
	exit(p->work(p->arg));
}

static void
children_reap(struct pool *p)
{
	int	 status;
	pid_t	 pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == p->leaving && roll_ended(p, NULL))
			continue;
		for (int i = 0; i < p->n; i++)
			if (p->children[i].pid == pid)
				child_ended(p, &p->children[i], status);
	}
}

static void
child_ended(struct pool *p, struct child *c, int status)
{
	int64_t	 now = now_us();
	int	 code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	pid_t	 pid = c->pid;

	c->pid = 0;
	if (p->ending || roll_ended(p, c))
		return;
	if ((code == EXIT_CONF || code == EXIT_ROLE) && children_alive(p) == 0) {
		p->status = code;
		p->ending = true;
		return;
	}
	c->delay = c->delay == 0 || now - c->born >= LIVED_LONG ? DELAY_MIN :
	    c->delay * 2 < DELAY_MAX ? c->delay * 2 : DELAY_MAX;
	c->due = now + c->delay;
	if (log_begin(LOG_ERROR, "worker_died")) {
		log_int("worker", pid);
		if (code >= 0)
			log_int("status", code);
		else
			log_str("signal", sigabbrev_np(WTERMSIG(status)));
		log_ms("restart_in_ms", c->delay);
		log_end();
	}
}

/* The successor first: there is never a worker less than there should be. */
static void
roll_step(struct pool *p)
{
	struct child	*c;

	/* Who has died and waits to be started again will be new anyway, in its time. */
	while (p->leaving == 0 && p->slot < p->n && p->children[p->slot].pid == 0)
		p->slot++;
	if (p->slot >= p->n && p->again) {
		p->again = false;
		p->slot = 0;
	}
	if (p->slot >= p->n || p->ending)
		return;
	c = &p->children[p->slot];
	if (p->leaving == 0) {
		p->leaving = c->pid;
		p->told = false;
		child_start(p, c);
		if (c->pid == 0)
			roll_back(p, c);
	} else if (!p->told && now_us() - c->born >= ROLL_LOOK) {
		p->told = true;
		(void)kill(p->leaving, SIGTERM);
	}
}

static void
roll_back(struct pool *p, struct child *c)
{
	log_say(LOG_ERROR, "pool", "a worker could not be replaced: the rolling restart ends, and worker %d stays",
	    (int)p->leaving);
	c->pid = p->leaving;
	p->leaving = 0;
	p->slot = p->n;
}

/* c: the slot of who ended, NULL if it is the one that leaves.  True: that was a matter of the rolling restart. */
static bool
roll_ended(struct pool *p, struct child *c)
{
	if (c == NULL) {
		p->leaving = 0;
		if (p->slot < p->n)
			p->slot++;
		return true;
	}
	if (p->leaving == 0 || p->told || c != &p->children[p->slot])
		return false;
	roll_back(p, c);
	return true;
}

static void
children_signal(const struct pool *p, int sig)
{
	for (int i = 0; i < p->n; i++)
		if (p->children[i].pid > 0)
			(void)kill(p->children[i].pid, sig);
	if (p->leaving > 0)
		(void)kill(p->leaving, sig);
}

static int
children_alive(const struct pool *p)
{
	int	 n = p->leaving > 0;

	for (int i = 0; i < p->n; i++)
		n += p->children[i].pid > 0;
	return n;
}

/* Until a signal, or until a worker is due. */
static int
signal_wait(const struct pool *p)
{
	struct timespec	 ts;
	int64_t		 due = NEVER, now = now_us();

	for (int i = 0; i < p->n && !p->ending; i++)
		if (p->children[i].pid == 0)
			due = deadline_first(due, p->children[i].due);
	if (p->leaving != 0 && !p->told)
		due = deadline_first(due, p->children[p->slot].born + ROLL_LOOK);
	if (due == NEVER)
		return sigwaitinfo(&p->signals, NULL);
	due = due > now ? due - now : 0;
	ts.tv_sec = due / 1000000;
	ts.tv_nsec = due % 1000000 * 1000;
	return sigtimedwait(&p->signals, NULL, &ts);
}
