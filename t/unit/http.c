/* The HTTP client against servers that behave well, and badly (see http_server.h). */
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "http_server.h"
#include "io/http.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "tap.h"

/* Names do not leave this machine; one of them takes its time. */
int
getaddrinfo(const char *restrict node, const char *restrict service,
    const struct addrinfo *restrict hints, struct addrinfo **restrict res)
{
	(void)service;
	(void)hints;
	(void)res;
	if (strcmp(node, "slow.test") == 0)
		usleep(2000000);
	return EAI_NONAME;
}

static void	(*on_fiber)(struct job *);

static void
fiber_main(void *arg)
{
	struct job	 job;

	(void)arg;
	job_open(&job, NULL);
	on_fiber(&job);
	job_close(&job);
	loop_stop();
}

static void
run(void (*test)(struct job *))
{
	on_fiber = test;
	fiber_start(fiber_main, NULL);
	loop_run();
}

static struct http_ask
asking(const char *url)
{
	return (struct http_ask){ .method = "GET", .url = url, .connect_ms = 5000,
	    .first_byte_ms = 5000, .idle_ms = 5000, .max_body = 1000 };
}

/* All of the body, read in small pieces, as a text. */
static const char *
body_of(struct job *job, struct http *h, ssize_t *end)
{
	struct buf	*b = buf_new(job->arena);
	char		 piece[3];

	while ((*end = http_read(h, piece, sizeof piece)) > 0)
		buf_add(b, piece, (size_t)*end);
	return buf_text(b);
}

static void
test_good(struct job *job)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	ssize_t		 end;

	start(&s, script_good);
	ask = asking(s.url);
	h = http_open(job, &ask);
	ok(http_status(h) == 200, "the status");
	is_text(http_header(h, "x-TEST"), "a b", "a header, trimmed");
	ok(http_header(h, "X-Tes") == NULL && http_header(h, "HTTP/1.1 200 OK") == NULL, "no such header");
	is_text(body_of(job, h, &end), "hello", "the body");
	ok(end == 0 && http_read(h, (char[1]){ 0 }, 1) == 0, "... and its end");
	ok(http_error(h) == HTTP_OK && http_detail(h)[0] == '\0', "all is well");
	ok(http_first_byte_us(h) > 0, "the first byte's time is known");
	http_close(&h);
	ok(h == NULL, "closed");
	http_close(&h);
	h = http_open(job, &ask);
	http_close(&h);
	ok(true, "closed at once");
	http_open(job, &ask);
	stop(&s);			/* the last one is the arena's to close */
}

static void
test_chunked(struct job *job)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	ssize_t		 end;

	start(&s, script_chunked);
	ask = asking(s.url);
	h = http_open(job, &ask);
	ok(http_status(h) == 201 && http_header(h, "X-Early") == NULL, "an early head is not the head");
	is_text(body_of(job, h, &end), "abcde", "chunks");
	ok(end == 0 && http_header(h, "X-Trailer") == NULL, "a trailer is no header");
	http_close(&h);
	stop(&s);

	start(&s, script_empty);
	ask = asking(s.url);
	h = http_open(job, &ask);
	ok(http_status(h) == 204 && http_read(h, (char[1]){ 0 }, 1) == 0, "no body, no wait for its first byte");
	ok(http_first_byte_us(h) == 0, "... which never came");
	stop(&s);
}

static void
is_failure(struct job *job, void (*script)(int), enum http_error error, const char *body,
    int64_t patience, const char *name)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	const char	*got;
	ssize_t		 end;

	start(&s, script);
	ask = asking(s.url);
	ask.first_byte_ms = ask.idle_ms = patience;
	ask.max_body = 50;
	h = http_open(job, &ask);
	got = body_of(job, h, &end);
	ok(end == -1 && http_error(h) == error && strcmp(got, body) == 0 && http_detail(h)[0] != '\0',
	    "%s (%d, \"%s\", %s)", name, http_error(h), got, http_detail(h));
	ok(job->fail == FAIL_NONE, "... has not failed the job");
	ok(http_read(h, (char[1]){ 0 }, 1) == -1, "... is final");
	http_close(&h);
	stop(&s);
}

static void
test_failures(struct job *job)
{
	is_failure(job, script_cut, HTTP_BROKEN, "0123456789", 5000, "a body that is cut");
	is_failure(job, script_cut_chunk, HTTP_BROKEN, "0123456789", 5000, "chunks that are cut");
	is_failure(job, script_reset, HTTP_BROKEN, "", 5000, "a reset instead of an answer");
	is_failure(job, script_silent, HTTP_LATE_FIRST, "", 100, "no answer");
	is_failure(job, script_head_only, HTTP_LATE_FIRST, "", 100, "a head and no body");
	is_failure(job, script_idle, HTTP_LATE_IDLE, "01234", 100, "a body that stops");
	is_failure(job, script_not_http, HTTP_GARBLED, "", 5000, "another protocol");
	is_failure(job, script_bad_chunk, HTTP_GARBLED, "", 5000, "a broken chunk");
	is_failure(job, script_too_large, HTTP_TOO_LARGE, "", 5000, "a body that is too large");
	is_failure(job, script_big_head, HTTP_TOO_LARGE, "", 5000, "a head that is too large");
}

