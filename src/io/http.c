#include "io/http.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "io/http_exchange.h"
#include "io/http_multi.h"
#include "run/deadline.h"
#include "run/job.h"

#define BODY_MAX	(16 * 1024 * 1024)
/* A buffer that grew beyond this is given back when it is empty: many exchanges wait at once. */
#define BUFFER_KEPT	(8 * 1024)

static int	 await(struct http *);
static int64_t	 limit(const struct http *, enum http_error *);
static ssize_t	 readable(struct http *);
static void	 forget_taken(struct http *);
static void	 resume(struct http *);
static int	 fail(struct http *, enum http_error, const char *);
static void	 hang_up(struct http *);
static void	 shut(void *);

struct http *
http_open(struct job *job, const struct http_ask *ask)
{
	struct http	*h = arena_new(job->arena, struct http);
	CURLcode	 rc;

	arena_defer(job->arena, shut, h);
	h->job = job;
	h->max_body = ask->max_body > 0 ? ask->max_body : BODY_MAX;
	h->started = now_us();
	h->first_by = ask->first_byte_ms > 0 ? deadline_ms(ask->first_byte_ms) : NEVER;
	h->total_by = ask->total_ms > 0 ? deadline_ms(ask->total_ms) : NEVER;
	h->idle_ms = ask->idle_ms;
	h->detail = "";

	h->easy = http_multi_take();
	if (h->easy == NULL) {
		(void)fail(h, HTTP_UNREACHABLE, "no memory for a handle");
		return h;
	}
	if ((rc = exchange_set(h, ask)) != CURLE_OK)
		(void)fail(h, HTTP_UNREACHABLE, curl_easy_strerror(rc));
	else if (http_multi_add(h->easy) != CURLM_OK)
		(void)fail(h, HTTP_UNREACHABLE, "the handle was not taken");
	return h;
}

int
http_status(struct http *h)
{
	while (!h->head_done) {
		if (h->done || await(h) < 0)
			return -1;
	}
	return h->status;
}

bool
http_sent(const struct http *h)
{
	return h->easy == NULL || (h->head_done && exchange_has_sent(h));
}

const char *
http_header(struct http *h, const char *name)
{
	size_t		 n = strlen(name);
	const char	*line = buf_text(&h->head), *end = line + h->head.n;

	for (; line < end; line += strlen(line) + 1)
		if (strncasecmp(line, name, n) == 0 && line[n] == ':')
			return line + n + 1 + strspn(line + n + 1, " \t");
	return NULL;
}

ssize_t
http_read(struct http *h, char *p, size_t n)
{
	ssize_t	 unread = readable(h);

	assert(n > 0);
	if (unread <= 0)
		return unread;
	if (n > (size_t)unread)
		n = (size_t)unread;
	memcpy(p, h->body.p + h->taken, n);
	h->taken += n;
	return (ssize_t)n;
}

ssize_t
http_take(struct http *h, const char **p)
{
	ssize_t	 unread = readable(h);

	if (unread > 0) {
		*p = h->body.p + h->taken;
		h->taken = h->body.n;
	}
	return unread;
}

/* yields until there is something to read: its bytes, 0 at the end, or -1. */
static ssize_t
readable(struct http *h)
{
	forget_taken(h);
	for (;;) {
		if (h->body.n == 0 && h->paused)
			resume(h);
		if (h->body.n > h->taken)
			return (ssize_t)(h->body.n - h->taken);
		if (h->done)
			return h->error == HTTP_OK ? 0 : -1;
		if (await(h) < 0)
			return -1;
	}
}

/* yields until something may have come; -1 when there is no more to wait for. */
static int
await(struct http *h)
{
	struct job	*job = h->job;
	enum http_error	 why;
	int64_t		 now, until = limit(h, &why);
	int		 rc;

	h->waiting = true;
	rc = job_wait(job, until);
	h->waiting = false;
	if (rc == 0)
		return 0;

	/* Was it the job that ended the wait? */
	now = now_us();
	if (job->stop != JOB_RUNS && !job->masked)
		return fail(h, HTTP_STOPPED, "the job was stopped");
	if (job->deadline <= now)
		return fail(h, HTTP_LATE_TOTAL, "the job's deadline has passed");
	if (until > now)
		return fail(h, HTTP_STOPPED, "the job has failed");

	/* An answer may have come while the job's attendant was at work, or in this very moment. */
	if (h->done || h->body.n > h->taken || limit(h, &why) > now)
		return 0;
	return fail(h, why, arena_printf(job->arena, "after %" PRId64 " ms and %zu bytes",
	    (now - h->started) / 1000, h->received));
}

/* When waiting ends, and what it is called then. */
static int64_t
limit(const struct http *h, enum http_error *why)
{
	int64_t	 idle_by = NEVER;

	*why = HTTP_LATE_TOTAL;
	if (h->first_byte == 0 && h->first_by < h->total_by) {
		*why = HTTP_LATE_FIRST;
		return h->first_by;
	}
	if (h->first_byte != 0 && h->idle_ms > 0)
		idle_by = h->last_byte + h->idle_ms * 1000;
	if (idle_by < h->total_by) {
		*why = HTTP_LATE_IDLE;
		return idle_by;
	}
	return h->total_by;
}

/* What has been read to its end makes room. */
static void
forget_taken(struct http *h)
{
	if (h->taken < h->body.n)
		return;
	h->taken = 0;
	buf_clear(&h->body);
	if (h->body.cap > BUFFER_KEPT)
		buf_free(&h->body);
}

/* The reader has caught up.  curl may call on_body() from inside, which may pause again. */
static void
resume(struct http *h)
{
	h->paused = false;
	h->last_byte = now_us();	/* the silence was ours */
	if (h->easy != NULL)
		curl_easy_pause(h->easy, CURLPAUSE_CONT);
}

/* On the loop's stack: curl says how it ended. */
void
http_done(struct http *h, CURLcode code)
{
	if (code == CURLE_OK && !h->head_done) {
		(void)fail(h, HTTP_GARBLED, "an end without a head");
	} else if (code == CURLE_OK) {
		h->done = true;
		hang_up(h);
	} else {
		enum http_error	 error = h->error != HTTP_OK ? h->error : exchange_meaning(h->easy, code, h->text);

		(void)fail(h, error, arena_printf(h->job->arena, "curl %d: %s", code,
		    h->text[0] != '\0' ? h->text : curl_easy_strerror(code)));
	}
	exchange_wake(h);
}

static int
fail(struct http *h, enum http_error error, const char *detail)
{
	h->error = error;
	h->detail = detail;
	h->done = true;
	hang_up(h);
	return -1;
}

enum http_error
http_error(const struct http *h)
{
	return h->error;
}

const char *
http_detail(const struct http *h)
{
	return h->detail;
}

int64_t
http_first_byte_us(const struct http *h)
{
	return h->first_byte != 0 ? h->first_byte - h->started : 0;
}

/* An exchange that is not over is cut: the connection closes, or the stream of HTTP/2 is reset. */
static void
hang_up(struct http *h)
{
	if (h->easy != NULL) {
		http_multi_remove(h->easy);
		http_multi_give(h->easy);
		h->easy = NULL;
	}
	curl_slist_free_all(h->headers);
	h->headers = NULL;
}

void
http_close(struct http **h)
{
	if (*h == NULL)
		return;
	shut(*h);
	*h = NULL;
}

/* Twice is harmless: the arena calls it once more. */
static void
shut(void *arg)
{
	struct http	*h = arg;

	hang_up(h);
	buf_free(&h->head);
	buf_free(&h->body);
	h->taken = 0;
	h->done = true;
}
