#include "base/trace.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/uuid.h"

#define HEX		"0123456789abcdef"	/* lower case only, says section 3.2 */
#define MEMBERS_MAX	32
#define MEMBER_LONG	128		/* longer ones are the first to go (section 3.3.1.5) */

static bool	 hex(const char *, size_t n, bool zero_is_good);
static const char *state_read(struct arena *, const char *);
static bool	 member_good(const char *, size_t);
static const char *state_shorten(struct arena *, const char *);

/* version "-" trace-id "-" parent-id "-" flags, and of later versions maybe more behind another "-". */
const struct trace *
trace_read(struct arena *a, const char *s, const char *state)
{
	struct trace	*t;

	if (s == NULL || strlen(s) < TRACE_PARENT - 1 ||
	    !hex(s, 2, true) || s[2] != '-' || !hex(s + 3, 32, false) || s[35] != '-' || !hex(s + 36, 16, false) ||
	    s[52] != '-' || !hex(s + 53, 2, true))
		return NULL;
	if (strncmp(s, "ff", 2) == 0 || (s[55] != '\0' && (strncmp(s, "00", 2) == 0 || s[55] != '-')))
		return NULL;
	t = arena_new(a, struct trace);
	memcpy(t->id, s + 3, 32);
	memcpy(t->parent, s + 36, 16);
	/* Bit 0 is the one flag of level 1; the others are to be sent as zero (section 3.2.2.5.2). */
	t->sampled = ((strchr(HEX, s[54]) - HEX) & 1) != 0;
	t->state = state_read(a, state);
	return t;
}

static bool
hex(const char *s, size_t n, bool zero_is_good)
{
	return strspn(s, HEX) >= n && (zero_is_good || strspn(s, "0") < n);
}

/* -- tracestate -- */

/* Members are passed on as they are: none of them is ours (section 3.3.1). */
static const char *
state_read(struct arena *a, const char *s)
{
	int	 members = 0;

	if (s == NULL)
		return NULL;
	for (const char *p = s; *p != '\0'; p += *p == ',') {
		size_t	 n;

		p += strspn(p, " \t");
		n = strcspn(p, ",");
		while (n > 0 && strchr(" \t", p[n - 1]) != NULL)
			n--;
		if (n > 0 && (!member_good(p, n) || ++members > MEMBERS_MAX))
			return NULL;
		p += strcspn(p, ",");
	}
	if (members == 0)
		return NULL;
	return strlen(s) <= TRACE_STATE_MAX ? arena_strdup(a, s) : state_shorten(a, s);
}

/* key "=" value: lower-case letters, digits and _-*\/@ in the key; printable in the value (section 3.3.1.3). */
static bool
member_good(const char *p, size_t n)
{
	size_t	 key = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_-*/@");

	if (key == 0 || key >= n || key > 256 || p[key] != '=' || n - key - 1 > 256 || n - key - 1 == 0)
		return false;
	for (size_t i = key + 1; i < n; i++)
		if (p[i] < 0x20 || p[i] > 0x7e || p[i] == '=')
			return false;
	return true;
}

/* Whole members only: first those that are long, then the last ones. */
static const char *
state_shorten(struct arena *a, const char *s)
{
	struct buf	*b = buf_new(a);

	for (const char *p = s; *p != '\0'; p += *p == ',') {
		size_t	 n;

		p += strspn(p, " \t");
		n = strcspn(p, ",");
		if (n > 0 && n <= MEMBER_LONG) {
			if (b->n + n + 1 > TRACE_STATE_MAX)
				break;
			if (b->n > 0)
				buf_char(b, ',');
			buf_add(b, p, n);
		}
		p += n;
	}
	return b->n > 0 ? buf_text(b) : NULL;
}

/* -- kept and sent -- */

static void
parent_write(const struct trace *t, const char *span, char out[TRACE_PARENT])
{
	(void)snprintf(out, TRACE_PARENT, "00-%s-%s-%s", t->id, span, t->sampled ? "01" : "00");
}

const char *
trace_text(struct arena *a, const struct trace *t)
{
	char	 parent[TRACE_PARENT];

	if (t == NULL)
		return NULL;
	parent_write(t, t->parent, parent);
	return t->state == NULL ? arena_strdup(a, parent) : arena_printf(a, "%s %s", parent, t->state);
}

const struct trace *
trace_of_text(struct arena *a, const char *text)
{
	const char	*state = text == NULL ? NULL : strchr(text, ' ');

	if (text == NULL)
		return NULL;
	return trace_read(a, state == NULL ? text : arena_memdup(a, text, (size_t)(state - text)),
	    state == NULL ? NULL : state + 1);
}

void
trace_next(const struct trace *t, char out[TRACE_PARENT])
{
	unsigned char	 id[8];
	char		 span[17];

	/* All zeros is no span. */
	do
		random_bytes(id, sizeof id);
	while (memcmp(id, (unsigned char [sizeof id]){ 0 }, sizeof id) == 0);
	for (size_t i = 0; i < sizeof id; i++)
		(void)snprintf(span + 2 * i, 3, "%02x", id[i]);
	parent_write(t, span, out);
}
