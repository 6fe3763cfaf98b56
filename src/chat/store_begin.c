/* How a turn becomes this worker's: the first part of store.h. */
#include "chat/store.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "chat/budget.h"
#include "chat/rows.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/job.h"

#define TRIES_MAX	5

/* How long the fate of a begin that got no answer is looked into: a client has to hear something. */
#define FATE_MS		3000
#define FATE_PAUSE_MS	100

/* Rows: a longer history is left where it lies. */
#define SHORT_HISTORY	8

#define ROWS_BEGUN	ROWS_MESSAGE ", outcome, conversation_id, fence, local_time, holds, left_ms," \
			" input_tokens, output_tokens, budget_ms, trace"
enum { OUTCOME = ROWS_MORE, CONVERSATION_ID, FENCE, LOCAL_TIME, HOLDS, LEFT_MS, INPUT_TOKENS, OUTPUT_TOKENS, BUDGET_MS, TRACE };

/* What a new turn may cost, and what it belongs to. */
#define LIMITS(job, tokens)	pg_num((job), (job)->conf->limits_user_turns_per_minute), \
				pg_num((job), (job)->conf->limits_user_tokens_per_day), pg_num((job), (tokens)), \
				trace_text((job)->arena, (job)->trace)

/* What every statement that loads a turn needs to know. */
#define LOAD(job)	holds_array(job), pg_num((job), (job)->conf->turn_history_messages), \
			pg_num((job), (job)->conf->turn_history_tokens)

static int	 begin_ask(struct job *, const struct store_begin *, int64_t call_tokens, bool again, struct pg_rows *);
static bool	 ask_again(struct job *, const struct pg_rows *, int64_t until, int tries, bool *again);
static int	 begun_read(struct job *, struct pg_rows *, const char *user, struct store_begun *);
static void	 begun_keep(struct job *, struct pg_rows *, struct store_begun *);
static int	 begun_outcome(struct job *, const struct pg_rows *, int last, const char *user, struct store_begun *);
static void	 key_read(const struct pg_rows *, int row, const char *user, struct turn_key *);
static const char *hold_key(struct job *, const struct conf_model *);
static const char *holds_array(struct job *);

int
store_begin(struct job *job, const struct store_begin *in, int64_t call_tokens, struct store_begun *out)
{
	int64_t		 until = deadline_ms(FATE_MS);
	struct pg_rows	 rows;
	bool		 again = false;

	for (int tries = 0; begin_ask(job, in, call_tokens, again, &rows) < 0; tries++) {
		/* The only value here that PostgreSQL itself judges. */
		if (strcmp(rows.sqlstate, "22023") == 0) {
			job_forgive(job);
			return job_fail_field(job, "time_zone", "This is not a time zone that is known here.");
		}
		if (!ask_again(job, &rows, until, tries, &again))
			return -1;
	}
	return begun_read(job, &rows, in->user, out);
}

/* yields.  The parameters are of the function's types: to name each costs the server a twentieth of a turn. */
static int
begin_ask(struct job *job, const struct store_begin *in, int64_t call_tokens, bool again, struct pg_rows *rows)
{
	static const char *const	 on_busy[] = { "queue", "reject", "interrupt" };
	static const char *const	 words[] = { NULL, "t", "f" };
	const struct conf		*conf = job->conf;

	return pg_query(job, PG_TURN, rows,
	    "SELECT " ROWS_BEGUN
	    "  FROM parley.turn_begin($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,"
	    "       $19, $20, $21, $22)",
	    in->user, in->conversation_id, in->new_id, pg_flag(in->create_unknown), in->message_id, in->content,
	    in->time_zone, words[in->word], on_busy[in->on_busy], in->key, in->key_hash, pg_flag(again), LOAD(job),
	    pg_num(job, conf->turn_deadline), pg_num(job, conf->limits_user_turns), pg_num(job, conf->limits_queue),
	    LIMITS(job, call_tokens));
}

/*
 * yields.  Two that met in a circle, as a deletion can, or with one key: said again, it goes well.  And
 * when the connection was lost on the way: the one thing not to do is to store it twice, so the next time asks first.
 */
static bool
ask_again(struct job *job, const struct pg_rows *rows, int64_t until, int tries, bool *again)
{
	bool	 met = strcmp(rows->sqlstate, "40P01") == 0 || strcmp(rows->sqlstate, "PF003") == 0;

	if (budget_refused(job, rows))
		return false;
	*again |= rows->unknown;
	if (met && tries < TRIES_MAX) {
		job_forgive(job);
		return true;
	}
	if (!*again || job->fail != FAIL_DATABASE_UNAVAILABLE || now_us() >= until)
		return false;
	job_forgive(job);
	return job_wait(job, deadline_ms(FATE_PAUSE_MS)) == 0 || job->fail == FAIL_NONE;
}

