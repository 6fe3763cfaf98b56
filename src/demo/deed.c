/*
 * What can be done with tasks: one function a deed, each ends in a sentence.
 */
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/answer.h"
#include "demo/run.h"
#include "demo/words.h"
#include "io/json.h"

#define AT_ONCE	ANSWER_CALLS_MAX	/* tasks that one turn changes together */

static const char *id_arguments(struct arena *, int64_t);
static const char *result_title(struct run *, const struct result *, const char *otherwise);
static void	 task_remember(struct run *, const struct task *, const struct result *, const char *title);
static enum went one_missing(struct run *, const struct task *);
static bool	 is_missing(const struct run *, const struct result *);
static bool	 is_kept(const struct result *);
static enum went each_call(struct run *, const char *tool, const struct tasks *, struct result *);
static void	 each_say(struct run *, const char *did, const char *doing, const struct tasks *, const struct result *);

enum went
deed_add(struct run *r, const struct command *c)
{
	struct buf	*b = buf_new(r->arena);
	struct result	 result;
	enum went	 went;
	const char	*title;

	if (*c->what == '\0') {
		run_say(r, ASK_TITLE);
		return WENT_STOP;
	}
	jw_open(b, '{');
	jw_key(b, "title");
	jw_string(b, c->what);
	if (*c->to != '\0') {
		jw_key(b, "description");
		jw_string(b, c->to);
	}
	jw_close(b, '}');
	if ((went = run_call(r, "add_task", buf_text(b), &result)) != WENT_ON)
		return went;
	if (result.error != NULL) {
		explain(r, "add that task", &result);
		return WENT_STOP;
	}
	title = result_title(r, &result, c->what);
	run_say(r, "I've added \"%s\".", title);
	task_remember(r, NULL, &result, title);
	r->listed = false;
	return WENT_ON;
}

enum went
deed_show(struct run *r, const struct command *c)
{
	struct buf	*b = buf_new(r->arena);
	struct result	 result;
	struct tasks	 t;
	enum went	 went;
	const char	*kind = strcmp(c->filter, "all") == 0 ? "" : strcmp(c->filter, "pending") == 0 ?
	    "pending " : "completed ";

	jw_open(b, '{');
	jw_key(b, "status");
	jw_string(b, c->filter);
	jw_close(b, '}');
	if ((went = run_call(r, "list_tasks", buf_text(b), &result)) != WENT_ON)
		return went;
	if (result.error != NULL) {
		explain(r, "look at your tasks", &result);
		return WENT_STOP;
	}
	tasks_read(&t, r->arena, result.text, result.json);
	if (t.n == 0)
		run_say(r, "%s", *kind == '\0' ? "You have no tasks yet. Say \"add task: Buy milk\" to make one." :
		    *kind == 'p' ? "Nothing is left to do: you have no pending tasks." :
		    "You haven't completed any tasks yet.");
	else if (t.cut)
		run_say(r, "You have more %stasks than I can see at once; these are the newest %d:", kind, t.n);
	else
		run_say(r, "You have %d %s%s:", t.n, kind, t.n == 1 ? "task" : "tasks");
	tasks_show(r->out, &t, true, c->ids);
	return WENT_ON;
}

enum went
deed_complete(struct run *r, const struct tasks *t)
{
	struct tasks	 open = { .v = arena_array(r->arena, struct task, t->n) };
	struct result	 results[AT_ONCE] = { 0 };
	enum went	 went;
	const char	*title;

	if (t->n == 1 && t->v[0].done) {
		run_say(r, "\"%s\" is done already.", t->v[0].title);
		return WENT_ON;
	}
	for (int i = 0; i < t->n && open.n < AT_ONCE; i++)
		if (!t->v[i].done)
			open.v[open.n++] = t->v[i];
	if ((went = each_call(r, "complete_task", &open, results)) != WENT_ON)
		return went;
	if (open.n != 1) {
		each_say(r, "marked these tasks as done", "mark as done", &open, results);
		return WENT_ON;
	}
	if (is_missing(r, &results[0]))
		return one_missing(r, &open.v[0]);
	if (results[0].error != NULL) {
		explain(r, "mark that as done", &results[0]);
		return WENT_STOP;
	}
	title = result_title(r, &results[0], open.v[0].title);
	run_say(r, "I've marked \"%s\" as done.", title);
	task_remember(r, &open.v[0], &results[0], title);
	return WENT_ON;
}

/* At once: whoever runs the tools asks the person first, and a no comes back as the result. */
enum went
deed_delete(struct run *r, const struct tasks *t)
{
	struct result	 results[AT_ONCE] = { 0 };
	struct tasks	 some = *t;
	struct task	*known;
	enum went	 went;

	if (some.n > AT_ONCE)
		some.n = AT_ONCE;
	if ((went = run_list(r)) != WENT_ON)
		return went;
	if (some.n == 1) {
		if ((known = tasks_by_id(&r->tasks, t->v[0].id)) == NULL)
			return one_missing(r, &t->v[0]);
		some.v = known;
	}
	if ((went = each_call(r, "delete_task", &some, results)) != WENT_ON)
		return went;
	r->listed = false;
	if (some.n != 1) {
		each_say(r, "deleted these tasks", "delete", &some, results);
		return WENT_ON;
	}
	if (is_missing(r, &results[0]))
		return one_missing(r, &some.v[0]);
	if (is_kept(&results[0])) {
		run_say(r, "All right, I've kept \"%s\".", some.v[0].title);
		return WENT_ON;
	}
	if (results[0].error != NULL) {
		explain(r, "delete that task", &results[0]);
		return WENT_STOP;
	}
	run_say(r, "I've deleted \"%s\".", result_title(r, &results[0], some.v[0].title));
	return WENT_ON;
}

