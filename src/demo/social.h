/*
 * social -- what is no deed: greetings, names, the date, and saying plainly
 * what this program is.
 */
#ifndef PARLEY_DEMO_SOCIAL_H
#define PARLEY_DEMO_SOCIAL_H

struct command;
struct run;
struct social;

struct social *social_open(void);	/* NULL: a pattern is wrong */
void	 social_close(struct social **);	/* NULL is fine */

void	 social_run(struct run *, const struct social *, const struct command *);
/* The message was not understood. */
void	 social_lost(struct run *, const struct social *);

#endif
