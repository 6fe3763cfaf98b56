#include "chat/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "chat/budget.h"
#include "chat/rows.h"
#include "io/json.h"
#include "io/pg.h"
#include "model/client.h"
#include "run/deadline.h"
#include "run/job.h"

#define BACKOFF_MS	100
#define BACKOFF_MAX_MS	1000
#define DEADLOCKS_MAX	3

static const char *calls_array(struct job *, const struct message *);
static int	 call_read(struct job *, const struct pg_rows *, struct call *);
static int	 write_turn(struct job *, enum pg_use, int64_t, struct pg_rows *, const char *,
		    const char *const *, int);
static int	 write_failed(struct job *, const struct pg_rows *, int64_t, int);
static int	 wait_ms(struct job *, int64_t);
static void	 next_read(const struct pg_rows *, const struct turn_key *, struct turn_key *);

#define COUNT(a)	((int)(sizeof (a) / sizeof (a)[0]))

/* What every write of a turn begins with. */
#define KEY(job, k)	(k)->user, (k)->conversation_id, pg_num((job), (k)->turn), pg_num((job), (k)->run), \
			pg_num((job), (k)->fence)

int
store_step(struct job *job, const struct turn_key *k, struct message *m, const struct answer *a, int64_t *budget_ms)
{
	struct pg_rows	 rows;
	const char	*params[] = {
		KEY(job, k), pg_num(job, m->index), m->id, m->content, m->raw, m->model, a->model_name,
		pg_num(job, a->input_tokens), pg_num(job, a->output_tokens), calls_array(job, m), pg_flag(a->estimated),
		pg_num(job, job->conf->limits_user_tokens_per_day),
		pg_num(job, budget_next(job->conf, a->input_tokens, a->output_tokens))
	};

	if (write_turn(job, PG_TURN, job->deadline, &rows,
	    "SELECT created_at, budget_ms FROM parley.turn_step($1::text, $2::uuid, $3::int, $4::int, $5::bigint, $6::int, $7::uuid, $8::text,"
	    "       $9::json, $10::text, $11::text, $12::bigint, $13::bigint, $14::json, $15::boolean, $16::bigint,"
	    "       $17::bigint)", params, COUNT(params)) < 0)
		return -1;
	m->created_at = pg_col(&rows, 0, 0);
	*budget_ms = pg_int(&rows, 0, "budget_ms");
	return 0;
}

static const char *
calls_array(struct job *job, const struct message *m)
{
	struct buf	*b = buf_new(job->arena);

	jw_open(b, '[');
	for (int i = 0; i < m->ncalls; i++) {
		const struct call	*c = &m->calls[i];

		jw_open(b, '{');
		jw_key(b, "id"), jw_string(b, c->id);
		jw_key(b, "call_id"), jw_string(b, c->call_id);
		jw_key(b, "tool_name"), jw_string(b, c->tool_name);
		jw_key(b, "parameters"), jw_raw(b, c->parameters);
		jw_key(b, "broken"), jw_string(b, c->broken);
		jw_key(b, "confirm"), jw_bool(b, c->approval != NULL);
		jw_close(b, '}');
	}
	jw_close(b, ']');
	return buf_text(b);
}

int
store_tool_run(struct job *job, const struct turn_key *k, int index, int position, struct call *c)
{
	struct pg_rows	 rows;
	const char	*params[] = {
		KEY(job, k), pg_num(job, index), pg_num(job, position), pg_num(job, job->conf->tools_max_result)
	};

	/* Asking twice is harmless: the second time there is a result. */
	if (write_turn(job, PG_TOOL, job->deadline, &rows,
	    "SELECT result, is_error, executed_at, duration_ms, error_state"
	    "  FROM parley.tool_run($1::text, $2::uuid, $3::int, $4::int, $5::bigint, $6::int, $7::int, $8::int)",
	    params, COUNT(params)) < 0)
		return -1;
	return call_read(job, &rows, c);
}

int
store_tool_start(struct job *job, const struct turn_key *k, int index, int position, struct call *c)
{
	struct pg_rows	 rows;
	const char	*params[] = { KEY(job, k), pg_num(job, index), pg_num(job, position) };

	if (write_turn(job, PG_TURN, job->deadline, &rows,
	    "SELECT result, is_error, executed_at, duration_ms, error_state"
	    "  FROM parley.tool_start($1::text, $2::uuid, $3::int, $4::int, $5::bigint, $6::int, $7::int)",
	    params, COUNT(params)) < 0)
		return -1;
	c->started = true;
	return call_read(job, &rows, c);
}

