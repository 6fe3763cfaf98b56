/*
 * conf_file -- the lines of parley.conf, before anybody knows what they mean.
 *
 * For the conf files alone.  Entries live in the arena that was given.
 */
#ifndef PARLEY_BASE_CONF_FILE_H
#define PARLEY_BASE_CONF_FILE_H

struct arena;
struct buf;

struct conf_entry {
	const char	*section, *name;
	const char	*value;		/* without white space and comment around it */
	int		 line;
	struct conf_entry *next;
};

/* Reads the file, in order, to *first.  -1: it cannot be read or a line is no INI, as why says. */
int	 conf_file_read(const char *path, struct arena *, struct conf_entry **first, struct buf *why);

#endif
