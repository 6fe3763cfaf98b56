#include "auth/jwks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/issuer.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

/* How often a worker looks for a kid it does not know: the time by which a new key may be later here than in the shared row. */
#define LOOK_MS		1000
/* A round asks the database and the issuer, each with timeouts of its own; this only bounds their sum. */
#define ROUND_MS	30000

struct waiter {
	struct fiber	*fiber;
	struct waiter	*next;
};

/*
 * This worker's copy.  It may live in memory because everything in it can be asked for again: the keys are public, and
 * losing the rest costs one question more.
 */
static struct {
	const struct conf *conf;	/* the newest that was seen; its source is where the set is from */
	struct jwk_set	*set;		/* NULL: none yet */
	int64_t		 said_at;	/* when the issuer (or the file) said so */
	int64_t		 looked_at;	/* the end of the last round; 0: none yet */
	bool		 down;		/* the last round did not reach the issuer */
	bool		 asking;	/* a round is on its way */
	bool		 for_kid;	/* … because of a kid that nobody knows */
	unsigned	 rounds;	/* that have ended */
	struct waiter	*waiters;
	struct timer	 timer;		/* the next round without being asked */
	struct timespec	 file_mtime;
	off_t		 file_size;
	ino_t		 file_inode;
} jwks;

static bool
text_is(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Another issuer after a SIGHUP: the keys of the old one must not open the door any more. */
static void
source_check(const struct conf *conf)
{
	const struct conf	*old = jwks.conf;

	jwks.conf = conf;
	if (old == NULL || old == conf ||
	    (text_is(old->auth_jwks_file, conf->auth_jwks_file) && text_is(old->auth_jwks_url, conf->auth_jwks_url)))
		return;
	jwk_set_free(&jwks.set);
	jwks.looked_at = 0;
	jwks.file_mtime = (struct timespec){ 0 };
	timer_clear(&jwks.timer);
}

static void
set_replace(struct jwk_set *set, int64_t said_at)
{
	jwk_set_free(&jwks.set);
	jwks.set = set;
	jwks.said_at = said_at;
}

static bool
set_is_usable(void)
{
	return jwks.set != NULL && now_us() - jwks.said_at <= jwks.conf->auth_jwks_stale * 1000;
}

static const struct jwk *
set_look(const struct alg *alg, const char *kid)
{
	return set_is_usable() ? jwk_set_find(jwks.set, alg, kid) : NULL;
}

/* -- from a file -- */

static int
file_text(const char *path, struct buf *text)
{
	char	 piece[1024];
	ssize_t	 n;
	int	 fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((n = read(fd, piece, sizeof piece)) > 0 && text->n <= JWK_SET_BYTES)
		buf_add(text, piece, (size_t)n);
	close(fd);
	return n < 0 ? -1 : 0;
}

static void
file_read(const char *path)
{
	struct buf	 text = { 0 }, why = { 0 };
	struct jwk_set	*set = NULL;

	if (file_text(path, &text) < 0)
		buf_str(&why, strerror(errno));
	else
		set = jwk_set_read(buf_text(&text), text.n, &why);
	jwks.down = set == NULL;
	jwks.looked_at = now_us();
	if (set != NULL)
		set_replace(set, jwks.looked_at);
	else
		log_say(LOG_WARN, "jwks_failed", "auth.jwks_file: %s", buf_text(&why));
	buf_free(&text);
	buf_free(&why);
}

/* A look at the file costs less than the signature, so that a replaced file counts from the next request on. */
static void
file_check(const char *path)
{
	struct stat	 st = { 0 };
	int64_t		 pause = (jwks.down ? jwks.conf->auth_jwks_min_interval : jwks.conf->auth_jwks_ttl) * 1000;

	(void)stat(path, &st);
	if (jwks.looked_at != 0 && now_us() < jwks.looked_at + pause &&
	    st.st_mtim.tv_sec == jwks.file_mtime.tv_sec && st.st_mtim.tv_nsec == jwks.file_mtime.tv_nsec &&
	    st.st_size == jwks.file_size && st.st_ino == jwks.file_inode)
		return;
	jwks.file_mtime = st.st_mtim;
	jwks.file_size = st.st_size;
	jwks.file_inode = st.st_ino;
	file_read(path);
}

/* -- from a URL -- */

static void	 round_start(void *);

/* The next round comes by itself when the set's time is over, or soon when the issuer is down. */
static void
timer_plan(void)
{
	const struct conf	*conf = jwks.conf;
	int64_t			 at = jwks.said_at + conf->auth_jwks_ttl * 1000;

	if (jwks.set == NULL)
		return;
	jwks.timer.fn = round_start;
	timer_set(&jwks.timer, at > now_us() ? at : deadline_ms(conf->auth_jwks_min_interval));
}

static void
round_end(const struct conf *conf, struct issuer_answer *answer, int r)
{
	/* Asked of a source that is not ours any more. */
	if (!text_is(conf->auth_jwks_url, jwks.conf->auth_jwks_url))
		jwk_set_free(&answer->set);
	else {
		jwks.down = r < 0;
		jwks.looked_at = now_us();
		if (answer->set != NULL)
			set_replace(answer->set, answer->said_at);
		timer_plan();
	}

	jwks.asking = false;
	jwks.rounds++;
	for (struct waiter *w = jwks.waiters; w != NULL; w = w->next)
		fiber_wake(w->fiber);
}

/* On a fiber of its own: the request that began it may end before. */
static void
round_run(void *arg)
{
	const struct conf	*conf = jwks.conf;
	struct issuer_answer	 answer = { 0 };
	struct job		 job;
	int			 r;

	(void)arg;
	job_open(&job, conf);
	job.deadline = deadline_ms(ROUND_MS);
	job.late = FAIL_OVERLOADED;
	r = issuer_ask(&job, jwks.set != NULL ? jwks.said_at : NEVER,
	    jwks.for_kid ? conf->auth_jwks_min_interval : conf->auth_jwks_ttl, &answer);
	round_end(conf, &answer, r);
	job_close(&job);
}

/* One at a time. */
static void
round_start(void *for_kid)
{
	if (jwks.asking)
		return;
	jwks.asking = true;
	jwks.for_kid = for_kid != NULL;
	if (fiber_start(round_run, NULL) != NULL)
		return;
	jwks.asking = false;
	jwks.down = true;
	jwks.looked_at = now_us();
	timer_plan();
}

/* yields until the round that is on its way has ended; -1: the job's own time is up. */
static int
round_wait(struct job *job)
{
	struct waiter	 me = { .fiber = fiber_self(), .next = jwks.waiters };
	struct waiter	**w;
	unsigned	 round = jwks.rounds;
	int		 r = 0;

	jwks.waiters = &me;
	while (jwks.rounds == round && jwks.asking && r == 0)
		r = job_wait(job, NEVER);
	for (w = &jwks.waiters; *w != &me; w = &(*w)->next)
		;
	*w = me.next;
	return r;
}

static bool
may_look(void)
{
	int64_t	 pause = jwks.conf->auth_jwks_min_interval < LOOK_MS ? jwks.conf->auth_jwks_min_interval : LOOK_MS;

	return jwks.looked_at == 0 || now_us() >= jwks.looked_at + pause * 1000;
}

/* yields.  Not there: worth a question, unless the answer has only just been heard. */
static const struct jwk *
url_find(struct job *job, const struct alg *alg, const char *kid)
{
	const struct jwk	*key = set_look(alg, kid);

	/* A second time only where the first round was on its way to a source that has been replaced. */
	for (int i = 0; i < 2 && key == NULL && (jwks.asking || may_look()); i++) {
		if (!jwks.asking)
			round_start(set_is_usable() ? job : NULL);
		if (jwks.asking && round_wait(job) < 0)
			return NULL;
		key = set_look(alg, kid);
	}
	return key;
}

const struct jwk *
jwks_find(struct job *job, const struct alg *alg, const char *kid, bool *down)
{
	const struct jwk	*key = NULL;

	source_check(job->conf);
	*down = false;
	if (job->conf->auth_jwks_file != NULL) {
		file_check(job->conf->auth_jwks_file);
		key = set_look(alg, kid);
	} else if (job->conf->auth_jwks_url != NULL)
		key = url_find(job, alg, kid);
	else
		return NULL;

	*down = key == NULL && (jwks.down || !set_is_usable());
	return key;
}