int
store_ask(struct job *job, const struct turn_key *k, int index, struct call *calls, const int *positions,
    const char *const *questions, int n)
{
	struct buf	*places = buf_new(job->arena), *texts = buf_new(job->arena);
	struct pg_rows	 rows;
	int		 waits = 0;

	for (int i = 0; i < n; i++) {
		const char	*place = pg_num(job, positions[i]);

		rows_array_add(places, place, strlen(place));
		rows_array_add(texts, questions[i], strlen(questions[i]));
	}
	const char	*params[] = {
		KEY(job, k), pg_num(job, index), rows_array_end(places), rows_array_end(texts),
		pg_num(job, job->conf->approvals_expire)
	};

	if (write_turn(job, PG_TURN, job->deadline, &rows,
	    "SELECT pos, approval, question, expires_at, result, is_error, executed_at, duration_ms"
	    "  FROM parley.turn_ask($1::text, $2::uuid, $3::int, $4::int, $5::bigint, $6::int, $7::int[], $8::text[],"
	    "       $9::bigint)", params, COUNT(params)) < 0)
		return -1;
	for (int i = 0; i < rows.n; i++) {
		struct call	*c = &calls[pg_int(&rows, i, "pos")];

		c->approval = pg_text(&rows, i, "approval");
		c->question = pg_text(&rows, i, "question");
		c->expires_at = pg_text(&rows, i, "expires_at");
		c->result = rows_json(job, pg_text(&rows, i, "result"));
		c->is_error = pg_bool(&rows, i, "is_error");
		c->executed_at = pg_text(&rows, i, "executed_at");
		c->duration_ms = pg_int(&rows, i, "duration_ms");
		waits |= c->result == NULL;
	}
	return waits;
}

int
store_tool_answer(struct job *job, const struct turn_key *k, int index, int position, struct call *c)
{
	struct pg_rows	 rows;
	const char	*params[] = {
		KEY(job, k), pg_num(job, index), pg_num(job, position), c->result, pg_flag(c->is_error)
	};

	if (write_turn(job, PG_TURN, job->deadline, &rows,
	    "SELECT result, is_error, executed_at, duration_ms, error_state"
	    "  FROM parley.tool_answer($1::text, $2::uuid, $3::int, $4::int, $5::bigint, $6::int, $7::int,"
	    "       $8::json, $9::boolean)", params, COUNT(params)) < 0)
		return -1;
	return call_read(job, &rows, c);
}

int
store_tool_call(struct job *job, const char *key, struct call *c)
{
	struct pg_rows	 rows;
	const char	*params[] = {
		job->user, key, c->id, c->tool_name, c->parameters, pg_num(job, job->conf->tools_max_result)
	};

	/* Asking twice is harmless here as well: the key is known by then. */
	if (write_turn(job, PG_TOOL, deadline_ms(job->conf->database_wait), &rows,
	    "SELECT result, is_error, executed_at, duration_ms, error_state"
	    "  FROM parley.tool_call($1::text, $2::uuid, $3::uuid, $4::text, $5::json, $6::int)",
	    params, COUNT(params)) < 0)
		return -1;
	return rows.n == 0 ? 0 : call_read(job, &rows, c);
}

static int
call_read(struct job *job, const struct pg_rows *rows, struct call *c)
{
	const char	*state;

	if (rows->n == 0)
		return job_fail(job, FAIL_INTERNAL_ERROR, NULL);
	c->result = rows_json(job, pg_text(rows, 0, "result"));
	c->is_error = pg_bool(rows, 0, "is_error");
	c->executed_at = pg_text(rows, 0, "executed_at");
	c->duration_ms = pg_int(rows, 0, "duration_ms");

	/* What a tool says of itself (P0001) is for the model; anything else its author should know. */
	state = pg_text(rows, 0, "error_state");
	if (state != NULL && strcmp(state, "P0001") != 0 && job_log(job, LOG_WARN, "tool_failed")) {
		log_str("tool", c->tool_name);
		log_str("sqlstate", state);
		log_int("duration_ms", c->duration_ms);
		log_end();
	}
	return 0;
}

int
store_end(struct job *job, const struct turn_key *k, struct store_end *end)
{
	static const struct message	 none;
	const struct message		*m = end->reply != NULL ? end->reply : &none;
	struct pg_rows			 rows;
	bool				 masked = job->masked;
	int				 rc;
	const char			*params[] = {
		KEY(job, k), end->state, end->error_code, end->sentence, pg_num(job, m->index), m->id, m->content,
		m->raw, m->model, pg_flag(m->interrupted), end->model, pg_num(job, end->input_tokens),
		pg_num(job, end->output_tokens), end->timings, pg_flag(end->take_next),
		pg_num(job, job->conf->turn_deadline), pg_flag(end->estimated)
	};

	/* Whoever wants it to stop gets what he wants: it ends. */
	job->masked = true;
	rc = write_turn(job, PG_TURN, job->deadline, &rows,
	    "SELECT ended_at, next_turn, next_run, next_fence"
	    "  FROM parley.turn_end($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,"
	    "       $20, $21)", params, COUNT(params));
	job->masked = masked;
	if (rc < 0)
		return -1;
	if (end->reply != NULL)
		end->reply->created_at = pg_col(&rows, 0, 0);
	next_read(&rows, k, &end->next);
	return 0;
}

