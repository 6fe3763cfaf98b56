/*
 * The issuer's keys as one worker has them: who asks, how often, and what is used while nobody answers.
 *
 * The database and the issuer are doubles in this file, linked in place of io/pg and io/http, so that "another worker" is whatever the test
 * writes into the row.  Times are short: the interval is 60 ms, a set is 200 ms old when it is asked for again, 700 ms when it is too old.
 */
#include "auth/jwks.h"

#include "auth/signature.h"
#include "base/arena.h"
#include "base/conf.h"
#include "io/http.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "signer.h"
#include "tap.h"

#define INTERVAL_MS	60
#define TTL_MS		200
#define STALE_MS	700

static struct arena	*texts;
static struct conf	 conf = {
	.auth_jwks_url = "https://issuer.example/jwks",
	.auth_jwks_ttl = TTL_MS,
	.auth_jwks_stale = STALE_MS,
	.auth_jwks_min_interval = INTERVAL_MS,
};

/* -- the shared row -- */

static struct {
	bool		 away;
	const char	*value;
	int64_t		 stored_at;
	int64_t		 claimed_at;	/* 0: never */
	bool		 claimed;	/* what the last fact_claim said */
	bool		 claim_asked;	/* the last statement was one */
	int		 statements;
} db;

int
pg_query_n(struct job *job, enum pg_use use, struct pg_rows *rows, const char *sql, const char *const *params, int n)
{
	(void)use;
	loop_sleep(deadline_ms(1));
	db.statements++;
	if (db.away)
		return job_fail(job, FAIL_DATABASE_UNAVAILABLE, NULL);
	*rows = (struct pg_rows){ .n = 1 };
	if (strstr(sql, "fact_set") != NULL) {
		db.value = arena_strdup(texts, params[1]);
		db.stored_at = now_us();
	}
	db.claim_asked = strstr(sql, "fact_claim") != NULL;
	if (db.claim_asked) {
		db.claimed = db.claimed_at == 0 || now_us() >= db.claimed_at + atoll(params[1]) * 1000;
		if (db.claimed)
			db.claimed_at = now_us();
	}
	return n > 0 ? 0 : -1;
}

const char *
pg_text(const struct pg_rows *rows, int row, const char *column)
{
	(void)rows, (void)row, (void)column;
	return db.value;
}

/* Both statements call it age_ms. */
int64_t
pg_int(const struct pg_rows *rows, int row, const char *column)
{
	(void)rows, (void)row, (void)column;
	return (now_us() - (db.claim_asked ? db.claimed_at : db.stored_at)) / 1000;
}

bool
pg_bool(const struct pg_rows *rows, int row, const char *column)
{
	(void)rows, (void)row, (void)column;
	return db.claimed;
}

void
pg_free(struct pg_rows *rows)
{
	(void)rows;
}

const char *
pg_num(struct job *job, int64_t n)
{
	return arena_printf(job->arena, "%lld", (long long)n);
}

/* -- the issuer -- */

static struct {
	const char	*set;
	int		 status;	/* -1: no answer */
	int64_t		 takes_ms;
	int		 asked;
	size_t		 read;
} issuer = { .status = 200, .takes_ms = 5 };

struct http { char unused; };
static struct http	 exchange;

struct http *
http_open(struct job *job, const struct http_ask *ask)
{
	(void)job;
	issuer.asked += strcmp(ask->method, "GET") == 0 ? 1 : 1000;
	issuer.read = 0;
	return &exchange;
}

int
http_status(struct http *h)
{
	(void)h;
	loop_sleep(deadline_ms(issuer.takes_ms));
	return issuer.status;
}

ssize_t
http_read(struct http *h, char *p, size_t n)
{
	size_t	 left = strlen(issuer.set) - issuer.read;

	(void)h;
	n = left < n ? left : n;
	memcpy(p, issuer.set + issuer.read, n);
	issuer.read += n;
	return (ssize_t)n;
}

const char *
http_detail(const struct http *h)
{
	(void)h;
	return "no answer";
}

