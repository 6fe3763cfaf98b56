#include "demo/talk.h"

#include <stddef.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/answer.h"
#include "io/json.h"

static bool	 is_message(const struct talk *, int);
static const char *message_check(const struct talk *, int);
static const char *calls_check(const struct talk *, int, json_object *);
static json_object *calls_of(json_object *);
static const char *result_of(const struct talk *, int, const char *);
static void	 steps_collect(struct talk *);
static json_object *message_at(const struct talk *, int);

const char *
talk_open(struct talk *t, struct arena *a, json_object *asked, struct answer *answer)
{
	const char	*why;
	int		 i, n;

	*t = (struct talk){ .arena = a, .answer = answer, .at = -1, .said = "", .before = "" };
	if (json_get_array(asked, "messages", &t->messages) != JSON_GOT)
		return "the body needs an array \"messages\"";
	(void)json_get_array(asked, "tools", &t->tools);
	n = talk_count(t);
	for (i = 0; i < n; i++) {
		if ((why = message_check(t, i)) != NULL)
			return why;
		if (is_message(t, i))
			t->at = i;
	}
	if (t->at < 0)
		return "there is no message with the role \"user\"";
	t->text = talk_text(t, t->at);

	for (i = t->at - 1; i >= 0 && *t->said == '\0'; i--)
		if (strcmp(talk_role(t, i), "assistant") == 0)
			t->said = talk_text(t, i);
		else if (is_message(t, i))
			break;
	for (i = t->at - 1; i >= 0 && *t->before == '\0'; i--)
		if (is_message(t, i))
			t->before = talk_text(t, i);
	steps_collect(t);
	return NULL;
}

/* Of the user; his word between a tool's result and the answer, a yes or a no to whoever asked him, belongs to the one before. */
static bool
is_message(const struct talk *t, int i)
{
	return strcmp(talk_role(t, i), "user") == 0 && (i == 0 || strcmp(talk_role(t, i - 1), "tool") != 0);
}

/*
 * As strict servers do: every call is followed by its result before anybody
 * else speaks, and arguments are JSON.  A client that gets away with less here
 * would fail there.
 */
static const char *
message_check(const struct talk *t, int i)
{
	const char	*role = talk_role(t, i);
	json_object	*calls = calls_of(message_at(t, i));

	if (strcmp(role, "assistant") == 0)
		return calls == NULL ? NULL : calls_check(t, i, calls);
	if (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0 || strcmp(role, "user") == 0)
		return NULL;
	if (strcmp(role, "tool") != 0)
		return arena_printf(t->arena, "messages[%d]: the role \"%s\" is unknown", i, role);
	if (json_text_or_null(message_at(t, i), "tool_call_id") == NULL)
		return arena_printf(t->arena, "messages[%d]: tool_call_id is missing", i);
	/* Back over the other results to the message that called. */
	for (int k = i - 1; k >= 0; k--)
		if (strcmp(talk_role(t, k), "tool") != 0)
			return calls_of(message_at(t, k)) != NULL ? NULL :
			    arena_printf(t->arena, "messages[%d]: a result without a call", i);
	return "a conversation cannot begin with a tool's result";
}

static const char *
calls_check(const struct talk *t, int i, json_object *calls)
{
	json_object	*call, *function;
	const char	*id, *arguments;

	for (size_t k = 0; k < json_object_array_length(calls); k++) {
		call = json_object_array_get_idx(calls, k);
		id = json_text_or_null(call, "id");
		if (id == NULL || json_get_object(call, "function", &function) != JSON_GOT)
			return arena_printf(t->arena, "messages[%d]: a call needs id and function", i);
		arguments = json_text_or_null(function, "arguments");
		if (arguments == NULL || !json_valid(arguments, strlen(arguments), NULL))
			return arena_printf(t->arena, "messages[%d]: invalid tool call arguments", i);
		if (result_of(t, i, id) == NULL)
			return arena_printf(t->arena, "messages[%d]: the call \"%s\" has no result", i, id);
	}
	return NULL;
}

static json_object *
calls_of(json_object *message)
{
	json_object	*calls;

	return json_get_array(message, "tool_calls", &calls) == JSON_GOT &&
	    json_object_array_length(calls) > 0 ? calls : NULL;
}

