/*
 * pool -- the parent of workers, for those who have no spawn-fcgi or systemd.
 *
 * It opens the socket, starts the workers with it as descriptor 0, and starts
 * another for each that dies: after 100 ms, twice as long each time up to 10 s, and from
 * the beginning after one that lived 10 s.  SIGTERM and SIGINT are passed on as SIGTERM,
 * and all ends when the last worker has; SIGHUP is passed on.  It reads no
 * configuration and serves nobody: nothing in it can go wrong while it waits.  Secrets it has only as its environment
 * has them, for the workers, who wipe their own copies when they have read them.
 *
 * SIGUSR2 is a rolling restart: one after another, each worker is given a successor, and SIGTERM once that
 * has lived for a second.  A successor that ends earlier ends the rolling restart as well, with no worker
 * lost: a mistake in a new configuration, or a new program that does not start, is not a pool that is down.
 *
 * A worker whose exit status is 2 or 3 has refused to work (configuration, database role).  When all have,
 * trying again helps nobody, and the pool ends with that status.
 */
#ifndef PARLEY_RUN_POOL_H
#define PARLEY_RUN_POOL_H

#define POOL_WORKERS_MAX	256

/* work(arg) runs in each child, with the signals as they were. Returns the exit status; 2: where is no address. */
int	 pool_run(const char *where, int workers, int (*work)(void *), void *arg);

#endif
