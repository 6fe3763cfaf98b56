#include "auth/issuer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "io/http.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/job.h"

/* A set of keys is small and static: an issuer that takes longer than this is as good as down. */
#define FETCH_CONNECT_MS	3000
#define FETCH_FIRST_BYTE_MS	5000
#define FETCH_TOTAL_MS		8000
/* How often, and for how long, the row is looked at while another worker is fetching. */
#define FOLLOW_STEP_MS		200
#define FOLLOW_MAX_MS		3000
/* Ages come from another clock in whole milliseconds, so "the same" needs some room. */
#define SAME_MS			50

/* What the row of facts knows. */
struct row {
	const char	*value;		/* NULL: nothing */
	int64_t		 said_at;
	int64_t		 age_ms;
};

/*
 * When this worker last asked without a database, which alone keeps it from asking too often then; a worker that
 * forgets it asks once more.
 */
static int64_t	 alone_at;

static const char *
row_key(struct job *job)
{
	return arena_printf(job->arena, "jwks:%s", job->conf->auth_jwks_url);
}

/* yields.  -1: there is no database to ask, which is no failure here. */
static int
row_get(struct job *job, struct row *row)
{
	struct pg_rows	 rows = { 0 };

	*row = (struct row){ 0 };
	if (pg_query(job, PG_TURN, &rows, "SELECT value, age_ms FROM parley.fact_get($1)", row_key(job)) < 0) {
		job_forgive(job);
		return -1;
	}
	if (rows.n == 1 && pg_text(&rows, 0, "value") != NULL) {
		row->value = arena_strdup(job->arena, pg_text(&rows, 0, "value"));
		row->age_ms = pg_int(&rows, 0, "age_ms");
		row->said_at = now_us() - row->age_ms * 1000;
	}
	pg_free(&rows);
	return 0;
}

/* yields.  1: ours to fetch, 0: another worker did that claim_age ms ago, -1: no database. */
static int
row_claim(struct job *job, int64_t *claim_age)
{
	struct pg_rows	 rows = { 0 };
	int		 claimed;

	if (pg_query(job, PG_TURN, &rows, "SELECT claimed, age_ms FROM parley.fact_claim($1, $2::bigint)",
	    row_key(job), pg_num(job, job->conf->auth_jwks_min_interval)) < 0) {
		job_forgive(job);
		return -1;
	}
	claimed = rows.n == 1 && pg_bool(&rows, 0, "claimed");
	*claim_age = rows.n == 1 ? pg_int(&rows, 0, "age_ms") : 0;
	pg_free(&rows);
	return claimed;
}

/* yields.  A set that could not be shared is still good for this worker. */
static void
row_put(struct job *job, const char *text)
{
	struct pg_rows	 rows = { 0 };

	if (pg_query(job, PG_TURN, &rows, "SELECT parley.fact_set($1, $2, $3::bigint)",
	    row_key(job), text, pg_num(job, job->conf->auth_jwks_stale)) < 0)
		job_forgive(job);
	pg_free(&rows);
}

static bool
row_is_newer(const struct row *row, int64_t have)
{
	return row->value != NULL && (have == NEVER || row->said_at > have + SAME_MS * 1000);
}

static void
row_take(const struct row *row, int64_t have, struct issuer_answer *out)
{
	struct buf	 why = { 0 };

	if (!row_is_newer(row, have))
		return;
	out->set = jwk_set_read(row->value, strlen(row->value), &why);
	out->said_at = row->said_at;
	if (out->set == NULL)
		log_say(LOG_WARN, "jwks_failed", "the shared copy: %s", buf_text(&why));
	buf_free(&why);
}

static void
fetch_failed(struct job *job, int status, const char *detail)
{
	if (!job_log(job, LOG_WARN, "jwks_failed"))
		return;
	if (status > 0)
		log_int("http_status", status);
	log_str("reason", detail);
	log_end();
}

