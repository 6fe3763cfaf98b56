/*
 * fcgi -- hand-made FastCGI records against a listener in a child process.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/fcgi.h"
#include "io/record.h"
#include "run/deadline.h"
#include "run/loop.h"
#include "tap.h"

enum { BEGIN = 1, ABORT = 2, END = 3, PARAMS = 4, STDIN = 5, STDOUT = 6, GET_VALUES = 9 };

#define MAX_SERVED	3

static char		 dir[64], path[96];
static int		 report[2];	/* what handlers saw, a line each */
static const struct conf conf = {
	.client_read_timeout = 1500,
	.client_write_timeout = 400,
};

/* -- the server: what is asked for stands in REQUEST_URI -- */

static void
tell(const char *what, int a, int b)
{
	char	 line[128];
	int	 n = snprintf(line, sizeof line, "%s %d %d\n", what, a, b);

	if (write(report[1], line, (size_t)n) != n)
		abort();
}

static void
say(struct fcgi *f, const char *text)
{
	(void)fcgi_write(f, text, strlen(text));
}

static void
serve_echo(struct fcgi *f)
{
	struct buf	 body = { 0 };
	char		 line[64];
	int		 rc = fcgi_body(f, &body, 65536);

	snprintf(line, sizeof line, "rc=%d n=%zu ", rc, rc == 0 ? body.n : 0);
	say(f, line);
	if (rc == 0)
		say(f, buf_text(&body));
	buf_free(&body);
}

/* The answer is over, the work is not. */
static void
serve_early(struct fcgi *f)
{
	say(f, "early");
	fcgi_finish(f);
	loop_sleep(deadline_ms(300));
	tell("early", fcgi_write(f, "x", 1), fcgi_gone(f) && strcmp(fcgi_param(f, "REQUEST_URI"), "/early") == 0);
}

static void
serve_big(struct fcgi *f)
{
	char	*big = malloc(4 << 20);
	int64_t	 at = now_us();
	int	 rc;

	memset(big, 'x', 4 << 20);
	rc = fcgi_write(f, big, 4 << 20);
	tell("big", rc, (int)((now_us() - at) / 1000));
	free(big);
}

static void
serve_gone(struct fcgi *f)
{
	int	 rc = 0;

	say(f, "first");
	rc += fcgi_flush(f);
	tell("flushed", rc, 0);
	loop_sleep(deadline_ms(300));
	say(f, "second");
	rc = fcgi_flush(f);
	tell("gone", rc, fcgi_gone(f));
}

static void
serve(struct fcgi *f, const struct conf *c)
{
	const char	*uri = fcgi_param(f, "REQUEST_URI");
	char		 line[32];

	(void)c;
	if (strcmp(uri, "/echo") == 0)
		serve_echo(f);
	else if (strcmp(uri, "/early") == 0)
		serve_early(f);
	else if (strcmp(uri, "/big") == 0)
		serve_big(f);
	else if (strcmp(uri, "/gone") == 0)
		serve_gone(f);
	else if (strcmp(uri, "/hold") == 0) {
		loop_sleep(deadline_ms(700));
		say(f, "held");
	} else if (strcmp(uri, "/stop") == 0) {
		fcgi_listen_stop();
		say(f, "stopping");
	} else {
		snprintf(line, sizeof line, "active=%d", fcgi_active());
		say(f, line);
	}
}

static void
full(struct fcgi *f, const struct conf *c)
{
	(void)c;
	say(f, "full");
}

static void
on_term(int sig)
{
	(void)sig;
	loop_stop();
}

static pid_t
server_start(int fd)
{
	pid_t	 pid = fork();

	if (pid != 0)
		return pid;
	(void)alarm(60);
	if (loop_open() < 0 || loop_signal(SIGTERM, on_term) < 0)
		_exit(10);
	fcgi_conf(&conf);
	if (fcgi_listen(fd, MAX_SERVED, serve, full) < 0)
		_exit(11);
	loop_run();
	loop_close();
	exit(0);
}

/* -- the client -- */

static int
peer(void)
{
	struct sockaddr_un	 sa = { .sun_family = AF_UNIX };
	struct timeval		 tv = { .tv_sec = 10 };
	int			 fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sa.sun_path, path);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		abort();
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	return fd;
}

static void
put_record(struct buf *b, int type, int id, const void *p, size_t n)
{
	unsigned char	 head[8] = { 1, (unsigned char)type, (unsigned char)(id >> 8), (unsigned char)id,
	    (unsigned char)(n >> 8), (unsigned char)n, 0, 0 };

	buf_add(b, head, sizeof head);
	buf_add(b, p, n);
}

