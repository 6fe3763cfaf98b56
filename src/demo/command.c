#include "demo/command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "demo/grammar.h"
#include "demo/words.h"

#define TEXT_MAX	8192	/* the patterns are tried on a message's first bytes only */
#define POLITE_MAX	8	/* "ok, could you please just …" */
#define POLITE_GROUP	8

static struct command command_read(const struct grammar *, struct arena *, const char *);
static bool	 social_read(const struct grammar *, struct arena *, const char *, struct command *);
static bool	 list_read(const struct grammar *, const char *, struct command *);
static bool	 rule_read(const struct grammar *, struct arena *, const struct rule *, int, const char *, struct command *);
static bool	 kind_is_social(enum command_kind);
static bool	 kind_is_free(enum command_kind);
static const char *tail_cut(struct arena *, const char *, bool free_text);
static bool	 name_read(struct arena *, const char *, bool weak, const char **);
static void	 title_read(const struct grammar *, struct arena *, struct command *);
static void	 rename_read(struct arena *, struct command *);
static struct command command_ahead(const struct grammar *, struct arena *, const char *);
static bool	 break_find(const struct grammar *, struct arena *, const char *, struct span *);
static bool	 items_read(const struct grammar *, struct arena *, const char *, struct plan *);
static void	 plan_tidy(struct plan *);
static void	 plan_add(struct plan *, struct command);

void
plan_read(const struct grammar *g, struct arena *a, const char *text, struct plan *plan)
{
	struct span	 cut;
	struct command	 c;
	char		*left;

	*plan = (struct plan){ 0 };
	text = arena_memdup(a, text, strnlen(text, TEXT_MAX));
	while (plan->n < PLAN_MAX && break_find(g, a, text, &cut)) {
		left = arena_memdup(a, text, (size_t)cut.from);
		text += cut.to;
		if (!items_read(g, a, left, plan))
			plan_add(plan, command_read(g, a, left));
	}
	if (plan->n == PLAN_MAX)
		plan->rest = text;
	else if (!items_read(g, a, text, plan)) {
		c = command_read(g, a, text);
		if (c.kind != CMD_NONE)
			plan_add(plan, c);
	}
	plan_tidy(plan);
}

/* A greeting around a command needs no answer of its own. */
static void
plan_tidy(struct plan *plan)
{
	int	 n = 0;

	if (plan->n < 2)
		return;
	for (int i = 0; i < plan->n; i++)
		if (plan->v[i].kind < CMD_HELLO)
			plan->v[n++] = plan->v[i];
	plan->n = n > 0 ? n : 1;
}

/*
 * Where the first command ends and another follows.  A title may hold "and", so behind
 * free text a mere "and" or comma counts only when what follows speaks of tasks.
 */
static bool
break_find(const struct grammar *g, struct arena *a, const char *text, struct span *cut)
{
	struct span	 m[PATTERN_GROUPS];
	struct command	 left, right;
	int		 base = 0;

	while (grammar_match(g, PAT_BREAK, text + base, m)) {
		*cut = (struct span){ base + m[0].from, base + m[0].to };
		base = cut->to;
		if (words_quoted(text, (size_t)cut->from))
			continue;
		left = command_read(g, a, arena_memdup(a, text, (size_t)cut->from));
		right = command_ahead(g, a, text + cut->to);
		if (left.kind == CMD_NONE || right.kind == CMD_NONE)
			continue;
		/* "complete and delete it" is one order that contradicts itself. */
		if (*left.what == '\0' && (left.kind == CMD_COMPLETE || left.kind == CMD_DELETE))
			continue;
		if (!kind_is_free(left.kind) || kind_is_social(right.kind) ||
		    grammar_match(g, PAT_EXPLICIT, text + cut->to, NULL) ||
		    grammar_match(g, PAT_STRONG_BREAK, span_text(a, text, *cut), NULL))
			return true;
	}
	return false;
}

