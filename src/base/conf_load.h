/*
 * conf_load -- the work of one conf_load(), shared by the conf files that do it.
 *
 * conf.c reads the file and the keys that are there once, conf_mcp.c the sections [mcp.NAME].  A mistake is
 * said with conf_complain(), and the reading goes on: the user hears of all of them.
 */
#ifndef PARLEY_BASE_CONF_LOAD_H
#define PARLEY_BASE_CONF_LOAD_H

#include <stdbool.h>

struct arena;
struct buf;
struct conf;
struct conf_entry;
struct conf_key;

struct conf_load {
	struct conf	*conf;
	struct arena	*arena;
	struct buf	*why;
	const char	*path;		/* NULL: no file */
	struct conf_entry *entries;
	const char	*fallbacks;	/* names of [model.NAME] */
	const char	*servers;	/* names of [mcp.NAME] */
	bool		 bad;
};

/* What conf_load() does, for a caller who does not keep it for ever: all of it is the arena's. */
int	 conf_read(const char *path, struct arena *, struct conf *, struct buf *why);

/* What the file says of a key, of the section SECTION.NAME when name is not ""; NULL: nothing. */
const struct conf_entry *conf_entry_of(const struct conf_load *, const struct conf_key *, const char *name);
/* Sets a key's field in base: the environment, else the file, else a name everybody uses, else the default. */
void	 conf_key_load(struct conf_load *, const struct conf_key *, void *base, const char *name);
void	 conf_complain(struct conf_load *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

/* Fills conf->mcp, nmcp and l->servers. */
void	 conf_mcp_load(struct conf_load *);

#endif
