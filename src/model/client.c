#include "model/client.h"

#include "base/arena.h"
#include "base/conf.h"
#include "model/attempt.h"
#include "model/fault.h"
#include "model/prompt.h"
#include "model/request.h"
#include "model/retry.h"
#include "model/wire.h"
#include "run/deadline.h"
#include "run/job.h"

/* Whatever a server says, somebody looks again after so long: one reply must not switch a model off for a day. */
#define HOLD_MAX_MS	300000

struct model {
	struct job	*job;
	struct prompt	*prompt;
	int64_t		 opened;
	int64_t		*holds;		/* when each model may be asked, 0: now */
	void		(*on_hold)(void *, int, int64_t);
	void		*on_hold_arg;

	/* The walk through models and retries. */
	int		 at;		/* the model that is asked */
	int		 tries;		/* requests to it so far */
	bool		 cut;		/* the prompt has been cut for this ask */
	bool		 emptied;	/* an empty answer was forgiven */
	struct attempt	 attempt;	/* the one that runs */
	size_t		 given;		/* bytes of its content that were given out */
	struct fault	 fault;		/* of the last one that failed */
	const char	*detail;	/* curl's word on it, NULL: none */
	bool		 over;
	int		 result;	/* of model_next() once over */

	struct answer	 answer;
};

static const struct conf_model *asked(const struct model *);
static bool	 piece(struct model *, const char **, size_t *);
static int	 choose(struct model *);
static int	 pause_until(struct model *, int64_t);
static void	 first_byte(struct model *);
static int	 recover(struct model *);
static int	 again(struct model *);
static int	 next(struct model *);
static int	 give_up(struct model *);
static int	 late(struct model *);
static void	 hold(struct model *, int64_t ms);
static int64_t	 left_ms(const struct model *);
static void	 log_fault(const struct model *, const char *then, int64_t wait_ms);
static void	 finish(struct model *, int result);
static void	 release(void *);

struct model *
model_open(struct job *job, struct prompt *prompt)
{
	struct model	*m = arena_new(job->arena, struct model);

	m->job = job;
	m->prompt = prompt;
	m->opened = now_us();
	m->holds = arena_array(job->arena, int64_t, job->conf->nmodels);
	m->answer.content = "";
	arena_defer(job->arena, release, m);
	return m;
}

void
model_holds(struct model *m, const int64_t *ms, int n)
{
	for (int i = 0; i < n && i < m->job->conf->nmodels; i++)
		m->holds[i] = ms[i] > 0 ? m->opened + ms[i] * 1000 : 0;
}

void
model_on_hold(struct model *m, void (*fn)(void *, int, int64_t), void *arg)
{
	m->on_hold = fn;
	m->on_hold_arg = arg;
}

int
model_next(struct model *m, const char **text, size_t *n)
{
	struct attempt	*t = &m->attempt;

	while (!m->over) {
		/* Find a model that may be asked, and ask it. */
		if (t->state == ATTEMPT_NONE) {
			if (choose(m) < 0)
				break;
			m->tries++;
			m->answer.attempts++;
			attempt_open(t, m->job, asked(m), m->prompt);
		}
		if (t->state == ATTEMPT_READING)
			attempt_read(t, m->given);

		/* After the first piece there is no way back: a failure then ends the step, when all that came is out. */
		if ((t->state != ATTEMPT_FAULT || m->given > 0) && piece(m, text, n))
			return 1;
		if (t->state == ATTEMPT_COMPLETE)
			finish(m, 0);
		else if (t->state == ATTEMPT_FAULT && recover(m) < 0)
			break;
	}
	if (!m->over)
		finish(m, -1);
	return m->result;
}

const struct answer *
model_answer(const struct model *m)
{
	return &m->answer;
}

void
model_close(struct model **m)
{
	if (*m != NULL)
		release(*m);
	*m = NULL;
}

static const struct conf_model *
asked(const struct model *m)
{
	return &m->job->conf->models[m->at];
}

/* What has become whole since the last time. */
static bool
piece(struct model *m, const char **text, size_t *n)
{
	if (m->attempt.wire.content.whole <= m->given)
		return false;
	*text = m->attempt.wire.content.b.p + m->given;
	*n = m->attempt.wire.content.whole - m->given;
	m->given = m->attempt.wire.content.whole;
	return true;
}

/*
 * The next model, from the present one on, that its server does not hold back for long.  When all are
 * held, the one that is free first is waited for, if that is no longer than a Retry-After would be.
 */
static int
choose(struct model *m)
{
	const struct conf	*conf = m->job->conf;
	int64_t			 now = now_us(), wait;
	int			 best = m->at;

	for (int i = m->at; i < conf->nmodels; i++) {
		if (m->holds[i] - now <= conf->model_retry_max * 1000) {
			best = i;
			break;
		}
		if (m->holds[i] < m->holds[best])
			best = i;
	}
	if (best != m->at)
		m->tries = 0;
	m->at = best;
	wait = m->holds[best] > now ? (m->holds[best] - now + 999) / 1000 : 0;
	if (wait == 0)
		return 0;
	/* The same for all: the one who was told to wait that long did not wait either. */
	if (wait > conf->model_retry_max || wait >= left_ms(m)) {
		fault_set(&m->fault, FAIL_MODEL_UNAVAILABLE, FAULT_NEXT, "held_back");
		m->fault.wait_ms = wait;
		return give_up(m);
	}
	return pause_until(m, now + retry_jitter(wait) * 1000);
}

/* yields; -1 when the job has failed meanwhile */
static int
pause_until(struct model *m, int64_t until)
{
	while (now_us() < until)
		if (job_wait(m->job, until) < 0 && m->job->fail != FAIL_NONE)
			return -1;
	return 0;
}

