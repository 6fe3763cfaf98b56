#include "model/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/linkhash.h>

#include "base/arena.h"
#include "base/utf8.h"
#include "io/json.h"
#include "model/client.h"
#include "model/mend.h"
#include "model/piece.h"

#define NAME_MAX_BYTES	200	/* of a model */

static bool	 is_over(const struct wire *);
static bool	 piece(struct wire *, const char *, size_t);
static int	 part(struct wire *, json_object *, bool mended);
static int	 choice(struct wire *, json_object *, bool mended);
static int	 delta(struct wire *, json_object *, bool mended);
static void	 content(struct wire *, json_object *, bool mended);
static void	 words(struct text *, const char *, bool mended);
static void	 reasoning(struct wire *, json_object *, bool mended);
static void	 details(struct wire *, json_object *);
static bool	 details_join(json_object *last, json_object *);
static int	 legacy_call(struct wire *, json_object *, bool mended);
static void	 usage(struct wire *, json_object *);
static void	 tokens(struct wire *, int64_t in, int64_t out);
static void	 name(struct wire *, struct span);
static int	 fail(struct wire *, enum fail, enum fault_remedy, const char *reason);
static const char *raw(struct wire *, struct arena *, const struct call *, int);

void
wire_open(struct wire *w, size_t max)
{
	memset(w, 0, sizeof *w);
	w->max = max;
	w->input_tokens = w->output_tokens = -1;
}

void
wire_close(struct wire *w)
{
	text_free(&w->content);
	text_free(&w->reasoning);
	calls_free(&w->calls);
	buf_free(&w->model);
	json_object_put(w->details);
	free(w->extra);
	w->details = NULL;
	w->extra = NULL;
}

int
wire_event(struct wire *w, const char *type, const char *data, size_t n)
{
	json_object	*o;
	bool		 mended;
	int		 got;

	utf8_trim(&data, &n);
	if (n == 0)
		return 0;
	if (n == 6 && memcmp(data, "[DONE]", 6) == 0) {
		w->done = true;
		return 0;
	}
	if (*type == '\0' && piece(w, data, n))
		return is_over(w) ? fail(w, FAIL_MODEL_ERROR, FAULT_NEXT, "answer_too_large") : 0;
	if ((o = mend_read(data, n, &mended)) == NULL)
		return fail(w, FAIL_MODEL_ERROR, FAULT_NEXT, "no_json");
	if (strcmp(type, "error") == 0) {
		fault_event(&w->fault, fault_find(o) != NULL ? fault_find(o) : o);
		got = -1;
	} else {
		got = part(w, o, mended);
	}
	json_object_put(o);
	return got;
}

int
wire_body(struct wire *w, const char *body, size_t n)
{
	int	 got = wire_event(w, "", body, n);

	/* It came to its end: a finish reason is good to have, and not needed. */
	w->done = true;
	return got;
}

bool
wire_complete(const struct wire *w)
{
	return w->finish[0] != '\0' || w->done;
}

int
wire_end(struct wire *w)
{
	const char	*s;
	size_t		 n;

	text_end(&w->content);
	text_end(&w->reasoning);
	if (w->fault.code != FAIL_NONE)
		return -1;
	if (strcmp(w->finish, "error") == 0)
		return fail(w, FAIL_MODEL_ERROR, FAULT_AGAIN, "finish_error");
	if (!wire_complete(w))
		return fail(w, FAIL_MODEL_ERROR, FAULT_AGAIN, "broken_off");
	s = buf_text(&w->content.b);
	n = w->content.b.n;
	utf8_trim(&s, &n);
	for (int i = 0; i < w->calls.n; i++)
		n += w->calls.v[i].name.n;
	if (n == 0 && strcmp(w->finish, "content_filter") == 0)
		return fail(w, FAIL_MODEL_ERROR, FAULT_NEXT, "content_filter");
	if (n == 0)
		return fail(w, FAIL_MODEL_ERROR, FAULT_ONCE, "empty_answer");
	return 0;
}

void
wire_answer(struct wire *w, struct arena *a, struct answer *to)
{
	bool	 length = strcmp(w->finish, "length") == 0;

	to->content = arena_memdup(a, buf_text(&w->content.b), w->content.whole);
	to->calls = calls_done(&w->calls, a, length, &to->ncalls);
	to->raw = raw(w, a, to->calls, to->ncalls);
	to->model_name = w->model.n > 0 ? arena_strdup(a, w->model.p) : NULL;
	to->refusal = w->refusal;
	to->cut = length || strcmp(w->finish, "content_filter") == 0;
	to->input_tokens = w->input_tokens;
	to->output_tokens = w->output_tokens;
}

/* More than is taken of one answer, whatever it consists of. */
static bool
is_over(const struct wire *w)
{
	return w->content.b.n + w->calls.size + w->calls.beside > w->max;
}

