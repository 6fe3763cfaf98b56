/*
 * retry -- when to ask again.
 *
 * How long a server wants to be left alone: it says so in a header, in its
 * error body, or nowhere; then the wait doubles from model.retry_base, with jitter, so that
 * ten thousand turns that failed together do not come back together.
 * Times are milliseconds, -1: nothing said.  Nothing yields.
 */
#ifndef PARLEY_MODEL_RETRY_H
#define PARLEY_MODEL_RETRY_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <json-c/json_object.h>

struct conf;

bool	 retry_status(int status);	/* 408, 409, 429 and all of 5xx */

/* retry-after-ms, else retry-after in (broken) seconds, else as HTTP date, against the answer's Date or `now`. */
int64_t	 retry_header(const char *ms, const char *after, const char *date, time_t now);
/* RetryInfo's retryDelay in an error object's details, retry_after beside it, or a sentence in its message. */
int64_t	 retry_body(json_object *error);
/* "try again in 1m30.5s", "retry after 2 seconds", … anywhere in a text. */
int64_t	 retry_sentence(const char *);

/* Before the attempt'th repetition (from 1): between half of it and all of the doubled base. */
int64_t	 retry_backoff(const struct conf *, int attempt);
/* A wait that the server named, stretched by up to a tenth. */
int64_t	 retry_jitter(int64_t ms);

#endif