static void
test_unreachable(struct job *job)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	int64_t		 before;

	start(&s, script_good);
	stop(&s);
	ask = asking(s.url);
	h = http_open(job, &ask);
	ok(http_status(h) == -1 && http_error(h) == HTTP_UNREACHABLE, "refused (%s)", http_detail(h));
	http_close(&h);
	ask.url = "http://none.test/";
	h = http_open(job, &ask);
	ok(http_status(h) == -1 && http_error(h) == HTTP_UNREACHABLE, "no such name (%s)", http_detail(h));
	http_close(&h);
	ask.url = "ftp://127.0.0.1/";
	h = http_open(job, &ask);
	ok(http_status(h) == -1 && http_error(h) == HTTP_UNREACHABLE, "another scheme (%s)", http_detail(h));
	http_close(&h);
	ask.url = "nonsense::";
	h = http_open(job, &ask);
	ok(http_status(h) == -1 && http_error(h) == HTTP_UNREACHABLE, "no URL (%s)", http_detail(h));
	http_close(&h);

	ask.url = "http://slow.test/";
	ask.first_byte_ms = 50;
	before = now_us();
	h = http_open(job, &ask);
	ok(http_status(h) == -1 && http_error(h) == HTTP_LATE_FIRST, "a name that takes long");
	http_close(&h);
	ask.connect_ms = 50;
	ask.first_byte_ms = 0;
	h = http_open(job, &ask);
	ok(http_status(h) == -1 && http_error(h) == HTTP_UNREACHABLE, "... by the connect timeout (%s)", http_detail(h));
	http_close(&h);
	ok(now_us() - before < 1500000, "... and nobody waits for its thread");
}

static void
stop_job(void *job)
{
	job_stop(job, JOB_CANCELLED);
}

static void
test_times(struct job *job)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	struct timer	 t = { .fn = stop_job, .arg = job };
	ssize_t		 end;

	start(&s, script_drip);
	ask = asking(s.url);
	ask.idle_ms = ask.first_byte_ms = 1000;
	h = http_open(job, &ask);
	is_text(body_of(job, h, &end), "..........", "a slow body within its limits");
	http_close(&h);
	stop(&s);

	start(&s, script_drip);
	ask.url = s.url;
	ask.total_ms = 150;
	h = http_open(job, &ask);
	body_of(job, h, &end);
	ok(end == -1 && http_error(h) == HTTP_LATE_TOTAL && job->fail == FAIL_NONE, "the total (%s)", http_detail(h));
	http_close(&h);
	stop(&s);

	start(&s, script_drip);
	ask.url = s.url;
	ask.total_ms = 0;
	job->deadline = deadline_ms(150);
	job->late = FAIL_TURN_TIMEOUT;
	h = http_open(job, &ask);
	body_of(job, h, &end);
	ok(end == -1 && http_error(h) == HTTP_LATE_TOTAL && job->fail == FAIL_TURN_TIMEOUT, "the job's deadline");
	http_close(&h);
	stop(&s);
	job_forgive(job);
	job->deadline = NEVER;

	start(&s, script_drip);
	ask.url = s.url;
	timer_set(&t, deadline_ms(150));
	h = http_open(job, &ask);
	body_of(job, h, &end);
	ok(end == -1 && http_error(h) == HTTP_STOPPED && job->fail == FAIL_TURN_ABANDONED, "a job that is stopped");
	http_close(&h);
	timer_clear(&t);
	stop(&s);
}

static int	 attended;

static void
dawdle(void *arg)
{
	(void)arg;
	attended++;
	loop_sleep(deadline_ms(700));
}

static void
test_attendant(struct job *job)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	ssize_t		 end;

	/* It is away for longer than the idle time, and the answer comes meanwhile. */
	start(&s, script_drip);
	ask = asking(s.url);
	ask.first_byte_ms = 500;
	ask.idle_ms = 500;
	h = http_open(job, &ask);
	job->attend = dawdle;
	job->attend_at = now_us();
	is_text(body_of(job, h, &end), "..........", "an attendant who is slow");
	ok(attended == 1 && end == 0, "... does no harm");
	http_close(&h);
	stop(&s);
}

static void
test_paused(struct job *job)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	static char	 piece[10000];
	size_t		 at = 0;
	ssize_t		 n;
	bool		 right = true;

	start(&s, script_big_body);
	ask = asking(s.url);
	ask.max_body = BIG;
	ask.idle_ms = 500;
	h = http_open(job, &ask);
	ok(http_status(h) == 200, "a long body begins");
	loop_sleep(deadline_ms(800));
	while ((n = http_read(h, piece, sizeof piece)) > 0) {
		for (ssize_t i = 0; i < n; i++, at++)
			if (piece[i] != (char)('a' + at / 4096 % 26))
				right = false;
	}
	ok(n == 0 && at == BIG && right, "a slow reader gets all of it (%zu, %s)", at, http_detail(h));
	ok(finish(&s) == 0, "... and its server had to wait");
	http_close(&h);

	start(&s, script_big_body);
	h = http_open(job, &ask);
	http_status(h);
	loop_sleep(deadline_ms(50));
	http_close(&h);
	ok(finish(&s) == 1, "a paused exchange can be closed");
}

