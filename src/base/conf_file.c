#include "base/conf_file.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"

/*
 * inih as packaged cuts lines at 200 bytes, and which of its options a system
 * has compiled in differs.  So the reader that we give it does two things:
 * it takes the indentation away (an indented line would be glued to the value
 * above it), and of a line that is too long it hands on the beginning only and
 * keeps the whole, where the handler, called next, finds the value.
 */
struct reader {
	FILE		*file;
	struct arena	*arena;
	struct conf_entry **last;
	char		*text;		/* the present line; getline()'s */
	size_t		 size;
	char		*whole;		/* the same, when inih has got only a part of it */
	int		 line;
};

static char	*on_read(char *, int, void *);
static int	 on_pair(void *, const char *, const char *, const char *);
static const char *whole_value(const struct reader *);

int
conf_file_read(const char *path, struct arena *a, struct conf_entry **first, struct buf *why)
{
	struct reader	 r = { .file = fopen(path, "re"), .arena = a, .last = first };
	int		 bad;
	bool		 broken;

	*first = NULL;
	if (r.file == NULL) {
		buf_printf(why, "%s: cannot be read: %s\n", path, strerror(errno));
		return -1;
	}
	bad = ini_parse_stream(on_read, &r, on_pair, &r);
	broken = ferror(r.file) != 0;
	if (broken)
		buf_printf(why, "%s: cannot be read: %s\n", path, strerror(errno));
	else if (bad > 0)
		buf_printf(why, "%s:%d: this line is neither a [section] nor \"key = value\"\n", path, bad);
	(void)fclose(r.file);
	free(r.text);
	return broken || bad != 0 ? -1 : 0;
}

/* fgets() for inih: one call a line, whatever its length. */
static char *
on_read(char *to, int size, void *arg)
{
	struct reader	*r = arg;
	ssize_t		 got = getline(&r->text, &r->size, r->file);
	char		*s;
	size_t		 n;

	if (got < 0)
		return NULL;
	r->line++;
	r->whole = NULL;
	s = r->text + strspn(r->text, " \t\r\v\f");
	n = strlen(s);
	if (*s == '#' || *s == ';')
		n = 0;		/* a comment may be as long as it likes */
	else if (n >= (size_t)size) {
		r->whole = s;
		n = (size_t)size - 1;
	}
	memcpy(to, s, n);
	to[n] = '\0';
	return to;
}

static int
on_pair(void *arg, const char *section, const char *name, const char *value)
{
	struct reader		*r = arg;
	struct conf_entry	*e = arena_new(r->arena, struct conf_entry);

	e->section = arena_strdup(r->arena, section);
	e->name = arena_strdup(r->arena, name);
	e->value = r->whole != NULL ? whole_value(r) : arena_strdup(r->arena, value);
	e->line = r->line;
	*r->last = e;
	r->last = &e->next;
	return 1;
}

/* What inih does to the value of a line that it can hold. */
static const char *
whole_value(const struct reader *r)
{
	const char	*s = r->whole + strcspn(r->whole, "=:") + 1;
	size_t		 n;

	s += strspn(s, " \t");
	n = strcspn(s, "\r\n");
	for (size_t i = 1; i < n; i++)
		if (s[i] == ';' && (s[i - 1] == ' ' || s[i - 1] == '\t'))
			n = i;
	while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		n--;
	return arena_memdup(r->arena, s, n);
}
