/*
 * Which task is meant?  By number, by place in a list, by "it", by title or a
 * part of it; several at once where the text names several.
 */
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/run.h"
#include "demo/words.h"
#include "io/json.h"

#define OFFER_MAX	20	/* lines that a person reads */
#define NO_TASKS	"You have no tasks yet. Say \"add task: Buy milk\" to make one."

static bool	 find_number(struct run *, const struct command *, struct tasks *, int *nth);
static enum went find_nth(struct run *, const struct command *, int, struct tasks *);
static enum went find_all(struct run *, const struct command *, const char *, struct tasks *);
static enum went find_title(struct run *, const struct command *, struct tasks *);
static void	 title_match(struct run *, const struct command *, const char *, struct tasks *);
static const char *lead_cut(const char *);
static const char *trail_cut(struct arena *, const char *);
static bool	 find_parts(struct run *, const struct command *, struct tasks *);
static enum went find_offer(struct run *, const struct command *, const struct tasks *, const char *);
static void	 tasks_one(struct run *, struct tasks *, struct task);
static const char *last_shown(struct run *);

enum went
find_tasks(struct run *r, const struct command *c, struct tasks *found)
{
	const char	*what = words_bare(r->arena, c->what);
	json_object	*last;
	enum went	 went;
	int		 nth = 0;

	if (find_number(r, c, found, &nth))
		return WENT_ON;
	if (nth != 0)
		return find_nth(r, c, nth, found);
	if (text_is_it(r->grammar, what)) {
		if (r->last.id == 0 && (last = talk_last_task(r->talk)) != NULL) {
			(void)json_get_int(last, "task_id", &r->last.id);
			r->last.title = json_text_or_null(last, "title");
		}
		if (r->last.id != 0) {
			tasks_one(r, found, r->last);
			return WENT_ON;
		}
	}
	if ((went = run_list(r)) != WENT_ON)
		return went;
	if (*what == '\0' || text_is_it(r->grammar, what))
		return find_offer(r, c, &r->tasks, NULL);
	if (c->kind != CMD_RENAME && c->kind != CMD_DESCRIBE && text_is_all(r->grammar, what))
		return find_all(r, c, what, found);
	return find_title(r, c, found);
}

/* "task 3" is an id; "3" means the list that was shown last, and an id where it has no third line. */
static bool
find_number(struct run *r, const struct command *c, struct tasks *found, int *nth)
{
	const char	*shown;
	int		 n;

	switch (text_ordinal(r->grammar, r->arena, words_bare(r->arena, c->what), &n)) {
	case ORDINAL_NONE:
		return false;
	case ORDINAL_PLACE:
		*nth = n;
		return false;
	case ORDINAL_NUMBER:
		shown = last_shown(r);
		if (shown != NULL && n <= shown_count(shown)) {
			*nth = n;
			return false;
		}
		break;
	case ORDINAL_ID:
		break;
	}
	tasks_one(r, found, (struct task){ .id = n });
	return true;
}

/* The nth of the list that was shown last; where none was, of the tasks as they are listed. */
static enum went
find_nth(struct run *r, const struct command *c, int nth, struct tasks *found)
{
	const char	*shown = last_shown(r), *line = NULL;
	struct task	*t = NULL;
	enum went	 went = run_list(r);
	int		 same = 0, at = 0;

	if (went != WENT_ON)
		return went;
	if (shown != NULL) {
		line = shown_line(r->arena, shown, nth, &same);
		t = line == NULL ? NULL : tasks_by_line(&r->tasks, r->arena, line, same);
	} else
		for (int i = 0; i < r->tasks.n; i++)
			if ((c->kind != CMD_COMPLETE || !r->tasks.v[i].done) && (++at == nth || nth < 0))
				t = &r->tasks.v[i];
	if (t == NULL)
		return find_missing(r, "I couldn't find that one in the list.");
	tasks_one(r, found, *t);
	return WENT_ON;
}