/* Most events of an answer need no tree. */
static bool
piece(struct wire *w, const char *data, size_t n)
{
	struct piece	 p = { .text.p = NULL };
	bool		 got = json_valid(data, n, NULL) && piece_read(&p, data);

	if (got) {
		name(w, p.model);
		if (p.text.n > 0)
			text_add(&w->content, p.text.p, p.text.n);
		if (p.finish.n > 0)
			snprintf(w->finish, sizeof w->finish, "%.*s", (int)p.finish.n, p.finish.p);
		tokens(w, p.input_tokens, p.output_tokens);
	}
	piece_free(&p);
	return got;
}

/* One event's object, or a whole completion. */
static int
part(struct wire *w, json_object *o, bool mended)
{
	json_object	*list, *error = fault_find(o), *use;
	const char	*model;

	if (error != NULL) {
		fault_event(&w->fault, error);
		return -1;
	}
	if (!json_object_is_type(o, json_type_object))
		return fail(w, FAIL_MODEL_ERROR, FAULT_NEXT, "no_object");
	model = json_text_or_null(o, "model");
	if (model != NULL)
		name(w, (struct span){ model, strlen(model) });
	if (json_get_object(o, "usage", &use) == JSON_GOT)
		usage(w, use);
	if (json_get_array(o, "choices", &list) != JSON_GOT)
		return 0;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (choice(w, json_object_array_get_idx(list, i), mended) < 0)
			return -1;
	return 0;
}

static int
choice(struct wire *w, json_object *o, bool mended)
{
	json_object	*message, *error;
	const char	*finish;
	int64_t		 index;

	/* One answer was asked for; others are not ours. */
	if (json_get_int(o, "index", &index) == JSON_GOT && index != 0)
		return 0;
	if (json_get_object(o, "error", &error) == JSON_GOT) {
		fault_event(&w->fault, error);
		return -1;
	}
	finish = json_text_or_null(o, "finish_reason");
	if (finish != NULL && *finish != '\0')
		snprintf(w->finish, sizeof w->finish, "%s", finish);
	/* NOLINTNEXTLINE(bugprone-branch-clone): delta() has done its work by then */
	if (json_get_object(o, "delta", &message) == JSON_GOT) {
		if (delta(w, message, mended) < 0)
			return -1;
	} else if (json_get_object(o, "message", &message) == JSON_GOT &&
	    w->content.b.n == 0 && w->calls.n == 0) {
		/* A whole message after deltas only repeats them. */
		if (delta(w, message, mended) < 0)
			return -1;
	}
	if (is_over(w))
		return fail(w, FAIL_MODEL_ERROR, FAULT_NEXT, "answer_too_large");
	return 0;
}

/* A delta of a stream or the message of a whole answer: the same fields. */
static int
delta(struct wire *w, json_object *o, bool mended)
{
	json_object	*member;
	const char	*text;

	if (json_object_object_get_ex(o, "content", &member))
		content(w, member, mended);
	text = json_text_or_null(o, "refusal");
	if (text != NULL && *text != '\0') {
		words(&w->content, text, mended);
		w->refusal = true;
	}
	reasoning(w, o, mended);
	if (json_get_object(o, "extra_content", &member) == JSON_GOT) {
		free(w->extra);
		if ((w->extra = strdup(json_text(member))) == NULL)
			abort();
		w->calls.beside += strlen(w->extra);
	}
	if (json_object_object_get_ex(o, "tool_calls", &member) && member != NULL &&
	    calls_take(&w->calls, member, mended) < 0)
		return fail(w, FAIL_MODEL_ERROR, FAULT_NEXT, "too_many_calls");
	if (json_get_object(o, "function_call", &member) == JSON_GOT)
		return legacy_call(w, member, mended);
	return 0;
}

