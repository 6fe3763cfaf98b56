#include "model/prompt.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/fail.h"
#include "base/utf8.h"
#include "io/json.h"

/* One assistant message on its way out. */
struct saying {
	const struct message *m;
	const char	*note;		/* what the user saw instead of an answer, NULL: nothing */
	json_object	*raw;		/* of the same model, NULL: there is none */
	bool		 live;		/* it belongs to the turn that runs */
};

/* The instructions of the configuration, as they stand in each request; quoted anew when forgotten. */
static struct {
	const char	*text;
	struct buf	 json;
} quoted;

static void	 system_message(const struct prompt *, struct buf *);
static void	 assistant(const struct prompt *, int i, const char *model, struct arena *, struct buf *);
static void	 earlier_write(const struct prompt *, const struct conf *, const char *model, struct arena *, struct buf *);
static void	 assistant_write(const struct saying *, struct buf *);
static void	 content_write(const struct message *, const char *note, struct buf *);
static void	 opaque_write(const struct saying *, struct buf *);
static void	 calls_write(const struct saying *, struct buf *);
static json_object *raw_call(json_object *raw, const struct call *, int place);
static void	 results_write(const struct message *, const struct conf *, struct buf *);
static const char *note_for(const struct prompt *, int i, struct arena *);
static bool	 last_of_turn(const struct prompt *, int i);
static void	 simple(struct buf *, const char *role, const char *content);
static size_t	 weight(const struct message *);

void
prompt_messages(const struct prompt *p, const struct conf *conf, const char *model, struct buf *b)
{
	struct arena	*a = arena_open();

	jw_open(b, '[');
	system_message(p, b);
	for (int i = p->oldest_kept; i < p->nmessages; i++) {
		const struct message	*m = &p->messages[i];

		if (m->role == ROLE_USER) {
			simple(b, "user", m->content);
			if (m->index == 0 && m->turn == p->messages[p->nmessages - 1].turn)
				earlier_write(p, conf, model, a, b);
			/* A turn that ended before it said anything has its note after the question. */
			if (note_for(p, i, a) != NULL)
				simple(b, "assistant", note_for(p, i, a));
		} else {
			assistant(p, i, model, a, b);
			results_write(m, conf, b);
			if (m->ncalls > 0 && note_for(p, i, a) != NULL)
				simple(b, "assistant", note_for(p, i, a));
		}
	}
	jw_close(b, ']');
	arena_close(&a);
}

bool
prompt_cut(struct prompt *p)
{
	size_t	 all = 0, left;
	int	 newest = p->nmessages - 1, at = p->oldest_kept;

	while (newest > at && p->messages[newest - 1].turn == p->messages[p->nmessages - 1].turn)
		newest--;
	if (newest <= at)
		return false;
	for (int i = at; i < p->nmessages; i++)
		all += weight(&p->messages[i]);
	for (left = all; at < newest && left > all / 2;) {
		int	 turn = p->messages[at].turn;

		while (at < newest && p->messages[at].turn == turn)
			left -= weight(&p->messages[at++]);
	}
	p->oldest_kept = at;
	return true;
}

/* The inside of a JSON string, quoted once for all turns: instructions are long, and of the configuration, which stays. */
static const struct buf *
instructions_quoted(const char *text)
{
	size_t	 n = strlen(text);

	if (quoted.text == text)
		return &quoted.json;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	buf_clear(&quoted.json);
	jw_string_n(&quoted.json, text, n);
	quoted.json.n--;
	buf_drop(&quoted.json, 1);
	quoted.text = text;
	return &quoted.json;
}

