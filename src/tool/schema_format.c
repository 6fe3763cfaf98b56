#include <ctype.h>
#include <string.h>

#include "base/uuid.h"
#include "tool/schema_check.h"

static bool	 is_date(const char *);
static bool	 is_date_time(const char *);
static bool	 is_zone(const char *);
static bool	 is_email(const char *);
static int	 two(const char *);

enum verdict
schema_format(struct check *c, const char *format, const char *text)
{
	char	 id[UUID_TEXT];

	if (strcmp(format, "date") == 0)
		return strlen(text) == 10 && is_date(text) ? FITS :
		    schema_fault(c, FAULT_OTHER, "must be a date like 2026-03-31");
	if (strcmp(format, "date-time") == 0)
		return is_date_time(text) ? FITS :
		    schema_fault(c, FAULT_OTHER, "must be a date and time like 2026-03-31T14:05:00Z");
	if (strcmp(format, "uuid") == 0)
		return uuid_parse(text, id) ? FITS : schema_fault(c, FAULT_OTHER, "must be a UUID");
	if (strcmp(format, "email") == 0)
		return is_email(text) ? FITS : schema_fault(c, FAULT_OTHER, "must be an e-mail address");
	return UNCHECKED;
}

/* RFC 3339 section 5.6, full-date: the first ten bytes. */
static bool
is_date(const char *s)
{
	static const char	 days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int			 year, month, day;

	if (strnlen(s, 10) < 10 || two(s) < 0 || two(s + 2) < 0 || s[4] != '-' || s[7] != '-')
		return false;
	year = two(s) * 100 + two(s + 2);
	month = two(s + 5);
	day = two(s + 8);
	if (month < 1 || month > 12 || day < 1 || day > days[month - 1])
		return false;
	return month != 2 || day < 29 || (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
}

/* date-time, and what many servers take besides: a blank for the T, no seconds, no zone. */
static bool
is_date_time(const char *s)
{
	if (!is_date(s) || s[10] == '\0' || strchr("Tt ", s[10]) == NULL)
		return false;
	s += 11;
	if (two(s) < 0 || two(s) > 23 || s[2] != ':' || two(s + 3) < 0 || two(s + 3) > 59)
		return false;
	s += 5;
	if (*s == ':') {
		/* 60: a leap second. */
		if (two(s + 1) < 0 || two(s + 1) > 60)
			return false;
		s += 3;
		if (*s == '.')
			for (s++; isdigit((unsigned char)*s); s++)
				;
	}
	return is_zone(s);
}

static bool
is_zone(const char *s)
{
	if (*s == '\0' || strcmp(s, "Z") == 0 || strcmp(s, "z") == 0)
		return true;
	return (*s == '+' || *s == '-') && two(s + 1) >= 0 && two(s + 1) <= 23 &&
	    s[3] == ':' && two(s + 4) >= 0 && two(s + 4) <= 59 && s[6] == '\0';
}

/* Enough to tell an address from a name: RFC 5321 allows too much to be sure of more. */
static bool
is_email(const char *s)
{
	const char	*at = strrchr(s, '@');

	return at != NULL && at != s && at[1] != '\0' && strpbrk(at, " \t\r\n") == NULL;
}

/* Two digits; -1: something else, or the end. */
static int
two(const char *s)
{
	if (!isdigit((unsigned char)s[0]) || !isdigit((unsigned char)s[1]))
		return -1;
	return (s[0] - '0') * 10 + s[1] - '0';
}
