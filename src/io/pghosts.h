/*
 * pghosts -- database.url taken apart: which servers it names, and one attempt at one of them.
 *
 * libpq goes through a list of hosts by itself, but without a limit of time for each: one that accepts and never
 * answers would hide the others.  So the list is split, as libpq itself splits it, and each host is
 * asked on its own.  The one that worked last is asked first.
 *
 * A string that names several hosts and says nothing of target_session_attrs means the one that can be written to.
 * What is no list, or cannot be split (as many ports as hosts, or one, are needed), is left to libpq as it is, its
 * complaint included; so is a list in a service file.  The parts belong to this file and live as long as the process.
 */
#ifndef PARLEY_IO_PGHOSTS_H
#define PARLEY_IO_PGHOSTS_H

#include <stdint.h>

#include <libpq-fe.h>

int	 pghosts_start(const char *url);	/* NULL: the environment's.  -1: it cannot be read */
int	 pghosts_count(void);			/* 1 or more */
int	 pghosts_nth(int);			/* the order of asking: which host comes first (0), second … */
void	 pghosts_worked(int host);

/*
 * Begins to connect (PQconnectStart: a host's name is resolved here, blocking).  patience, in ms, is how long the
 * connection will later wait for the other side's acknowledgement of what was sent.  NULL without memory.
 */
PGconn	*pghosts_connect(int host, int64_t patience);

#endif
