/*
 * ctl -- parleyctl, the program for the person who runs Parley.
 *
 * It may block: nothing waits for it.  What it says on stdout is the answer, what it says on stderr is why there is none.
 */
#ifndef PARLEY_CTL_H
#define PARLEY_CTL_H

#include <stdbool.h>

struct conf;

struct ctl_check {
	const char	*schema_dir;
	bool		 ask_model;	/* a small request that costs a little; else only whether there is a server */
};

/*
 * One line for each thing that must be right, "ok …" or "FAIL …: how to mend it".  conf NULL: it could not be read, for the
 * reason given.  Returns how many failed.
 */
int	 ctl_check(const struct conf *, const char *conf_why, const struct ctl_check *);

/*
 * `tools`, and `tools call NAME [JSON] --user USER`, both with --token-file FILE; argv[0] is "tools", and the
 * configuration is read only for a command line that makes sense.  Returns the program's exit status, -1 for one that makes none.
 */
int	 ctl_tools(int argc, char **argv, const struct conf *(*conf_read)(void));

/* `stats`, `prune` and `user`, with arguments and results of the same kind. */
int	 ctl_stats(int argc, char **argv, const struct conf *(*conf_read)(void));
int	 ctl_prune(int argc, char **argv, const struct conf *(*conf_read)(void));
int	 ctl_user(int argc, char **argv, const struct conf *(*conf_read)(void));
/* `work --once [--seconds N]`: what a worker would take over, until nothing is left to do. */
int	 ctl_work(int argc, char **argv, const struct conf *(*conf_read)(void));

#endif