static void
first_byte(struct model *m)
{
	if (m->answer.first_byte_us == 0 && m->attempt.first_byte != 0)
		m->answer.first_byte_us = m->attempt.first_byte - m->opened;
}

/* After a fault: ready for the next attempt, or -1 with the job failed. */
static int
recover(struct model *m)
{
	m->fault = m->attempt.fault;
	m->detail = m->attempt.detail;
	/* A deadline or a stop is no fault of the model. */
	if (late(m) < 0)
		return -1;
	if (m->given > 0)
		return give_up(m);
	first_byte(m);
	attempt_close(&m->attempt);
	switch (m->fault.remedy) {
	case FAULT_AGAIN:
		return again(m);
	case FAULT_ONCE:
		if (m->emptied)
			return next(m);
		m->emptied = true;
		log_fault(m, "again", 0);
		return 0;
	case FAULT_CUT:
		if (m->cut || !prompt_cut(m->prompt))
			return give_up(m);
		m->cut = true;
		log_fault(m, "cut", 0);
		return 0;
	default:
		return next(m);
	}
}

/* The same model after a while, if it has tries left and the while is short. */
static int
again(struct model *m)
{
	const struct conf	*conf = m->job->conf;
	bool			 named = m->fault.wait_ms >= 0;
	int64_t			 wait = named ? m->fault.wait_ms : retry_backoff(conf, m->tries);

	if (named && (wait > conf->model_retry_max || wait >= left_ms(m))) {
		hold(m, wait);
		return next(m);
	}
	if (m->tries > conf->model_retries || wait >= left_ms(m))
		return next(m);
	if (named)
		wait = retry_jitter(wait);
	log_fault(m, "again", wait);
	return pause_until(m, now_us() + wait * 1000);
}

static int
next(struct model *m)
{
	if (m->at + 1 >= m->job->conf->nmodels)
		return give_up(m);
	log_fault(m, "fallback", 0);
	m->at++;
	m->tries = 0;
	return 0;
}

/* The job fails as the last fault says. Always -1. */
static int
give_up(struct model *m)
{
	struct job		*job = m->job;
	const struct fault	*f = &m->fault;

	log_fault(m, "fail", 0);
	if (f->code == FAIL_MODEL_UNAVAILABLE && f->wait_ms > 0)
		job->retry_after = (int)((f->wait_ms + 999) / 1000);
	job_detail(job, "%s: %s, HTTP %d %s", asked(m)->model, f->reason, f->status, f->words);
	return job_fail(job, f->code, NULL);
}

/* -1 when the job itself is at its end. */
static int
late(struct model *m)
{
	struct job	*job = m->job;

	if (job->fail != FAIL_NONE)
		return -1;
	/* A timer may be a moment early. */
	if (job->deadline != NEVER && now_us() + 1000 >= job->deadline)
		return job_fail(job, job->late, NULL);
	if (job->stop != JOB_RUNS && !job->masked)
		return job_fail(job, FAIL_TURN_ABANDONED, NULL);
	return 0;
}

/* Its server wants to be left alone for longer than this turn would wait: others need not find out by asking. */
static void
hold(struct model *m, int64_t ms)
{
	if (ms > HOLD_MAX_MS)
		ms = HOLD_MAX_MS;
	m->holds[m->at] = now_us() + ms * 1000;
	if (m->on_hold != NULL)
		m->on_hold(m->on_hold_arg, m->at, ms);
}

static int64_t
left_ms(const struct model *m)
{
	return m->job->deadline == NEVER ? INT64_MAX : (m->job->deadline - now_us()) / 1000;
}

static void
log_fault(const struct model *m, const char *then, int64_t wait_ms)
{
	const struct fault	*f = &m->fault;

	if (!job_log(m->job, LOG_WARN, "model_retry"))
		return;
	log_str("model", asked(m)->model);
	log_int("attempt", m->answer.attempts);
	log_str("reason", f->reason);
	if (f->status != 0)
		log_int("upstream_status", f->status);
	if (f->words[0] != '\0')
		log_str("upstream_error", f->words);
	log_str("detail", m->detail);
	log_str("then", then);
	if (wait_ms > 0)
		log_int("wait_ms", wait_ms);
	log_end();
}

/* Makes the answer, or what there is of it, and gives the exchange's memory back. */
static void
finish(struct model *m, int result)
{
	struct answer	*a = &m->answer;
	struct arena	*arena = m->job->arena;
	size_t		 in = m->attempt.request.size;

	first_byte(m);
	if (result == 0)
		wire_answer(&m->attempt.wire, arena, a);
	else if (m->given > 0)
		a->content = arena_memdup(arena, m->attempt.wire.content.b.p, m->given);
	a->model = request_who(arena, asked(m));
	if (a->model_name == NULL)
		a->model_name = asked(m)->model;
	/* About four bytes to a token: better than nothing where nothing is reported. */
	a->estimated = result < 0 || a->input_tokens < 0 || a->output_tokens < 0;
	if (result < 0 || a->input_tokens < 0)
		a->input_tokens = m->given > 0 || result == 0 ? (int64_t)in / 4 + 1 : 0;
	if (result < 0 || a->output_tokens < 0)
		a->output_tokens = (int64_t)(m->attempt.wire.content.whole + m->attempt.wire.calls.size + m->attempt.wire.reasoning.whole + 3) / 4;
	a->total_us = now_us() - m->opened;
	m->over = true;
	m->result = result;
	if (result < 0)
		attempt_close(&m->attempt);
	wire_close(&m->attempt.wire);
}

static void
release(void *arg)
{
	struct model	*m = arg;

	attempt_close(&m->attempt);
}