void
http_close(struct http **h)
{
	*h = NULL;
}

/* A set of Ed25519 keys with those kids; their keys do not matter here. */
static const char *
set_of(const char *kid, const char *kid2)
{
	static const char	 x[] = "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"";

	return arena_printf(texts, "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",%s,\"kid\":\"%s\"},"
	    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",%s,\"kid\":\"%s\"}]}", x, kid, x, kid2);
}

/* -- the asking -- */

enum said { FOUND, UNKNOWN, DOWN, ENDED };

static enum said
find(const char *kid)
{
	struct job	 job;
	bool		 down = false;
	const struct jwk *key;
	enum said	 said;

	job_open(&job, &conf);
	key = jwks_find(&job, alg_find("EdDSA"), kid, &down);
	said = job.fail != FAIL_NONE ? ENDED : key != NULL ? FOUND : down ? DOWN : UNKNOWN;
	if (key != NULL && strcmp(key->kid, kid) != 0)
		said = ENDED;
	job_close(&job);
	return said;
}

static void
pause_ms(int64_t ms)
{
	loop_sleep(deadline_ms(ms));
}

/* Long enough for the next question to be allowed. */
static void
interval_pass(void)
{
	pause_ms(INTERVAL_MS + 20);
}

/* The set has just been asked for because of its age: the next question is allowed, and none will come by itself for long. */
static void
quiet_wait(void)
{
	int	 asked = issuer.asked;

	while (issuer.asked == asked)
		pause_ms(2);
	interval_pass();
}

#define CROWD	20

static struct {
	const char	*kid;
	int		 found;
	int		 ended;
} crowd;

static void
crowd_one(void *arg)
{
	(void)arg;
	crowd.found += find(crowd.kid) == FOUND;
	crowd.ended++;
}

/* How many of twenty at once find the key. */
static int
crowd_find(const char *kid)
{
	crowd.kid = kid;
	crowd.found = crowd.ended = 0;
	for (int i = 0; i < CROWD; i++)
		fiber_start(crowd_one, NULL);
	while (crowd.ended < CROWD)
		pause_ms(2);
	return crowd.found;
}

static void
test_first(void)
{
	int	 statements;

	issuer.status = -1;
	ok(find("a") == DOWN, "no answer and no set: nobody knows");
	ok(find("a") == DOWN && issuer.asked == 1, "and nobody asks again at once");
	interval_pass();
	issuer.status = 200;
	issuer.set = "{\"error\":\"no set\"}";
	ok(find("a") == DOWN && issuer.asked == 2, "an answer that is no set is none");
	interval_pass();
	issuer.set = set_of("a", "b");
	ok(crowd_find("a") == CROWD, "twenty wait for the first answer");
	ok(issuer.asked == 3, "to one question");
	ok(db.value != NULL && strcmp(db.value, issuer.set) == 0, "which is shared");
	statements = db.statements;
	ok(find("b") == FOUND && db.statements == statements, "from then on a known kid costs no statement");
}

static void
test_timer(void)
{
	int	 asked = issuer.asked;

	issuer.set = set_of("a", "c");
	pause_ms(TTL_MS + 50);
	ok(issuer.asked == asked + 1, "the set is asked for again when its time is over, by itself");
	ok(find("c") == FOUND, "a new key is there");
	ok(find("b") == UNKNOWN, "and one that has gone is not");
}

static void
test_unknown(void)
{
	int	 asked, statements;
	int64_t	 began;

	interval_pass();
	asked = issuer.asked;
	issuer.set = set_of("a", "d");
	ok(crowd_find("d") == CROWD && issuer.asked == asked + 1, "a kid that nobody knows is asked for once");

	asked = issuer.asked;
	statements = db.statements;
	began = now_us();
	for (int i = 0; i < 100; i++) {
		if (find(i % 2 != 0 ? "x" : "y") != UNKNOWN)
			ok(false, "a kid of the storm");
		pause_ms(2);
	}
	ok(issuer.asked - asked <= (now_us() - began) / (INTERVAL_MS * 1000) + 1, "a storm of them makes %d questions", issuer.asked - asked);
	ok(db.statements - statements <= 4 * ((now_us() - began) / (INTERVAL_MS * 1000) + 2), "and %d statements", db.statements - statements);
	ok(find("a") == FOUND, "and does no harm");
}

