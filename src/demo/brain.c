#include "demo/brain.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/answer.h"
#include "demo/command.h"
#include "demo/run.h"
#include "demo/social.h"
#include "demo/words.h"

#define BENCH_CALL	"bench:call "

struct brain {
	struct grammar	*grammar;
	struct social	*social;
};

static enum went bench_call(struct run *);
static enum went talk_on(struct run *, const struct brain *, struct plan *);
static enum went plan_run(struct run *, const struct brain *, const struct plan *, int from);
static enum went command_run(struct run *, const struct brain *, const struct command *);
static enum went update_run(struct run *, const struct command *);
static void	 update_cut(struct run *, struct command *);
static bool	 question_find(const char *said, const char *mark, const char **rest);
static const char *quoted_end(struct arena *, const char *, const char *end);
static bool	 which_answered(struct run *, const struct brain *, const char *rest, enum went *);
static bool	 which_command(struct run *, const char *rest, struct command *);
static enum went rest_run(struct run *, const struct brain *, enum command_kind);
static bool	 line_is_chosen(struct run *, const char *text, int *nth);

struct brain *
brain_open(void)
{
	struct brain	*b = calloc(1, sizeof *b);

	if (b == NULL)
		abort();
	b->grammar = grammar_open();
	b->social = social_open();
	if (b->grammar == NULL || b->social == NULL)
		brain_close(&b);
	return b;
}

void
brain_close(struct brain **bp)
{
	if (*bp == NULL)
		return;
	grammar_close(&(*bp)->grammar);
	social_close(&(*bp)->social);
	free(*bp);
	*bp = NULL;
}

const char *
brain_answer(const struct brain *b, struct arena *a, json_object *asked, struct answer *answer)
{
	struct talk	 talk;
	struct run	 r = { .grammar = b->grammar, .arena = a, .talk = &talk, .out = buf_new(a) };
	struct plan	 plan;
	const char	*why = talk_open(&talk, a, asked, answer);
	enum went	 went;

	if (why != NULL)
		return why;
	if (strncmp(talk.text, BENCH_CALL, strlen(BENCH_CALL)) == 0)
		went = bench_call(&r);
	else {
		plan_read(b->grammar, a, talk.text, &plan);
		went = talk_on(&r, b, &plan);
	}
	if (went != WENT_CALL)
		answer->text = buf_text(r.out);
	return NULL;
}

/* "bench:call NAME {arguments}": that call, whatever it is, then "ok". */
static enum went
bench_call(struct run *r)
{
	const char	*text = r->talk->text + strlen(BENCH_CALL);
	size_t		 n = strcspn(text, " ");
	struct result	 result;

	run_say(r, "ok");
	r->began = true;
	return talk_call(r->talk, arena_memdup(r->arena, text, n),
	    text[n] == '\0' ? "{}" : text + n + 1, &result) < 0 ? WENT_CALL : WENT_ON;
}

/* What is said may answer a question of ours; else it is a command, or it is not understood. */
static enum went
talk_on(struct run *r, const struct brain *b, struct plan *plan)
{
	const char	*said = r->talk->said, *rest, *title;
	struct command	 c = { .to = "", .filter = "all" };
	enum went	 went;

	if (question_find(said, ASK_WHICH, &rest) && which_answered(r, b, rest, &went))
		return went;
	if (plan->n > 0)
		return plan_run(r, b, plan, 0);
	if (text_is_no(r->grammar, r->talk->text) && strchr(said, '?') != NULL) {
		run_say(r, "All right, I've changed nothing.");
		return WENT_STOP;
	}

	/* The answer to "what should it be called?" is whatever is said. */
	if (question_find(said, ASK_TITLE, &rest)) {
		c.kind = CMD_ADD;
		c.what = words_bare(r->arena, r->talk->text);
		return command_run(r, b, &c) == WENT_CALL ? WENT_CALL : rest_run(r, b, CMD_ADD);
	}
	if (question_find(said, ASK_RENAME, &rest) &&
	    (title = quoted_end(r->arena, rest, ASK_RENAME_END)) != NULL) {
		c.kind = CMD_RENAME;
		c.what = title;
		c.to = words_bare(r->arena, r->talk->text);
		return command_run(r, b, &c);
	}
	social_lost(r, b->social);
	return WENT_STOP;
}

