/*
 * A connection of the web server, from its bytes through libfcgi's reader to a handler, and back.
 *
 * An input that begins with "+" is a whole request: lines NAME=VALUE, an empty line, the body.  It is written as
 * records in pieces that depend on the input, and the handler must see just what was sent.  Any other input is the
 * bytes themselves, which somebody else's program has written: nothing of them must do harm.
 */
#include "fuzz.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "io/fcgi.h"
#include "io/record.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/loop.h"

enum { BEGIN = 1, PARAMS = 4, STDIN = 5 };

#define PAIRS_MAX	16
#define BODY_MAX	2048

static const struct conf conf = { .client_read_timeout = 2000, .client_write_timeout = 2000 };

static struct {
	struct sockaddr_un	 at;
	int			 listener;
	int			 fd;		/* the web server's end */
	struct arena		*arena;
	char			*names[PAIRS_MAX + 1], *values[PAIRS_MAX + 1];
	int			 npairs;
	struct input		 body;
	bool			 whole;		/* a request of the first kind */
	int			 served;
	struct buf		 answer;
} web = { .listener = -1 };

/* -- the handler -- */

static void
serve(struct fcgi *f, const struct conf *c)
{
	struct buf	 body = { 0 };
	int		 rc = fcgi_body(f, &body, BODY_MAX);

	(void)c;
	must(rc >= -1 && rc <= 1 && (rc != 0 || body.n <= BODY_MAX));
	if (web.whole) {
		must(rc == (web.body.n > BODY_MAX));
		must(rc != 0 || (body.n == web.body.n && (body.n == 0 || memcmp(body.p, web.body.p, body.n) == 0)));
		for (int i = 0; i < web.npairs; i++) {
			const char	*value = fcgi_param(f, web.names[i]);

			must(value != NULL && strcmp(value, web.values[i]) == 0);
		}
	}
	(void)fcgi_param(f, "REQUEST_URI");
	buf_free(&body);
	web.served++;
	(void)fcgi_write(f, "Status: 200 OK\r\n\r\nfine", 22);
	if (web.served % 2 == 0)
		fcgi_finish(f);
}

/* -- the web server -- */

/* libfcgi takes no padding behind FCGI_BEGIN_REQUEST, and none is needed there. */
static void
put_record(struct buf *b, int type, const char *p, size_t n)
{
	char	 pad = (char)(type == BEGIN ? 0 : n % 3), head[8] = { 1, (char)type, 0, 1, (char)(n >> 8), (char)n, pad, 0 };

	buf_add(b, head, sizeof head);
	buf_add(b, p, n);
	buf_add(b, "\0\0", (size_t)pad);
}

static void
put_length(struct buf *b, size_t n)
{
	char	 large[4] = { (char)(0x80 | n >> 24), (char)(n >> 16), (char)(n >> 8), (char)n };

	/* Both forms are allowed for a short one (section 3.4). */
	if (n < 128 && n % 2 == 0)
		buf_char(b, (char)n);
	else
		buf_add(b, large, sizeof large);
}

static void
put_pieces(struct buf *b, int type, const char *p, size_t n, size_t piece)
{
	for (; n > 0; p += piece, n -= piece) {
		piece = piece < n ? piece : n;
		put_record(b, type, p, piece);
	}
	put_record(b, type, "", 0);
}

static void
pair_take(char *line)
{
	char	*equals = strchr(line, '=');

	if (equals == NULL || equals == line || web.npairs == PAIRS_MAX || strncmp(line, "CONTENT_LENGTH", 14) == 0 ||
	    strncmp(line, "FCGI_", 5) == 0)
		return;
	*equals = '\0';
	/* Of two of one name libfcgi gives the first; FCGI_ROLE is its own. */
	for (int i = 0; i < web.npairs; i++)
		if (strcmp(web.names[i], line) == 0)
			return;
	web.names[web.npairs] = line;
	web.values[web.npairs++] = equals + 1;
}

static void
request_put(struct buf *b, struct input in)
{
	struct buf	 params = { 0 };
	size_t		 piece = 1 + fuzz_pick(&in, 200);
	char		*line;

	while (in.n > 0 && *(line = fuzz_line(web.arena, &in)) != '\0')
		pair_take(line);
	web.body = in;
	web.names[web.npairs] = arena_strdup(web.arena, "CONTENT_LENGTH");
	web.values[web.npairs++] = arena_printf(web.arena, "%zu", in.n);
	for (int i = 0; i < web.npairs; i++) {
		put_length(&params, strlen(web.names[i]));
		put_length(&params, strlen(web.values[i]));
		buf_str(&params, web.names[i]);
		buf_str(&params, web.values[i]);
	}
	put_record(b, BEGIN, "\0\1\0\0\0\0\0\0", 8);
	put_pieces(b, PARAMS, params.p, params.n, piece);
	put_pieces(b, STDIN, in.p, in.n, piece);
	buf_free(&params);
}

/* On a fiber: sends, reads to the end, and waits until nobody else is there. */
static void
talk(void *arg)
{
	struct buf	*b = arg;
	char		 got[512];
	ssize_t		 n;

	(void)!send(web.fd, b->p, b->n, MSG_NOSIGNAL);
	(void)shutdown(web.fd, SHUT_WR);
	do {
		(void)loop_wait_fd(web.fd, EPOLLIN, deadline_ms(5000));
		n = recv(web.fd, got, sizeof got, MSG_DONTWAIT);
		if (n > 0)
			buf_add(&web.answer, got, (size_t)n);
	} while (n > 0);
	while (fcgi_active() > 0)
		loop_sleep(now_us());
	loop_stop();
}

static void
begin(void)
{
	if (web.listener != -1)
		return;
	(void)log_open("/dev/null", LOG_ERROR, NULL);
	web.at.sun_family = AF_UNIX;
	/* Abstract: it goes with us. */
	snprintf(web.at.sun_path + 1, sizeof web.at.sun_path - 1, "parley-fuzz-%d", (int)getpid());
	web.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (loop_open() < 0 || bind(web.listener, (struct sockaddr *)&web.at, sizeof web.at) < 0 || listen(web.listener, 8) < 0)
		abort();
	fcgi_conf(&conf);
	if (fcgi_listen(web.listener, 4, serve, serve) < 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct buf	 b = { 0 };

	begin();
	web.arena = arena_open();
	web.npairs = web.served = 0;
	web.whole = n > 0 && *data == '+';
	buf_clear(&web.answer);
	if (web.whole)
		request_put(&b, (struct input){ (const char *)data + 1, n - 1 });
	else
		buf_add(&b, data, n);
	web.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(web.fd, (struct sockaddr *)&web.at, sizeof web.at) < 0 || fiber_start(talk, &b) == NULL)
		abort();
	loop_run();
	(void)close(web.fd);
	must(!web.whole || (web.served == 1 && memmem(buf_text(&web.answer), web.answer.n, "fine", 4) != NULL));
	must(fiber_count() <= 1);
	buf_free(&b);
	arena_close(&web.arena);
	return 0;
}