/* What a text begins with: it may be several commands itself. */
static struct command
command_ahead(const struct grammar *g, struct arena *a, const char *text)
{
	struct span	 m[PATTERN_GROUPS];
	struct command	 c = command_read(g, a, text);
	size_t		 base = 0;

	for (int i = 0; i < PLAN_MAX && c.kind == CMD_NONE && grammar_match(g, PAT_BREAK, text + base, m); i++) {
		c = command_read(g, a, arena_memdup(a, text, base + (size_t)m[0].from));
		base += (size_t)m[0].to;
	}
	return c;
}

/* "add tasks: a, b and c" */
static bool
items_read(const struct grammar *g, struct arena *a, const char *text, struct plan *plan)
{
	struct span	 m[PATTERN_GROUPS];
	struct command	 c = { .kind = CMD_ADD, .source = text, .to = "", .filter = "all" };
	const char	*at;
	size_t		 base = 0;
	int		 group;

	while (isspace((unsigned char)*text))
		text++;
	for (int i = 0; i < POLITE_MAX && grammar_match(g, PAT_POLITE, text, m); i++)
		text += m[POLITE_GROUP].from;
	text = tail_cut(a, text, true);
	group = grammar_match(g, PAT_SEVERAL, text, m) ? 11 : grammar_match(g, PAT_SEVERAL_QUOTED, text, m) ? 5 : 0;
	if (group == 0)
		return false;
	at = text + m[group].from;
	while (*at == '\n' || *at == ' ' || *at == '-' || *at == '*')
		at++;
	while (plan->n < PLAN_MAX && grammar_match(g, PAT_ITEM_BREAK, at + base, m)) {
		if (words_quoted(at, base + (size_t)m[0].from)) {
			base += (size_t)m[0].to;
			continue;
		}
		c.what = arena_memdup(a, at, base + (size_t)m[0].from);
		title_read(g, a, &c);
		if (*c.what != '\0')
			plan_add(plan, c);
		c.to = "";
		at += base + (size_t)m[0].to;
		base = 0;
	}
	if (plan->n == PLAN_MAX) {
		plan->rest = at;
		return true;
	}
	c.what = at;
	title_read(g, a, &c);
	if (*c.what != '\0')
		plan_add(plan, c);
	return true;
}

static void
plan_add(struct plan *plan, struct command c)
{
	if (plan->n < PLAN_MAX)
		plan->v[plan->n++] = c;
}

/* One command, or CMD_NONE. */
static struct command
command_read(const struct grammar *g, struct arena *a, const char *text)
{
	struct command	 c = { .kind = CMD_NONE, .source = words_line(a, text),
	    .what = "", .to = "", .filter = "all" };
	struct span	 m[PATTERN_GROUPS];
	const char	*bare, *kept;

	text = arena_strdup(a, text + strspn(text, " \t\r\n"));
	if (social_read(g, a, text, &c))
		return c;
	for (int i = 0; i < POLITE_MAX && grammar_match(g, PAT_POLITE, text, m); i++) {
		text += m[POLITE_GROUP].from;
		if (social_read(g, a, text, &c))
			return c;
	}
	bare = tail_cut(a, text, false);
	kept = tail_cut(a, text, true);
	if (list_read(g, bare, &c))
		return c;
	if (grammar_match(g, PAT_LIST_SUFFIX, bare, m))
		kept = arena_printf(a, "add%.*s", m[2].from - m[1].to, bare + m[1].to);
	for (size_t i = 0; i < grammar_nrules; i++) {
		const struct rule	*r = &grammar_rules[i];

		if (!kind_is_social(r->kind) && rule_read(g, a, r, PAT_RULES + (int)i,
		    kind_is_free(r->kind) ? kept : bare, &c))
			return c;
	}
	return c;
}

static bool
social_read(const struct grammar *g, struct arena *a, const char *text, struct command *c)
{
	for (size_t i = 0; i < grammar_nrules; i++)
		if (kind_is_social(grammar_rules[i].kind) &&
		    rule_read(g, a, &grammar_rules[i], PAT_RULES + (int)i, text, c))
			return true;
	return false;
}

