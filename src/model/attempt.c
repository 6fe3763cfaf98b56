#include "model/attempt.h"

#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/http.h"
#include "model/retry.h"
#include "run/deadline.h"
#include "run/job.h"

#define ERROR_BODY_MAX	16384	/* of an error body only so much is looked at */

static void	 ask(struct attempt *, const struct conf_model *, const struct prompt *);
static void	 refused(struct attempt *, int status);
static int	 take(struct attempt *, const char *, size_t);
static int	 take_events(struct attempt *, const char *, size_t);
static void	 ended(struct attempt *);
static void	 faulty(struct attempt *, const struct fault *);

void
attempt_open(struct attempt *t, struct job *job, const struct conf_model *to, const struct prompt *prompt)
{
	struct fault	 fault;
	int		 status;

	memset(t, 0, sizeof *t);
	t->job = job;
	t->state = ATTEMPT_READING;
	wire_open(&t->wire, (size_t)job->conf->model_max_answer);
	ask(t, to, prompt);

	status = http_status(t->http);
	/* The answer may take minutes. */
	if (http_sent(t->http))
		request_free(&t->request);
	if (status < 0) {
		fault_http(&fault, http_error(t->http), false);
		faulty(t, &fault);
	} else if (status < 200 || status > 299) {
		refused(t, status);
	}
}

void
attempt_read(struct attempt *t, size_t given)
{
	const char	*in;
	struct fault	 fault;
	ssize_t		 n;

	while (t->state == ATTEMPT_READING && t->wire.content.whole <= given) {
		n = http_take(t->http, &in);
		if (n > 0) {
			if (t->first_byte == 0)
				t->first_byte = now_us();
			if (take(t, in, (size_t)n) < 0)
				faulty(t, &t->wire.fault);
			/* What a server does after [DONE] does not matter. */
			else if (t->wire.done)
				ended(t);
		} else if (n == 0 || (wire_complete(&t->wire) && t->job->fail == FAIL_NONE)) {
			ended(t);
		} else {
			fault_http(&fault, http_error(t->http), true);
			faulty(t, &fault);
		}
	}
}

void
attempt_close(struct attempt *t)
{
	http_close(&t->http);
	request_free(&t->request);
	sse_close(&t->sse);
	buf_free(&t->body);
	wire_close(&t->wire);
	memset(t, 0, sizeof *t);
}

static void
ask(struct attempt *t, const struct conf_model *to, const struct prompt *prompt)
{
	const struct conf	*conf = t->job->conf;
	struct arena		*a = arena_open();	/* what http copies, and what it is made with */

	request_make(&t->request, a, conf, to, prompt);
	t->http = http_open(t->job, &(struct http_ask){
		.method = "POST",
		.url = request_url(a, to),
		.headers = request_headers(a, to, t->job->trace),
		.body = t->request.body.p,
		.nbody = t->request.body.n,
		.ca_file = conf->model_ca_file,
		.connect_ms = conf->model_connect_timeout,
		.first_byte_ms = conf->model_first_byte_timeout,
		.idle_ms = conf->model_idle_timeout,
		.total_ms = conf->model_call_timeout,
		/* A stream of single letters is some 300 times as long as its text. */
		.max_body = (size_t)conf->model_max_answer * 512 + ERROR_BODY_MAX,
	});
	arena_close(&a);
}

/* Reads why. */
static void
refused(struct attempt *t, int status)
{
	struct fault	 fault;
	const char	*in;
	ssize_t		 n;
	int64_t		 wait;

	while (t->body.n < ERROR_BODY_MAX && (n = http_take(t->http, &in)) > 0)
		buf_add(&t->body, in, (size_t)n);
	fault_status(&fault, status, http_header(t->http, "x-should-retry"), buf_text(&t->body), t->body.n);
	wait = retry_header(http_header(t->http, "retry-after-ms"), http_header(t->http, "retry-after"),
	    http_header(t->http, "date"), time(NULL));
	if (wait >= 0)
		fault.wait_ms = wait;
	faulty(t, &fault);
}

/* A stream, or a whole body from a server that does not stream: the first byte tells, whatever its type says. */
static int
take(struct attempt *t, const char *p, size_t n)
{
	while (t->form == FORM_UNKNOWN && n > 0) {
		if (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n') {
			p++;
			n--;
			continue;
		}
		t->form = *p == '{' || *p == '[' ? FORM_BODY : FORM_STREAM;
		if (t->form == FORM_STREAM)
			sse_open(&t->sse, (size_t)t->job->conf->model_max_answer * 2 + ERROR_BODY_MAX);
	}
	if (t->form == FORM_STREAM)
		return take_events(t, p, n);
	buf_add(&t->body, p, n);
	if (t->body.n <= (size_t)t->job->conf->model_max_answer * 4 + ERROR_BODY_MAX)
		return 0;
	fault_set(&t->wire.fault, FAIL_MODEL_ERROR, FAULT_NEXT, "answer_too_large");
	return -1;
}

static int
take_events(struct attempt *t, const char *p, size_t n)
{
	int	 got;

	while (!t->wire.done && (got = sse_take(&t->sse, &p, &n)) != 0) {
		if (got < 0) {
			fault_set(&t->wire.fault, FAIL_MODEL_ERROR, FAULT_NEXT, "answer_too_large");
			return -1;
		}
		if (wire_event(&t->wire, buf_text(&t->sse.event), buf_text(&t->sse.data), t->sse.data.n) < 0)
			return -1;
	}
	return 0;
}

/* The answer came to an end: is it one? */
static void
ended(struct attempt *t)
{
	if ((t->form == FORM_BODY && wire_body(&t->wire, t->body.p, t->body.n) < 0) ||
	    wire_end(&t->wire) < 0)
		faulty(t, &t->wire.fault);
	else
		t->state = ATTEMPT_COMPLETE;
}

static void
faulty(struct attempt *t, const struct fault *fault)
{
	/* Text that waits for its second half will not get it. */
	text_end(&t->wire.content);
	t->fault = *fault;
	t->state = ATTEMPT_FAULT;
	t->detail = NULL;
	if (http_error(t->http) != HTTP_OK)
		t->detail = arena_strdup(t->job->arena, http_detail(t->http));
}
