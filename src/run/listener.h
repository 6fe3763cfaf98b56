/*
 * listener -- the listening socket of a pool that nobody else opens.
 *
 * "unix:/path" (mode 0660 whatever the umask; what a dead pool left behind is
 * removed, what somebody listens on is not) or "tcp:host:port" (that
 * address only; "[::1]" for IPv6).  For the parent, before any loop: it may block on a name.
 */
#ifndef PARLEY_RUN_LISTENER_H
#define PARLEY_RUN_LISTENER_H

#include <stdbool.h>

struct buf;

/* The descriptor, or -1 and a sentence in why; errno is EINVAL where that is no such address. */
int	 listener_open(const char *where, struct buf *why);
void	 listener_remove(const char *where, int fd);	/* closes; the path goes if it is still that socket's */
bool	 listener_is(int fd);		/* is it a listening socket? */

#endif
