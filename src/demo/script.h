/*
 * script -- scripted replies, for tests: faults, delays and odd forms.
 *
 * DIR/NAME.script holds replies separated by a line "---"; the Nth request for
 * NAME gets the Nth, the last one is repeated.  The file is read anew for each
 * request.  The verbs of a line are listed in script.c and in --help.
 */
#ifndef PARLEY_DEMO_SCRIPT_H
#define PARLEY_DEMO_SCRIPT_H

#define SCRIPT_NAME_MAX	64

struct reply;
struct scripts;

struct scripts *scripts_open(const char *dir);
void	 scripts_close(struct scripts **);	/* NULL is fine */
void	 scripts_reset(struct scripts *);	/* each begins with its first reply again */

/* Never NULL: an unknown script is a 404, a mistake in a script a 500 that names file and line. */
struct reply *script_reply(struct scripts *, const char *name);

#endif
