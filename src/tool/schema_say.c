#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "io/json.h"
#include "tool/schema_check.h"

#define NAME_BYTES	64	/* as much of a name as tool_refuse() says */
#define WHERE_BYTES	200	/* of the whole way to a place */
#define CHOICE_BYTES	300	/* of the values named; the model has the schema for the rest */

static enum verdict fault(struct check *, enum fault_rank, const char *);
static bool	 is_word(const char *);
static size_t	 put_before(char *, size_t, const struct place *);
static int	 cut(const char *);

enum verdict
schema_fault(struct check *c, enum fault_rank rank, const char *fmt, ...)
{
	const char	*what;
	va_list		 ap;

	if (c->quiet > 0)
		return fault(c, rank, "");
	va_start(ap, fmt);
	what = arena_vprintf(c->arena, fmt, ap);
	va_end(ap);
	return fault(c, rank, arena_printf(c->arena, "%s %s.", schema_where(c, true), what));
}

enum verdict
schema_fault_kinds(struct check *c, unsigned kinds)
{
	static const char *const words[] = {
		"text", "a whole number", "a number", "true or false", "an object", "a list", "null",
	};
	struct buf	*b;
	unsigned	 left = kinds;

	/* A whole number is a number. */
	if (left & KIND_NUMBER)
		left &= ~(unsigned)KIND_INTEGER;
	if (c->quiet == 0) {
		b = buf_new(c->arena);
		buf_printf(b, "%s must be ", schema_where(c, true));
		for (unsigned i = 0; left != 0; i++) {
			if ((left & 1U << i) == 0)
				continue;
			left &= ~(1U << i);
			buf_str(b, words[i]);
			buf_str(b, left == 0 ? "." : (left & (left - 1)) == 0 ? " or " : ", ");
		}
		(void)fault(c, FAULT_KIND, buf_text(b));
	} else {
		(void)fault(c, FAULT_KIND, "");
	}
	c->fault.kinds = kinds;
	return REFUSED;
}

enum verdict
schema_fault_choice(struct check *c, const char *words, json_object *list)
{
	struct buf	*b;
	size_t		 start;

	if (c->quiet > 0)
		return fault(c, FAULT_VALUE, "");
	b = buf_new(c->arena);
	buf_printf(b, "%s %s: ", schema_where(c, true), words);
	start = b->n;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		if (i > 0)
			buf_str(b, ", ");
		if (b->n - start > CHOICE_BYTES) {
			buf_str(b, "and others");
			break;
		}
		buf_str(b, schema_value_text(c, json_object_array_get_idx(list, i)));
	}
	buf_char(b, '.');
	return fault(c, FAULT_VALUE, buf_text(b));
}

enum verdict
schema_fault_unknown(struct check *c)
{
	struct place	*p = c->place;
	const char	*name = p->name;

	if (c->quiet > 0)
		return fault(c, FAULT_OTHER, "");
	if (p->up == NULL)
		return fault(c, FAULT_OTHER, arena_printf(c->arena, "There is no argument %.*s.", cut(name), name));
	c->place = p->up;
	(void)fault(c, FAULT_OTHER, arena_printf(c->arena, "There is no member %.*s in %s.",
	    cut(name), name, schema_where(c, false)));
	c->place = p;
	return REFUSED;
}

/* Sentences cost memory: they are paid for like work. */
static enum verdict
fault(struct check *c, enum fault_rank rank, const char *text)
{
	(void)schema_spend(c, strlen(text) / 4);
	c->fault = (struct fault){ .text = text, .place = c->nplaces, .rank = rank };
	return REFUSED;
}

const char *
schema_where(struct check *c, bool begins)
{
	char		 s[WHERE_BYTES + 1];
	size_t		 at = WHERE_BYTES;
	char		*text;

	if (c->place == NULL)
		return begins ? "The arguments" : "the arguments";
	s[at] = '\0';
	for (const struct place *p = c->place; p != NULL; p = p->up) {
		size_t	 next = put_before(s, at, p);

		if (next == at) {
			/* No room: the last steps say most. */
			at += s[at] == '.';
			at -= strlen("...");
			memcpy(s + at, "...", strlen("..."));
			break;
		}
		at = next;
	}
	text = arena_strdup(c->arena, s + at);
	/* A word becomes the beginning of a sentence; other names stay as they are. */
	if (begins && c->place->up == NULL && is_word(text))
		*text = (char)(*text - 'a' + 'A');
	return text;
}

/* [3] or .name, or name where the way begins; leaves three bytes free, or at as it was. */
static size_t
put_before(char *s, size_t at, const struct place *p)
{
	char	 step[NAME_BYTES + 2];
	int	 n;

	if (p->name == NULL)
		n = snprintf(step, sizeof step, "[%zu]", p->index);
	else
		n = snprintf(step, sizeof step, "%s%.*s", p->up == NULL ? "" : ".", cut(p->name), p->name);
	if (n <= 0 || (size_t)n + strlen("...") > at)
		return at;
	memcpy(s + at - (size_t)n, step, (size_t)n);
	return at - (size_t)n;
}

/* taskId and task_id are no words: written otherwise they would be other names. */
static bool
is_word(const char *s)
{
	return *s != '\0' && strspn(s, "abcdefghijklmnopqrstuvwxyz") == strlen(s);
}

const char *
schema_value_text(struct check *c, json_object *o)
{
	const char	*text;

	/* One that is dear to write is not written again and again. */
	if (c->quiet > 0 || c->steps == 0)
		return "";
	if (json_object_is_type(o, json_type_string))
		return schema_text(c, json_object_get_string(o));
	text = json_text(o);
	(void)schema_spend(c, strlen(text) / 2);
	return schema_text(c, text);
}

const char *
schema_text(struct check *c, const char *text)
{
	return strnlen(text, NAME_BYTES + 1) <= NAME_BYTES ? arena_strdup(c->arena, text) :
	    arena_printf(c->arena, "%.*s...", cut(text), text);
}

/* Bytes of a foreign text that are said. */
static int
cut(const char *s)
{
	size_t	 n = strnlen(s, NAME_BYTES + 1);

	return (int)(n <= NAME_BYTES ? n : utf8_whole(s, NAME_BYTES));
}
