/*
 * A connection: reads a request, plays its reply, reads the next (RFC 9112
 * section 9.3).  While a reply is played the socket is still watched, because the journal
 * says whether the client went away before the end.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/buf.h"
#include "demo/journal.h"
#include "demo/reply.h"
#include "demo/server.h"

#define IDLE_SECONDS	300		/* a silent client; longer than any client keeps a connection */
#define LINGER_SECONDS	2		/* for the rest of a request that was refused */
#define OUT_HIGH	(256 * 1024)	/* unsent bytes that stop the player */
#define IN_HIGH		(64 * 1024)	/* bytes a client may send ahead while it is answered */
#define KEPT_BUFFER	4096		/* larger ones are given back between requests */

enum conn_state { CONN_READING, CONN_PLAYING, CONN_LINGERING };

struct conn {
	struct server	*server;
	struct conn	*prev, *next;
	int		 fd;
	enum conn_state	 state;
	bool		 continued;	/* "100 Continue" has been sent */
	bool		 reading;	/* rd is added */
	bool		 writing;	/* wr is added */
	bool		 bare;		/* garbage went out: no head, no framing any more */
	bool		 headed;	/* the head is out */
	bool		 closing;	/* this reply is the last */
	struct event	 rd, wr, timer;
	struct buf	 in, out;
	struct reply	*reply;
	struct step	*step;		/* the next one to play; NULL: the end */
	size_t		 done;		/* repeats or bytes of it played */
	uint64_t	 entry;		/* in the journal, 0: none */
};

static void	 on_readable(evutil_socket_t, short, void *);
static void	 on_writable(evutil_socket_t, short, void *);
static void	 on_timer(evutil_socket_t, short, void *);
static void	 conn_watch(struct conn *, int seconds);
static int	 conn_recv(struct conn *);
static void	 conn_next(struct conn *);
static int	 conn_request(struct conn *, struct reply **);
static void	 conn_answer(struct conn *, struct reply *);
static void	 conn_play(struct conn *);
static bool	 step_play(struct conn *, struct step *);
static void	 step_over(struct conn *);
static void	 body_add(struct conn *, const char *, size_t);
static void	 head_add(struct conn *);
static bool	 conn_flush(struct conn *);
static void	 conn_wait(struct conn *, int ms);
static void	 conn_ended(struct conn *);
static void	 conn_linger(struct conn *);

