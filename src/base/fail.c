#include "base/fail.h"

#include <stddef.h>
#include <string.h>

/* What each says; openapi.yaml tells clients when. */
static const struct fail_kind	 kinds[FAIL_COUNT] = {
	[FAIL_NONE] = { "", 200, 0, "" },
	[FAIL_INVALID_JSON] = { "invalid_json", 400, 0,
	    "The body must be one JSON object in UTF-8." },
	[FAIL_BAD_REQUEST] = { "bad_request", 400, 0,
	    "The request is not one that this address understands." },
	[FAIL_MISSING_TOKEN] = { "missing_token", 401, 0,
	    "Sign in first: the request has no bearer token." },
	[FAIL_INVALID_TOKEN] = { "invalid_token", 401, 0,
	    "Sign in again: the token was not accepted." },
	[FAIL_TOKEN_EXPIRED] = { "token_expired", 401, 0,
	    "Sign in again: the token has expired." },
	[FAIL_FORBIDDEN] = { "forbidden", 403, 0,
	    "The address names another user than the token does." },
	[FAIL_CONVERSATION_NOT_FOUND] = { "conversation_not_found", 404, 0,
	    "There is no conversation with this id." },
	[FAIL_TURN_NOT_FOUND] = { "turn_not_found", 404, 0,
	    "There is no such turn in this conversation." },
	[FAIL_NOT_FOUND] = { "not_found", 404, 0,
	    "There is nothing at this address." },
	[FAIL_METHOD_NOT_ALLOWED] = { "method_not_allowed", 405, 0,
	    "This address does not take that method; the Allow header names those it takes." },
	[FAIL_CONVERSATION_BUSY] = { "conversation_busy", 409, 2,
	    "The previous message of this conversation is still being answered. Try again when it is done." },
	[FAIL_TURN_NOT_RETRYABLE] = { "turn_not_retryable", 409, 0,
	    "Only the last turn of a conversation can be retried, and only when it has ended." },
	[FAIL_TURN_NOT_RUNNING] = { "turn_not_running", 409, 0,
	    "This turn has already ended." },
	[FAIL_APPROVAL_ALREADY_DECIDED] = { "approval_already_decided", 409, 0,
	    "This question has already been answered or has expired. Reload the conversation." },
	[FAIL_QUEUE_FULL] = { "queue_full", 409, 0,
	    "Too many messages are waiting in this conversation. Wait until one is answered." },
	[FAIL_BODY_TOO_LARGE] = { "body_too_large", 413, 0,
	    "The request is too large. Send a shorter one." },
	[FAIL_UNSUPPORTED_MEDIA_TYPE] = { "unsupported_media_type", 415, 0,
	    "Send the body as application/json." },
	[FAIL_VALIDATION_ERROR] = { "validation_error", 422, 0,
	    "A field of the request is missing or has a value that is not allowed." },
	[FAIL_IDEMPOTENCY_MISMATCH] = { "idempotency_mismatch", 422, 0,
	    "This Idempotency-Key was used for another request. Use a new key." },
	[FAIL_CONTEXT_TOO_LONG] = { "context_too_long", 422, 0,
	    "The conversation has become too long for the model. Send a shorter message or start a new conversation." },
	[FAIL_RATE_LIMITED] = { "rate_limited", 429, 10,
	    "Too many requests. Wait a moment and try again." },
	[FAIL_BUDGET_EXCEEDED] = { "budget_exceeded", 429, 3600,
	    "The allowance of this account is used up for today. There is a new one at midnight UTC." },
	[FAIL_INTERNAL_ERROR] = { "internal_error", 500, 0,
	    "Something went wrong on the server. If it happens again, report the request id." },
	[FAIL_TOO_MANY_STEPS] = { "too_many_steps", 500, 0,
	    "The assistant did not come to an end. Ask for less at a time, or try again." },
	[FAIL_TURN_ABANDONED] = { "turn_abandoned", 500, 0,
	    "The work on this message was interrupted. Try again." },
	[FAIL_MODEL_ERROR] = { "model_error", 502, 0,
	    "The language model gave an answer that could not be used. Try again." },
	[FAIL_MODEL_UNAVAILABLE] = { "model_unavailable", 503, 10,
	    "The language model cannot be reached. Try again in a moment." },
	[FAIL_DATABASE_UNAVAILABLE] = { "database_unavailable", 503, 5,
	    "The service is not available at the moment. Try again shortly." },
	[FAIL_OVERLOADED] = { "overloaded", 503, 5,
	    "The service is busy. Try again shortly." },
	[FAIL_MODEL_TIMEOUT] = { "model_timeout", 504, 0,
	    "The language model did not answer in time. Try again." },
	[FAIL_TURN_TIMEOUT] = { "turn_timeout", 504, 0,
	    "The answer took too long. Try again, or ask for less at a time." },
};

const struct fail_kind *
fail_kind(enum fail f)
{
	if (f < FAIL_NONE || f >= FAIL_COUNT)
		f = FAIL_INTERNAL_ERROR;
	return &kinds[f];
}

enum fail
fail_by_code(const char *code)
{
	for (int f = FAIL_NONE + 1; code != NULL && f < FAIL_COUNT; f++)
		if (strcmp(kinds[f].code, code) == 0)
			return (enum fail)f;
	return FAIL_INTERNAL_ERROR;
}

/* The reason phrases of RFC 9110 section 15 (429: RFC 6585) that we send. */
const char *
http_reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 201: return "Created";
	case 202: return "Accepted";
	case 204: return "No Content";
	case 304: return "Not Modified";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 406: return "Not Acceptable";
	case 409: return "Conflict";
	case 413: return "Content Too Large";
	case 415: return "Unsupported Media Type";
	case 422: return "Unprocessable Content";
	case 429: return "Too Many Requests";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 502: return "Bad Gateway";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	}
	return status < 400 ? "OK" : status < 500 ? "Bad Request" : "Internal Server Error";
}