/* The result of a call of message i stands right behind it. */
static const char *
result_of(const struct talk *t, int i, const char *id)
{
	const char	*other;

	for (int k = i + 1; k < talk_count(t) && strcmp(talk_role(t, k), "tool") == 0; k++) {
		other = json_text_or_null(message_at(t, k), "tool_call_id");
		if (other != NULL && strcmp(other, id) == 0)
			return talk_text(t, k);
	}
	return NULL;
}

static void
steps_collect(struct talk *t)
{
	json_object	*calls, *function;
	int		 n = 0;

	for (int i = t->at + 1; i < talk_count(t); i++)
		if ((calls = calls_of(message_at(t, i))) != NULL)
			n += (int)json_object_array_length(calls);
	t->steps = arena_array(t->arena, struct talk_step, n);
	for (int i = t->at + 1; i < talk_count(t); i++) {
		if ((calls = calls_of(message_at(t, i))) == NULL)
			continue;
		for (size_t k = 0; k < json_object_array_length(calls); k++) {
			json_object	*call = json_object_array_get_idx(calls, k);

			(void)json_get_object(call, "function", &function);
			t->steps[t->nsteps++] = (struct talk_step){
				.tool = json_text_or_null(function, "name"),
				.result = result_of(t, i, json_text_or_null(call, "id"))
			};
		}
	}
}

bool
talk_has_tool(const struct talk *t, const char *name)
{
	json_object	*function;
	const char	*other;

	for (size_t i = 0; t->tools != NULL && i < json_object_array_length(t->tools); i++) {
		if (json_get_object(json_object_array_get_idx(t->tools, i), "function", &function) != JSON_GOT)
			continue;
		other = json_text_or_null(function, "name");
		if (other != NULL && strcmp(other, name) == 0)
			return true;
	}
	return false;
}

int
talk_call(struct talk *t, const char *tool, const char *arguments, struct result *r)
{
	struct answer	*a = t->answer;

	/* A step of another tool belongs to a reading of the message that no longer holds. */
	while (t->next < t->nsteps) {
		struct talk_step	*s = &t->steps[t->next++];

		if (s->tool == NULL || strcmp(s->tool, tool) != 0 || s->result == NULL)
			continue;
		*r = (struct result){ .text = s->result };
		r->json = json_read(t->arena, s->result, strlen(s->result), NULL);
		r->error = json_text_or_null(r->json, "error");
		return 0;
	}
	if (a->ncalls < ANSWER_CALLS_MAX)
		a->calls[a->ncalls++] = (struct answer_call){ tool, arguments };
	return -1;
}

const char *
talk_role(const struct talk *t, int i)
{
	const char	*role = json_text_or_null(message_at(t, i), "role");

	return role == NULL ? "" : role;
}

/* The content is a string, or an array of parts whose texts are joined. */
const char *
talk_text(const struct talk *t, int i)
{
	const char	*text = json_text_or_null(message_at(t, i), "content"), *part;
	json_object	*parts;
	struct buf	*b;

	if (text != NULL)
		return text;
	if (json_get_array(message_at(t, i), "content", &parts) != JSON_GOT)
		return "";
	b = buf_new(t->arena);
	for (size_t k = 0; k < json_object_array_length(parts); k++)
		if ((part = json_text_or_null(json_object_array_get_idx(parts, k), "text")) != NULL)
			buf_str(b, part);
	return buf_text(b);
}

int
talk_count(const struct talk *t)
{
	return (int)json_object_array_length(t->messages);
}

json_object *
talk_last_task(const struct talk *t)
{
	json_object	*json;
	const char	*text;
	int64_t		 id;

	for (int i = t->at - 1; i >= 0; i--) {
		if (strcmp(talk_role(t, i), "tool") != 0)
			continue;
		text = talk_text(t, i);
		json = json_read(t->arena, text, strlen(text), NULL);
		if (json_get_int(json, "task_id", &id) == JSON_GOT)
			return json;
	}
	return NULL;
}

static json_object *
message_at(const struct talk *t, int i)
{
	return json_object_array_get_idx(t->messages, (size_t)i);
}
