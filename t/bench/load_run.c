/*
 * The loop: slots that connect, send, read and begin again.
 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define EVENTS		512
#define CONNECTING_MAX	128	/* without --burst: fewer than any backlog */
#define SWEEP_US	200000	/* between two looks at the deadlines */

static bool	 load_may_begin(const struct load *);
static bool	 load_is_early(const struct load *);
static void	 slots_begin(struct load *, int *next);
static void	 slot_begin(struct load *, struct slot *);
static int	 slot_connect(struct load *, struct slot *);
static void	 request_write(struct load *, struct slot *);
static void	 slot_event(struct load *, struct slot *, uint32_t events);
static void	 slot_send(struct load *, struct slot *);
static void	 slot_read(struct load *, struct slot *);
static void	 slot_fail(struct load *, struct slot *, enum load_error);
static void	 slot_ended(struct load *, struct slot *);
static void	 slot_finish(struct load *, struct slot *, bool keep);
static void	 slot_open(struct load *, struct slot *);
static void	 slots_sweep(struct load *, int64_t now);

int64_t
load_now(void)
{
	struct timespec	 ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int
load_run(struct load *l)
{
	struct epoll_event	 ev[EVENTS];
	int64_t			 sweep, now;
	int			 n, next = 0;

	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->slots = calloc((size_t)l->concurrency, sizeof *l->slots);
	if (l->epoll < 0 || l->slots == NULL)
		return -1;
	for (int i = 0; i < l->concurrency; i++) {
		l->slots[i].fd = -1;
		l->slots[i].number = i;
	}
	l->all_open = -1;
	l->start = sweep = load_now();
	l->stop = l->start + l->seconds * 1000000;

	while (load_may_begin(l) || l->ended < l->begun) {
		slots_begin(l, &next);
		n = epoll_wait(l->epoll, ev, EVENTS, load_is_early(l) ? 1 : 50);
		if (n < 0 && errno != EINTR)
			return -1;
		for (int i = 0; i < n; i++)
			slot_event(l, ev[i].data.ptr, ev[i].events);
		now = load_now();
		if (now - sweep > SWEEP_US) {
			slots_sweep(l, now);
			sweep = now;
		}
	}
	for (int i = 0; i < l->concurrency; i++) {
		if (l->slots[i].fd >= 0)
			(void)close(l->slots[i].fd);
		buf_free(&l->slots[i].out);
	}
	(void)close(l->epoll);
	return 0;
}

static bool
load_may_begin(const struct load *l)
{
	return (l->requests == 0 || l->begun < l->requests) && l->begun < LOAD_REQUESTS_MAX &&
	    (l->seconds == 0 || load_now() < l->stop);
}

/* Is the time of the client whose turn it is to appear still to come? */
static bool
load_is_early(const struct load *l)
{
	return l->begun < l->concurrency && load_now() < l->start + l->ramp * l->begun / l->concurrency;
}

/* Idle slots in turn, so that all users are served alike. */
static void
slots_begin(struct load *l, int *next)
{
	for (int i = 0; i < l->concurrency && load_may_begin(l); i++) {
		struct slot	*s = &l->slots[*next];

		if (load_is_early(l) || (!l->burst && l->connecting >= CONNECTING_MAX))
			return;
		*next = (*next + 1) % l->concurrency;
		if (s->state == SLOT_IDLE)
			slot_begin(l, s);
	}
}

static void
slot_begin(struct load *l, struct slot *s)
{
	request_write(l, s);
	l->begun++;
	s->sent = 0;
	s->first = s->delta = -1;
	s->began = load_now();
	s->deadline = s->began + l->timeout;
	answer_reset(&s->answer);
	if (s->fd >= 0) {
		s->state = SLOT_SENDING;
		slot_send(l, s);
	} else if (slot_connect(l, s) < 0)
		slot_fail(l, s, ERROR_CONNECT);
}

static int
slot_connect(struct load *l, struct slot *s)
{
	struct epoll_event	 ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s };
	int			 on = 1;

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return -1;
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(s->fd, (struct sockaddr *)&l->to, sizeof l->to) < 0 && errno != EINPROGRESS)
		return -1;
	s->state = SLOT_CONNECTING;
	l->connecting++;
	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &ev);
}