static enum went
plan_run(struct run *r, const struct brain *b, const struct plan *plan, int from)
{
	enum went	 went = WENT_ON;
	struct buf	*left = buf_new(r->arena);
	int		 i;

	for (i = from; i < plan->n && went == WENT_ON; i++) {
		r->began = false;
		went = command_run(r, b, &plan->v[i]);
	}
	if (went == WENT_CALL)
		return went;
	for (; i < plan->n; i++)
		buf_printf(left, "%s\"%s\"", left->n > 0 ? ", " : "", plan->v[i].source);
	if (plan->rest != NULL)
		buf_printf(left, "%s\"%s\"", left->n > 0 ? ", " : "", words_line(r->arena, plan->rest));
	if (left->n > 0)
		run_say(r, "(Not done yet: %s.)", buf_text(left));
	return went;
}

static enum went
command_run(struct run *r, const struct brain *b, const struct command *c)
{
	struct tasks	 t;
	enum went	 went;

	switch (c->kind) {
	case CMD_ADD:
		return deed_add(r, c);
	case CMD_LIST:
		return deed_show(r, c);
	case CMD_COMPLETE:
		went = find_tasks(r, c, &t);
		return went == WENT_ON ? deed_complete(r, &t) : went;
	case CMD_DELETE:
		went = find_tasks(r, c, &t);
		return went == WENT_ON ? deed_delete(r, &t) : went;
	case CMD_RENAME:
	case CMD_DESCRIBE:
		return update_run(r, c);
	default:
		social_run(r, b->social, c);
		return c->kind == CMD_UNCLEAR || c->kind == CMD_REOPEN ? WENT_STOP : WENT_ON;
	}
}

static enum went
update_run(struct run *r, const struct command *c)
{
	struct command	 cut = *c;
	struct tasks	 t;
	enum went	 went;
	int		 n;

	if (*c->to != '\0' && *c->what != '\0' && !text_is_it(r->grammar, c->what) &&
	    text_ordinal(r->grammar, r->arena, c->what, &n) == ORDINAL_NONE) {
		if ((went = run_list(r)) != WENT_ON)
			return went;
		update_cut(r, &cut);
	}
	went = find_tasks(r, &cut, &t);
	if (went != WENT_ON)
		return went;
	if (*cut.to != '\0')
		return deed_update(r, &cut, &t.v[0]);
	if (c->kind == CMD_DESCRIBE) {
		run_say(r, "What should the description be? Say \"change the description of … to …\".");
		return WENT_STOP;
	}
	if ((went = run_list(r)) != WENT_ON)
		return went;
	if (tasks_by_id(&r->tasks, t.v[0].id) == NULL)
		return find_missing(r, "I couldn't find that task.");
	run_say(r, ASK_RENAME "%s" ASK_RENAME_END, tasks_by_id(&r->tasks, t.v[0].id)->title);
	return WENT_STOP;
}

/*
 * "rename go to town to stay at home": a title may hold " to ", so the cut is where
 * the words before it are a title, else where they are a part of one.
 */
static void
update_cut(struct run *r, struct command *c)
{
	struct command	 cut;
	struct tasks	 t;
	const char	*at;

	for (int whole = 1; whole >= 0; whole--)
		for (cut = *c;;) {
			tasks_match(&r->tasks, r->arena, cut.what, false, &t);
			if (t.n > 0 && (!whole || strcmp(words_fold(r->arena, t.v[0].title),
			    words_fold(r->arena, cut.what)) == 0)) {
				cut.to = words_bare(r->arena, cut.to);
				*c = cut;
				return;
			}
			if ((at = strcasestr(cut.to, " to ")) == NULL)
				break;
			cut.what = arena_printf(r->arena, "%s to %.*s", cut.what, (int)(at - cut.to), cut.to);
			cut.to = at + 4;
		}
}

/* A question stands at the beginning of a line; a title cannot get there. */
static bool
question_find(const char *said, const char *mark, const char **rest)
{
	for (const char *p = said; (p = strstr(p, mark)) != NULL; p++)
		if (p == said || p[-1] == '\n') {
			*rest = p + strlen(mark);
			return true;
		}
	return false;
}

/* The text before the last `end` on the line. */
static const char *
quoted_end(struct arena *a, const char *text, const char *end)
{
	const char	*line = arena_memdup(a, text, strcspn(text, "\n")), *at = NULL;

	for (const char *p = line; (p = strstr(p, end)) != NULL; p++)
		at = p;
	return at == NULL ? NULL : arena_memdup(a, line, (size_t)(at - line));
}

