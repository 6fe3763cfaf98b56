#include "demo/script.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "demo/reply.h"

#define SCRIPT_MS_MAX		(24 * 3600 * 1000)
#define SCRIPT_COUNT_MAX	10000000

/* How often a script was asked for. */
struct counter {
	struct counter	*next;
	int		 n;
	char		 name[SCRIPT_NAME_MAX + 1];
};

struct scripts {
	const char	*dir;
	struct counter	*counters;
};

/* One verb; rest is what follows it.  NULL or what is wrong. */
struct verb {
	const char	*name;
	const char	*(*run)(struct reply *, const char *rest);
};

static int	 counter_next(struct scripts *, const char *);
static char	*script_read(const char *, struct buf *);
static struct reply *script_compile(const char *, const char *, int);
static const char *line_run(struct reply *, char *);
static int	 replies_count(const char *);
static bool	 is_separator(const char *, size_t);
static const char *number_take(const char *, int, int *);
static void	 unescape(const char *, struct buf *);

static const char *verb_status(struct reply *, const char *);
static const char *verb_header(struct reply *, const char *);
static const char *verb_data(struct reply *, const char *);
static const char *verb_done(struct reply *, const char *);
static const char *verb_raw(struct reply *, const char *);
static const char *verb_drip(struct reply *, const char *);
static const char *verb_repeat(struct reply *, const char *);
static const char *verb_wait(struct reply *, const char *);
static const char *verb_end(struct reply *, const char *);
static const char *verb_cut(struct reply *, const char *);
static const char *verb_reset(struct reply *, const char *);
static const char *verb_hang(struct reply *, const char *);
static const char *verb_garbage(struct reply *, const char *);

static const struct verb verbs[] = {
	{ "status",	verb_status },	/* status 429 */
	{ "header",	verb_header },	/* header Retry-After: 2 */
	{ "data",	verb_data },	/* data {...}: an event */
	{ "done",	verb_done },	/* data: [DONE] */
	{ "raw",	verb_raw },	/* bytes with \n \r \t \\ \xNN \uNNNN; without text: the head alone */
	{ "drip",	verb_drip },	/* drip MS text: byte by byte */
	{ "repeat",	verb_repeat },	/* repeat N data {...} */
	{ "wait",	verb_wait },	/* wait MS; before all others it delays the head */
	{ "end",	verb_end },	/* implied */
	{ "cut",	verb_cut },	/* closes in the middle */
	{ "reset",	verb_reset },	/* the same by RST */
	{ "hang",	verb_hang },	/* nothing more, for ever */
	{ "garbage",	verb_garbage },	/* bytes instead of an HTTP head */
};

struct scripts *
scripts_open(const char *dir)
{
	struct scripts	*s = calloc(1, sizeof *s);

	if (s == NULL)
		abort();
	s->dir = dir;
	return s;
}

void
scripts_close(struct scripts **sp)
{
	if (*sp == NULL)
		return;
	scripts_reset(*sp);
	free(*sp);
	*sp = NULL;
}

void
scripts_reset(struct scripts *s)
{
	struct counter	*c;

	while ((c = s->counters) != NULL) {
		s->counters = c->next;
		free(c);
	}
}

struct reply *
script_reply(struct scripts *s, const char *name)
{
	struct buf	 text = { 0 };
	struct reply	*r;
	char		 path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s/%s.script", s->dir, name) >= (int)sizeof path ||
	    script_read(path, &text) == NULL) {
		buf_free(&text);
		return reply_error(404, "there is no script \"%s\"", name);
	}
	r = script_compile(path, buf_text(&text), counter_next(s, name));
	buf_free(&text);
	return r;
}

/* 0 for the first request, 1 for the second, … */
static int
counter_next(struct scripts *s, const char *name)
{
	struct counter	*c = s->counters;

	while (c != NULL && strcmp(c->name, name) != 0)
		c = c->next;
	if (c == NULL) {
		if ((c = calloc(1, sizeof *c)) == NULL)
			abort();
		(void)snprintf(c->name, sizeof c->name, "%s", name);
		c->next = s->counters;
		s->counters = c;
	}
	return c->n++;
}

static char *
script_read(const char *path, struct buf *b)
{
	FILE	*f = fopen(path, "re");
	char	 part[4096];
	size_t	 n;

	if (f == NULL)
		return NULL;
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		buf_add(b, part, n);
	n = (size_t)ferror(f);
	(void)fclose(f);
	buf_reserve(b, 1);
	return n != 0 ? NULL : b->p;
}

static struct reply *
script_compile(const char *path, const char *text, int nth)
{
	struct reply	*r = reply_open(200);
	struct buf	 line = { 0 };
	const char	*nl, *why = NULL;
	int		 here = 0, number = 0, last = replies_count(text) - 1;

	if (nth > last)
		nth = last;
	for (; *text != '\0' && here <= nth && why == NULL; text = nl + (*nl == '\n')) {
		nl = strchrnul(text, '\n');
		number++;
		if (is_separator(text, (size_t)(nl - text)))
			here++;
		else if (here == nth) {
			buf_clear(&line);
			buf_reserve(&line, 1);
			buf_add(&line, text, (size_t)(nl - text));
			why = line_run(r, line.p);
		}
	}
	buf_free(&line);
	if (why != NULL) {
		reply_close(&r);
		return reply_error(500, "%s:%d: %s", path, number, why);
	}
	reply_seal(r);
	return r;
}

static int
replies_count(const char *text)
{
	int	 n = 1;

	for (const char *nl; *text != '\0'; text = nl + (*nl == '\n')) {
		nl = strchrnul(text, '\n');
		n += is_separator(text, (size_t)(nl - text));
	}
	return n;
}

