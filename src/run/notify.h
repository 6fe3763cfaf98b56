/*
 * notify -- a word to the process manager that started us, as sd_notify(3) describes it.
 *
 * A datagram to the socket that NOTIFY_SOCKET names; without one nothing is sent.  It never
 * waits and never fails: a manager that does not hear is no reason to stop serving.
 */
#ifndef PARLEY_RUN_NOTIFY_H
#define PARLEY_RUN_NOTIFY_H

#include <stdint.h>

/* Assignments, one a line: "READY=1", "STOPPING=1", "WATCHDOG=1" */
void	 notify_send(const char *state);

/* Within how many us the manager wants to hear WATCHDOG=1 from this process; 0: not at all. */
int64_t	 notify_watchdog(void);

#endif
