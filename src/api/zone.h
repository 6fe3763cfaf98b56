/*
 * zone -- is this the name of an IANA time zone?
 *
 * PostgreSQL takes more than names (abbreviations, POSIX rules such as "foo3"); a
 * client's zone must be a file of the system's zoneinfo.  Where there is none, the form is checked
 * alone and PostgreSQL has the last word.
 */
#ifndef PARLEY_API_ZONE_H
#define PARLEY_API_ZONE_H

#include <stdbool.h>

bool	 zone_valid(const char *);

#endif