/* What another worker has asked for is ours. */
static void
test_shared(void)
{
	int	 asked;

	quiet_wait();
	asked = issuer.asked;
	db.value = set_of("a", "e");
	db.stored_at = db.claimed_at = now_us();
	ok(find("e") == FOUND && issuer.asked == asked, "a newer set in the row is taken without a question");
	ok(find("d") == UNKNOWN, "in place of the old one");
}

static void
other_worker(void *arg)
{
	pause_ms(30);
	db.value = arg;
	db.stored_at = now_us();
}

static void
test_follow(void)
{
	char	*set = arena_strdup(texts, set_of("a", "f"));
	int	 asked;

	quiet_wait();
	asked = issuer.asked;
	db.claimed_at = now_us();
	fiber_start(other_worker, set);
	ok(find("f") == FOUND && issuer.asked == asked, "while another worker asks, its answer is waited for");
	issuer.set = set;
}

static void
test_down(void)
{
	int	 asked;

	issuer.status = 503;
	pause_ms(TTL_MS + 60);
	asked = issuer.asked;
	ok(find("a") == FOUND, "the issuer is down: the last good set is used");
	interval_pass();
	ok(find("z") == DOWN, "and of other kids nobody knows");
	pause_ms(STALE_MS);
	ok(find("a") == DOWN, "until the set is too old");
	ok(issuer.asked - asked <= STALE_MS / INTERVAL_MS + 4, "asked %d times meanwhile", issuer.asked - asked);
	issuer.status = 200;
	pause_ms(2 * INTERVAL_MS + 40);
	ok(find("a") == FOUND, "it is back, which was noticed");
}

static void
test_alone(void)
{
	int	 asked;
	int64_t	 began;

	quiet_wait();
	db.away = true;
	asked = issuer.asked;
	began = now_us();
	issuer.set = set_of("a", "g");
	ok(find("g") == FOUND && issuer.asked == asked + 1, "without a database the worker asks by itself");
	for (int i = 0; i < 10; i++)
		(void)find("h");
	ok(issuer.asked - asked <= (now_us() - began) / (INTERVAL_MS * 1000) + 1, "as seldom");
	db.away = false;
}

static void
test_deadline(void)
{
	struct job	 job;
	bool		 down;

	quiet_wait();
	/* A busy machine must not have both times pass at once. */
	issuer.takes_ms = 1500;
	job_open(&job, &conf);
	job.deadline = deadline_ms(10);
	job.late = FAIL_TURN_TIMEOUT;
	ok(jwks_find(&job, alg_find("EdDSA"), "nobody", &down) == NULL && job.fail == FAIL_TURN_TIMEOUT, "a wait ends with its job");
	job_close(&job);
	pause_ms(1600);
	issuer.takes_ms = 5;
	ok(find("a") == FOUND, "and the round goes on without it");
}

/* As after a SIGHUP; the last test, for it leaves the old configuration. */
static void
test_source(void)
{
	static struct conf	 other;
	struct job		 job;
	bool			 down;

	other = conf;
	other.auth_jwks_url = "https://other.example/jwks";
	db.value = NULL;
	issuer.status = -1;
	job_open(&job, &other);
	ok(jwks_find(&job, alg_find("EdDSA"), "a", &down) == NULL && down, "the keys of another issuer do not count any more");
	job_close(&job);
}

static void
test_all(void *arg)
{
	(void)arg;
	test_first();
	test_timer();
	test_unknown();
	test_shared();
	test_follow();
	test_down();
	test_alone();
	test_deadline();
	test_source();
	loop_stop();
}

int
main(void)
{
	texts = arena_open();
	if (loop_open() < 0)
		return 1;
	fiber_start(test_all, NULL);
	loop_run();
	loop_close();
	arena_close(&texts);
	return done_testing();
}