/* A new title or a new description. */
enum went
deed_update(struct run *r, const struct command *c, const struct task *t)
{
	bool		 rename = c->kind == CMD_RENAME;
	struct buf	*b = buf_new(r->arena);
	struct result	 result;
	json_object	*previous = NULL;
	const char	*title, *old;
	enum went	 went;

	jw_open(b, '{');
	jw_key(b, "task_id");
	jw_int(b, t->id);
	jw_key(b, rename ? "title" : "description");
	jw_string(b, c->to);
	jw_close(b, '}');
	if ((went = run_call(r, "update_task", buf_text(b), &result)) != WENT_ON)
		return went;
	if (is_missing(r, &result))
		return one_missing(r, t);
	if (result.error != NULL) {
		explain(r, rename ? "rename that task" : "change that description", &result);
		return WENT_STOP;
	}
	title = result_title(r, &result, rename ? c->to : t->title);
	(void)json_get_object(result.json, "previous", &previous);
	old = json_text_or_null(previous, "title");
	old = old != NULL ? words_line(r->arena, old) : t->title;
	if (!rename)
		run_say(r, "I've changed the description of \"%s\".", title);
	else if (*old != '\0')
		run_say(r, "I've renamed \"%s\" to \"%s\".", old, title);
	else
		run_say(r, "I've renamed it to \"%s\".", title);
	task_remember(r, t, &result, title);
	return WENT_ON;
}

static const char *
id_arguments(struct arena *a, int64_t id)
{
	return arena_printf(a, "{\"task_id\":%lld}", (long long)id);
}

static const char *
result_title(struct run *r, const struct result *result, const char *otherwise)
{
	json_object	*task = NULL;
	const char	*title = json_text_or_null(result->json, "title");

	(void)json_get_object(result->json, "task", &task);
	if (title == NULL)
		title = json_text_or_null(task, "title");
	if (title == NULL)
		title = otherwise != NULL && *otherwise != '\0' ? otherwise : "the task";
	return words_line(r->arena, title);
}

/* For "it", and for the commands that follow in the same turn. */
static void
task_remember(struct run *r, const struct task *t, const struct result *result, const char *title)
{
	struct task	*known;

	if (json_get_int(result->json, "task_id", &r->last.id) != JSON_GOT)
		r->last.id = t == NULL ? 0 : t->id;
	r->last.title = title;
	known = r->listed ? tasks_by_id(&r->tasks, r->last.id) : NULL;
	if (known != NULL) {
		const char	*status = json_text_or_null(result->json, "status");

		known->title = title;
		known->done |= status != NULL && strcmp(status, "completed") == 0;
	}
}

static bool
is_missing(const struct run *r, const struct result *result)
{
	const char	*e = result->error == NULL ? "" : words_fold(r->arena, result->error);

	return strstr(e, "no task") != NULL || strstr(e, "not found") != NULL;
}

/* The person was asked, and has not said yes. */
static bool
is_kept(const struct result *result)
{
	return result->error != NULL && strstr(result->error, "It was not carried out.") != NULL;
}

static enum went
one_missing(struct run *r, const struct task *t)
{
	return find_missing(r, t->title != NULL && *t->title != '\0' ?
	    arena_printf(r->arena, "I couldn't find \"%s\" any more.", t->title) :
	    arena_printf(r->arena, "I couldn't find a task with the number %lld.", (long long)t->id));
}

/* Asks for all results before it waits for the first: the calls then stand side by side in one answer. */
static enum went
each_call(struct run *r, const char *tool, const struct tasks *t, struct result *results)
{
	enum went	 went = WENT_ON, one;

	for (int i = 0; i < t->n; i++) {
		one = run_call(r, tool, id_arguments(r->arena, t->v[i].id), &results[i]);
		if (one == WENT_STOP)
			return one;
		if (one == WENT_CALL)
			went = one;
	}
	return went;
}

static void
each_say(struct run *r, const char *did, const char *doing, const struct tasks *t,
    const struct result *results)
{
	struct tasks	 good = { .v = arena_array(r->arena, struct task, t->n) };
	struct tasks	 bad = { .v = arena_array(r->arena, struct task, t->n) };
	struct tasks	 kept = { .v = arena_array(r->arena, struct task, t->n) };
	struct task	*known;

	for (int i = 0; i < t->n; i++) {
		if (is_kept(&results[i])) {
			kept.v[kept.n++] = t->v[i];
			continue;
		}
		if (results[i].error != NULL) {
			bad.v[bad.n++] = t->v[i];
			continue;
		}
		good.v[good.n++] = t->v[i];
		if (r->listed && (known = tasks_by_id(&r->tasks, t->v[i].id)) != NULL)
			known->done = true;
	}
	if (good.n > 0)
		run_say(r, "I've %s:", did);
	tasks_show(r->out, &good, false, false);
	if (kept.n > 0)
		run_say(r, "I've kept:");
	tasks_show(r->out, &kept, false, false);
	if (bad.n > 0)
		run_say(r, "These I couldn't %s; please try again in a moment:", doing);
	tasks_show(r->out, &bad, false, false);
}
