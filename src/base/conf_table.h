/*
 * conf_table -- what can be configured: one row a key.
 *
 * For the conf files alone.  The rows are constant.  A value is text until
 * conf_value_set() has judged it; where it stands in struct conf (or struct
 * conf_model, struct conf_mcp) the row says.
 */
#ifndef PARLEY_BASE_CONF_TABLE_H
#define PARLEY_BASE_CONF_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct buf;

enum conf_type {
	CONF_TEXT,
	CONF_PRIVATE,		/* text that an error must not repeat */
	CONF_SECRET,		/* the same, and not in the file: environment only */
	CONF_SECRET_FILE,	/* names the file that holds a secret */
	CONF_TEXT_FILE,		/* names a file whose text is the value */
	CONF_PATH,		/* names a file that others read */
	CONF_URL,
	CONF_WORD,		/* one of words */
	CONF_WORDS,		/* a list of them */
	CONF_LIST,
	CONF_NUMBER,		/* a decimal number, kept as text */
	CONF_HEADERS,		/* Name: value | Name: value */
	CONF_JSON,		/* a JSON object, kept as text */
	CONF_BOOL,
	CONF_SWITCH,		/* two words: false, true */
	CONF_INT,
	CONF_MS,		/* a duration, in milliseconds */
	CONF_SECONDS,		/* a duration, in seconds */
	CONF_SIZE		/* bytes */
};

struct conf_key {
	const char	*section, *name;
	enum conf_type	 type;
	bool		 model;		/* a field of struct conf_model: in [model] and [model.NAME] */
	bool		 mcp;		/* a field of struct conf_mcp: in [mcp.NAME] alone */
	size_t		 at;		/* offset of the field */
	const char	*def;		/* as it would be written; NULL: none */
	int64_t		 min, max;	/* in the field's unit */
	const char	*words;
	const char	*env;		/* a name everybody uses, taken when nobody says otherwise */
	bool		 restart;	/* SIGHUP does not change it */
};

#define CONF_NOWHERE	((size_t)-1)	/* the key has no field; conf.c knows what it is for */

extern const struct conf_key	 conf_table[];
extern const int		 conf_table_size;

const struct conf_key *conf_key_find(const char *section, const char *name);
bool	 conf_section_known(const char *);
bool	 conf_is_text(const struct conf_key *);	/* the field is a const char * */
bool	 conf_is_secret(const struct conf_key *);	/* the value must not be shown, nor stay in the environment */

/* Writes the value to its field in base; on failure says to why what was wrong and what would be right, and returns -1. */
int	 conf_value_set(const struct conf_key *, void *base, const char *text,
	    struct arena *, struct buf *why);

#endif
