#include "model/client.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/http.h"
#include "io/sse.h"
#include "model/fault.h"
#include "model/prompt.h"
#include "model/request.h"
#include "model/retry.h"
#include "model/wire.h"
#include "run/deadline.h"
#include "run/job.h"

#define ERROR_BODY_MAX	16384	/* of an error body only so much is looked at */
#define READ_SIZE	1024	/* on the fiber's stack */

enum form { FORM_UNKNOWN, FORM_STREAM, FORM_BODY };
enum state { STATE_IDLE, STATE_READING, STATE_COMPLETE, STATE_FAULT, STATE_OVER };

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
	enum state	 state;
	int		 result;	/* of model_next() once over */
	struct fault	 fault;
	const char	*detail;	/* curl's word on it, NULL: none */

	/* The exchange that runs. */
	struct http	*http;
	struct request	 request;
	enum form	 form;
	struct sse	 sse;
	struct buf	 body;		/* of an answer that is no stream */
	struct wire	 wire;
	size_t		 given;		/* bytes of content that were given out */

	struct answer	 answer;
};

static const struct conf_model *asked(const struct model *);
static bool	 piece(struct model *, const char **, size_t *);
static int	 choose(struct model *);
static int	 pause_until(struct model *, int64_t);
static void	 exchange_open(struct model *);
static void	 exchange_send(struct model *, struct arena *);
static void	 exchange_close(struct model *);
static void	 exchange_refused(struct model *, int status);
static void	 exchange_read(struct model *);
static int	 take(struct model *, const char *, size_t);
static int	 take_events(struct model *, const char *, size_t);
static void	 ended(struct model *);
static void	 faulty(struct model *, const struct fault *);
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
	while (m->state != STATE_OVER) {
		/* Find a model that may be asked, and ask it. */
		if (m->state == STATE_IDLE) {
			if (choose(m) < 0)
				break;
			exchange_open(m);
		}
		if (m->state == STATE_READING)
			exchange_read(m);

		/* After the first piece there is no way back: a failure then ends the step, when all that came is out. */
		if ((m->state != STATE_FAULT || m->given > 0) && piece(m, text, n))
			return 1;
		if (m->state == STATE_COMPLETE)
			finish(m, 0);
		else if (m->state == STATE_FAULT && recover(m) < 0)
			break;
	}
	if (m->state != STATE_OVER)
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
	if (m->wire.content.whole <= m->given)
		return false;
	*text = m->wire.content.b.p + m->given;
	*n = m->wire.content.whole - m->given;
	m->given = m->wire.content.whole;
	return true;
}

/*
 * The next model, from the present one on, that its server does not hold back for long.  When all are
 * held, the one that is free first is waited for, if that is before the deadline.
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
	if (wait >= left_ms(m)) {
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

/* Sends the request and waits for the head of the answer. */
static void
exchange_open(struct model *m)
{
	struct arena	*a = arena_open();
	struct fault	 fault;
	int		 status;

	wire_open(&m->wire, (size_t)m->job->conf->model_max_answer);
	m->form = FORM_UNKNOWN;
	m->state = STATE_READING;
	m->tries++;
	m->answer.attempts++;
	exchange_send(m, a);
	arena_close(&a);

	status = http_status(m->http);
	if (status < 0) {
		fault_http(&fault, http_error(m->http), false);
		faulty(m, &fault);
	} else if (status < 200 || status > 299) {
		exchange_refused(m, status);
	}
}

static void
exchange_send(struct model *m, struct arena *a)
{
	const struct conf	*conf = m->job->conf;

	request_make(&m->request, conf, asked(m), m->prompt);
	m->http = http_open(m->job, &(struct http_ask){
		.method = "POST",
		.url = request_url(a, asked(m)),
		.headers = request_headers(a, asked(m)),
		.body = m->request.body,
		.nbody = m->request.nbody,
		.ca_file = conf->model_ca_file,
		.connect_ms = conf->model_connect_timeout,
		.first_byte_ms = conf->model_first_byte_timeout,
		.idle_ms = conf->model_idle_timeout,
		.total_ms = conf->model_call_timeout,
		/* A stream of single letters is some 300 times as long as its text. */
		.max_body = (size_t)conf->model_max_answer * 512 + ERROR_BODY_MAX,
	});
}

static void
exchange_close(struct model *m)
{
	http_close(&m->http);
	request_free(&m->request);
	sse_close(&m->sse);
	buf_free(&m->body);
	wire_close(&m->wire);
	memset(&m->sse, 0, sizeof m->sse);
}

/* Reads why. */
static void
exchange_refused(struct model *m, int status)
{
	struct fault	 fault;
	char		 in[READ_SIZE];
	ssize_t		 n;
	int64_t		 wait;

	while (m->body.n < ERROR_BODY_MAX && (n = http_read(m->http, in, sizeof in)) > 0)
		buf_add(&m->body, in, (size_t)n);
	fault_status(&fault, status, http_header(m->http, "x-should-retry"), buf_text(&m->body), m->body.n);
	wait = retry_header(http_header(m->http, "retry-after-ms"), http_header(m->http, "retry-after"),
	    http_header(m->http, "date"), time(NULL));
	if (wait >= 0)
		fault.wait_ms = wait;
	faulty(m, &fault);
}