/* Text, or a list of parts of which some are text. */
static void
content(struct wire *w, json_object *o, bool mended)
{
	const char	*text, *type;

	if (json_object_is_type(o, json_type_string)) {
		words(&w->content, json_object_get_string(o), mended);
		return;
	}
	if (!json_object_is_type(o, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(o); i++) {
		json_object	*p = json_object_array_get_idx(o, i);

		if (json_object_is_type(p, json_type_string)) {
			words(&w->content, json_object_get_string(p), mended);
			continue;
		}
		type = json_text_or_null(p, "type");
		text = json_text_or_null(p, "text");
		if (text != NULL && (type == NULL || strcmp(type, "text") == 0))
			words(&w->content, text, mended);
	}
}

static void
words(struct text *t, const char *s, bool mended)
{
	if (mended)
		text_add_mended(t, s, strlen(s));
	else
		text_add(t, s, strlen(s));
}

/* Under the name by which it came first: some servers send it under both. */
static void
reasoning(struct wire *w, json_object *o, bool mended)
{
	static const char *const keys[] = { "reasoning_content", "reasoning" };
	json_object	*list;
	const char	*text;

	for (int i = 0; i < 2; i++) {
		text = json_text_or_null(o, keys[i]);
		if (text == NULL || *text == '\0' ||
		    (w->reasoning_key != NULL && w->reasoning_key != keys[i]))
			continue;
		w->reasoning_key = keys[i];
		if (w->reasoning.b.n + strlen(text) <= REASONING_MAX)
			words(&w->reasoning, text, mended);
	}
	if (json_get_array(o, "reasoning_details", &list) == JSON_GOT)
		for (size_t i = 0; i < json_object_array_length(list); i++)
			details(w, json_object_array_get_idx(list, i));
}

/* The list must go back as a whole: fragments of one entry are joined, others appended. */
static void
details(struct wire *w, json_object *o)
{
	size_t		 n;

	if (!json_object_is_type(o, json_type_object))
		return;
	w->ndetails += strlen(json_text(o));
	if (w->ndetails > REASONING_MAX)
		return;
	if (w->details == NULL)
		w->details = json_object_new_array();
	n = json_object_array_length(w->details);
	if (n == 0 || !details_join(json_object_array_get_idx(w->details, n - 1), o))
		json_object_array_add(w->details, json_object_get(o));
}

static bool
details_join(json_object *last, json_object *o)
{
	const char	*type = json_text_or_null(o, "type"), *had = json_text_or_null(last, "type");
	int64_t		 a, b;

	if (type == NULL || had == NULL || strcmp(type, had) != 0 ||
	    json_get_int(last, "index", &a) != JSON_GOT || json_get_int(o, "index", &b) != JSON_GOT || a != b)
		return false;
	json_object_object_foreach(o, key, value) {
		const char	*old = json_text_or_null(last, key);
		struct buf	 both = { 0 };

		if (value == NULL)
			continue;
		if (old == NULL || !json_object_is_type(value, json_type_string) ||
		    (strcmp(key, "text") != 0 && strcmp(key, "summary") != 0)) {
			json_object_object_add(last, key, json_object_get(value));
			continue;
		}
		buf_str(&both, old);
		buf_str(&both, json_object_get_string(value));
		json_object_object_add(last, key, json_object_new_string_len(both.p, (int)both.n));
		buf_free(&both);
	}
	return true;
}

/* function_call, the form before tool_calls: one call, without an id. */
static int
legacy_call(struct wire *w, json_object *function, bool mended)
{
	json_object	*one = json_object_new_object();
	int		 got;

	json_object_object_add(one, "index", json_object_new_int(0));
	json_object_object_add(one, "function", json_object_get(function));
	got = calls_take(&w->calls, one, mended);
	json_object_put(one);
	return got < 0 ? fail(w, FAIL_MODEL_ERROR, FAULT_NEXT, "too_many_calls") : 0;
}

static void
usage(struct wire *w, json_object *o)
{
	int64_t	 in = -1, out = -1;

	(void)json_get_int(o, "prompt_tokens", &in);
	(void)json_get_int(o, "completion_tokens", &out);
	tokens(w, in, out);
}

static void
tokens(struct wire *w, int64_t in, int64_t out)
{
	if (in > 0)
		w->input_tokens = in;
	if (out >= 0)
		w->output_tokens = out;
}

/* Of the model, as the server's first event that has it says. */
static void
name(struct wire *w, struct span model)
{
	if (w->model.n == 0 && model.n > 0 && model.n <= NAME_MAX_BYTES)
		buf_add(&w->model, model.p, model.n);
}

static int
fail(struct wire *w, enum fail code, enum fault_remedy remedy, const char *reason)
{
	fault_set(&w->fault, code, remedy, reason);
	return -1;
}

/* The message as received, which is what a strict server wants to see again. */
static const char *
raw(struct wire *w, struct arena *a, const struct call *calls, int ncalls)
{
	struct buf	*b = buf_new(a);

	jw_open(b, '{');
	jw_key(b, "role");
	jw_string(b, "assistant");
	jw_key(b, w->refusal ? "refusal" : "content");
	if (w->content.b.n > 0)
		jw_string_n(b, w->content.b.p, w->content.whole);
	else
		jw_null(b);
	if (w->reasoning.b.n > 0) {
		jw_key(b, w->reasoning_key);
		jw_string_n(b, w->reasoning.b.p, w->reasoning.whole);
	}
	if (w->details != NULL) {
		jw_key(b, "reasoning_details");
		jw_raw(b, json_text(w->details));
	}
	if (w->extra != NULL) {
		jw_key(b, "extra_content");
		jw_raw(b, w->extra);
	}
	if (ncalls > 0)
		calls_raw(&w->calls, calls, b);
	if (w->finish[0] != '\0') {
		jw_key(b, "finish_reason");
		jw_string(b, w->finish);
	}
	jw_close(b, '}');
	return b->p;
}