/* A choice from the numbered list.  False: it is none, so it may be a new command. */
static bool
which_answered(struct run *r, const struct brain *b, const char *rest, enum went *went)
{
	struct command	 c;
	struct tasks	 t;
	struct task	*task;
	const char	*line;
	int		 nth, same;

	if (!which_command(r, rest, &c))
		return false;
	if (text_is_no(r->grammar, r->talk->text)) {
		run_say(r, "All right, I've changed nothing.");
		*went = WENT_STOP;
		return true;
	}
	if (!line_is_chosen(r, words_bare(r->arena, r->talk->text), &nth))
		return false;
	if ((*went = run_list(r)) != WENT_ON)
		return true;
	line = shown_line(r->arena, r->talk->said, nth, &same);
	task = line == NULL ? NULL : tasks_by_line(&r->tasks, r->arena, line, same);
	if (task == NULL) {
		*went = find_missing(r, "I couldn't find that one in the list.");
		return true;
	}
	t = (struct tasks){ .v = task, .n = 1 };
	if (c.kind == CMD_COMPLETE)
		*went = deed_complete(r, &t);
	else if (c.kind == CMD_DELETE)
		*went = deed_delete(r, &t);
	else if (*c.to != '\0')
		*went = deed_update(r, &c, task);
	else {
		run_say(r, ASK_RENAME "%s" ASK_RENAME_END, task->title);
		*went = WENT_STOP;
	}
	if (*went == WENT_ON)
		*went = rest_run(r, b, c.kind);
	return true;
}

/* What the question was about. */
static bool
which_command(struct run *r, const char *rest, struct command *c)
{
	*c = (struct command){ .what = "", .to = "", .filter = "all" };
	if (strncmp(rest, WHICH_COMPLETE, strlen(WHICH_COMPLETE)) == 0)
		c->kind = CMD_COMPLETE;
	else if (strncmp(rest, WHICH_DELETE, strlen(WHICH_DELETE)) == 0)
		c->kind = CMD_DELETE;
	else if (strncmp(rest, WHICH_RENAME, strlen(WHICH_RENAME)) == 0)
		c->kind = CMD_RENAME;
	else if (strncmp(rest, WHICH_RENAME_TO, strlen(WHICH_RENAME_TO)) == 0) {
		c->kind = CMD_RENAME;
		c->to = quoted_end(r->arena, rest + strlen(WHICH_RENAME_TO), "\"?");
	} else if (strncmp(rest, WHICH_DESCRIBE, strlen(WHICH_DESCRIBE)) == 0) {
		c->kind = CMD_DESCRIBE;
		c->to = quoted_end(r->arena, rest + strlen(WHICH_DESCRIBE), "\"?");
	}
	return c->kind != CMD_NONE && c->to != NULL;
}

/* By number, by place, or by a title that only one line begins with or holds. */
static bool
line_is_chosen(struct run *r, const char *text, int *nth)
{
	const char	*want = words_fold(r->arena, text), *line, *folded;
	int		 same, exact = 0, part = 0, parts = 0;

	if (text_ordinal(r->grammar, r->arena, text, nth) != ORDINAL_NONE)
		return true;
	for (int i = 1; (line = shown_line(r->arena, r->talk->said, i, &same)) != NULL; i++) {
		folded = words_fold(r->arena, line);
		if (exact == 0 && strncmp(folded, want, strlen(want)) == 0 &&
		    (folded[strlen(want)] == '\0' || strncmp(folded + strlen(want), " (done)", 7) == 0 ||
		    folded[strlen(want)] == ':'))
			exact = i;
		if (*want != '\0' && strstr(folded, want) != NULL) {
			part = i;
			parts++;
		}
	}
	*nth = exact != 0 ? exact : parts == 1 ? part : 0;
	return *nth != 0;
}

/* What the user had asked for behind the command that needed the question. */
static enum went
rest_run(struct run *r, const struct brain *b, enum command_kind kind)
{
	struct plan	 plan;

	plan_read(r->grammar, r->arena, r->talk->before, &plan);
	for (int i = 0; i < plan.n; i++)
		if (plan.v[i].kind == kind)
			return plan_run(r, b, &plan, i + 1);
	return WENT_ON;
}