/* Without a key of the client's one of our own finds out about an answer that was lost; see 002-lasting.sql. */
static void
key_own(struct job *job, const char **key, const char **hash)
{
	char	 id[UUID_TEXT];

	if (*key != NULL)
		return;
	uuid_new(id);
	*key = arena_printf(job->arena, " %s", id);
	*hash = "";
}

int
store_retry(struct job *job, const char *conversation_id, int turn, bool supersede, const char *key,
    const char *key_hash, int64_t call_tokens, struct store_begun *out)
{
	int64_t		 until = deadline_ms(FATE_MS);
	struct pg_rows	 rows;
	bool		 again = false;

	key_own(job, &key, &key_hash);
	for (int tries = 0; pg_query(job, PG_TURN, &rows,
	    "SELECT " ROWS_BEGUN
	    "  FROM parley.turn_retry($1::text, $2::uuid, $3::int, $4::boolean, $5::text, $6::text, $7::text[], $8::int,"
	    "       $9::int, $10::int, $11::int, $12::int, $13::bigint, $14::bigint, $15::text)",
	    job->user, conversation_id, pg_num(job, turn), pg_flag(supersede), key, key_hash, LOAD(job),
	    pg_num(job, job->conf->turn_deadline), pg_num(job, job->conf->limits_user_turns),
	    LIMITS(job, call_tokens)) < 0; tries++)
		if (!ask_again(job, &rows, until, tries, &again))
			return -1;
	return begun_read(job, &rows, job->user, out);
}

int
store_decide(struct job *job, const char *conversation_id, const struct decision *d, int n, const char *key,
    const char *key_hash, struct store_begun *out)
{
	struct buf	*ids = buf_new(job->arena), *yes = buf_new(job->arena);
	int64_t		 until = deadline_ms(FATE_MS);
	struct pg_rows	 rows;
	bool		 again = false;

	for (int i = 0; i < n; i++) {
		rows_array_add(ids, d[i].call_id, strlen(d[i].call_id));
		rows_array_add(yes, pg_flag(d[i].yes), 1);
	}
	key_own(job, &key, &key_hash);
	rows_array_end(ids);
	rows_array_end(yes);
	for (int tries = 0; pg_query(job, PG_TURN, &rows,
	    "SELECT " ROWS_BEGUN
	    "  FROM parley.turn_decide($1::text, $2::uuid, $3::uuid[], $4::boolean[], $5::text, $6::text, $7::text[],"
	    "       $8::int, $9::int)",
	    job->user, conversation_id, buf_text(ids), buf_text(yes), key, key_hash, LOAD(job)) < 0; tries++)
		if (!ask_again(job, &rows, until, tries, &again))
			return -1;
	return begun_read(job, &rows, job->user, out);
}

int
store_load(struct job *job, const struct turn_key *k, struct store_begun *out)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT " ROWS_BEGUN
	    "  FROM parley.turn_load($1::text, $2::uuid, $3::int, $4::bigint, $5::text[], $6::int, $7::int)",
	    k->user, k->conversation_id, pg_num(job, k->turn), pg_num(job, k->fence), LOAD(job)) < 0)
		return -1;
	return begun_read(job, &rows, k->user, out);
}

int
store_take(struct job *job, const struct turn_key *k, bool take_next, struct store_begun *out)
{
	const struct conf	*conf = job->conf;
	struct pg_rows		 rows;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT " ROWS_BEGUN
	    "  FROM parley.turn_take($1::text, $2::uuid, $3::int, $4::bigint, $5::int, $6::int, $7::boolean, $8::int,"
	    "       $9::text[], $10::int, $11::int)",
	    k->user, k->conversation_id, pg_num(job, k->turn), pg_num(job, k->fence),
	    pg_num(job, conf->turn_lease), pg_num(job, conf->turn_max_attempts), pg_flag(take_next),
	    pg_num(job, conf->turn_deadline), LOAD(job)) < 0)
		return -1;
	return begun_read(job, &rows, k->user, out);
}

/* -- what was answered -- */

static int
begun_read(struct job *job, struct pg_rows *rows, const char *user, struct store_begun *out)
{
	int	 last = rows->n - 1, first = last;

	memset(out, 0, sizeof *out);
	/* No rows at all: the fence is another's. */
	if (last < 0) {
		out->got = STORE_GONE;
		return 0;
	}
	if (strcmp(pg_col(rows, last, OUTCOME), "begun") != 0)
		return begun_outcome(job, rows, last, user, out);

	out->got = STORE_BEGUN;
	key_read(rows, last, user, &out->key);
	out->history = arena_array(job->arena, struct message, rows->n);
	for (int i = 0; i < rows->n; i++)
		if (rows_message(job, rows, i, &out->history[i]) < 0)
			return -1;
	while (first > 0 && out->history[first - 1].turn == out->key.turn && out->history[first - 1].run == out->key.run)
		first--;
	out->nown = rows->n - first;
	while (out->nearlier < first && out->history[first - 1 - out->nearlier].turn == out->key.turn)
		out->nearlier++;
	out->nhistory = first - out->nearlier;

	out->local_time = pg_col(rows, last, LOCAL_TIME);
	out->left_ms = pg_col_int(rows, last, LEFT_MS);
	out->input_tokens = pg_col_int(rows, last, INPUT_TOKENS);
	out->output_tokens = pg_col_int(rows, last, OUTPUT_TOKENS);
	out->budget_ms = pg_col_int(rows, last, BUDGET_MS);
	out->trace = trace_of_text(job->arena, pg_col(rows, last, TRACE));
	out->holds = arena_array(job->arena, int64_t, job->conf->nmodels);
	rows_array_ints(pg_col(rows, last, HOLDS), out->holds, job->conf->nmodels);
	if (rows->n <= SHORT_HISTORY)
		begun_keep(job, rows, out);
	return 0;
}

