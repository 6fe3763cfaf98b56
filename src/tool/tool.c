#include "tool/tool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/json.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"

#define NAME_MAX_BYTES	64		/* what the model APIs take as a function's name */
#define AGAIN_US	1000000		/* after a read that failed, before the next */
#define READ_MAX_MS	20000		/* for one reading of the catalog */

struct kept {
	struct tool_table table;	/* first: a table is what the others see of it */
	struct arena	*arena;
	bool		 unusable;	/* expired: the next take waits for another */
};

/* Who waits for the first reading; belongs to the waiting job. */
struct waiter {
	struct fiber	*fiber;
	struct waiter	*next;
	bool		 done;
	bool		 failed;
};

/* A copy of public facts of the database, with an expiry: forgetting it costs one statement. */
static struct kept	*current;
static int64_t		 current_until;		/* then it is read again */
/* At most one reading at a time, however many turns ask. */
static const struct conf *reading;		/* NULL: nobody reads */
static struct waiter	*waiters;
/* What turns get where tools are switched off. */
static const struct tool_table none;

static int	 reader_start(const struct conf *);
static void	 reader(void *);
static struct kept *table_read(struct job *);
static void	 table_fill(struct kept *, struct pg_rows *);
static const char *compact(struct arena *, const char *);
static void	 table_json(struct kept *);
static void	 table_use(struct kept *, const struct conf *);
static void	 waiters_wake(bool failed);
static int	 wait_for_table(struct job *);
static bool	 name_good(const char *);
static enum tool_risk risk(const char *);
static int	 by_name(const void *, const void *);
static void	 give(void *);

const struct tool_table *
tool_table_take(struct job *job)
{
	if (!job->conf->tools_enabled)
		return &none;
	if (current == NULL || current->unusable) {
		if (wait_for_table(job) < 0)
			return NULL;
	} else if (now_us() >= current_until && reading == NULL) {
		/* In the background: a turn does not pay for it. If nobody can read now, the next turn tries. */
		(void)reader_start(job->conf);
	}
	current->table.users++;
	arena_defer(job->arena, give, current);
	return &current->table;
}

const struct tool *
tool_find(const struct tool_table *t, const char *name)
{
	struct tool	 key = { .name = name };

	if (t->ntools == 0)
		return NULL;
	return bsearch(&key, t->tools, (size_t)t->ntools, sizeof *t->tools, by_name);
}

void
tool_table_expire(void)
{
	if (current != NULL)
		current->unusable = true;
}

/* yields */
static int
wait_for_table(struct job *job)
{
	struct waiter	*w = arena_new(job->arena, struct waiter);

	if (reading == NULL && reader_start(job->conf) < 0)
		return job_fail(job, FAIL_OVERLOADED, NULL);
	*w = (struct waiter){ .fiber = job->fiber, .next = waiters };
	waiters = w;
	while (!w->done && (job_wait(job, NEVER) == 0 || job->fail == FAIL_NONE))
		;
	if (!w->done) {
		/* The job is over before the reading: leave the queue. */
		for (struct waiter **p = &waiters; *p != NULL; p = &(*p)->next)
			if (*p == w) {
				*p = w->next;
				break;
			}
		return -1;
	}
	if (w->failed) {
		job_detail(job, "the list of tools cannot be read");
		return job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
	}
	return 0;
}

static int
reader_start(const struct conf *conf)
{
	reading = conf;
	if (fiber_start(reader, NULL) != NULL)
		return 0;
	reading = NULL;
	return -1;
}

/* The reading's own fiber and job: it is nobody's turn, and ends with none. */
static void
reader(void *arg)
{
	const struct conf	*conf = reading;
	struct job		 job;
	struct kept		*got;

	(void)arg;
	job_open(&job, conf);
	job.route = "tools";
	job.deadline = deadline_ms(READ_MAX_MS);
	job.late = FAIL_DATABASE_UNAVAILABLE;
	got = table_read(&job);
	if (got != NULL) {
		table_use(got, conf);
	} else {
		if (job_log(&job, LOG_ERROR, "tools_unreadable")) {
			log_str("detail", job.detail);
			log_end();
		}
		/* An old table serves on: the tools are still what they were. */
		current_until = now_us() + AGAIN_US;
	}
	reading = NULL;
	waiters_wake(got == NULL);
	job_close(&job);
}