static bool
list_read(const struct grammar *g, const char *text, struct command *c)
{
	bool	 pending, completed;

	if (!grammar_match(g, PAT_LIST_BARE, text, NULL) &&
	    !grammar_match(g, PAT_LIST_VERB, text, NULL) &&
	    !grammar_match(g, PAT_LIST_ASKED, text, NULL))
		return false;
	pending = grammar_match(g, PAT_PENDING, text, NULL);
	completed = grammar_match(g, PAT_COMPLETED, text, NULL) && !pending;
	/* "is buy milk done?" is best answered by all of them. */
	if (strncasecmp(text, "is ", 3) == 0 && strncasecmp(text, "is there", 8) != 0)
		pending = completed = false;
	c->kind = CMD_LIST;
	c->filter = pending ? "pending" : completed ? "completed" : "all";
	c->ids = grammar_match(g, PAT_IDS, text, NULL);
	return true;
}

static bool
rule_read(const struct grammar *g, struct arena *a, const struct rule *r, int pattern,
    const char *text, struct command *c)
{
	struct span	 m[PATTERN_GROUPS];

	if (!grammar_match(g, pattern, text, m))
		return false;
	c->what = r->what > 0 ? span_text(a, text, m[r->what]) : "";
	c->to = r->to > 0 ? words_bare(a, span_text(a, text, m[r->to])) : "";
	if (r->kind == CMD_NAME && !name_read(a, c->what, r->what == 2, &c->what))
		return false;
	c->kind = r->kind;
	if (r->kind == CMD_ADD)
		title_read(g, a, c);
	else if (kind_is_free(r->kind) && r->to == 0)
		rename_read(a, c);
	else if (!kind_is_social(r->kind))
		c->what = words_bare(a, c->what);
	return true;
}

static bool
kind_is_social(enum command_kind kind)
{
	return kind >= CMD_NAME;
}

/* Commands that end with words of the user's own. */
static bool
kind_is_free(enum command_kind kind)
{
	return kind == CMD_ADD || kind == CMD_RENAME || kind == CMD_DESCRIBE;
}

/* Without the politeness at the end; a title keeps its "!" and "now". */
static const char *
tail_cut(struct arena *a, const char *text, bool free_text)
{
	static const char *const words[] = { "please", "thanks", "thank you", "now", "for me", "too", "as well" };
	char	*s = arena_strdup(a, text);
	size_t	 n = strlen(s), len;
	bool	 again = true;

	while (again) {
		again = false;
		while (n > 0 && strchr(free_text ? " \t\r\n" : " \t\r\n.!?,;:", s[n - 1]) != NULL)
			s[--n] = '\0';
		for (size_t i = 0; i < (free_text ? 3 : sizeof words / sizeof words[0]); i++) {
			len = strlen(words[i]);
			if (n > len + 1 && strcasecmp(s + n - len, words[i]) == 0 &&
			    strchr(" ,", s[n - len - 1]) != NULL) {
				n -= len;
				while (n > 0 && strchr(" ,", s[n - 1]) != NULL)
					n--;
				s[n] = '\0';
				again = true;
			}
		}
	}
	return s;
}

/* The first word and those behind it that are written like names; weakly said ("I'm …"), all must be. */
static bool
name_read(struct arena *a, const char *text, bool weak, const char **name)
{
	size_t	 n = 0, word;
	int	 words = 0;

	for (const char *p = text; words < 4; p += word + 1, words++) {
		word = strcspn(p, " \t\n,.!?;:()\"");
		if (word == 0 || ((weak || words > 0) && !isupper((unsigned char)*p) && (unsigned char)*p < 0x80))
			break;
		n = (size_t)(p - text) + word;
		if (p[word] != ' ') {
			words++;
			break;
		}
	}
	*name = arena_memdup(a, text, n);
	return words > 0 && words < 4 && (!weak || text[n + strspn(text + n, " .!,")] == '\0');
}

