#include "chat/kit.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "chat/budget.h"
#include "chat/rows.h"
#include "io/pg.h"
#include "run/job.h"

static int
threads_ask(struct job *job, const char *id, int limit, bool oldest_first, const char *after, struct pg_rows *rows)
{
	return pg_query(job, PG_TURN, rows,
	    "SELECT id, title, created_at"
	    "  FROM parley.chatkit_threads($1::text, $2::uuid, $3::int, $4::boolean, $5::uuid)",
	    job->user, id, pg_num(job, limit), pg_flag(oldest_first), after);
}

static struct kit_thread
thread_read(const struct pg_rows *rows, int row)
{
	return (struct kit_thread){
		.id = pg_col(rows, row, 0),
		.title = pg_col(rows, row, 1),
		.created_at = pg_col(rows, row, 2),
	};
}

int
kit_thread(struct job *job, const char *id, struct kit_thread *thread)
{
	struct pg_rows	 rows;

	if (threads_ask(job, id, 1, false, NULL, &rows) < 0)
		return -1;
	if (rows.n == 0)
		return job_fail(job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	*thread = thread_read(&rows, 0);
	return 0;
}

int
kit_threads(struct job *job, int limit, bool oldest_first, const char *after, struct kit_thread **threads, int *n)
{
	struct pg_rows	 rows;

	if (threads_ask(job, NULL, limit, oldest_first, after, &rows) < 0)
		return -1;
	*threads = arena_array(job->arena, struct kit_thread, rows.n);
	*n = rows.n;
	for (int i = 0; i < rows.n; i++)
		(*threads)[i] = thread_read(&rows, i);
	return 0;
}

int
kit_messages(struct job *job, const char *id, int from, int turns, bool oldest_first, struct message **messages, int *n)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT " ROWS_MESSAGE
	    "  FROM parley.chatkit_messages($1::text, $2::uuid, $3::int, $4::int, $5::boolean)",
	    job->user, id, from > 0 ? pg_num(job, from) : NULL, pg_num(job, turns), pg_flag(oldest_first)) < 0)
		return -1;
	*messages = arena_array(job->arena, struct message, rows.n);
	*n = rows.n;
	for (int i = 0; i < rows.n; i++)
		if (rows_message(job, &rows, i, &(*messages)[i]) < 0)
			return -1;
	return 0;
}

int
kit_place(struct job *job, const char *id, const char *message_id, struct kit_place *place)
{
	struct pg_rows	 rows;
	const char	*role;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT there, turn, idx, role, shown FROM parley.chatkit_place($1::text, $2::uuid, $3::uuid)",
	    job->user, id, message_id) < 0)
		return -1;
	if (!pg_bool(&rows, 0, "there"))
		return job_fail(job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	role = pg_text(&rows, 0, "role");
	place->turn = (int)pg_int(&rows, 0, "turn");
	place->index = (int)pg_int(&rows, 0, "idx");
	place->role = role != NULL && strcmp(role, "user") == 0 ? ROLE_USER : ROLE_ASSISTANT;
	place->shown = pg_bool(&rows, 0, "shown");
	return 0;
}

int
kit_check(struct job *job, const char *id, enum kit_wish wish, const char *key, const char *key_hash, bool *known)
{
	static const char *const wishes[] = { "message", "retry", "decision" };
	static const struct {
		const char	*word;
		enum fail	 fail;
	} refusals[] = {
		{ "not_found", FAIL_CONVERSATION_NOT_FOUND },
		{ "busy", FAIL_CONVERSATION_BUSY },
		{ "mismatch", FAIL_IDEMPOTENCY_MISMATCH },
		{ "queue_full", FAIL_QUEUE_FULL },
		{ "rate_limited", FAIL_RATE_LIMITED },
	};
	const struct conf	*conf = job->conf;
	struct pg_rows	 rows;
	const char	*word;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT outcome, wait_ms FROM parley.chatkit_check($1::text, $2::uuid, $3::text, $4::text, $5::text, $6::int, $7::int,"
	    "       $8::int, $9::bigint, $10::bigint, $11::int)",
	    job->user, id, wishes[wish], key, key_hash,
	    pg_num(job, conf->limits_user_turns), pg_num(job, conf->limits_queue),
	    pg_num(job, conf->limits_user_turns_per_minute), pg_num(job, conf->limits_user_tokens_per_day),
	    pg_num(job, budget_call(conf, NULL)), pg_num(job, conf->turn_deadline)) < 0)
		return -1;
	word = pg_text(&rows, 0, "outcome");
	if (pg_int(&rows, 0, "wait_ms") > 0)
		return budget_refuse(job, word, pg_int(&rows, 0, "wait_ms"));
	*known = strcmp(word, "known") == 0;
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
		if (strcmp(word, refusals[i].word) == 0)
			return job_fail(job, refusals[i].fail, NULL);
	return 0;
}

static const char *
text_array(struct job *job, const char *const *texts, int n)
{
	struct buf	*b = buf_new(job->arena);

	for (int i = 0; i < n; i++)
		rows_array_add(b, texts[i], strlen(texts[i]));
	return rows_array_end(b);
}

int
kit_feedback(struct job *job, const char *id, const char *const *items, const char *const *messages, int n,
    const char *kind)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT parley.feedback_give($1::text, $2::uuid, $3::text[], $4::uuid[], $5::text)",
	    job->user, id, text_array(job, items, n), text_array(job, messages, n), kind) < 0)
		return -1;
	if (strcmp(pg_col(&rows, 0, 0), "not_found") == 0)
		return job_fail(job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	if (strcmp(pg_col(&rows, 0, 0), "no_item") == 0)
		return job_fail(job, FAIL_NOT_FOUND, "There is no such item in this thread.");
	return 0;
}
