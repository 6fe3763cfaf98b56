#include "demo/tasks.h"

#include <ctype.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/glance.h"
#include "demo/words.h"
#include "io/json.h"

#define BULLET	"• "

static void	 task_add(struct tasks *, struct arena *, json_object *);
static void	 cut_read(struct tasks *, struct arena *, const char *);
static bool	 title_matches(struct arena *, const char *title, const char *want, int how);
static size_t	 marker(const char *);
static bool	 line_shows(const char *line, const char *title);

void
tasks_read(struct tasks *t, struct arena *a, const char *text, json_object *json)
{
	json_object	*list;

	*t = (struct tasks){ 0 };
	if (json_get_array(json, "tasks", &list) != JSON_GOT) {
		cut_read(t, a, text);
		return;
	}
	t->v = arena_array(a, struct task, json_object_array_length(list));
	for (size_t i = 0; i < json_object_array_length(list); i++)
		task_add(t, a, json_object_array_get_idx(list, i));
}

static void
task_add(struct tasks *t, struct arena *a, json_object *json)
{
	struct task	*task = &t->v[t->n];
	const char	*status = json_text_or_null(json, "status");
	const char	*text = json_text_or_null(json, "description");
	bool		 done = false;

	if (json_get_int(json, "id", &task->id) != JSON_GOT &&
	    json_get_int(json, "task_id", &task->id) != JSON_GOT)
		return;
	(void)json_get_bool(json, "completed", &done);
	task->done = done || (status != NULL && strcmp(status, "completed") == 0);
	task->description = text == NULL ? "" : words_line(a, text);
	text = json_text_or_null(json, "title");
	task->title = text == NULL ? "" : words_line(a, text);
	t->n++;
}

/* Takes the elements that came whole. */
static void
cut_read(struct tasks *t, struct arena *a, const char *text)
{
	const char	*at = strstr(text, "\"tasks\""), *end = text + strlen(text), *begin;
	struct slice	 item;
	size_t		 n = 0;

	if (at == NULL || (at = strchr(at, '[')) == NULL)
		return;
	t->cut = true;
	begin = ++at;
	while (glance_element(&at, end, &item))
		n++;
	t->v = arena_array(a, struct task, n);
	for (at = begin; glance_element(&at, end, &item);)
		task_add(t, a, json_read(a, item.p, item.n, NULL));
}

struct task *
tasks_by_id(const struct tasks *t, int64_t id)
{
	for (int i = 0; i < t->n; i++)
		if (t->v[i].id == id)
			return &t->v[i];
	return NULL;
}

void
tasks_match(const struct tasks *t, struct arena *a, const char *text, bool pending_first,
    struct tasks *found)
{
	const char	*want = words_fold(a, text);
	int		 open = 0;

	*found = (struct tasks){ .v = arena_array(a, struct task, t->n), .cut = t->cut };
	for (int how = 0; how < 3 && found->n == 0 && *want != '\0'; how++)
		for (int i = 0; i < t->n; i++)
			if (title_matches(a, t->v[i].title, want, how))
				found->v[found->n++] = t->v[i];
	for (int i = 0; i < found->n; i++)
		open += !found->v[i].done;
	if (!pending_first || found->n < 2 || open != 1)
		return;
	for (int i = 0; i < found->n; i++)
		if (!found->v[i].done)
			found->v[0] = found->v[i];
	found->n = 1;
}

static bool
title_matches(struct arena *a, const char *title, const char *want, int how)
{
	const char	*folded = words_fold(a, title);

	return how == 0 ? strcmp(folded, want) == 0 :
	    how == 1 ? strstr(folded, want) != NULL : words_all(a, folded, want);
}

void
task_show(struct buf *b, const struct task *t, bool with_id)
{
	buf_str(b, t->title);
	if (with_id)
		buf_printf(b, " (id %lld)", (long long)t->id);
	if (t->done)
		buf_str(b, " (done)");
	if (*t->description != '\0') {
		buf_str(b, ": ");
		buf_str(b, t->description);
	}
}

void
tasks_show(struct buf *b, const struct tasks *t, bool numbered, bool with_ids)
{
	for (int i = 0; i < t->n; i++) {
		buf_char(b, '\n');
		if (numbered)
			buf_printf(b, "%d. ", i + 1);
		else
			buf_str(b, BULLET);
		task_show(b, &t->v[i], with_ids);
	}
}

const char *
shown_line(struct arena *a, const char *text, int nth, int *same)
{
	int		 count = shown_count(text), at;
	const char	*line = NULL, *nl;
	size_t		 n;

	*same = 0;
	if (nth < 0)
		nth = count;
	/* Twice: first the line itself, then those before it that look alike. */
	for (int round = 0; round < 2; round++) {
		at = 0;
		for (const char *p = text; *p != '\0' && at < nth; p = nl + (*nl == '\n')) {
			nl = strchrnul(p, '\n');
			if ((n = marker(p)) == 0)
				continue;
			at++;
			if (round == 0 && at == nth)
				line = arena_memdup(a, p + n, (size_t)(nl - p) - n);
			else if (round == 1 && at < nth && strlen(line) == (size_t)(nl - p) - n &&
			    memcmp(line, p + n, strlen(line)) == 0)
				++*same;
		}
		if (line == NULL)
			return NULL;
	}
	return line;
}

int
shown_count(const char *text)
{
	int	 count = 0;

	for (const char *p = text, *nl; *p != '\0'; p = nl + (*nl == '\n')) {
		nl = strchrnul(p, '\n');
		count += marker(p) > 0;
	}
	return count;
}

/* Bytes of "• " or "12. " in front of a line; 0: it is none of a list. */
static size_t
marker(const char *p)
{
	size_t	 n = 0;

	if (strncmp(p, BULLET, strlen(BULLET)) == 0)
		return strlen(BULLET);
	while (isdigit((unsigned char)p[n]))
		n++;
	return n > 0 && n < 6 && p[n] == '.' && p[n + 1] == ' ' ? n + 2 : 0;
}

struct task *
tasks_by_line(const struct tasks *t, struct arena *a, const char *line, int skip)
{
	struct task	*best = NULL;
	int		 seen = 0;

	line = words_line(a, line);
	/* The longest title wins: "Buy milk: now" is not "Buy milk" with a description. */
	for (int i = 0; i < t->n; i++)
		if (line_shows(line, t->v[i].title) &&
		    (best == NULL || strlen(t->v[i].title) > strlen(best->title)))
			best = &t->v[i];
	for (int i = 0; best != NULL && skip > 0 && i < t->n; i++)
		if (strcmp(t->v[i].title, best->title) == 0 && seen++ == skip)
			return &t->v[i];
	return best;
}

static bool
line_shows(const char *line, const char *title)
{
	size_t	 n = strlen(title);

	return n > 0 && strncmp(line, title, n) == 0 &&
	    (line[n] == '\0' || strncmp(line + n, " (", 2) == 0 || strncmp(line + n, ": ", 2) == 0);
}