static void
put_pair(struct buf *b, const char *name, const char *value)
{
	size_t		 n = strlen(value);
	unsigned char	 large[4] = { (unsigned char)(0x80 | n >> 24), (unsigned char)(n >> 16),
	    (unsigned char)(n >> 8), (unsigned char)n };

	buf_char(b, (char)strlen(name));
	buf_add(b, large, 4);
	buf_str(b, name);
	buf_str(b, value);
}

static void
put_begin(struct buf *b, bool keep)
{
	unsigned char	 body[8] = { 0, 1, keep };

	put_record(b, BEGIN, 1, body, sizeof body);
}

/* A whole request. */
static void
put_request(struct buf *b, const char *uri, const char *body, size_t n, bool keep)
{
	struct buf	 params = { 0 };
	char		 length[24];

	snprintf(length, sizeof length, "%zu", n);
	put_pair(&params, "REQUEST_URI", uri);
	put_pair(&params, "CONTENT_LENGTH", n > 0 ? length : "");
	put_begin(b, keep);
	put_record(b, PARAMS, 1, params.p, params.n);
	put_record(b, PARAMS, 1, "", 0);
	for (size_t at = 0; at < n; at += 32000)
		put_record(b, STDIN, 1, body + at, n - at < 32000 ? n - at : 32000);
	put_record(b, STDIN, 1, "", 0);
	buf_free(&params);
}

static bool
push(int fd, const char *p, size_t n)
{
	for (ssize_t got; n > 0; p += got, n -= (size_t)got)
		if ((got = send(fd, p, n, MSG_NOSIGNAL)) <= 0)
			return false;
	return true;
}

static bool
pull(int fd, void *p, size_t n)
{
	for (ssize_t got; n > 0; p = (char *)p + got, n -= (size_t)got)
		if ((got = recv(fd, p, n, 0)) <= 0)
			return false;
	return true;
}

/* The text up to END_REQUEST; "BROKEN" where the connection broke off before it. */
static const char *
answer(int fd)
{
	static char	 text[65536];
	unsigned char	 head[8];
	char		 rest[65536 + 256];
	size_t		 n = 0, len;

	for (;;) {
		if (!pull(fd, head, 8))
			return "BROKEN";
		len = (size_t)(head[4] << 8 | head[5]);
		if (!pull(fd, rest, len + head[6]))
			return "BROKEN";
		if (head[1] == STDOUT) {
			memcpy(text + n, rest, len);
			n += len;
		}
		text[n] = '\0';
		if (head[1] == END)
			return text;
	}
}

static const char *
ask(const char *uri, const char *body)
{
	static char	 text[65536];
	struct buf	 b = { 0 };
	int		 fd = peer();

	put_request(&b, uri, body, strlen(body), false);
	(void)push(fd, b.p, b.n);
	strcpy(text, answer(fd));
	close(fd);
	buf_free(&b);
	return text;
}

