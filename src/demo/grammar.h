/*
 * grammar -- the patterns behind command.h, one row each.
 *
 * A row's groups are counted as POSIX counts them, by opening brackets.  In a pattern
 * ' stands for an apostrophe of either kind or none ("what's", "whats"), and
 * TASK for the words that mean a task.
 */
#ifndef PARLEY_DEMO_GRAMMAR_H
#define PARLEY_DEMO_GRAMMAR_H

#include <stddef.h>

#include "demo/command.h"

#define PATTERN_GROUPS	16

enum pattern {
	PAT_POLITE,		/* words in front of a command; group 7 is the command */
	PAT_LIST_SUFFIX,	/* "to my list" behind a title; group 2 */
	PAT_BREAK,		/* between two commands */
	PAT_STRONG_BREAK,	/* one that a title seldom holds */
	PAT_EXPLICIT,		/* a command that names tasks: follows a title after a mere "and" */
	PAT_LIST_BARE,
	PAT_LIST_VERB,
	PAT_LIST_ASKED,
	PAT_PENDING,
	PAT_COMPLETED,
	PAT_ALL_WORD,
	PAT_IDS,
	PAT_TITLE_LEAD,		/* "called", "to", ":" in front of a title; group 10 is the title */
	PAT_DESCRIPTION,	/* between title and description */
	PAT_DESCRIPTION_LEAD,	/* in front of a description, behind a quoted title; group 8 is it */
	PAT_SEVERAL,		/* "add tasks: a, b and c"; group 11 is the list */
	PAT_SEVERAL_QUOTED,	/* add "a" and "b"; group 5 is the list */
	PAT_ITEM_BREAK,		/* between its items */
	PAT_NO,
	PAT_EVERY,
	PAT_ORDINAL,
	PAT_IT,
	PAT_RULES		/* from here on rules, see below */
};

/* A command's pattern with the groups of its parts; 0: none. */
struct rule {
	enum command_kind kind;
	const char	*pattern;
	int		 what, to;
};

extern const struct rule grammar_rules[];
extern const size_t grammar_nrules;

/* True when it matches; from[i], to[i] are the bytes of group i, -1 when it took no part. */
struct span {
	int	 from, to;
};

_Bool	 grammar_match(const struct grammar *, int pattern, const char *text, struct span *);
/* The text of a group, "" when it took no part. */
char	*span_text(struct arena *, const char *text, struct span);

#endif