static bool
is_separator(const char *line, size_t n)
{
	while (n > 3 && isspace((unsigned char)line[n - 1]))
		n--;
	return n == 3 && memcmp(line, "---", 3) == 0;
}

static const char *
line_run(struct reply *r, char *line)
{
	size_t	 n = line == NULL ? 0 : strlen(line);
	char	*rest;

	if (n > 0 && line[n - 1] == '\r')
		line[--n] = '\0';
	if (n == 0 || line[0] == '#' || line[strspn(line, " \t")] == '\0')
		return NULL;
	rest = line + strcspn(line, " ");
	if (*rest != '\0')
		*rest++ = '\0';
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (strcmp(verbs[i].name, line) == 0)
			return verbs[i].run(r, rest);
	return "no such verb";
}

static const char *
verb_status(struct reply *r, const char *rest)
{
	return number_take(rest, 999, &r->status) != NULL && r->status >= 100 ? NULL :
	    "a status has three digits";
}

static const char *
verb_header(struct reply *r, const char *rest)
{
	const char	*colon = strchr(rest, ':');
	char		 name[128];

	if (colon == NULL || colon == rest || colon - rest >= (int)sizeof name)
		return "a header is \"Name: value\"";
	memcpy(name, rest, (size_t)(colon - rest));
	name[colon - rest] = '\0';
	reply_field(r, name, colon + 1 + strspn(colon + 1, " "));
	return NULL;
}

static const char *
verb_data(struct reply *r, const char *rest)
{
	reply_data(r, rest);
	return NULL;
}

static const char *
verb_done(struct reply *r, const char *rest)
{
	(void)rest;
	reply_data(r, "[DONE]");
	return NULL;
}

static const char *
verb_raw(struct reply *r, const char *rest)
{
	struct buf	 b = { 0 };

	unescape(rest, &b);
	(void)reply_step(r, STEP_BYTES, b.p, b.n, 0);
	buf_free(&b);
	return NULL;
}

static const char *
verb_drip(struct reply *r, const char *rest)
{
	struct buf	 b = { 0 };
	int		 ms;

	if ((rest = number_take(rest, SCRIPT_MS_MAX, &ms)) == NULL)
		return "drip needs milliseconds and a text";
	unescape(rest, &b);
	(void)reply_step(r, STEP_DRIP, b.p, b.n, ms);
	buf_free(&b);
	return NULL;
}

static const char *
verb_repeat(struct reply *r, const char *rest)
{
	struct step	**last = r->last;
	int		 n;

	if ((rest = number_take(rest, SCRIPT_COUNT_MAX, &n)) == NULL || n == 0)
		return "repeat needs a count";
	if (strncmp(rest, "data ", 5) == 0)
		(void)verb_data(r, rest + 5);
	else if (strncmp(rest, "raw ", 4) == 0)
		(void)verb_raw(r, rest + 4);
	else
		return "only data and raw can be repeated";
	(*last)->count = n;
	return NULL;
}

static const char *
verb_wait(struct reply *r, const char *rest)
{
	int	 ms;

	if (number_take(rest, SCRIPT_MS_MAX, &ms) == NULL)
		return "wait needs milliseconds";
	reply_wait(r, ms);
	return NULL;
}

/* The end of the list is the end of the body. */
static const char *
verb_end(struct reply *r, const char *rest)
{
	(void)r;
	(void)rest;
	return NULL;
}

static const char *
verb_cut(struct reply *r, const char *rest)
{
	(void)rest;
	(void)reply_step(r, STEP_CUT, NULL, 0, 0);
	return NULL;
}

static const char *
verb_reset(struct reply *r, const char *rest)
{
	(void)rest;
	(void)reply_step(r, STEP_RESET, NULL, 0, 0);
	return NULL;
}

static const char *
verb_hang(struct reply *r, const char *rest)
{
	(void)rest;
	(void)reply_step(r, STEP_HANG, NULL, 0, 0);
	return NULL;
}

static const char *
verb_garbage(struct reply *r, const char *rest)
{
	struct buf	 b = { 0 };

	unescape(rest, &b);
	(void)reply_step(r, STEP_GARBAGE, b.p, b.n, 0);
	buf_free(&b);
	return NULL;
}

/* Reads a number from 0 to max; gives what follows it and one space, NULL when there is none. */
static const char *
number_take(const char *text, int max, int *n)
{
	char	*end;
	long	 value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || errno != 0 || value < 0 || value > max || (*end != '\0' && *end != ' '))
		return NULL;
	*n = (int)value;
	return end + (*end == ' ');
}

/* \n \r \t \\ \xNN and \uNNNN (as UTF-8); any other escaped byte is itself. */
static void
unescape(const char *p, struct buf *b)
{
	unsigned int	 code;
	int		 used;
	char		 bytes[4];

	for (; *p != '\0'; p++) {
		if (*p != '\\' || p[1] == '\0') {
			buf_char(b, *p);
			continue;
		}
		p++;
		if (*p == 'x' && sscanf(p + 1, "%2x%n", &code, &used) == 1) {
			buf_char(b, (char)code);
			p += used;
		} else if (*p == 'u' && sscanf(p + 1, "%4x%n", &code, &used) == 1 && used == 4) {
			buf_add(b, bytes, utf8_write(bytes, code));
			p += used;
		} else
			buf_char(b, *p == 'n' ? '\n' : *p == 'r' ? '\r' : *p == 't' ? '\t' : *p);
	}
}
