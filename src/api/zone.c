#include "api/zone.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ZONE_MAX	64	/* the longest IANA name has 32 */
#define ZONE_ROOT	"/usr/share/zoneinfo"

/* Segments of letters, digits, '_', '+', '-' that begin with a letter: no dots, so no way out of the folder. */
static bool
zone_formed(const char *name)
{
	if (strlen(name) > ZONE_MAX)
		return false;
	for (;;) {
		size_t	 n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-");

		if (n == 0 || strspn(name, "0123456789_+-") > 0)
			return false;
		name += n;
		if (*name == '\0')
			return true;
		if (*name++ != '/')
			return false;
	}
}

bool
zone_valid(const char *name)
{
	char		 path[sizeof ZONE_ROOT + ZONE_MAX + 1];
	struct stat	 st;

	/* Two copies of the database lie in there too, which PostgreSQL has no names for, and this machine's own zone. */
	if (!zone_formed(name) || strncmp(name, "posix/", 6) == 0 || strncmp(name, "right/", 6) == 0 ||
	    strcmp(name, "localtime") == 0)
		return false;
	if (stat(ZONE_ROOT "/UTC", &st) < 0)
		return true;
	snprintf(path, sizeof path, ZONE_ROOT "/%s", name);
	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}
