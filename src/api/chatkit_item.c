#include "api/chatkit_item.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/body.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "base/uuid.h"
#include "io/json.h"

/* Of arguments and results a person is shown so much (bytes); the whole is in the conversation. */
#define SHORT		240

static const char *const prefixes[] = {
	[ITEM_TEXT] = "",
	[ITEM_CALLS] = "wf_",
	[ITEM_ASK] = "ask_",
	[ITEM_ASKED] = "did_",
};

/* The items as they are found: behind one another, as are their calls. */
struct list {
	struct item		*items;
	int			 n;
	const struct call	**calls;	/* the next free place */
	struct item		*flow;		/* the open workflow; NULL: none */
};

/* -- which items there are -- */

void
item_id_write(char out[ITEM_ID], const char *message_id, enum item_kind kind)
{
	(void)snprintf(out, ITEM_ID, "%s%s", prefixes[kind], message_id);
}

bool
item_id_read(const char *text, char message_id[UUID_TEXT], enum item_kind *kind)
{
	for (*kind = ITEM_ASKED; *kind > ITEM_TEXT; --*kind)
		if (strncmp(text, prefixes[*kind], strlen(prefixes[*kind])) == 0)
			break;
	return uuid_parse(text + strlen(prefixes[*kind]), message_id);
}

static struct item *
item_add(struct list *l, enum item_kind kind, const struct message *m)
{
	struct item	*item = &l->items[l->n++];

	*item = (struct item){ .kind = kind, .m = m, .calls = l->calls };
	item_id_write(item->id, m->id, kind);
	return item;
}

static void
add_call(struct list *l, struct item *item, const struct call *c)
{
	*l->calls++ = c;
	item->ncalls++;
}

/* Those of a message that nobody had to be asked about, or those that somebody had. */
static void
add_calls(struct list *l, const struct message *m, bool asked)
{
	for (int i = 0; i < m->ncalls; i++) {
		if ((m->calls[i].approval != NULL) != asked)
			continue;
		if (l->flow == NULL)
			l->flow = item_add(l, asked ? ITEM_ASKED : ITEM_CALLS, m);
		add_call(l, l->flow, &m->calls[i]);
	}
}

/* The questions of a message; false: there are none, or not all are answered. */
static bool
add_questions(struct list *l, const struct message *m)
{
	struct item	*item = NULL;
	bool		 answered = true;

	for (int i = 0; i < m->ncalls; i++) {
		const struct call	*c = &m->calls[i];

		answered &= !call_waits(c);
		/* One that is needed will be asked in a moment, or never was before the turn ended. */
		if (c->approval == NULL || c->question == NULL)
			continue;
		if (item == NULL)
			item = item_add(l, ITEM_ASK, m);
		add_call(l, item, c);
		l->flow = NULL;
	}
	return answered;
}

int
items_of(struct arena *a, const struct message *messages, int n, struct item **items)
{
	struct list	 l = { 0 };
	int		 ncalls = 0;

	for (int i = 0; i < n; i++)
		ncalls += messages[i].ncalls;
	l.calls = arena_array(a, const struct call *, 2 * ncalls);
	*items = l.items = arena_array(a, struct item, 4 * n);

	for (int i = 0; i < n; i++) {
		const struct message	*m = &messages[i];

		if (m->role == ROLE_USER || !text_is_blank(m->content)) {
			(void)item_add(&l, ITEM_TEXT, m);
			l.flow = NULL;
		}
		add_calls(&l, m, false);
		if (add_questions(&l, m))
			add_calls(&l, m, true);
	}
	return l.n;
}

bool
item_is_over(const struct item *item)
{
	for (int i = 0; i < item->ncalls; i++)
		if (item->calls[i]->result == NULL)
			return false;
	return true;
}

bool
text_is_blank(const char *text)
{
	size_t	 n = strlen(text);

	utf8_trim(&text, &n);
	return n == 0;
}

/* -- their JSON -- */

static void
put_head(struct buf *b, const char *id, const char *thread_id, const char *created_at, const char *type)
{
	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, id);
	jw_key(b, "thread_id"), jw_string(b, thread_id);
	jw_key(b, "created_at");
	if (created_at != NULL)
		jw_string(b, created_at);
	else
		body_put_now(b);
	jw_key(b, "type"), jw_string(b, type);
}

static void
put_empty(struct buf *b, const char *key, const char *brackets)
{
	jw_key(b, key);
	jw_open(b, brackets[0]);
	jw_close(b, brackets[1]);
}

static void
put_user(struct buf *b, const struct message *m)
{
	jw_key(b, "content");
	jw_open(b, '[');
	jw_open(b, '{');
	jw_key(b, "type"), jw_string(b, "input_text");
	jw_key(b, "text"), jw_string(b, m->content);
	jw_close(b, '}');
	jw_close(b, ']');
	put_empty(b, "attachments", "[]");
	put_empty(b, "inference_options", "{}");
}

void
item_put_part(struct buf *b, const char *text)
{
	jw_open(b, '{');
	jw_key(b, "type"), jw_string(b, "output_text");
	jw_key(b, "text"), jw_string(b, text);
	put_empty(b, "annotations", "[]");
	jw_close(b, '}');
}

void
item_put_begun(struct buf *b, const char *id, const char *thread_id)
{
	put_head(b, id, thread_id, NULL, "assistant_message");
	put_empty(b, "content", "[]");
	jw_close(b, '}');
}

