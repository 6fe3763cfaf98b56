#include "run/deadline.h"

#include <time.h>

int64_t
now_us(void)
{
	struct timespec	 ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
deadline_ms(int64_t ms)
{
	int64_t	 now = now_us();

	return ms > (NEVER - now) / 1000 ? NEVER : now + ms * 1000;
}

bool
deadline_every(int64_t *next, int64_t ms)
{
	if (now_us() < *next)
		return false;
	*next = deadline_ms(ms);
	return true;
}
