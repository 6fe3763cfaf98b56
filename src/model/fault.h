/*
 * fault -- why one request to a model server gave no answer, and what helps.
 *
 * Servers say it in many ways: by status, by an error object in several shapes,
 * by an error event inside a stream whose status was 200, or by silence.  All end here as the
 * error code of the answer, a remedy and what may be logged: the status and the
 * error's type and code, cut down to harmless words.  A server's message is read to
 * tell kinds apart and goes nowhere.  Nothing yields.
 */
#ifndef PARLEY_MODEL_FAULT_H
#define PARLEY_MODEL_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json_object.h>

#include "base/fail.h"
#include "io/http.h"

enum fault_remedy {
	FAULT_AGAIN,		/* the same request later */
	FAULT_ONCE,		/* the same request once more */
	FAULT_NEXT,		/* another model */
	FAULT_CUT		/* a shorter prompt */
};

struct fault {
	enum fail	 code;		/* FAIL_NONE: none */
	enum fault_remedy remedy;
	const char	*reason;	/* one word of ours, for the log */
	int		 status;	/* HTTP, or what an error event said; 0: none */
	int64_t		 wait_ms;	/* the server asks for so much patience; -1: it does not say */
	char		 words[130];	/* "type/code" of the error body, sanitised; "" */
};

void	 fault_set(struct fault *, enum fail, enum fault_remedy, const char *reason);
void	 fault_http(struct fault *, enum http_error, bool head);	/* head: it had come */
/* An answer that is not 2xx.  retry: the header x-should-retry or NULL; behind the n bytes stands a NUL. */
void	 fault_status(struct fault *, int status, const char *retry, const char *body, size_t n);
/* An error inside an answer whose status was good: the error member, or all of the event. */
void	 fault_event(struct fault *, json_object *error);
/* The error member of an event or body: NULL when it holds none; null, false and "" are none. */
json_object *fault_find(json_object *event);

#endif