/* {n} in the template is the request's number; the conversation goes in front of the other members. */
static void
request_write(struct load *l, struct slot *s)
{
	struct buf	 body = { 0 };
	const char	*p = l->body, *at;

	if (l->same && s->conversation[0] != '\0' && (at = strchr(p, '{')) != NULL) {
		buf_printf(&body, "{\"conversation_id\":\"%s\",", s->conversation);
		p = at + 1;
	}
	for (; (at = strstr(p, "{n}")) != NULL; p = at + 3) {
		buf_add(&body, p, (size_t)(at - p));
		buf_printf(&body, "%lld", (long long)l->begun);
	}
	buf_str(&body, p);
	buf_clear(&s->out);
	buf_printf(&s->out, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n", l->path);
	if (l->ntokens > 0)
		buf_printf(&s->out, "Authorization: Bearer %s\r\n", l->tokens[s->number % l->ntokens]);
	if (l->stream)
		buf_str(&s->out, "Accept: text/event-stream\r\n");
	if (!l->keepalive)
		buf_str(&s->out, "Connection: close\r\n");
	buf_printf(&s->out, "Content-Length: %zu\r\n\r\n", body.n);
	buf_add(&s->out, buf_text(&body), body.n);
	buf_free(&body);
}

static void
slot_event(struct load *l, struct slot *s, uint32_t events)
{
	int		 error = 0;
	socklen_t	 len = sizeof error;

	if (s->state == SLOT_CONNECTING) {
		if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0) {
			slot_fail(l, s, ERROR_CONNECT);
			return;
		}
		if (!(events & EPOLLOUT))
			return;
		l->connecting--;
		s->state = SLOT_SENDING;
	}
	if (s->state == SLOT_SENDING)
		slot_send(l, s);
	if (s->state == SLOT_READING)
		slot_read(l, s);
	else if (s->state == SLOT_IDLE && s->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		/* The server ended an idle connection; what it might have said is of no answer. */
		(void)close(s->fd);
		s->fd = -1;
	}
}

static void
slot_send(struct load *l, struct slot *s)
{
	ssize_t	 n;

	while (s->sent < s->out.n) {
		n = send(s->fd, s->out.p + s->sent, s->out.n - s->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			slot_fail(l, s, ERROR_CLOSED);
			return;
		}
		s->sent += (size_t)n;
	}
	/* Ten thousand waiting requests need not be kept. */
	if (s->out.cap > 0 && !l->keepalive)
		buf_free(&s->out);
	s->state = SLOT_READING;
	if (!l->stream)
		slot_open(l, s);
}

/* Edge-triggered: reads until there is no more. */
static void
slot_read(struct load *l, struct slot *s)
{
	ssize_t	 n;

	while (s->state == SLOT_READING) {
		n = recv(s->fd, l->scratch, sizeof l->scratch, 0);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 || (n == 0 && s->answer.state != ANSWER_REST)) {
			slot_fail(l, s, ERROR_CLOSED);
			break;
		}
		if (n > 0 && answer_feed(&s->answer, l->scratch, (size_t)n) < 0) {
			slot_fail(l, s, ERROR_PROTOCOL);
			break;
		}
		if (s->answer.first && s->first < 0) {
			s->first = load_now() - s->began;
			slot_open(l, s);
		}
		if (s->answer.delta && s->delta < 0)
			s->delta = load_now() - s->began;
		if (n == 0 || s->answer.state == ANSWER_DONE)
			slot_ended(l, s);
	}
}

/* In flight: sent, or for a stream the first event is here, so the turn is stored. */
static void
slot_open(struct load *l, struct slot *s)
{
	FILE	*f;
	int64_t	 want = l->requests > 0 && l->requests < l->concurrency ? l->requests : l->concurrency;

	if (s->open)
		return;
	s->open = true;
	if (++l->open > l->peak)
		l->peak = l->open;
	if (l->open < want || l->all_open >= 0)
		return;
	l->all_open = load_now() - l->start;
	if (l->hold_signal != NULL && (f = fopen(l->hold_signal, "we")) != NULL) {
		fprintf(f, "%d\n", l->open);
		(void)fclose(f);
	}
}

static void
slot_fail(struct load *l, struct slot *s, enum load_error error)
{
	l->errors[error]++;
	if (s->state == SLOT_CONNECTING)
		l->connecting--;
	slot_finish(l, s, false);
}

/* An answer is here, whatever it says. */
static void
slot_ended(struct load *l, struct slot *s)
{
	struct answer	*a = &s->answer;
	char		 name[8];
	int64_t		 took = load_now() - s->began;

	(void)snprintf(name, sizeof name, "%d", a->status % 1000);
	load_count(l->statuses, name);
	if (a->code[0] != '\0')
		load_count(l->codes, a->code);
	if (a->status == 200 && (!l->stream || a->done)) {
		l->ok++;
		times_add(&l->latency, took);
		if (s->first >= 0)
			times_add(&l->first, s->first);
		if (s->delta >= 0)
			times_add(&l->delta, s->delta);
	} else if (a->status == 200)
		l->errors[ERROR_STREAM]++;
	if (a->conversation[0] != '\0')
		memcpy(s->conversation, a->conversation, sizeof s->conversation);
	slot_finish(l, s, l->keepalive && !a->close && a->state == ANSWER_DONE);
}

static void
slot_finish(struct load *l, struct slot *s, bool keep)
{
	l->ended++;
	l->last = load_now() - l->start;
	if (s->open)
		l->open--;
	s->open = false;
	s->state = SLOT_IDLE;
	if (!keep && s->fd >= 0) {
		(void)close(s->fd);
		s->fd = -1;
	}
}

static void
slots_sweep(struct load *l, int64_t now)
{
	for (int i = 0; i < l->concurrency; i++)
		if (l->slots[i].state != SLOT_IDLE && now > l->slots[i].deadline)
			slot_fail(l, &l->slots[i], ERROR_TIMEOUT);
}