/* Splits what into title and description. */
static void
title_read(const struct grammar *g, struct arena *a, struct command *c)
{
	struct span	 m[PATTERN_GROUPS];
	const char	*text = c->what, *close, *end;
	size_t		 open, n;

	if (strchr(" :,-", *text) != NULL && grammar_match(g, PAT_TITLE_LEAD, text, m))
		text += m[10].from;
	open = words_quote(text, &close);
	end = open > 0 ? strstr(text + open, close) : NULL;
	if (end != NULL && end > text + open &&
	    grammar_match(g, PAT_DESCRIPTION_LEAD, end + strlen(close), m)) {
		c->what = arena_memdup(a, text + open, (size_t)(end - text) - open);
		c->to = words_bare(a, span_text(a, end + strlen(close), m[8]));
		return;
	}
	if (grammar_match(g, PAT_DESCRIPTION, text, m) && m[0].from > 0) {
		c->to = arena_strdup(a, text + m[0].to);
		text = arena_memdup(a, text, (size_t)m[0].from);
	}
	n = strlen(text);
	while (n > 0 && strchr(" \t\r\n,;:", text[n - 1]) != NULL)
		n--;
	/* A full stop ends the sentence, dots (…) belong to the title. */
	if (n > 1 && text[n - 1] == '.' && text[n - 2] != '.')
		n--;
	c->what = arena_memdup(a, text, n);
}

/* "X to Y": the first " to " outside quotes; the resolver may try a later one. */
static void
rename_read(struct arena *a, struct command *c)
{
	static const char *const	 marks[] = { " to ", " into ", " -> ", " => ", " → ", ": " };
	const char			*at = NULL, *found;
	size_t				 len = 0;

	for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
		found = strcasestr(c->what, marks[i]);
		while (found != NULL && words_quoted(c->what, (size_t)(found - c->what)))
			found = strcasestr(found + 1, marks[i]);
		if (found != NULL && (at == NULL || found < at)) {
			at = found;
			len = strlen(marks[i]);
		}
	}
	if (at == NULL) {
		c->what = words_bare(a, c->what);
		return;
	}
	at += len;
	c->to = words_bare(a, strncasecmp(at, "new title ", 10) == 0 ? at + 10 : at);
	at -= len;
	c->what = words_bare(a, arena_memdup(a, c->what, (size_t)(at - c->what)));
}

bool
text_is_no(const struct grammar *g, const char *text)
{
	return grammar_match(g, PAT_NO, text, NULL);
}

bool
text_is_all(const struct grammar *g, const char *text)
{
	return grammar_match(g, PAT_EVERY, text, NULL);
}

bool
text_is_it(const struct grammar *g, const char *text)
{
	return grammar_match(g, PAT_IT, text, NULL);
}

enum ordinal
text_ordinal(const struct grammar *g, struct arena *a, const char *text, int *n)
{
	static const char *const	 words[] = { "first 1st one", "second 2nd two", "third 3rd three",
	    "fourth 4th", "fifth 5th", "sixth 6th", "seventh 7th", "eighth 8th", "ninth 9th", "tenth 10th" };
	struct span			 m[PATTERN_GROUPS];
	const char			*word;

	*n = 0;
	if (!grammar_match(g, PAT_ORDINAL, text, m))
		return ORDINAL_NONE;
	if (m[4].from >= 0) {
		*n = atoi(span_text(a, text, m[4]));
		word = words_fold(a, span_text(a, text, (struct span){ m[2].from, m[4].from }));
		return *n == 0 ? ORDINAL_NONE : words_has(word, "task") || words_has(word, "id") ||
		    strchr(word, '#') != NULL ? ORDINAL_ID : ORDINAL_NUMBER;
	}
	word = words_fold(a, span_text(a, text, m[5]));
	*n = -1;
	for (int i = 0; i < 10; i++)
		if (words_has(words[i], word))
			*n = i + 1;
	return ORDINAL_PLACE;
}
