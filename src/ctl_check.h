/*
 * ctl_check -- the lines of parleyctl check: what is right, or what is wrong and how to mend it.
 *
 * One line for each thing, on stdout.  Everything blocks.
 */
#ifndef PARLEY_CTL_CHECK_H
#define PARLEY_CTL_CHECK_H

#include <stdbool.h>

#include <curl/curl.h>

#include "base/buf.h"

struct conf;
struct conf_model;

void	 check_good(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	 check_bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* counted */

/* Other programs' messages come in several lines; good until the next call. */
const char *check_line(const char *);

struct check_body {
	struct buf	 text;
	size_t		 max;
};

/* The status, or 0 and a reason. */
long	 check_fetch(const char *url, const char *key, const char *ca_file, struct check_body *, char why[CURL_ERROR_SIZE]);

void	 check_database(const struct conf *, const char *schema_dir);
/* ask: with a small request that makes it call a tool. */
void	 check_model(const struct conf *, const struct conf_model *, bool ask);

#endif