/* libpq's blocks for a short history are several times as large as it, and a turn stays for long. */
static void
begun_keep(struct job *job, struct pg_rows *rows, struct store_begun *out)
{
	for (int i = 0; i < rows->n; i++)
		rows_keep(job, &out->history[i]);
	out->local_time = arena_strdup(job->arena, out->local_time);
	pg_free(rows);
}

/* One row that says why it is not the caller's. */
static int
begun_outcome(struct job *job, const struct pg_rows *rows, int last, const char *user, struct store_begun *out)
{
	static const struct {
		const char	*word;
		enum fail	 fail;
		const char	*sentence;	/* NULL: that of the failure */
	} refusals[] = {
		{ "not_found", FAIL_CONVERSATION_NOT_FOUND, NULL },
		{ "turn_not_found", FAIL_TURN_NOT_FOUND, NULL },
		{ "not_retryable", FAIL_TURN_NOT_RETRYABLE, NULL },
		{ "mismatch", FAIL_IDEMPOTENCY_MISMATCH, NULL },
		{ "rate_limited", FAIL_RATE_LIMITED, NULL },
		{ "queue_full", FAIL_QUEUE_FULL, NULL },
		{ "busy", FAIL_CONVERSATION_BUSY, NULL },
		{ "unknown_call", FAIL_NOT_FOUND, "There is no question with this id in this conversation." },
		{ "decided", FAIL_APPROVAL_ALREADY_DECIDED, NULL },
	};
	const char	*word = pg_col(rows, last, OUTCOME);

	if (strcmp(word, "gone") == 0 || strcmp(word, "ended") == 0) {
		out->got = *word == 'g' ? STORE_GONE : STORE_ENDED;
		key_read(rows, 0, user, &out->next);
		return 0;
	}
	key_read(rows, last, user, &out->key);
	if (last > 0)
		key_read(rows, 0, user, &out->next);
	if (strcmp(word, "queued") == 0 || strcmp(word, "known") == 0) {
		out->got = STORE_ELSEWHERE;
		out->waits = *word == 'q';
		return 0;
	}
	if (pg_col_int(rows, last, BUDGET_MS) > 0)
		return budget_refuse(job, word, pg_col_int(rows, last, BUDGET_MS));
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
		if (strcmp(word, refusals[i].word) != 0)
			continue;
		/* Which conversation and turn are in the way, where that is known. */
		if (out->key.turn != 0) {
			memcpy(job->conversation_id, out->key.conversation_id, sizeof job->conversation_id);
			job->turn = out->key.turn;
		}
		if (refusals[i].sentence != NULL)
			return job_fail(job, refusals[i].fail, "%s", refusals[i].sentence);
		return job_fail(job, refusals[i].fail, NULL);
	}
	job_detail(job, "outcome %s", word);
	return job_fail(job, FAIL_INTERNAL_ERROR, NULL);
}

static void
key_read(const struct pg_rows *rows, int row, const char *user, struct turn_key *k)
{
	const char	*id = pg_col(rows, row, CONVERSATION_ID);

	k->user = user;
	if (id != NULL)
		memccpy(k->conversation_id, id, '\0', sizeof k->conversation_id);
	k->turn = (int)pg_col_int(rows, row, ROWS_TURN);
	k->run = (int)pg_col_int(rows, row, ROWS_RUN);
	k->fence = pg_col_int(rows, row, FENCE);
}

/* -- holds -- */

static const char *
hold_key(struct job *job, const struct conf_model *m)
{
	return arena_printf(job->arena, "hold:%s %s", m->base_url, m->model);
}

/* What model_holds() wants to know of each model. */
static const char *
holds_array(struct job *job)
{
	struct buf	*b = buf_new(job->arena);

	for (int i = 0; i < job->conf->nmodels; i++) {
		const char	*name = hold_key(job, &job->conf->models[i]);

		rows_array_add(b, name, strlen(name));
	}
	return rows_array_end(b);
}

int
store_hold(struct job *job, int model, int64_t ms)
{
	const struct conf_model	*m = &job->conf->models[model];
	struct pg_rows		 rows;

	return pg_query(job, PG_TURN, &rows, "SELECT parley.fact_set($1::text, '', $2::bigint)",
	    hold_key(job, m), pg_num(job, ms));
}
