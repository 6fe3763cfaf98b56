#include "base/conf_env.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/conf_table.h"

struct taken {
	char		*name, *value;
	struct taken	*next;
};

/* Secrets that are no longer in the environment.  It is written at start and on SIGHUP only. */
static struct taken	*taken;

static const char *take(const char *name, char *value);
static bool	 is_known(struct arena *, const char *variable, size_t);
static bool	 is_named(struct arena *, const char *variable, size_t, bool mcp, const char *names);
static bool	 is_of_section(const char *variable);

const char *
conf_env_get(const char *name, bool secret)
{
	char	*value = getenv(name);

	if (value != NULL && *value != '\0')
		return secret ? take(name, value) : value;
	for (struct taken *t = taken; t != NULL; t = t->next)
		if (strcmp(t->name, name) == 0)
			return t->value;
	return NULL;
}

static const char *
take(const char *name, char *value)
{
	struct taken	*t;

	for (t = taken; t != NULL; t = t->next)
		if (strcmp(t->name, name) == 0)
			break;
	if (t == NULL) {
		t = calloc(1, sizeof *t);
		if (t == NULL || (t->name = strdup(name)) == NULL)
			arena_exhausted();
		t->next = taken;
		taken = t;
	}
	free(t->value);
	t->value = strdup(value);
	if (t->value == NULL)
		arena_exhausted();
	/* Not only unset: the bytes would still be readable in /proc. */
	explicit_bzero(value, strlen(value));
	(void)unsetenv(name);
	return t->value;
}

const char *
conf_env_name(struct arena *a, const struct conf_key *k, const char *model)
{
	char	*name = *model == '\0' ?
	    arena_printf(a, "PARLEY_%s_%s", k->section, k->name) :
	    arena_printf(a, "PARLEY_%s_%s_%s", k->section, model, k->name);

	for (char *p = name; *p != '\0'; p++)
		*p = *p == '-' || *p == '.' ? '_' : (char)toupper((unsigned char)*p);
	return name;
}

int
conf_env_check(struct arena *a, const char *models, const char *servers, struct buf *why)
{
	int	 rc = 0;

	for (char **e = environ; *e != NULL; e++) {
		size_t	 n = strcspn(*e, "=");

		if (!is_of_section(*e) || is_known(a, *e, n) || is_named(a, *e, n, false, models) ||
		    is_named(a, *e, n, true, servers))
			continue;
		buf_printf(why, "environment: there is no setting %.*s; see parley.conf(5) for those there are\n",
		    (int)n, *e);
		rc = -1;
	}
	return rc;
}

static bool
is_of_section(const char *variable)
{
	for (int i = 0; i < conf_table_size; i++) {
		const char	*section = conf_table[i].section;
		size_t		 n = strlen(section);

		if (strncmp(variable, "PARLEY_", 7) == 0 &&
		    strncasecmp(variable + 7, section, n) == 0 && variable[7 + n] == '_')
			return true;
	}
	return false;
}

static bool
is_known(struct arena *a, const char *variable, size_t n)
{
	for (int i = 0; i < conf_table_size; i++) {
		const char	*name = conf_env_name(a, &conf_table[i], "");

		if (!conf_table[i].mcp && strlen(name) == n && strncmp(name, variable, n) == 0)
			return true;
	}
	return false;
}

/* Is it a key of [model.NAME] or [mcp.NAME], for one of the names? */
static bool
is_named(struct arena *a, const char *variable, size_t n, bool mcp, const char *names)
{
	char	 word[64];

	while (conf_list_next(&names, word, (int)sizeof word))
		for (int i = 0; i < conf_table_size; i++) {
			const struct conf_key	*k = &conf_table[i];
			const char		*name;

			if (mcp ? !k->mcp : !k->model)
				continue;
			name = conf_env_name(a, k, word);
			if (strlen(name) == n && strncmp(name, variable, n) == 0)
				return true;
		}
	return false;
}
