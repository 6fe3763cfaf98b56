/*
 * run -- a plan being carried out: what the deeds (deed.c), the search for
 * tasks (find.c) and the brain share.
 *
 * Every function that may need a tool says how it went: WENT_ON, go on;
 * WENT_STOP, something was said that ends the plan (a question, a failure); WENT_CALL,
 * the answer holds a call and must be sent first (see talk.h).
 */
#ifndef PARLEY_DEMO_RUN_H
#define PARLEY_DEMO_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "demo/command.h"
#include "demo/talk.h"
#include "demo/tasks.h"

/* Questions begin a line with these words; the next turn knows them by that. */
#define ASK_TITLE	"What should the task be called?"
#define ASK_RENAME	"What should \""		/* title */
#define ASK_RENAME_END	"\" be called?"
#define ASK_WHICH	"Which one should I "		/* and one of: */
#define WHICH_COMPLETE	"mark as done?"
#define WHICH_DELETE	"delete?"
#define WHICH_RENAME	"rename?"
#define WHICH_RENAME_TO	"rename to \""			/* title */
#define WHICH_DESCRIBE	"give the description \""	/* text */

struct buf;

enum went { WENT_ON, WENT_STOP, WENT_CALL };

struct run {
	const struct grammar *grammar;
	struct arena	*arena;
	struct talk	*talk;
	struct buf	*out;		/* what there is to say so far */
	struct tasks	 tasks;		/* of this turn, kept up to date by the deeds */
	bool		 listed;	/* tasks are known */
	bool		 began;		/* the present command has had a result */
	struct task	 last;		/* "it"; id 0: none */
};

/* A sentence on a line of its own. */
void	 run_say(struct run *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

enum went run_call(struct run *, const char *tool, const char *arguments, struct result *);
/* Makes sure of run->tasks. */
enum went run_list(struct run *);

/*
 * The tasks that command->what means: one, or several when it names several.  Otherwise says so, with a
 * list to choose from, and stops.  A task given by number alone has no title yet.
 */
enum went find_tasks(struct run *, const struct command *, struct tasks *found);
/* Says that there is no such task, and what there is. */
enum went find_missing(struct run *, const char *what);
/* What to do with the chosen one: the end of ASK_WHICH. */
const char *which_words(struct arena *, const struct command *);

enum went deed_add(struct run *, const struct command *);
enum went deed_show(struct run *, const struct command *);
enum went deed_complete(struct run *, const struct tasks *);
enum went deed_delete(struct run *, const struct tasks *);
enum went deed_update(struct run *, const struct command *, const struct task *);

/* Why a tool said no, in words, with a remedy; `doing` as in "I couldn't …". */
void	 explain(struct run *, const char *doing, const struct result *);

#endif
