#include "run/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void
notify_send(const char *state)
{
	struct sockaddr_un	 sa = { .sun_family = AF_UNIX };
	const char		*path = getenv("NOTIFY_SOCKET");
	size_t			 n = path != NULL ? strlen(path) : 0;
	int			 fd;

	/* A path, or @ for the zero byte that begins a name of Linux's abstract space, unix(7). */
	if (n < 2 || n >= sizeof sa.sun_path || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(sa.sun_path, path, n);
	if (path[0] == '@')
		sa.sun_path[0] = '\0';
	if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&sa,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	(void)close(fd);
}

int64_t
notify_watchdog(void)
{
	const char	*usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	long long	 n = usec != NULL ? strtoll(usec, NULL, 10) : 0;

	/* The variables may have been meant for a parent of ours. */
	if (pid != NULL && strtoll(pid, NULL, 10) != (long long)getpid())
		return 0;
	return n > 0 ? (int64_t)n : 0;
}
