/*
 * worker -- the life of a worker process: start, serve, drain, end.
 *
 * It reads the configuration, opens the log, takes the listening socket on descriptor 0 and
 * runs the loop.  It starts without a database, too; at the first connection it looks at its role and
 * refuses to work under one that row level security does not bind.
 *
 * SIGTERM (or SIGINT, SIGUSR1) drains: no turn of others is taken, no new connection accepted (requests on those that
 * are there are served), whoever waits for a whole answer is told (202), streams go on; running turns get
 * worker.drain_timeout.  What is left then is released, its streams are closed without an end, other requests answer
 * 503; all that has 3 s.
 * A second one, a second or more later, ends it at once (service managers and a parent may both send the first).
 * SIGHUP rereads the configuration for later requests and reopens the log; a
 * configuration with mistakes is reported and the old one kept.
 */
#ifndef PARLEY_API_WORKER_H
#define PARLEY_API_WORKER_H

enum {
	WORKER_ENDED = 0,	/* drained */
	WORKER_FAILED = 1,
	WORKER_CONF = 2,	/* mistakes in the configuration, said on stderr */
	WORKER_ROLE = 3		/* the database role could read everybody's rows */
};

/* Returns the exit status.  conf_path NULL: see conf_load(). */
int	 worker_run(const char *conf_path);

#endif