/* Was the connection closed, without an answer? */
static bool
is_dropped(int fd)
{
	char	 c;
	ssize_t	 n = recv(fd, &c, 1, 0);

	close(fd);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static const char *
reported(int *a, int *b)
{
	static char	 word[32];
	char		 line[128];
	size_t		 n = 0;

	while (n < sizeof line - 1 && read(report[0], line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	*a = *b = -99;
	if (sscanf(line, "%31s %d %d", word, a, b) < 1)
		return "";
	return word;
}

/* -- the tests -- */

static void
test_plain(void)
{
	struct buf	 b = { 0 };
	int		 fd = peer();

	is_text(ask("/echo", "hello"), "rc=0 n=5 hello", "a request with a body is answered");
	is_text(ask("/echo", ""), "rc=0 n=0 ", "... and one without");

	put_request(&b, "/echo", "drop by drop", 12, false);
	for (size_t i = 0; i < b.n; i++) {
		(void)push(fd, b.p + i, 1);
		usleep(1000);
	}
	is_text(answer(fd), "rc=0 n=12 drop by drop", "one that comes byte by byte");
	close(fd);
	buf_free(&b);
}

static void
test_silent(void)
{
	int64_t	 at = now_us(), took;
	int	 fd = peer();

	(void)push(fd, "\1\1\0", 3);
	is_text(ask("/echo", "x"), "rc=0 n=1 x", "a peer that stops in a header holds up nobody");
	ok(is_dropped(fd), "... and is dropped");
	took = now_us() - at;
	ok(took >= 1400000 && took < 8000000, "... after client.read_timeout (%lld ms)", (long long)took / 1000);
}

static void
test_too_large(void)
{
	struct buf	 b = { 0 };
	char		*body = calloc(1, 300001);
	int		 good = 0;

	memset(body, 'b', 300000);
	put_request(&b, "/echo", body, 300000, false);
	for (int i = 0; i < 20; i++) {
		int	 fd = peer();

		good += push(fd, b.p, b.n) && strcmp(answer(fd), "rc=1 n=0 ") == 0;
		close(fd);
	}
	ok(good == 20, "a body too large: its answer arrives, never a reset (%d of 20)", good);
	free(body);
	buf_free(&b);
}

static void
test_never_reads(void)
{
	struct buf	 b = { 0 };
	int		 fd = peer(), rc, ms;

	put_request(&b, "/big", "", 0, false);
	(void)push(fd, b.p, b.n);
	is_text(ask("/echo", "y"), "rc=0 n=1 y", "a client that never reads holds up nobody");
	is_text(reported(&rc, &ms), "big", "... and its writer comes back");
	ok(rc == -1 && ms >= 390 && ms < 5000, "... with -1 after client.write_timeout (%d ms)", ms);
	close(fd);
	buf_free(&b);
}

static void
test_keep(void)
{
	struct buf	 b = { 0 };
	int		 fd = peer(), rc, gone;
	char		*body;
	int64_t		 at;

	for (int i = 1; i <= 3; i++) {
		buf_clear(&b);
		put_request(&b, "/echo", "again", 5, true);
		(void)push(fd, b.p, b.n);
		ok(strcmp(answer(fd), "rc=0 n=5 again") == 0, "request %d on a kept connection", i);
	}
	body = calloc(1, 100001);
	memset(body, 'u', 100000);
	buf_clear(&b);
	put_request(&b, "/active", body, 100000, true);
	(void)push(fd, b.p, b.n);
	is_text(answer(fd), "active=1", "a body may be left unread");
	free(body);
	buf_clear(&b);
	put_request(&b, "/early", "", 0, true);
	(void)push(fd, b.p, b.n);
	at = now_us();
	is_text(answer(fd), "early", "a handler may end the request early");
	buf_clear(&b);
	put_request(&b, "/echo", "next", 4, true);
	(void)push(fd, b.p, b.n);
	is_text(answer(fd), "rc=0 n=4 next", "... and the kept connection serves the next one");
	ok(now_us() - at < 290000, "... meanwhile");
	is_text(reported(&rc, &gone), "early", "... while the handler goes on");
	ok(rc == -1 && gone == 1, "... without a client, with its parameters");
	usleep(20000);
	is_text(ask("/active", ""), "active=1", "an idle connection is not active");
	close(fd);
	is_text(ask("/early", ""), "early", "the same without keeping");
	is_text(reported(&rc, &gone), "early", "... goes on as well");
	buf_free(&b);
}

static void
test_gone(void)
{
	struct buf	 b = { 0 };
	int		 fd = peer(), rc, gone;

	put_request(&b, "/gone", "", 0, false);
	(void)push(fd, b.p, b.n);
	is_text(reported(&rc, &gone), "flushed", "a client reads the first piece");
	close(fd);
	is_text(reported(&rc, &gone), "gone", "... leaves, and the handler goes on");
	ok(rc == -1 && gone == 1, "... knowing it");
	buf_free(&b);
}

static bool
refused(struct buf *b)
{
	int	 fd = peer();

	(void)push(fd, b->p, b->n);
	buf_free(b);
	return is_dropped(fd);
}

/* Too many headers are a client's doing, and the web server is told so. */
static bool
told_too_much(struct buf *b)
{
	int	 fd = peer();
	bool	 told;

	(void)push(fd, b->p, b->n);
	buf_free(b);
	told = strstr(answer(fd), "Status: 400 Bad Request\r\n") != NULL;
	(void)close(fd);
	return told;
}

static bool
passes(const struct buf *b)
{
	struct record	 r = { 0 };

	return record_pass(&r, b->p, b->n);
}

static void
test_hostile(void)
{
	struct buf	 b = { 0 }, p = { 0 }, inner = { 0 };
	char		 large[30000];

	put_begin(&b, false);
	put_record(&b, PARAMS, 1, "\377\377\377\377\377\377\377\377", 8);
	ok(told_too_much(&b), "lengths of two gigabytes are refused unread");

	put_begin(&b, false);
	for (int i = 0; i < 300; i++)
		put_pair(&p, "X", "");
	put_record(&b, PARAMS, 1, p.p, p.n);
	ok(told_too_much(&b), "three hundred parameters are refused");
	buf_clear(&p);

	memset(large, 'v', sizeof large - 1);
	large[sizeof large - 1] = '\0';
	put_pair(&p, "X", large);
	put_begin(&b, false);
	for (int i = 0; i < 3; i++)
		put_record(&b, PARAMS, 1, p.p, p.n);
	ok(told_too_much(&b), "ninety kilobytes of parameters are refused");
	buf_clear(&p);

	for (int i = 0; i < 8; i++)
		put_pair(&p, "FCGI_MAX_CONNS", "");
	put_record(&b, GET_VALUES, 0, p.p, p.n);
	ok(refused(&b), "FCGI_GET_VALUES is refused");
	buf_free(&p);

	buf_add(&b, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	ok(refused(&b), "HTTP is refused");

	/* libfcgi would take the padding for a record, of which nobody has seen the lengths. */
	put_begin(&b, false);
	b.p[6] = 8;
	put_record(&b, PARAMS, 1, "\377\377\377\377\377\377\377\377", 8);
	ok(refused(&b), "padding behind the beginning is refused");
	put_begin(&b, false);
	put_record(&b, PARAMS, 1, "", 0);
	b.p[b.n - 2] = 8;
	put_record(&b, STDIN, 1, "", 0);
	put_record(&b, STDIN, 1, "", 0);
	ok(refused(&b), "... and behind the end of the parameters");

	/* What libfcgi calls an error would end the parameters, and their rest be taken for records. */
	put_begin(&b, false);
	put_record(&b, PARAMS, 1, "12345678", 8);
	b.p[16] = 2;
	ok(!passes(&b) && refused(&b), "another version is refused");
	put_begin(&b, false);
	put_record(&b, BEGIN, 1, "1234567", 7);
	ok(!passes(&b) && refused(&b), "a beginning of another length is refused");

	put_pair(&p, "REQUEST_URI", "/active");
	put_pair(&p, "CONTENT_LENGTH", "1");
	put_record(&inner, STDIN, 1, "", 0);
	put_begin(&b, false);
	put_record(&b, PARAMS, 1, p.p, p.n);
	put_record(&b, 109, 1, inner.p, inner.n);
	ok(refused(&b), "what stands inside of an unknown record is no record");
	buf_free(&inner);
	buf_free(&p);

	put_begin(&b, false);
	for (int i = 0; i < 10000; i++)
		put_record(&b, 109, 1, "", 0);
	ok(!passes(&b) && refused(&b), "ten thousand unknown records are refused");

	put_begin(&b, false);
	put_record(&b, ABORT, 1, "", 0);
	ok(refused(&b), "a request aborted at once is dropped");
	is_text(ask("/echo", "z"), "rc=0 n=1 z", "the others notice nothing");
}

static void
test_full(void)
{
	struct buf	 b = { 0 };
	int		 fd[MAX_SERVED], held = 0;

	put_request(&b, "/hold", "", 0, false);
	for (int i = 0; i < MAX_SERVED; i++) {
		fd[i] = peer();
		(void)push(fd[i], b.p, b.n);
	}
	usleep(100000);
	is_text(ask("/echo", "x"), "full", "past the limit the other handler answers");
	for (int i = 0; i < MAX_SERVED; i++) {
		held += strcmp(answer(fd[i]), "held") == 0;
		close(fd[i]);
	}
	ok(held == MAX_SERVED, "... and those within it are served");
	is_text(ask("/echo", "x"), "rc=0 n=1 x", "... as are later ones");
	buf_free(&b);
}

static void
test_stop(pid_t server)
{
	struct buf	 b = { 0 };
	struct timeval	 tv = { .tv_usec = 300000 };
	int		 kept = peer(), fresh, late, status;
	char		 c;

	put_request(&b, "/echo", "k", 1, true);
	(void)push(kept, b.p, b.n);
	is_text(answer(kept), "rc=0 n=1 k", "a connection is kept open");
	fresh = peer();
	usleep(50000);
	is_text(ask("/stop", ""), "stopping", "the listener stops");
	ok(is_dropped(kept), "... the idle connection is closed");
	(void)push(fresh, b.p, b.n);
	is_text(answer(fresh), "rc=0 n=1 k", "... one just made is served");
	ok(is_dropped(fresh), "... and not kept");

	late = peer();
	(void)setsockopt(late, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	(void)push(late, b.p, b.n);
	ok(recv(late, &c, 1, 0) == -1 && errno == EAGAIN, "... later ones wait for another worker");
	close(late);
	(void)kill(server, SIGTERM);
	ok(waitpid(server, &status, 0) == server && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "the server ends well");
	buf_free(&b);
}

int
main(void)
{
	struct sockaddr_un	 sa = { .sun_family = AF_UNIX };
	int			 fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t			 server;

	strcpy(dir, "/tmp/pfcgiXXXXXX");
	if (mkdtemp(dir) == NULL || pipe(report) < 0)
		return 99;
	snprintf(path, sizeof path, "%s/s", dir);
	strcpy(sa.sun_path, path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 64) < 0)
		return 99;

	ok(fcgi_check(), "libfcgi's I/O is ours");
	server = server_start(fd);
	test_plain();
	test_silent();
	test_too_large();
	test_never_reads();
	test_keep();
	test_gone();
	test_hostile();
	test_full();
	test_stop(server);
	close(fd);
	(void)unlink(path);
	(void)rmdir(dir);
	return done_testing();
}