static struct kept *
table_read(struct job *job)
{
	struct pg_rows	 rows;
	struct kept	*k;
	struct arena	*a;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT name, description, schema, risk, confirm, output"
	    "  FROM parley.tools_list()") < 0)
		return NULL;
	a = arena_open();
	k = arena_new(a, struct kept);
	k->arena = a;
	table_fill(k, &rows);
	table_json(k);
	pg_free(&rows);
	return k;
}

static void
table_fill(struct kept *k, struct pg_rows *rows)
{
	struct tool_table	*t = &k->table;

	t->tools = arena_array(k->arena, struct tool, rows->n + 1);
	for (int i = 0; i < rows->n; i++) {
		const char	*name = pg_text(rows, i, "name"), *text;

		if (!name_good(name)) {
			log_say(LOG_WARN, "tool_left_out", "no model would take this name: %s", name);
			continue;
		}
		if ((text = compact(k->arena, pg_text(rows, i, "schema"))) == NULL) {
			log_say(LOG_WARN, "tool_left_out", "its schema is no JSON object: %s", name);
			continue;
		}
		t->tools[t->ntools++] = (struct tool){
			.name = arena_strdup(k->arena, name),
			.description = arena_strdup(k->arena, pg_text(rows, i, "description")),
			.schema = text,
			.output = compact(k->arena, pg_text(rows, i, "output")),
			.risk = risk(pg_text(rows, i, "risk")),
			.confirm = pg_bool(rows, i, "confirm"),
		};
	}
	qsort(t->tools, (size_t)t->ntools, sizeof *t->tools, by_name);
}

/* The database writes blanks that each request would pay for.  NULL: no JSON object. */
static const char *
compact(struct arena *to, const char *text)
{
	struct arena	*a = arena_open();
	json_object	*o = text != NULL ? json_read(a, text, strlen(text), NULL) : NULL;

	text = json_object_is_type(o, json_type_object) ? arena_strdup(to, json_text(o)) : NULL;
	arena_close(&a);
	return text;
}

/* Once for all requests of this table. */
static void
table_json(struct kept *k)
{
	struct buf	*b;

	if (k->table.ntools == 0)
		return;
	b = buf_new(k->arena);
	jw_open(b, '[');
	for (int i = 0; i < k->table.ntools; i++) {
		const struct tool	*t = &k->table.tools[i];

		jw_open(b, '{');
		jw_key(b, "type");
		jw_string(b, "function");
		jw_key(b, "function");
		jw_open(b, '{');
		jw_key(b, "name");
		jw_string(b, t->name);
		if (t->description != NULL) {
			jw_key(b, "description");
			jw_string(b, t->description);
		}
		jw_key(b, "parameters");
		jw_raw(b, t->schema);
		jw_close(b, '}');
		jw_close(b, '}');
	}
	jw_close(b, ']');
	k->table.json = b->p;
}

/* The worker itself is one user of the current table. */
static void
table_use(struct kept *k, const struct conf *conf)
{
	struct kept	*old = current;

	k->table.users = 1;
	current = k;
	current_until = deadline_ms(conf->tools_refresh);
	if (old != NULL)
		give(old);
}

static void
waiters_wake(bool failed)
{
	while (waiters != NULL) {
		struct waiter	*w = waiters;

		waiters = w->next;
		w->done = true;
		w->failed = failed;
		fiber_wake(w->fiber);
	}
}

static bool
name_good(const char *s)
{
	size_t	 n = s != NULL ? strlen(s) : 0;

	return n > 0 && n <= NAME_MAX_BYTES &&
	    strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

/* What is not known to be harmless writes. */
static enum tool_risk
risk(const char *s)
{
	if (s != NULL && strcmp(s, "read_only") == 0)
		return TOOL_READ_ONLY;
	if (s != NULL && strcmp(s, "idempotent") == 0)
		return TOOL_IDEMPOTENT;
	return TOOL_WRITES;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct tool *)a)->name, ((const struct tool *)b)->name);
}

static void
give(void *arg)
{
	struct kept	*k = arg;
	struct arena	*a = k->arena;

	if (--k->table.users == 0)
		arena_close(&a);
}