static void
test_close(struct job *job)
{
	struct server	 s;
	struct http_ask	 ask;
	struct http	*h;
	char		 piece[10];

	start(&s, script_sees_close);
	ask = asking(s.url);
	h = http_open(job, &ask);
	ok(http_read(h, piece, sizeof piece) == 5, "a part of the body");
	http_close(&h);
	loop_sleep(now_us());
	ok(finish(&s) == 0, "closing early closes the connection");
}

static void
test_kept(struct job *job)
{
	static char	 much[100000];
	struct server	 s;
	struct http_ask	 ask, get;
	struct http	*h;
	ssize_t		 end;

	memset(much, 'x', sizeof much);
	start(&s, script_dies_kept);
	get = ask = asking(s.url);
	ask.method = "POST";
	ask.body = much;
	ask.nbody = sizeof much;
	h = http_open(job, &get);
	body_of(job, h, &end);
	http_close(&h);
	h = http_open(job, &ask);
	is_text(body_of(job, h, &end), "hello", "a kept connection that dies is replaced");
	http_close(&h);
	ok(finish(&s) == 0, "... with the whole body");

	start(&s, script_counts);
	get.url = s.url;
	for (int i = 0; i < 2; i++) {
		h = http_open(job, &get);
		ok(http_status(h) == 200, "request %d", i + 1);
		body_of(job, h, &end);
		http_close(&h);
	}
	get.once = true;
	h = http_open(job, &get);
	ok(http_status(h) == -1 && http_error(h) == HTTP_BROKEN, "once means once");
	http_close(&h);
	ok(finish(&s) == 0, "... on a connection of its own");
}

static void
test_request(struct job *job)
{
	static const char *const	 headers[] = { "X-One: 1", "Content-Type: application/json", NULL };
	struct server			 s;
	struct http_ask			 ask;
	struct http			*h;
	const char			*head;
	ssize_t				 end;

	start(&s, script_shows_head);
	ask = asking(s.url);
	ask.method = "DELETE";
	ask.headers = headers;
	h = http_open(job, &ask);
	head = body_of(job, h, &end);
	ok(strncmp(head, "DELETE /path?q HTTP/1.1\r\n", 25) == 0 && strstr(head, "\r\nX-One: 1\r\n") != NULL,
	    "a method of its own, a header");
	stop(&s);

	start(&s, script_shows_head);
	ask.url = s.url;
	ask.method = "POST";
	ask.body = "xx";
	ask.nbody = 2;
	h = http_open(job, &ask);
	head = body_of(job, h, &end);
	ok(strncmp(head, "POST /path?q HTTP/1.1\r\n", 23) == 0 && strstr(head, "application/json\r\n") != NULL &&
	    strstr(head, "x-www-form") == NULL, "a POST");
	ok(strcasestr(head, "expect") == NULL && strcasestr(head, "accept-encoding") == NULL &&
	    strcasestr(head, "upgrade") == NULL, "nothing that was not asked for");
	is_text(http_header(h, "X-Body"), "2", "its body");
	stop(&s);
}

static char	 crowd_url[64];
static int	 crowd_left, crowd_good;

static void
one_of_crowd(void *arg)
{
	struct job	 job;
	struct http_ask	 ask = asking(crowd_url);
	struct http	*h;
	ssize_t		 end;

	(void)arg;
	job_open(&job, NULL);
	h = http_open(&job, &ask);
	crowd_good += http_status(h) == 200 && strcmp(body_of(&job, h, &end), "hello") == 0;
	job_close(&job);
	if (--crowd_left == 0)
		loop_stop();
}

static void
test_crowd(void)
{
	struct server	 s;

	start(&s, script_crowd);
	strcpy(crowd_url, s.url);
	for (crowd_left = 0; crowd_left < 100; crowd_left++)
		fiber_start(one_of_crowd, NULL);
	loop_run();
	ok(crowd_good == 100, "a hundred at once (%d)", crowd_good);
	stop(&s);
}

int
main(void)
{
	/* No proxy between a test and itself. */
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	signal(SIGPIPE, SIG_IGN);
	if (loop_open() < 0 || http_start() < 0)
		return 1;
	run(test_good);
	run(test_chunked);
	run(test_failures);
	run(test_unreachable);
	run(test_times);
	run(test_attendant);
	run(test_paused);
	run(test_close);
	run(test_kept);
	run(test_request);
	test_crowd();
	http_stop();
	loop_close();
	return done_testing();
}