/* yields.  The body of a 200, or -1 and a line in the log. */
static int
fetch_body(struct job *job, struct http *h, struct buf *body)
{
	int	 status = http_status(h);
	char	 piece[1024];
	ssize_t	 n = 0;

	while (status == 200 && (n = http_read(h, piece, sizeof piece)) > 0)
		buf_add(body, piece, (size_t)n);
	if (status < 0 || n < 0) {
		fetch_failed(job, status, http_detail(h));
		return -1;
	}
	if (status != 200)
		fetch_failed(job, status, "not a 200; redirects are not followed");
	return status == 200 ? 0 : -1;
}

/* yields */
static int
fetch(struct job *job, struct buf *body, struct issuer_answer *out)
{
	static const char *const headers[] = { "Accept: application/jwk-set+json, application/json", NULL };
	struct http	*h = http_open(job, &(struct http_ask){
		.method = "GET",
		.url = job->conf->auth_jwks_url,
		.headers = headers,
		.connect_ms = FETCH_CONNECT_MS,
		.first_byte_ms = FETCH_FIRST_BYTE_MS,
		.total_ms = FETCH_TOTAL_MS,
		.max_body = JWK_SET_BYTES,
	});
	struct buf	 why = { 0 };
	int		 r = fetch_body(job, h, body);

	http_close(&h);
	if (r < 0)
		return -1;
	out->set = jwk_set_read(buf_text(body), body->n, &why);
	out->said_at = now_us();
	if (out->set == NULL)
		fetch_failed(job, 200, buf_text(&why));
	else if (job_log(job, LOG_INFO, "jwks_fetched")) {
		log_int("keys", out->set->n);
		log_int("skipped", out->set->skipped);
		log_end();
	}
	buf_free(&why);
	return out->set != NULL ? 0 : -1;
}

/* yields.  Another worker asks just now: its answer is ours. */
static int
follow(struct job *job, int64_t claim_age, struct row *row)
{
	int64_t	 claimed_at = now_us() - claim_age * 1000;
	int64_t	 until = deadline_ms(FOLLOW_MAX_MS);

	for (;;) {
		if (row_get(job, row) < 0)
			return -1;
		if (row->value != NULL && row->said_at > claimed_at - SAME_MS * 1000)
			return 0;
		if (now_us() >= until || now_us() > claimed_at + FETCH_TOTAL_MS * 1000)
			return -1;
		if (job_wait(job, deadline_ms(FOLLOW_STEP_MS)) < 0 && job->fail != FAIL_NONE)
			return -1;
	}
}

/* yields */
static int
ask_alone(struct job *job, struct buf *body, struct issuer_answer *out)
{
	if (alone_at != 0 && now_us() < alone_at + job->conf->auth_jwks_min_interval * 1000)
		return -1;
	alone_at = now_us();
	return fetch(job, body, out);
}

int
issuer_ask(struct job *job, int64_t have, int64_t fresh_ms, struct issuer_answer *out)
{
	struct buf	*body = buf_new(job->arena);
	struct row	 row;
	int64_t		 claim_age = 0;
	int		 claimed;

	*out = (struct issuer_answer){ 0 };
	if (row_get(job, &row) < 0)
		return ask_alone(job, body, out);

	/* Another worker has asked not long ago. */
	if (row_is_newer(&row, have) && row.age_ms <= fresh_ms) {
		row_take(&row, have, out);
		if (out->set != NULL)
			return 0;
	}

	claimed = row_claim(job, &claim_age);
	if (claimed < 0)
		return ask_alone(job, body, out);
	if (claimed && fetch(job, body, out) == 0) {
		row_put(job, buf_text(body));
		return 0;
	}
	if (!claimed && follow(job, claim_age, &row) == 0) {
		row_take(&row, have, out);
		return 0;
	}

	/* The issuer is down; what the row remembers may still be better than what this worker has. */
	row_take(&row, have, out);
	return -1;
}
