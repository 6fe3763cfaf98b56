#include "io/pgcancel.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define THREADS_MAX	8
/* For libpq, TLS and sanitizers; only what is touched costs memory. */
#define STACK_SIZE	(256 * 1024)

struct order {
	PGconn		*pg;
	PGcancel	*cancel;
};

/* So many threads are at it: they end with the process, and what they did not send the server's timeout does. */
static atomic_int	 threads;

static bool	 order_hand_over(struct order *);
static int	 thread_start(struct order *);
static void	*order_run(void *);
static void	 order_end(struct order *);

void
pgcancel_send(PGconn *pg)
{
	struct order	*o = calloc(1, sizeof *o);

	if (o == NULL) {
		PQfinish(pg);
		return;
	}
	o->pg = pg;
	o->cancel = PQgetCancel(pg);
	if (o->cancel == NULL || !order_hand_over(o))
		order_end(o);
}

static bool
order_hand_over(struct order *o)
{
	/* Only this thread adds, so between the look and the addition there can be only fewer. */
	if (atomic_load(&threads) >= THREADS_MAX)
		return false;
	atomic_fetch_add(&threads, 1);
	if (thread_start(o) == 0)
		return true;
	atomic_fetch_sub(&threads, 1);
	return false;
}

static int
thread_start(struct order *o)
{
	pthread_attr_t	 attr;
	pthread_t	 thread;
	sigset_t	 all, before;
	int		 rc;

	if (pthread_attr_init(&attr) != 0)
		return -1;
	(void)pthread_attr_setstacksize(&attr, STACK_SIZE);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);

	/* A thread inherits the mask: the signals of this process are for the loop. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attr, order_run, o);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return rc == 0 ? 0 : -1;
}

static void *
order_run(void *arg)
{
	struct order	*o = arg;
	char		 why[256];

	/* It may have ended by itself meanwhile; then the server has nothing to do. */
	(void)PQcancel(o->cancel, why, sizeof why);
	order_end(o);
	atomic_fetch_sub(&threads, 1);
	return NULL;
}

static void
order_end(struct order *o)
{
	PQfreeCancel(o->cancel);
	PQfinish(o->pg);
	free(o);
}
