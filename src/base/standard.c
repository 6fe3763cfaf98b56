#include "base/standard.h"

#include <fcntl.h>
#include <unistd.h>

int
standard_fill(void)
{
	int	 fd;

	/* The lowest free number is given: what is closed is filled in its turn. */
	do
		if ((fd = open("/dev/null", O_RDONLY)) == -1)
			return -1;
	while (fd <= STDERR_FILENO);
	return close(fd);
}