/* yields; reads until something happened: text, the end, a fault */
static void
exchange_read(struct model *m)
{
	char		 in[READ_SIZE];
	struct fault	 fault;
	ssize_t		 n;

	while (m->state == STATE_READING && m->wire.content.whole <= m->given) {
		n = http_read(m->http, in, sizeof in);
		if (n > 0) {
			if (m->answer.first_byte_us == 0)
				m->answer.first_byte_us = now_us() - m->opened;
			if (take(m, in, (size_t)n) < 0)
				faulty(m, &m->wire.fault);
			/* What a server does after [DONE] does not matter. */
			else if (m->wire.done)
				ended(m);
		} else if (n == 0 || (wire_complete(&m->wire) && m->job->fail == FAIL_NONE)) {
			ended(m);
		} else {
			fault_http(&fault, http_error(m->http), true);
			faulty(m, &fault);
		}
	}
}

/* A stream, or a whole body from a server that does not stream: the first byte tells, whatever its type says. */
static int
take(struct model *m, const char *p, size_t n)
{
	while (m->form == FORM_UNKNOWN && n > 0) {
		if (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n') {
			p++;
			n--;
			continue;
		}
		m->form = *p == '{' || *p == '[' ? FORM_BODY : FORM_STREAM;
		if (m->form == FORM_STREAM)
			sse_open(&m->sse, (size_t)m->job->conf->model_max_answer * 2 + ERROR_BODY_MAX);
	}
	if (m->form == FORM_STREAM)
		return take_events(m, p, n);
	buf_add(&m->body, p, n);
	if (m->body.n <= (size_t)m->job->conf->model_max_answer * 4 + ERROR_BODY_MAX)
		return 0;
	fault_set(&m->wire.fault, FAIL_MODEL_ERROR, FAULT_NEXT, "answer_too_large");
	return -1;
}

static int
take_events(struct model *m, const char *p, size_t n)
{
	int	 got;

	while (!m->wire.done && (got = sse_take(&m->sse, &p, &n)) != 0) {
		if (got < 0) {
			fault_set(&m->wire.fault, FAIL_MODEL_ERROR, FAULT_NEXT, "answer_too_large");
			return -1;
		}
		if (wire_event(&m->wire, buf_text(&m->sse.event), buf_text(&m->sse.data), m->sse.data.n) < 0)
			return -1;
	}
	return 0;
}

/* The answer came to an end: is it one? */
static void
ended(struct model *m)
{
	if ((m->form == FORM_BODY && wire_body(&m->wire, m->body.p, m->body.n) < 0) ||
	    wire_end(&m->wire) < 0)
		faulty(m, &m->wire.fault);
	else
		m->state = STATE_COMPLETE;
}

static void
faulty(struct model *m, const struct fault *fault)
{
	/* Text that waits for its second half will not get it. */
	text_end(&m->wire.content);
	m->fault = *fault;
	m->state = STATE_FAULT;
	m->detail = NULL;
	if (http_error(m->http) != HTTP_OK)
		m->detail = arena_strdup(m->job->arena, http_detail(m->http));
}

/* After a fault: the next state, or -1 with the job failed. */
static int
recover(struct model *m)
{
	/* A deadline or a stop is no fault of the model. */
	if (late(m) < 0)
		return -1;
	if (m->given > 0)
		return give_up(m);
	exchange_close(m);
	m->state = STATE_IDLE;
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
	size_t		 in = request_size(&m->request);

	if (result == 0)
		wire_answer(&m->wire, arena, a);
	else if (m->given > 0)
		a->content = arena_memdup(arena, m->wire.content.b.p, m->given);
	a->model = request_who(arena, asked(m));
	if (a->model_name == NULL)
		a->model_name = asked(m)->model;
	/* About four bytes to a token: better than nothing where nothing is reported. */
	a->estimated = result < 0 || a->input_tokens < 0 || a->output_tokens < 0;
	if (result < 0 || a->input_tokens < 0)
		a->input_tokens = m->given > 0 || result == 0 ? (int64_t)in / 4 + 1 : 0;
	if (result < 0 || a->output_tokens < 0)
		a->output_tokens = (int64_t)(m->wire.content.whole + m->wire.calls.size + m->wire.reasoning.whole + 3) / 4;
	a->total_us = now_us() - m->opened;
	m->state = STATE_OVER;
	m->result = result;
	if (result < 0)
		exchange_close(m);
	wire_close(&m->wire);
}

/* The exchange itself stays until here: closed right after [DONE] it would cost its connection. */
static void
release(void *arg)
{
	struct model	*m = arg;

	exchange_close(m);
}
