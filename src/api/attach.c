#include "api/attach.h"

#include <string.h>

#include "api/follow.h"
#include "api/request.h"
#include "api/stream.h"
#include "base/utf8.h"
#include "io/fcgi.h"
#include "run/deadline.h"

/* A text that comes late is stored within a second of its being said, and seen a fifth of a second after that. */
#define COME_UP_MS	2000
/* One event has so much text at most. */
#define PIECE		16384

/* What a look says of the place that the client has come to. */
enum standing {
	GOES_ON,
	BEHIND,			/* less is there than the client has heard */
	STEP_ANEW,		/* the present step says something else */
	ALL_ANEW
};

static int	 first_look(struct request *, struct stream *, struct follow *, bool);
static int64_t	 tell(struct stream *, const struct follow *, int64_t *);

int
attach_run(struct request *r, struct stream *s, struct follow *f, bool accepted)
{
	int64_t	 patience = NEVER, until;

	if (first_look(r, s, f, accepted) < 0)
		return r->job.stop == JOB_DRAINED && r->streaming ? 0 : -1;
	if (!r->streaming)
		stream_open(s, r);
	if (!s->named)
		stream_turn(s, f->conversation_id, f->turn, f->now.run, f->now.messages[0].id);

	for (;;) {
		until = tell(s, f, &patience);
		if (!follow_is_live(f) || fcgi_gone(r->fcgi))
			return 0;
		/* At `until` nothing is new, but the patience has ended. */
		if (follow_next(f, until) < 0 && r->job.fail != FAIL_NONE)
			return r->job.stop == JOB_DRAINED ? 0 : -1;
	}
}

static int
first_look(struct request *r, struct stream *s, struct follow *f, bool accepted)
{
	while (follow_look(f) < 0) {
		if (!accepted || follow_bear(f, NEVER) < 0)
			return -1;
		if (!r->streaming)
			stream_open(s, r);
	}
	return 0;
}

/* -- where the client stands -- */

static const struct message *
message_at(const struct store_turn *t, int index)
{
	for (int i = 0; i < t->nmessages; i++)
		if (t->messages[i].index == index)
			return &t->messages[i];
	return NULL;
}

/* Its first n calls have their results. */
static bool
results_are_there(const struct message *m, int n)
{
	if (n > m->ncalls)
		return false;
	for (int i = 0; i < n; i++)
		if (message_call(m, i)->result == NULL)
			return false;
	return true;
}

/* A message of that index is there, or the next one to be said. */
static bool
index_is_sane(const struct store_turn *t, int index)
{
	const struct message	*before = message_at(t, index - 1);

	return before != NULL &&
	    (before->role == ROLE_USER || (before->ncalls > 0 && results_are_there(before, before->ncalls)));
}

static const char *
partial_at(const struct store_turn *t, int index)
{
	return t->partial != NULL && t->partial->index == index ? t->partial->content : "";
}

static enum standing
stand(const struct place *at, const struct follow *f)
{
	const struct store_turn	*t = &f->now;
	const struct message	*m = message_at(t, at->index);
	const char		*text = m != NULL ? m->content : partial_at(t, at->index);
	size_t			 n = strlen(text);

	if (at->run == t->run && at->index == 0)
		return GOES_ON;
	if (at->run != t->run || !index_is_sane(t, at->index))
		return ALL_ANEW;
	/* What the user says is not told. */
	if (m != NULL && m->role == ROLE_USER)
		return ALL_ANEW;
	/* Calls are made when their message is whole. */
	if (at->calls > 0)
		return m != NULL && at->calls < 2 * m->ncalls && results_are_there(m, at->calls / 2) &&
		    at->bytes == n && place_fits(at, text, n) ? GOES_ON : ALL_ANEW;
	if (place_fits(at, text, n))
		return GOES_ON;
	return m == NULL && n < at->bytes && follow_is_live(f) ? BEHIND : STEP_ANEW;
}

/* -- telling -- */

static void
tell_text(struct stream *s, const char *text)
{
	size_t	 n = strlen(text);

	while (s->at.bytes < n && !fcgi_gone(s->req->fcgi)) {
		const char	*from = text + s->at.bytes;
		size_t		 left = n - s->at.bytes;

		stream_delta(s, from, left > PIECE ? utf8_whole(from, PIECE) : left);
	}
}

/* One that the user has to decide on is no call yet; nor what he has approved, while others still wait. */
static bool
is_made(const struct message *m, const struct call *c)
{
	return c->result != NULL || c->approval == NULL ||
	    (!call_waits(c) && strcmp(m->turn_state, "approval_required") != 0);
}

/* A call is told of when those before it have their results; next is the index of the message behind them all. */
static void
tell_message(struct stream *s, const struct message *m, int next)
{
	tell_text(s, m->content);
	while (s->at.index == m->index && s->at.calls < 2 * m->ncalls) {
		const struct call	*c = message_call(m, s->at.calls / 2);

		if (!is_made(m, c))
			break;
		if (s->at.calls % 2 == 0)
			stream_called(s, c);
		else if (c->result != NULL)
			stream_returned(s, c, s->at.calls + 1 == 2 * m->ncalls ? next : 0);
		else
			break;
	}
}

void
attach_before(struct stream *s, const struct message *m, int n)
{
	int	 last = n - 1;

	while (last > 0 && m[last].role == ROLE_USER)
		last--;
	for (int i = 1; i < last; i++)
		if (m[i].role == ROLE_ASSISTANT) {
			stream_reply(s);
			tell_message(s, &m[i], message_after(m, n, m[i].index));
		}
	if (last > 0)
		tell_text(s, m[last].content);
}

static void
tell_turn(struct stream *s, const struct store_turn *t)
{
	const struct message	*m;
	int			 index;

	do {
		index = s->at.index;
		if ((m = message_at(t, index)) != NULL)
			tell_message(s, m, message_after(t->messages, t->nmessages, index));
	} while (s->at.index != index);
	if (m == NULL)
		tell_text(s, partial_at(t, index));
}

/* Says what is new; until when its text may stay behind, NEVER: it does not. */
static int64_t
tell(struct stream *s, const struct follow *f, int64_t *patience)
{
	enum standing	 how = stand(&s->at, f);

	if (how == BEHIND && *patience == NEVER)
		*patience = deadline_ms(COME_UP_MS);
	if (how == BEHIND && now_us() < *patience)
		return *patience;
	*patience = NEVER;
	if (how == ALL_ANEW)
		stream_reset(s, f->now.run, 0);
	else if (how != GOES_ON)
		stream_reset(s, s->at.run, s->at.index);
	if (strcmp(f->now.state, "queued") == 0)
		stream_queued(s, f->now.ahead);
	else {
		stream_reply(s);
		tell_turn(s, &f->now);
	}
	return NEVER;
}
