/*
 * tool -- the table of tools is read once, however many ask, and renewed behind their backs.
 *
 * PostgreSQL is played by the pg_ functions below, which are linked instead of src/io/pg.c.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "tap.h"
#include "tool/tool.h"

#define CROWD	50

static const struct { const char *name, *description, *schema, *risk; } catalog[] = {
	{ "list_tasks", "Lists \"tasks\".", "{\"type\" : \"object\", \"properties\" : {}}", "read_only" },
	{ "add_task", "Adds.", "{\"type\":\"object\"}", "writes" },
	{ "bad name", "No model takes it.", "{}", "writes" },
	{ "no_schema", NULL, "[]", "writes" },
};

static struct conf	 conf = { .tools_enabled = true, .tools_sql = true, .tools_refresh = 300 };
static int		 queries, taken, failed;
static bool		 down;

int
pg_query_n(struct job *job, enum pg_use use, struct pg_rows *rows, const char *sql, const char *const *params, int nparams)
{
	(void)use;
	(void)sql;
	(void)params;
	queries++;
	loop_sleep(deadline_ms(20));
	if (down)
		return job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
	rows->n = 4 + nparams;
	return 0;
}

const char *
pg_text(const struct pg_rows *rows, int row, const char *column)
{
	(void)rows;
	return *column == 'n' ? catalog[row].name : *column == 'd' ? catalog[row].description :
	    *column == 's' ? catalog[row].schema : catalog[row].risk;
}

bool
pg_bool(const struct pg_rows *rows, int row, const char *column)
{
	(void)rows;
	(void)column;
	return row == 1;
}

int64_t
pg_int(const struct pg_rows *rows, int row, const char *column)
{
	(void)rows;
	(void)row;
	(void)column;
	return 0;
}

const char *
pg_num(struct job *job, int64_t n)
{
	(void)job;
	(void)n;
	return "0";
}

void
pg_free(struct pg_rows *rows)
{
	rows->n = 0;
}

static void
taker(void *arg)
{
	struct job	 job;

	(void)arg;
	job_open(&job, &conf);
	job.deadline = deadline_ms(5000);
	if (tool_table_take(&job) != NULL)
		taken++;
	else
		failed += job.fail == FAIL_DATABASE_UNAVAILABLE;
	job_close(&job);
}

static void
impatient(void *arg)
{
	struct job	 job;

	(void)arg;
	job_open(&job, &conf);
	job.deadline = deadline_ms(5);
	job.late = FAIL_TURN_TIMEOUT;
	ok(tool_table_take(&job) == NULL && job.fail == FAIL_TURN_TIMEOUT, "who has no time does not wait");
	job_close(&job);
}

static void
crowd(void)
{
	queries = taken = failed = 0;
	for (int i = 0; i < CROWD; i++)
		fiber_start(taker, NULL);
	loop_sleep(deadline_ms(150));
}

static void
check(void *arg)
{
	struct job	 job;
	const struct tool_table *t, *old;

	(void)arg;
	job_open(&job, &conf);

	down = true;
	fiber_start(impatient, NULL);
	crowd();
	ok(queries == 1 && failed == CROWD, "nothing to read: one statement, and all who wait fail");
	down = false;
	crowd();
	ok(queries == 1 && taken == CROWD, "one statement for all");

	t = tool_table_take(&job);
	is_text(t->json, "[{\"type\":\"function\",\"function\":{\"name\":\"add_task\",\"description\":\"Adds.\",\"parameters\":{\"type\":\"object\"}}},"
	    "{\"type\":\"function\",\"function\":{\"name\":\"list_tasks\",\"description\":\"Lists \\\"tasks\\\".\",\"parameters\":"
	    "{\"type\":\"object\",\"properties\":{}}}}]", "the tools as a model wants them, by name, without the unusable");
	ok(tool_find(t, "list_tasks") != NULL && tool_find(t, "list_tasks")->risk == TOOL_READ_ONLY, "found by name");
	ok(tool_find(t, "add_task")->confirm && tool_find(t, "add_task")->risk == TOOL_WRITES, "with its risk");
	ok(tool_find(t, "nonsense") == NULL, "or not found");

	loop_sleep(deadline_ms(320));
	queries = 0;
	old = tool_table_take(&job);
	ok(old == t && queries == 0, "an old table is given out at once");
	loop_sleep(deadline_ms(100));
	ok(queries == 1 && tool_table_take(&job) != t, "and renewed in the background");
	ok(tool_find(t, "add_task") != NULL, "who has the old one keeps it");

	down = true;
	loop_sleep(deadline_ms(320));
	crowd();
	ok(taken == CROWD && failed == 0, "while the database is down the old table serves on");
	tool_table_expire();
	crowd();
	ok(failed == CROWD, "but not an expired one");
	down = false;
	crowd();
	ok(taken == CROWD && queries == 1, "and then all is well again");

	conf.tools_enabled = false;
	t = tool_table_take(&job);
	ok(t->ntools == 0 && t->json == NULL && tool_find(t, "add_task") == NULL, "no tools at all where they are switched off");
	job_close(&job);
	loop_stop();
}

int
main(void)
{
	(void)log_open("/dev/null", LOG_ERROR, NULL);
	if (loop_open() < 0 || fiber_start(check, NULL) == NULL)
		abort();
	loop_run();
	loop_close();
	return done_testing();
}
