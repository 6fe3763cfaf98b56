/*
 * tap -- what a unit test in C needs to speak TAP (testanything.org, version 12).
 */
#ifndef PARLEY_UNIT_TAP_H
#define PARLEY_UNIT_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int	 tap_count, tap_failed;

__attribute__((format(printf, 2, 3), unused)) static bool
ok(bool good, const char *fmt, ...)
{
	va_list	 ap;

	printf("%sok %d - ", good ? "" : "not ", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	tap_failed += !good;
	return good;
}

__attribute__((unused)) static bool
is_text(const char *got, const char *want, const char *name)
{
	bool	 good = got != NULL && want != NULL ? strcmp(got, want) == 0 : got == want;

	ok(good, "%s", name);
	if (!good)
		printf("#      got: %s\n# expected: %s\n", got ? got : "NULL", want ? want : "NULL");
	return good;
}

static int
done_testing(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif
