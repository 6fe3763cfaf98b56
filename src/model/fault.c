#include "model/fault.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/json.h"
#include "model/mend.h"
#include "model/retry.h"

#define COUNT(a)	(sizeof(a) / sizeof *(a))

/* What servers say when prompt and answer do not fit; compared without case. */
static const char *const overflow_words[] = {
	"context_length_exceeded", "exceed_context_size", "maximum context length", "context window",
	"context length", "context size", "too many tokens", "prompt is too long", "input is too long",
	"prompt too long", "request too large", "reduce the length", "exceeds the maximum number of tokens",
};

/* … and when the model, or the way it is served, has no tools. */
static const char *const tools_words[] = {
	"not support tool", "support tool use", "support tool call", "not support function",
	"support function call", "tools are not supported", "tools is not supported", "tool use is not supported",
	"tool calling is not supported", "function calling is not", "tool choice requires",
	"tools param requires", "tool-call-parser", "tool_choice is not supported",
};

struct error_text {
	const char	*message, *type, *code;
	char		 number[24];	/* a code that came as a number */
};

static void	 text_of(json_object *error, struct error_text *);
static void	 judge(struct fault *, const struct error_text *);
static bool	 says(const struct error_text *, const char *const *, size_t);
static bool	 has(const char *, const char *);
static void	 words_put(struct fault *, const char *, const char *);
static int	 status_of(json_object *error);

void
fault_set(struct fault *f, enum fail code, enum fault_remedy remedy, const char *reason)
{
	memset(f, 0, sizeof *f);
	f->code = code;
	f->remedy = remedy;
	f->reason = reason;
	f->wait_ms = -1;
}

void
fault_http(struct fault *f, enum http_error error, bool head)
{
	switch (error) {
	case HTTP_UNREACHABLE:
		fault_set(f, FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, "unreachable");
		break;
	case HTTP_BROKEN:
		/* A server that falls silent in mid-answer has still answered something. */
		fault_set(f, head ? FAIL_MODEL_ERROR : FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, "broken_off");
		break;
	/* Who let all that time pass will not be quicker now: another model, rather than the same again. */
	case HTTP_LATE_FIRST:
		fault_set(f, FAIL_MODEL_TIMEOUT, FAULT_NEXT, "first_byte_timeout");
		break;
	case HTTP_LATE_IDLE:
		fault_set(f, FAIL_MODEL_TIMEOUT, FAULT_NEXT, "idle_timeout");
		break;
	case HTTP_LATE_TOTAL:
		fault_set(f, FAIL_MODEL_TIMEOUT, FAULT_NEXT, "call_timeout");
		break;
	case HTTP_TOO_LARGE:
		fault_set(f, FAIL_MODEL_ERROR, FAULT_NEXT, "answer_too_large");
		break;
	default:
		fault_set(f, FAIL_MODEL_ERROR, FAULT_NEXT, "not_http");
		break;
	}
}

void
fault_status(struct fault *f, int status, const char *retry, const char *body, size_t n)
{
	struct error_text text = { 0 };
	json_object	*tree, *error;
	bool		 mended;

	if (retry_status(status))
		fault_set(f, FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, status == 429 ? "rate_limited" : "server_trouble");
	else
		fault_set(f, FAIL_MODEL_ERROR, FAULT_NEXT, "refused");
	f->status = status;

	/* Plain text or a proxy's HTML is searched for the same words. */
	tree = n > 0 ? mend_read(body, n, &mended) : NULL;
	error = fault_find(tree);
	if (error != NULL) {
		text_of(error, &text);
		f->wait_ms = retry_body(error);
	} else if (tree == NULL && n > 0) {
		text.message = body;
	}
	judge(f, &text);
	json_object_put(tree);

	if (retry != NULL && strcasecmp(retry, "true") == 0 && f->remedy == FAULT_NEXT) {
		f->remedy = FAULT_AGAIN;
	} else if (retry != NULL && strcasecmp(retry, "false") == 0 && f->remedy == FAULT_AGAIN) {
		f->remedy = FAULT_NEXT;
	}
}

void
fault_event(struct fault *f, json_object *error)
{
	struct error_text text = { 0 };
	int		 status = status_of(error);

	/* Without a status it is most likely the server's own trouble, worth one more try. */
	if (retry_status(status))
		fault_set(f, FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, "error_event");
	else
		fault_set(f, FAIL_MODEL_ERROR, status == 0 ? FAULT_AGAIN : FAULT_NEXT, "error_event");
	f->status = status;
	text_of(error, &text);
	f->wait_ms = retry_body(error);
	judge(f, &text);
}

json_object *
fault_find(json_object *event)
{
	json_object	*error, *detail = NULL;
	const char	*type;

	if (json_object_is_type(event, json_type_array))
		event = json_object_array_length(event) > 0 ? json_object_array_get_idx(event, 0) : NULL;
	if (!json_object_is_type(event, json_type_object))
		return NULL;
	if (json_object_object_get_ex(event, "error", &error))
		switch (json_object_get_type(error)) {
		case json_type_string:
			return json_object_get_string_len(error) > 0 ? error : NULL;
		case json_type_object:
		case json_type_array:
			return error;
		case json_type_boolean:
			return json_object_get_boolean(error) ? event : NULL;
		default:
			break;
		}
	/* {"object":"error","message":…} of older vLLM, {"type":"error"}, {"detail":…} of its framework; null says nothing. */
	(void)json_object_object_get_ex(event, "detail", &detail);
	type = json_text_or_null(event, "object");
	if (type == NULL)
		type = json_text_or_null(event, "type");
	if ((type != NULL && strcmp(type, "error") == 0) ||
	    (!json_object_object_get_ex(event, "choices", NULL) &&
	    (detail != NULL || json_text_or_null(event, "message") != NULL)))
		return event;
	return NULL;
}

static void
text_of(json_object *error, struct error_text *t)
{
	int64_t	 n;

	if (json_object_is_type(error, json_type_string)) {
		t->message = json_object_get_string(error);
		return;
	}
	t->message = json_text_or_null(error, "message");
	if (t->message == NULL)
		t->message = json_text_or_null(error, "detail");
	t->type = json_text_or_null(error, "type");
	if (t->type == NULL)
		t->type = json_text_or_null(error, "status");
	t->code = json_text_or_null(error, "code");
	if (t->code == NULL && json_get_int(error, "code", &n) == JSON_GOT) {
		snprintf(t->number, sizeof t->number, "%lld", (long long)n);
		t->code = t->number;
	}
}

/* The kinds that need another remedy than their status alone would get. */
static void
judge(struct fault *f, const struct error_text *t)
{
	words_put(f, t->type, t->code);
	if (says(t, overflow_words, COUNT(overflow_words)) ? f->status != 429 : f->status == 413) {
		f->code = FAIL_CONTEXT_TOO_LONG;
		f->remedy = FAULT_CUT;
		f->reason = "context_too_long";
	} else if (f->status != 429 && says(t, tools_words, COUNT(tools_words))) {
		f->code = FAIL_MODEL_ERROR;
		f->remedy = FAULT_NEXT;
		f->reason = "tools_refused";
	} else if (has(t->code, "conversation_locked") || has(t->type, "conversation_locked")) {
		f->code = FAIL_MODEL_UNAVAILABLE;
		f->remedy = FAULT_AGAIN;
		f->reason = "conversation_locked";
	} else if (has(t->code, "insufficient_quota") || has(t->type, "insufficient_quota")) {
		/* A 429 that only money mends. */
		f->code = FAIL_MODEL_UNAVAILABLE;
		f->remedy = FAULT_NEXT;
		f->reason = "quota_used_up";
	} else if (f->status == 0 && (has(t->code, "rate_limit") || has(t->type, "rate_limit") ||
	    has(t->type, "overloaded") || has(t->code, "overloaded"))) {
		f->code = FAIL_MODEL_UNAVAILABLE;
		f->remedy = FAULT_AGAIN;
	}
}

static bool
says(const struct error_text *t, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (has(t->message, words[i]) || has(t->code, words[i]) || has(t->type, words[i]))
			return true;
	return false;
}

static bool
has(const char *text, const char *word)
{
	return text != NULL && strcasestr(text, word) != NULL;
}

/* Only what looks like an identifier: a provider's free text must not reach the log. */
static void
words_put(struct fault *f, const char *type, const char *code)
{
	const char	*parts[] = { type, code };
	size_t		 n = 0;

	for (int i = 0; i < 2; i++) {
		size_t	 k = parts[i] != NULL ? strlen(parts[i]) : 0;

		if (k == 0 || k > 64 || strspn(parts[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		    "0123456789_.-") != k)
			continue;
		n += (size_t)snprintf(f->words + n, sizeof f->words - n, "%s%s", n > 0 ? "/" : "", parts[i]);
	}
}

/* The status an error event speaks of: OpenRouter, vLLM and llama.cpp put it in `code`. */
static int
status_of(json_object *error)
{
	static const char *const keys[] = { "code", "status", "status_code" };
	const char	*text;
	int64_t		 n;

	for (size_t i = 0; i < COUNT(keys); i++) {
		if (json_get_int(error, keys[i], &n) == JSON_GOT && n >= 400 && n <= 599)
			return (int)n;
		text = json_text_or_null(error, keys[i]);
		if (text != NULL && strlen(text) == 3 && strspn(text, "0123456789") == 3 &&
		    (text[0] == '4' || text[0] == '5'))
			return (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
	}
	return 0;
}