static enum went
find_all(struct run *r, const struct command *c, const char *what, struct tasks *found)
{
	const char	*folded = words_fold(r->arena, what);
	bool		 done = strstr(folded, "done") || strstr(folded, "completed") || strstr(folded, "finished");
	bool		 open = strstr(folded, "open") || strstr(folded, "pending") ||
	    strstr(folded, "remaining") || c->kind == CMD_COMPLETE;

	*found = (struct tasks){ .v = arena_array(r->arena, struct task, r->tasks.n) };
	for (int i = 0; i < r->tasks.n; i++)
		if ((!done || r->tasks.v[i].done) && (!open || !r->tasks.v[i].done))
			found->v[found->n++] = r->tasks.v[i];
	if (found->n > 0)
		return WENT_ON;
	run_say(r, c->kind == CMD_COMPLETE ? "There is nothing left to complete." :
	    "There are no such tasks to delete.");
	return WENT_STOP;
}

static enum went
find_title(struct run *r, const struct command *c, struct tasks *found)
{
	title_match(r, c, c->what, found);
	if (found->n == 1)
		return WENT_ON;
	if (found->n > 1)
		return find_offer(r, c, found, c->what);
	found->n = 0;
	if (c->kind != CMD_RENAME && c->kind != CMD_DESCRIBE && find_parts(r, c, found))
		return WENT_ON;
	return find_offer(r, c, &r->tasks, c->what);
}

/* As it was said, then with less and less of the words around a title. */
static void
title_match(struct run *r, const struct command *c, const char *what, struct tasks *found)
{
	bool		 pending_first = c->kind == CMD_COMPLETE;
	const char	*next;

	for (;;) {
		what = words_bare(r->arena, what);
		tasks_match(&r->tasks, r->arena, what, pending_first, found);
		if (found->n > 0)
			return;
		next = lead_cut(what);
		if (next == what)
			next = trail_cut(r->arena, what);
		if (next == what)
			return;
		what = next;
	}
}

static const char *
lead_cut(const char *text)
{
	static const char *const	 leads[] = { "the ", "my ", "a ", "an ", "task ", "todo ", "to-do ", "item ",
	    "called ", "named ", "titled ", "with the title ", "with title ", "about ", "that ", "this " };

	for (size_t i = 0; i < sizeof leads / sizeof leads[0]; i++)
		if (strncasecmp(text, leads[i], strlen(leads[i])) == 0)
			return text + strlen(leads[i]);
	return text;
}

static const char *
trail_cut(struct arena *a, const char *text)
{
	static const char *const	 trails[] = { " task", " todo", " to-do", " item", " one", " tasks",
	    " from my list", " from the list", " from my task list", " from my tasks", " from my todo list",
	    " off my list", " off the list", " on my list", " in my list", " on the list", " from list" };
	size_t				 n = strlen(text), len;

	for (size_t i = 0; i < sizeof trails / sizeof trails[0]; i++) {
		len = strlen(trails[i]);
		if (n > len && strcasecmp(text + n - len, trails[i]) == 0)
			return arena_memdup(a, text, n - len);
	}
	return text;
}

/* "milk and bread": each part must be one task. */
static bool
find_parts(struct run *r, const struct command *c, struct tasks *found)
{
	static const char *const marks[] = { " and ", ", ", " & " };
	const char		*rest = c->what, *cut, *at;
	struct tasks		 all = { .v = arena_array(r->arena, struct task, PLAN_MAX * 2) }, one;
	struct task		*t;
	size_t			 len = 0;
	bool			 ids = strncasecmp(rest, "tasks ", 6) == 0 || strncasecmp(rest, "task ", 5) == 0;
	const char		*shown = last_shown(r), *line;
	enum ordinal		 kind;
	int			 n, same;

	/* "tasks 1 and 2" are ids, "1 and 2" lines of the list. */
	if (ids)
		rest += strcspn(rest, " ") + 1;
	while (rest != NULL && all.n < PLAN_MAX * 2) {
		cut = NULL;
		for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
			if ((at = strcasestr(rest, marks[i])) != NULL && (cut == NULL || at < cut)) {
				cut = at;
				len = strlen(marks[i]);
			}
		at = cut == NULL ? rest : arena_memdup(r->arena, rest, (size_t)(cut - rest));
		rest = cut == NULL ? NULL : cut + len;
		if (strncasecmp(at, "and ", 4) == 0)
			at += 4;
		kind = text_ordinal(r->grammar, r->arena, at, &n);
		if (kind == ORDINAL_ID || (kind == ORDINAL_NUMBER && ids))
			t = tasks_by_id(&r->tasks, n);
		else if (kind != ORDINAL_NONE) {
			line = shown == NULL ? NULL : shown_line(r->arena, shown, n, &same);
			t = line == NULL ? NULL : tasks_by_line(&r->tasks, r->arena, line, same);
		} else {
			title_match(r, c, at, &one);
			t = one.n == 1 ? one.v : NULL;
		}
		if (t == NULL)
			return false;
		all.v[all.n++] = *t;
	}
	*found = all;
	return rest == NULL && all.n > 1;
}

