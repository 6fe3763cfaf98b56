/*
 * fail -- every way a request can fail, once.
 *
 * The table binds an error_code to its HTTP status, to a sentence for the
 * person who reads it, and to the seconds of Retry-After (0: none).  Codes are
 * stored with failed turns, so they are never renamed.
 */
#ifndef PARLEY_BASE_FAIL_H
#define PARLEY_BASE_FAIL_H

enum fail {
	FAIL_NONE,
	FAIL_INVALID_JSON,
	FAIL_BAD_REQUEST,
	FAIL_MISSING_TOKEN,
	FAIL_INVALID_TOKEN,
	FAIL_TOKEN_EXPIRED,
	FAIL_FORBIDDEN,
	FAIL_CONVERSATION_NOT_FOUND,
	FAIL_TURN_NOT_FOUND,
	FAIL_NOT_FOUND,
	FAIL_METHOD_NOT_ALLOWED,
	FAIL_CONVERSATION_BUSY,
	FAIL_TURN_NOT_RETRYABLE,
	FAIL_TURN_NOT_RUNNING,
	FAIL_APPROVAL_ALREADY_DECIDED,
	FAIL_QUEUE_FULL,
	FAIL_BODY_TOO_LARGE,
	FAIL_UNSUPPORTED_MEDIA_TYPE,
	FAIL_VALIDATION_ERROR,
	FAIL_IDEMPOTENCY_MISMATCH,
	FAIL_CONTEXT_TOO_LONG,
	FAIL_RATE_LIMITED,
	FAIL_BUDGET_EXCEEDED,
	FAIL_INTERNAL_ERROR,
	FAIL_TOO_MANY_STEPS,
	FAIL_TURN_ABANDONED,
	FAIL_MODEL_ERROR,
	FAIL_MODEL_UNAVAILABLE,
	FAIL_DATABASE_UNAVAILABLE,
	FAIL_OVERLOADED,
	FAIL_MODEL_TIMEOUT,
	FAIL_TURN_TIMEOUT,
	FAIL_COUNT
};

struct fail_kind {
	const char	*code;		/* error_code of the answer */
	int		 status;	/* HTTP */
	int		 retry_after;	/* seconds, 0 for none */
	const char	*sentence;	/* said when the caller has no better one */
};

const struct fail_kind *fail_kind(enum fail);
enum fail	 fail_by_code(const char *);	/* unknown or NULL: FAIL_INTERNAL_ERROR */
const char	*http_reason(int status);	/* "Not Found" */

#endif