void
conn_open(struct server *s, int fd)
{
	struct conn	*c = calloc(1, sizeof *c);

	if (c == NULL) {
		(void)close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	(void)event_assign(&c->rd, s->base, fd, EV_READ | EV_PERSIST, on_readable, c);
	(void)event_assign(&c->wr, s->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
	(void)evtimer_assign(&c->timer, s->base, on_timer, c);
	c->next = s->conns;
	if (c->next != NULL)
		c->next->prev = c;
	s->conns = c;
	s->nconns++;
	conn_watch(c, IDLE_SECONDS);
}

void
conn_close(struct conn *c)
{
	struct server	*s = c->server;

	if (c->entry != 0)
		journal_left(s->journal, c->entry);
	(void)event_del(&c->rd);
	(void)event_del(&c->wr);
	(void)event_del(&c->timer);
	(void)close(c->fd);
	if (c->next != NULL)
		c->next->prev = c->prev;
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	s->nconns--;
	reply_close(&c->reply);
	buf_free(&c->in);
	buf_free(&c->out);
	free(c);
}

/* seconds 0: watches the socket without a limit. */
static void
conn_watch(struct conn *c, int seconds)
{
	const struct timeval	 tv = { .tv_sec = seconds };

	(void)event_add(&c->rd, seconds > 0 ? &tv : NULL);
	c->reading = true;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn	*c = arg;
	int		 got;

	(void)fd;
	if (what & EV_TIMEOUT) {
		/* The limit is for silence between requests; a reply may take as long as its script says. */
		if (c->state != CONN_PLAYING)
			conn_close(c);
		return;
	}
	got = conn_recv(c);
	if (got < 0)
		conn_close(c);
	else if (c->in.n > 0 && c->state == CONN_READING)
		conn_next(c);
	else if (c->state == CONN_PLAYING && c->in.n > IN_HIGH) {
		(void)event_del(&c->rd);
		c->reading = false;
	}
}

/* Bytes taken, 0: nothing there, -1: the client is gone. */
static int
conn_recv(struct conn *c)
{
	struct server	*s = c->server;
	ssize_t		 n = recv(c->fd, s->scratch, sizeof s->scratch, 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		return -1;
	if (c->state != CONN_LINGERING)
		buf_add(&c->in, s->scratch, (size_t)n);
	return (int)n;
}

/* Takes the next request out of the input, if it is whole. */
static void
conn_next(struct conn *c)
{
	struct reply	*reply = NULL;
	int		 got = conn_request(c, &reply);

	if (got == 0)
		return;
	if (got < 0) {
		/* Where this request ends is unknown, so it is the last. */
		reply = reply_error(-got, "the demo model cannot read this HTTP request");
		reply->close = true;
		buf_clear(&c->in);
	}
	conn_answer(c, reply);
}

static int
conn_request(struct conn *c, struct reply **reply)
{
	static const char	 go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct request		 r;
	struct slice		 body;
	size_t			 used;
	int			 got;

	if (c->in.n == 0)
		return 0;
	got = request_parse(c->in.p, c->in.n, &r);
	if (got <= 0)
		return got;
	got = request_body(&r, c->in.p, c->in.n, &body, &used);
	if (got == 0 && r.expects && !c->continued) {
		buf_add(&c->out, go_on, sizeof go_on - 1);
		c->continued = true;
		(void)conn_flush(c);
	}
	if (got == 0 && c->in.n == r.head)
		buf_reserve(&c->in, r.length);
	if (got <= 0)
		return got;

	*reply = service_answer(c->server, &r, body, &c->entry);
	(*reply)->close |= r.close;
	buf_drop(&c->in, used);
	return 1;
}

static void
conn_answer(struct conn *c, struct reply *reply)
{
	c->state = CONN_PLAYING;
	c->reply = reply;
	c->step = reply->first;
	c->done = 0;
	c->headed = c->bare = c->continued = false;
	c->closing = reply->close;
	if (c->in.n == 0 && c->in.cap > KEPT_BUFFER)
		buf_free(&c->in);
	conn_play(c);
}

/* Plays steps until one has to wait: for time, for the client to read, or for good. */
static void
conn_play(struct conn *c)
{
	while (c->step != NULL) {
		if (c->out.n > OUT_HIGH && !conn_flush(c))
			return;
		if (!step_play(c, c->step))
			return;
	}
	head_add(c);
	if (!c->bare && c->reply->framing == FRAMING_CHUNKED)
		buf_str(&c->out, "0\r\n\r\n");
	if (conn_flush(c))
		conn_ended(c);
}

/* True: go on with the next.  False: wait, or the connection is gone. */
static bool
step_play(struct conn *c, struct step *s)
{
	switch (s->kind) {
	case STEP_BYTES:
		body_add(c, s->text, s->n);
		if (++c->done >= (size_t)s->count)
			step_over(c);
		return true;
	case STEP_WAIT:
		step_over(c);
		conn_wait(c, s->ms);
		return false;
	case STEP_DRIP:
		if (c->done == s->n) {
			step_over(c);
			return true;
		}
		body_add(c, s->text + c->done++, 1);
		conn_wait(c, s->ms);
		return false;
	case STEP_GARBAGE:
		c->bare = c->headed = c->closing = true;
		buf_add(&c->out, s->text, s->n);
		step_over(c);
		return true;
	case STEP_HANG:
		(void)conn_flush(c);
		return false;
	case STEP_CUT:
	case STEP_RESET:
		break;
	}
	/* What was said before must have left, a reset throws it away. */
	if (!conn_flush(c))
		return false;
	if (s->kind == STEP_RESET)
		(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER,
		    &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	c->entry = 0;		/* it is we who leave */
	conn_close(c);
	return false;
}

static void
step_over(struct conn *c)
{
	c->step = c->step->next;
	c->done = 0;
}

static void
body_add(struct conn *c, const char *text, size_t n)
{
	bool	 chunked = !c->bare && c->reply->framing == FRAMING_CHUNKED;

	head_add(c);
	/* An empty chunk would be the last one (RFC 9112 section 7.1). */
	if (n == 0)
		return;
	if (chunked)
		buf_printf(&c->out, "%zx\r\n", n);
	buf_add(&c->out, text, n);
	if (chunked)
		buf_str(&c->out, "\r\n");
}

static void
head_add(struct conn *c)
{
	if (!c->headed)
		reply_head(c->reply, &c->out);
	c->headed = true;
}

/* True: all is sent.  Otherwise on_writable() goes on; a dead client is met by the reader. */
static bool
conn_flush(struct conn *c)
{
	ssize_t	 n;

	while (c->out.n > 0) {
		n = send(c->fd, c->out.p, c->out.n, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			buf_clear(&c->out);
			if (!c->reading)
				conn_watch(c, IDLE_SECONDS);
			return false;
		}
		if (n < 0) {
			if (!c->writing)
				(void)event_add(&c->wr, NULL);
			c->writing = true;
			return false;
		}
		buf_drop(&c->out, (size_t)n);
	}
	if (c->writing)
		(void)event_del(&c->wr);
	c->writing = false;
	if (c->out.cap > KEPT_BUFFER)
		buf_free(&c->out);
	return true;
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn	*c = arg;

	(void)fd;
	(void)what;
	if (!conn_flush(c) || c->state != CONN_PLAYING)
		return;
	/* While the timer runs it is time that the player waits for. */
	if (evtimer_pending(&c->timer, NULL))
		return;
	if (c->step == NULL)
		conn_ended(c);
	else
		conn_play(c);
}

static void
conn_wait(struct conn *c, int ms)
{
	const struct timeval	 tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	(void)conn_flush(c);
	(void)evtimer_add(&c->timer, &tv);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	conn_play(arg);
}

/* The reply is out: the next request may be here already. */
static void
conn_ended(struct conn *c)
{
	reply_close(&c->reply);
	c->entry = 0;
	if (c->closing) {
		conn_linger(c);
		return;
	}
	c->state = CONN_READING;
	if (!c->reading)
		conn_watch(c, IDLE_SECONDS);
	/* By way of the loop: requests sent ahead must not grow the stack. */
	if (c->in.n > 0)
		event_active(&c->rd, EV_READ, 1);
}

/*
 * Closing with unread input makes the kernel send a reset, which may overtake
 * the answer (RFC 9112 section 9.6): so say the end first, and read on for a moment.
 */
static void
conn_linger(struct conn *c)
{
	c->state = CONN_LINGERING;
	(void)shutdown(c->fd, SHUT_WR);
	buf_free(&c->in);
	(void)event_del(&c->rd);
	conn_watch(c, LINGER_SECONDS);
}
