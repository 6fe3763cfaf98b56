#include "demo/journal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/buf.h"
#include "io/json.h"

struct entry {
	uint64_t	 number;	/* 0: empty */
	int64_t		 ms;		/* since the epoch */
	char		*text;		/* method, path, headers and body as JSON members */
	size_t		 n;
	char		*script;	/* NULL: none */
	bool		 left;
};

/* Entry number n lies at n % JOURNAL_MAX. */
struct journal {
	struct entry	 ring[JOURNAL_MAX];
	uint64_t	 first, next;	/* numbers; none when equal */
	size_t		 bytes;
};

static struct entry *entry_at(struct journal *, uint64_t);
static void	 oldest_drop(struct journal *);
static void	 text_write(struct buf *, const struct request *, struct slice);
static void	 fields_write(struct buf *, const struct request *);
static bool	 field_seen(const struct request *, struct slice, struct slice);

struct journal *
journal_open(void)
{
	struct journal	*j = calloc(1, sizeof *j);

	if (j == NULL)
		abort();
	j->first = j->next = 1;
	return j;
}

void
journal_close(struct journal **jp)
{
	if (*jp == NULL)
		return;
	journal_clear(*jp);
	free(*jp);
	*jp = NULL;
}

uint64_t
journal_add(struct journal *j, const struct request *r, struct slice body)
{
	struct entry	*e;
	struct buf	 b = { 0 };
	struct timespec	 ts;

	text_write(&b, r, body);
	while (j->first < j->next &&
	    (j->next - j->first >= JOURNAL_MAX || j->bytes + b.n > JOURNAL_BYTES))
		oldest_drop(j);
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	e = &j->ring[j->next % JOURNAL_MAX];
	*e = (struct entry){ .number = j->next++, .text = b.p, .n = b.n,
	    .ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 };
	j->bytes += b.n;
	return e->number;
}

void
journal_script(struct journal *j, uint64_t number, const char *name)
{
	struct entry	*e = entry_at(j, number);

	if (e != NULL && e->script == NULL)
		e->script = strdup(name);
}

void
journal_left(struct journal *j, uint64_t number)
{
	struct entry	*e = entry_at(j, number);

	if (e != NULL)
		e->left = true;
}

void
journal_clear(struct journal *j)
{
	while (j->first < j->next)
		oldest_drop(j);
}

void
journal_write(const struct journal *j, struct buf *b)
{
	const struct entry	*e;

	jw_open(b, '[');
	for (uint64_t i = j->first; i < j->next; i++) {
		e = &j->ring[i % JOURNAL_MAX];
		jw_open(b, '{');
		buf_add(b, e->text, e->n);
		jw_key(b, "t_ms");
		jw_int(b, e->ms);
		jw_key(b, "script");
		jw_string(b, e->script);
		jw_key(b, "closed_early");
		jw_bool(b, e->left);
		jw_close(b, '}');
	}
	jw_close(b, ']');
}

static struct entry *
entry_at(struct journal *j, uint64_t number)
{
	return number >= j->first && number < j->next ? &j->ring[number % JOURNAL_MAX] : NULL;
}

static void
oldest_drop(struct journal *j)
{
	struct entry	*e = &j->ring[j->first++ % JOURNAL_MAX];

	j->bytes -= e->n;
	free(e->text);
	free(e->script);
	*e = (struct entry){ 0 };
}

static void
text_write(struct buf *b, const struct request *r, struct slice body)
{
	jw_key(b, "method");
	jw_string_n(b, r->method.p, r->method.n);
	jw_key(b, "path");
	jw_string_n(b, r->target.p, r->target.n);
	jw_key(b, "headers");
	fields_write(b, r);
	jw_key(b, "body");
	/* What is JSON stays as it came, so that a test reads what was really sent. */
	if (body.n > 0 && json_valid(body.p, body.n, NULL))
		buf_add(b, body.p, body.n);
	else
		jw_string_n(b, body.p, body.n);
}

/* Names in lower case; lines of the same name are joined (RFC 9110 section 5.3). */
static void
fields_write(struct buf *b, const struct request *r)
{
	struct slice	 at = r->fields, rest, name, value, other, more;
	struct buf	 joined = { 0 }, lower = { 0 };

	jw_open(b, '{');
	while (request_field(&at, &name, &value)) {
		if (field_seen(r, at, name))
			continue;
		buf_clear(&lower);
		for (size_t i = 0; i < name.n; i++)
			buf_char(&lower, name.p[i] >= 'A' && name.p[i] <= 'Z' ?
			    (char)(name.p[i] | 0x20) : name.p[i]);
		buf_clear(&joined);
		buf_add(&joined, value.p, value.n);
		for (rest = at; request_field(&rest, &other, &more);)
			if (other.n == name.n && strncasecmp(other.p, name.p, name.n) == 0) {
				buf_str(&joined, ", ");
				buf_add(&joined, more.p, more.n);
			}
		jw_key(b, buf_text(&lower));
		jw_string_n(b, buf_text(&joined), joined.n);
	}
	jw_close(b, '}');
	buf_free(&joined);
	buf_free(&lower);
}

/* Has a line before the one that ended at `at` this name already? */
static bool
field_seen(const struct request *r, struct slice at, struct slice name)
{
	struct slice	 all = r->fields, other, value;

	while (request_field(&all, &other, &value) && all.p != at.p)
		if (other.n == name.n && strncasecmp(other.p, name.p, name.n) == 0)
			return true;
	return false;
}
