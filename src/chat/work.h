/*
 * work -- turns that run without a request of their own.
 *
 * Queued turns that the one before has handed on, released ones, and those whose worker has died.  Each runs on a
 * fiber of its own, with a job of its own, and nobody listens: who waits for it follows it.
 *
 * Every worker looks once a second, at a moment of its own, for running turns of anybody whose lease has expired,
 * and takes as many as it has room for (worker.max_turns).
 */
#ifndef PARLEY_CHAT_WORK_H
#define PARLEY_CHAT_WORK_H

#include <stdbool.h>
#include <stdint.h>

struct conf;
struct turn_key;

int	 work_start(const struct conf *);	/* begins to look */
void	 work_conf(const struct conf *);	/* after SIGHUP: for later turns */
void	 work_stop(void);	/* takes no more; what runs goes on */
int	 work_taking(void);	/* turns that are becoming this worker's just now: not yet in pulse_turns() */
void	 work_end(void);	/* these are released as soon as they are (the drain's last word) */
bool	 work_wanted(void);	/* false once stopped: a turn that ends leaves the next one to others */

/*
 * yields.  For a program that is no worker: takes up what there is, until nothing is left to do, the time is over, or
 * work_stop(); what runs then is given back (a release is no failed attempt).  Returns how many turns were taken up,
 * -1: the database could not be asked.
 */
int	 work_once(const struct conf *, int64_t until, int *released);

/* Runs a turn that was handed to this worker; the key is copied.  key->turn 0: nothing to do. */
void	 work_run(const struct turn_key *);

#endif