static void
system_message(const struct prompt *p, struct buf *b)
{
	const struct buf	*instructions = instructions_quoted(p->instructions != NULL ? p->instructions : "");

	if (instructions->n == 0 && p->local_time == NULL && p->notice == NULL)
		return;
	jw_open(b, '{');
	jw_key(b, "role"), jw_string(b, "system");
	jw_key(b, "content");
	buf_char(b, '"');
	buf_add(b, instructions->p, instructions->n);
	/* At the end, so that servers which cache the beginning of a prompt can go on doing so. (A zone's name needs no quoting.) */
	if (p->local_time != NULL)
		buf_printf(b, "%sThe user's local date and time: %s.", instructions->n > 0 ? "\\n\\n" : "", p->local_time);
	/* (A notice is of our own words.) */
	if (p->notice != NULL)
		buf_printf(b, "%s%s", instructions->n > 0 || p->local_time != NULL ? "\\n\\n" : "", p->notice);
	buf_char(b, '"');
	jw_close(b, '}');
}

/* What tools have done for this question before it was asked again: done is done, and the model has to know. */
static void
earlier_write(const struct prompt *p, const struct conf *conf, const char *model, struct arena *a, struct buf *b)
{
	struct prompt	 runs = { .messages = p->earlier, .nmessages = p->nearlier };

	for (int i = 0; i < p->nearlier; i++) {
		assistant(&runs, i, model, a, b);
		results_write(&p->earlier[i], conf, b);
	}
}

static void
assistant(const struct prompt *p, int i, const char *model, struct arena *a, struct buf *b)
{
	const struct message	*m = &p->messages[i];
	struct saying		 s = { .m = m };

	s.live = m->turn == p->messages[p->nmessages - 1].turn;
	if (m->ncalls == 0)
		s.note = note_for(p, i, a);
	/* Cut-off text counts only where it is what the user was left with; elsewhere the step was asked again. */
	if (m->interrupted && s.note == NULL)
		return;
	/* Servers refuse an assistant who neither says nor does anything. */
	if (*m->content == '\0' && m->ncalls == 0 && s.note == NULL)
		return;
	/* Most messages have nothing opaque: do not parse them to find that out. */
	if (m->raw != NULL && m->model != NULL && model != NULL && strcmp(m->model, model) == 0 &&
	    (strstr(m->raw, "\"reasoning") != NULL || strstr(m->raw, "\"extra_content\"") != NULL))
		s.raw = json_read(a, m->raw, strlen(m->raw), NULL);
	assistant_write(&s, b);
}

static void
assistant_write(const struct saying *s, struct buf *b)
{
	jw_open(b, '{');
	jw_key(b, "role");
	jw_string(b, "assistant");
	jw_key(b, "content");
	content_write(s->m, s->note, b);
	opaque_write(s, b);
	if (s->m->ncalls > 0)
		calls_write(s, b);
	jw_close(b, '}');
}

/* null only beside calls: there every server takes it, and some take nothing else. */
static void
content_write(const struct message *m, const char *note, struct buf *b)
{
	struct buf	 both = { 0 };

	if (note == NULL) {
		jw_string(b, *m->content == '\0' && m->ncalls > 0 ? NULL : m->content);
		return;
	}
	buf_str(&both, m->content);
	buf_str(&both, *m->content != '\0' ? "\n\n" : "");
	buf_str(&both, note);
	jw_string(b, both.p);
	buf_free(&both);
}

/*
 * Signed and encrypted fields must come back as they were.  Reasoning in plain text is for the turn it was
 * thought in: its server wants it between the calls of that turn, and drops or refuses it later.
 */
static void
opaque_write(const struct saying *s, struct buf *b)
{
	static const char *const always[] = { "reasoning_details", "extra_content" };
	static const char *const live[] = { "reasoning_content", "reasoning" };
	json_object	*o;

	if (!json_object_is_type(s->raw, json_type_object))
		return;
	for (int i = 0; i < 2; i++)
		if (json_object_object_get_ex(s->raw, always[i], &o) && o != NULL) {
			jw_key(b, always[i]);
			jw_raw(b, json_text(o));
		}
	for (int i = 0; i < 2 && s->live; i++)
		if (json_text_or_null(s->raw, live[i]) != NULL) {
			jw_key(b, live[i]);
			jw_string(b, json_text_or_null(s->raw, live[i]));
		}
}