/*
 * Several match, or none does, or none was named: a numbered list, and the question.
 * Those that match are a list of their own, all there are is r->tasks.
 */
static enum went
find_offer(struct run *r, const struct command *c, const struct tasks *from, const char *what)
{
	struct tasks	 some = { .v = arena_array(r->arena, struct task, from->n) };
	bool		 all = from == &r->tasks;

	for (int i = 0; i < from->n && some.n < OFFER_MAX; i++)
		if (!all || c->kind != CMD_COMPLETE || !from->v[i].done)
			some.v[some.n++] = from->v[i];
	if (all && what != NULL)
		run_say(r, "I couldn't find a task that matches \"%s\".", words_line(r->arena, what));
	else if (!all)
		run_say(r, "I found %d tasks that match \"%s\":", from->n, words_line(r->arena, what));
	if (some.n == 0) {
		run_say(r, from->n == 0 ? NO_TASKS : "There is nothing left to complete.");
		return WENT_STOP;
	}
	if (all)
		run_say(r, "These are your %stasks:", some.n < OFFER_MAX && !from->cut ? "" : "newest ");
	tasks_show(r->out, &some, true, false);
	run_say(r, ASK_WHICH "%s Reply with the number or the title.", which_words(r->arena, c));
	return WENT_STOP;
}

const char *
which_words(struct arena *a, const struct command *c)
{
	switch (c->kind) {
	case CMD_COMPLETE:
		return WHICH_COMPLETE;
	case CMD_DELETE:
		return WHICH_DELETE;
	case CMD_DESCRIBE:
		return arena_printf(a, WHICH_DESCRIBE "%s\"?", words_line(a, c->to));
	default:
		return *c->to == '\0' ? WHICH_RENAME :
		    arena_printf(a, WHICH_RENAME_TO "%s\"?", words_line(a, c->to));
	}
}

enum went
find_missing(struct run *r, const char *what)
{
	struct tasks	 some;
	enum went	 went = run_list(r);

	if (went == WENT_CALL)
		return went;
	run_say(r, "%s", what);
	if (went != WENT_ON)
		return went;
	some = r->tasks;
	if (some.n > OFFER_MAX)
		some.n = OFFER_MAX;
	if (some.n == 0)
		buf_str(r->out, " " NO_TASKS);
	else if (some.n < r->tasks.n || r->tasks.cut)
		buf_printf(r->out, " These are your newest %d tasks:", some.n);
	else
		buf_str(r->out, some.n == 1 ? " You have this task:" : " You have these tasks:");
	tasks_show(r->out, &some, true, false);
	return WENT_STOP;
}

static void
tasks_one(struct run *r, struct tasks *found, struct task t)
{
	struct task	*known = r->listed ? tasks_by_id(&r->tasks, t.id) : NULL;

	*found = (struct tasks){ .v = arena_new(r->arena, struct task), .n = 1 };
	found->v[0] = known != NULL ? *known : t;
	if (found->v[0].title == NULL)
		found->v[0].title = "";
	if (found->v[0].description == NULL)
		found->v[0].description = "";
}

/* The newest of the assistant's texts with a list in it; NULL: there is none. */
static const char *
last_shown(struct run *r)
{
	if (shown_count(buf_text(r->out)) > 0)
		return arena_strdup(r->arena, buf_text(r->out));
	for (int i = r->talk->at - 1; i >= 0; i--)
		if (strcmp(talk_role(r->talk, i), "assistant") == 0 &&
		    shown_count(talk_text(r->talk, i)) > 0)
			return talk_text(r->talk, i);
	return NULL;
}
