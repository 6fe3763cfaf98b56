/*
 * command -- what a message asks for: a plan of one or more commands.
 *
 * The patterns are POSIX regular expressions, compiled once.  A message is cut at "and",
 * "then" and the ends of sentences only where a command follows, so that
 * "add task: bread and butter" stays one.  Results belong to the arena.
 */
#ifndef PARLEY_DEMO_COMMAND_H
#define PARLEY_DEMO_COMMAND_H

#include <stdbool.h>

#define PLAN_MAX	7	/* with the list and the answer ten model calls, as many as a turn has */

struct arena;
struct grammar;

enum command_kind {
	CMD_NONE,
	CMD_ADD,	/* what: title, to: description */
	CMD_LIST,	/* filter, ids */
	CMD_COMPLETE,	/* what: the task */
	CMD_REOPEN,
	CMD_DELETE,
	CMD_RENAME,	/* to: the new title */
	CMD_DESCRIBE,	/* to: the new description */
	CMD_UNCLEAR,	/* two orders that exclude each other */
	CMD_NAME,	/* what: the user's name */
	CMD_ASK_NAME,
	CMD_TIME,
	CMD_HELLO,
	CMD_THANKS,
	CMD_BYE,
	CMD_HELP
};

struct command {
	enum command_kind kind;
	const char	*source;	/* its part of the message */
	const char	*what;		/* "" when it was left out */
	const char	*to;		/* the same */
	const char	*filter;	/* "all", "pending", "completed" */
	bool		 ids;
};

struct plan {
	struct command	 v[PLAN_MAX];
	int		 n;		/* 0: the message is no command */
	const char	*rest;		/* what did not fit, NULL: nothing */
};

struct grammar *grammar_open(void);	/* NULL: a pattern is wrong */
void	 grammar_close(struct grammar **);

void	 plan_read(const struct grammar *, struct arena *, const char *text, struct plan *);

/* Short answers to a question of ours. */
bool	 text_is_no(const struct grammar *, const char *);
bool	 text_is_all(const struct grammar *, const char *);

/*
 * Which one: "task 3", "#3" are an id; "3", "number 3" a number; "the third
 * one", "the last" (-1) a place in a list.  *n is not 0 when it is any of them.
 */
enum ordinal { ORDINAL_NONE, ORDINAL_ID, ORDINAL_NUMBER, ORDINAL_PLACE };

enum ordinal text_ordinal(const struct grammar *, struct arena *, const char *, int *n);
bool	 text_is_it(const struct grammar *, const char *);	/* "it", "that one" */

#endif