static void
calls_write(const struct saying *s, struct buf *b)
{
	json_object	*from, *extra;

	jw_key(b, "tool_calls");
	jw_open(b, '[');
	for (int i = 0; i < s->m->ncalls; i++) {
		const struct call	*c = &s->m->calls[i];

		jw_open(b, '{');
		jw_key(b, "id");
		jw_string(b, c->call_id);
		jw_key(b, "type");
		jw_string(b, "function");
		jw_key(b, "function");
		jw_open(b, '{');
		jw_key(b, "name");
		jw_string(b, c->tool_name);
		jw_key(b, "arguments");
		jw_string(b, c->parameters);
		jw_close(b, '}');
		from = raw_call(s->raw, c, i);
		if (json_get_object(from, "extra_content", &extra) == JSON_GOT) {
			jw_key(b, "extra_content");
			jw_raw(b, json_text(extra));
		}
		jw_close(b, '}');
	}
	jw_close(b, ']');
}

static json_object *
raw_call(json_object *raw, const struct call *c, int place)
{
	json_object	*list, *o;
	const char	*id;

	if (json_get_array(raw, "tool_calls", &list) != JSON_GOT ||
	    (size_t)place >= json_object_array_length(list))
		return NULL;
	o = json_object_array_get_idx(list, (size_t)place);
	id = json_text_or_null(o, "id");
	return id != NULL && strcmp(id, c->call_id) == 0 ? o : NULL;
}

/* Every call has its answer, in the order of the calls, before anything else is said. */
static void
results_write(const struct message *m, const struct conf *conf, struct buf *b)
{
	for (int i = 0; i < m->ncalls; i++) {
		const struct call	*c = &m->calls[i];
		const char	*text = c->result != NULL ? c->result :
				     "{\"error\":\"The call was not carried out.\"}";
		size_t		 n = strlen(text), max = (size_t)conf->tools_max_to_model;
		struct buf	 shown = { 0 };

		jw_open(b, '{');
		jw_key(b, "role");
		jw_string(b, "tool");
		jw_key(b, "tool_call_id");
		jw_string(b, c->call_id);
		jw_key(b, "content");
		if (n <= max || max == 0) {
			jw_string(b, text);
		} else {
			max = utf8_whole(text, max);
			buf_add(&shown, text, max);
			buf_printf(&shown, " … [cut: this is the first %zu of %zu bytes]", max, n);
			jw_string(b, shown.p);
			buf_free(&shown);
		}
		jw_close(b, '}');
	}
}

/* What the user saw at the end of a turn that brought no answer; NULL anywhere else. */
static const char *
note_for(const struct prompt *p, int i, struct arena *a)
{
	const struct message	*m = &p->messages[i];

	if (!last_of_turn(p, i) || m->turn_state == NULL)
		return NULL;
	if (strcmp(m->turn_state, "cancelled") == 0 && m->error_code != NULL &&
	    strcmp(m->error_code, "approval_expired") == 0)
		return "[The question to the user was not answered in time.]";
	if (strcmp(m->turn_state, "cancelled") == 0)
		return "[The user stopped this answer.]";
	if (strcmp(m->turn_state, "failed") == 0)
		return arena_printf(a, "[This answer failed. The user was told: %s]",
		    fail_kind(fail_by_code(m->error_code))->sentence);
	return NULL;
}

static bool
last_of_turn(const struct prompt *p, int i)
{
	return i + 1 == p->nmessages || p->messages[i + 1].turn != p->messages[i].turn;
}

static void
simple(struct buf *b, const char *role, const char *content)
{
	jw_open(b, '{');
	jw_key(b, "role");
	jw_string(b, role);
	jw_key(b, "content");
	jw_string(b, content);
	jw_close(b, '}');
}

static size_t
weight(const struct message *m)
{
	size_t	 n = strlen(m->content) + 1;

	for (int i = 0; i < m->ncalls; i++)
		n += strlen(m->calls[i].parameters) +
		    (m->calls[i].result != NULL ? strlen(m->calls[i].result) : 0);
	return n;
}