/* A name of a program's as a person would write it: "Add task". */
static const char *
label(char *out, size_t size, const char *name)
{
	(void)snprintf(out, size, "%s", name);
	out[utf8_whole(out, strlen(out))] = '\0';
	for (char *p = out; *p != '\0'; p++)
		if (*p == '_')
			*p = ' ';
	out[0] = (char)toupper((unsigned char)out[0]);
	return out;
}

static void
put_short(struct buf *b, const char *text)
{
	char	 part[SHORT + 8];
	size_t	 n = strlen(text);

	if (n <= SHORT) {
		jw_string(b, text);
		return;
	}
	memcpy(part, text, SHORT);
	n = utf8_whole(part, SHORT);
	(void)snprintf(part + n, sizeof part - n, "…");
	jw_string(b, part);
}

/* What a tool says went wrong, where it says so in the way that ours do: {"error": "…"}. */
static void
put_reason(struct buf *b, const char *result)
{
	json_object	*o = json_read_any(result, strlen(result));
	const char	*text = json_text_or_null(o, "error");

	put_short(b, text != NULL ? text : result);
	json_object_put(o);
}

void
item_put_task(struct buf *b, const struct call *c, bool ended)
{
	char		 title[80], words[100];
	bool		 failed = c->is_error || (c->result == NULL && ended);
	bool		 refused = failed && c->approval != NULL && strcmp(c->approval, "approved") != 0;

	label(title, sizeof title, c->tool_name);
	(void)snprintf(words, sizeof words, "%s%s", title, refused ? " not done" : failed ? " failed" : "");
	jw_open(b, '{');
	jw_key(b, "type"), jw_string(b, "custom");
	jw_key(b, "title"), jw_string(b, words);
	jw_key(b, "icon"), jw_string(b, failed ? "info" : "square-code");
	jw_key(b, "content");
	if (c->result == NULL)
		put_short(b, c->parameters);
	else if (failed)
		put_reason(b, c->result);
	else
		put_short(b, c->result);
	jw_key(b, "status_indicator");
	jw_string(b, failed ? "none" : c->result != NULL ? "complete" : "loading");
	jw_close(b, '}');
}

static void
put_workflow(struct buf *b, const struct item *item, bool ended)
{
	int64_t	 ms = 0;

	jw_key(b, "workflow");
	jw_open(b, '{');
	jw_key(b, "type"), jw_string(b, "custom");
	jw_key(b, "tasks");
	jw_open(b, '[');
	for (int i = 0; i < item->ncalls; i++) {
		item_put_task(b, item->calls[i], ended);
		ms += item->calls[i]->duration_ms;
	}
	jw_close(b, ']');
	if (ended || item_is_over(item)) {
		jw_key(b, "summary");
		jw_open(b, '{');
		jw_key(b, "duration"), jw_int(b, (ms + 999) / 1000);
		jw_close(b, '}');
	}
	jw_key(b, "expanded"), jw_bool(b, false);
	jw_close(b, '}');
}

/* What was said to a question; NULL: it was never answered. */
static const char *
answer_of(const struct call *c)
{
	return strcmp(c->approval, "approved") == 0 ? ITEM_YES : strcmp(c->approval, "denied") == 0 ? ITEM_NO : NULL;
}

static void
put_question(struct buf *b, const struct call *c)
{
	const char	*answer = answer_of(c);

	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, c->id);
	jw_key(b, "type"), jw_string(b, "multiple_choice");
	jw_key(b, "question"), jw_string(b, c->question);
	jw_key(b, "options"), jw_raw(b, "[{\"value\":\"" ITEM_YES "\"},{\"value\":\"" ITEM_NO "\"}]");
	jw_key(b, "multiple"), jw_bool(b, false);
	if (!call_waits(c)) {
		jw_key(b, "answer");
		jw_open(b, '{');
		jw_key(b, "values");
		jw_open(b, '[');
		if (answer != NULL)
			jw_string(b, answer);
		jw_close(b, ']');
		jw_key(b, "skipped"), jw_bool(b, answer == NULL);
		jw_close(b, '}');
	}
	jw_close(b, '}');
}

static void
put_questions(struct buf *b, const struct item *item)
{
	const char	*status = "skipped";

	for (int i = 0; i < item->ncalls; i++)
		if (answer_of(item->calls[i]) != NULL)
			status = "answered";
	for (int i = 0; i < item->ncalls; i++)
		if (call_waits(item->calls[i]))
			status = "pending";
	jw_key(b, "status"), jw_string(b, status);
	jw_key(b, "inputs");
	jw_open(b, '[');
	for (int i = 0; i < item->ncalls; i++)
		put_question(b, item->calls[i]);
	jw_close(b, ']');
}

static const char *
item_type(const struct item *item)
{
	switch (item->kind) {
	case ITEM_CALLS:
	case ITEM_ASKED:
		return "workflow";
	case ITEM_ASK:
		return "structured_input";
	case ITEM_TEXT:
		break;
	}
	return item->m->role == ROLE_USER ? "user_message" : "assistant_message";
}

void
item_put(struct buf *b, const struct item *item, const char *thread_id, bool ended)
{
	const struct message	*m = item->m;

	put_head(b, item->id, thread_id, m->created_at, item_type(item));
	if (item->kind == ITEM_ASK)
		put_questions(b, item);
	else if (item->kind != ITEM_TEXT)
		put_workflow(b, item, ended);
	else if (m->role == ROLE_USER)
		put_user(b, m);
	else {
		jw_key(b, "content");
		jw_open(b, '[');
		item_put_part(b, m->content);
		jw_close(b, ']');
	}
	jw_close(b, '}');
}