/* The queued turn that was handed on: in the same conversation. */
static void
next_read(const struct pg_rows *rows, const struct turn_key *k, struct turn_key *next)
{
	*next = *k;
	next->turn = (int)pg_int(rows, 0, "next_turn");
	next->run = (int)pg_int(rows, 0, "next_run");
	next->fence = pg_int(rows, 0, "next_fence");
}

int
store_release(struct job *job, const struct turn_key *k)
{
	struct pg_rows	 rows;

	return pg_query(job, PG_TURN, &rows,
	    "SELECT parley.turn_release($1::text, $2::uuid, $3::int, $4::int, $5::bigint)", KEY(job, k));
}

int
store_cancel(struct job *job, const char *conversation_id, int turn, bool take_next, const char **state,
    struct turn_key *next)
{
	struct turn_key	 k = { .user = job->user };
	struct pg_rows	 rows;

	memccpy(k.conversation_id, conversation_id, '\0', sizeof k.conversation_id);
	if (pg_query(job, PG_TURN, &rows,
	    "SELECT outcome, next_turn, next_run, next_fence"
	    "  FROM parley.turn_cancel($1::text, $2::uuid, $3::int, $4::boolean, $5::int)",
	    job->user, conversation_id, pg_num(job, turn), pg_flag(take_next),
	    pg_num(job, job->conf->turn_deadline)) < 0)
		return -1;
	*state = pg_text(&rows, 0, "outcome");
	if (strcmp(*state, "not_found") == 0)
		return job_fail(job, FAIL_TURN_NOT_FOUND, NULL);
	if (strcmp(*state, "ended") == 0)
		return job_fail(job, FAIL_TURN_NOT_RUNNING, NULL);
	next_read(&rows, &k, next);
	return 0;
}

int
store_expired(struct job *job, int max, bool orphans, struct turn_key **keys, int *n)
{
	struct pg_rows	 rows;

	/* On the connection of the pulse, so that it is heard when all others are busy. */
	if (pg_query(job, PG_PULSE, &rows,
	    "SELECT user_id, conversation_id, turn, fence FROM parley.turns_expired($1::int, $2::int, $3::boolean)",
	    pg_num(job, job->conf->turn_lease), pg_num(job, max), pg_flag(orphans)) < 0)
		return -1;
	*n = rows.n;
	*keys = arena_array(job->arena, struct turn_key, rows.n);
	for (int i = 0; i < rows.n; i++) {
		struct turn_key	*k = &(*keys)[i];

		k->user = pg_text(&rows, i, "user_id");
		memccpy(k->conversation_id, pg_text(&rows, i, "conversation_id"), '\0', sizeof k->conversation_id);
		k->turn = (int)pg_int(&rows, i, "turn");
		k->fence = pg_int(&rows, i, "fence");
	}
	return 0;
}

/*
 * yields.  All writes of a turn may be said again: each finds out by itself whether it was done.  So
 * while the database is away, or the fate of a statement is not known, it is said again until `until`.
 */
static int
write_turn(struct job *job, enum pg_use use, int64_t until, struct pg_rows *rows, const char *sql,
    const char *const *params, int nparams)
{
	for (int tries = 0;; tries++) {
		if (pg_query_n(job, use, rows, sql, params, nparams) == 0)
			return 0;
		if (write_failed(job, rows, until, tries) < 0)
			return -1;
	}
}

/* yields.  0: it is to be tried again, now. */
static int
write_failed(struct job *job, const struct pg_rows *rows, int64_t until, int tries)
{
	int64_t	 pause = tries < 4 ? BACKOFF_MS << tries : BACKOFF_MAX_MS;

	if (strcmp(rows->sqlstate, "PF001") == 0 || strcmp(rows->sqlstate, "PF002") == 0) {
		job_forgive(job);
		job->stop = rows->sqlstate[4] == '1' ? JOB_FENCED : JOB_CANCELLED;
		return job_fail(job, FAIL_TURN_ABANDONED, NULL);
	}
	/*
	 * Two that met in a circle; or a wait for a lock that took too long, as for a tool's call that a dead worker has
	 * left running in the database.  (A tool that is stopped itself is a result.)
	 */
	if ((strcmp(rows->sqlstate, "40P01") == 0 || strcmp(rows->sqlstate, "57014") == 0) &&
	    tries < DEADLOCKS_MAX) {
		job_forgive(job);
		return 0;
	}
	if (job->fail != FAIL_DATABASE_UNAVAILABLE || until < deadline_ms(pause))
		return -1;
	job_forgive(job);
	return wait_ms(job, pause);
}

/* yields.  -1: the job has failed. */
static int
wait_ms(struct job *job, int64_t ms)
{
	int64_t	 until = deadline_ms(ms);

	while (now_us() < until)
		if (job_wait(job, until) < 0 && job->fail != FAIL_NONE)
			return -1;
	return 0;
}
