#include "api/tell.h"

#include <string.h>

#include "api/api.h"
#include "api/attach.h"
#include "api/body.h"
#include "api/handlers.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "io/fcgi.h"
#include "io/json.h"
#include "run/deadline.h"

static int	 run_mine(struct tell *);
static bool	 stored_otherwise(struct tell *);
static int	 follow_other(struct tell *);
static void	 follow_open(struct tell *, bool text);
static int	 follow_head(struct tell *);
static int	 follow_stream(struct tell *, bool accepted);
static int	 follow_whole(struct tell *);
static int	 tell_now(struct tell *);
static void	 tell_done(struct tell *, const struct body *, const char *json);
static int	 tell_body(struct tell *, struct body *);
static void	 begun(void *, const struct turn *);
static void	 delta(void *, const struct turn *, const char *, size_t);
static void	 called(void *, const struct turn *, const struct call *);
static void	 returned(void *, const struct turn *, const struct call *);

void
tell_open(struct tell *t, struct request *r)
{
	t->req = r;
	t->turn.job = &r->job;
	t->turn.listener = &t->listener;
	t->listener = (struct turn_listener){
		.begun = begun,
		.delta = delta,
		.called = called,
		.returned = returned,
		.arg = t,
	};
}

int
tell_read(struct tell *t, struct request *r)
{
	static const char *const pages[] = { "turn", "conversation", NULL };
	const char	*accept = fcgi_param(r->fcgi, "HTTP_ACCEPT");
	int		 page;

	tell_open(t, r);
	if (request_flag(r, "stream", &t->stream_wanted) < 0 ||
	    request_word(r, "return", pages, &page) < 0)
		return -1;
	t->page_wanted = page == 1;
	if (accept != NULL && strcasestr(accept, "text/event-stream") != NULL)
		t->stream_wanted = true;
	return 0;
}

int
tell_hold(struct tell *t)
{
	struct job	*job = &t->req->job;

	if (job->stop != JOB_RUNS)
		return job_fail(job, FAIL_TURN_ABANDONED, NULL);
	job->masked = true;
	return 0;
}

int
tell_run(struct tell *t)
{
	int	 rc;

	t->req->job.masked = false;
	rc = t->turn.mine ? run_mine(t) : 1;

	/* It was not this worker's, or is not any more. */
	if (rc > 0)
		rc = follow_other(t);
	follow_close(&t->follow);
	stream_close(&t->stream);
	return rc;
}

int
tell_events(struct tell *t)
{
	int	 rc = strcmp(t->req->method, "HEAD") == 0 ? follow_head(t) : follow_stream(t, false);

	follow_close(&t->follow);
	stream_close(&t->stream);
	return rc;
}

/* -- a turn of this worker -- */

/* 1: it was lost on the way, or there is more to tell than is known here. */
static int
run_mine(struct tell *t)
{
	struct request	*r = t->req;
	struct turn	*turn = &t->turn;
	int		 rc = turn_run(turn);
	struct body	 body = {
		.status = body_status(turn->state),
		.conversation_id = turn->key.conversation_id,
		.turn = turn->key.turn,
		.input_tokens = turn->input_tokens,
		.output_tokens = turn->output_tokens,
		.model = turn->model,
	};

	wait_leave(&t->waiter);
	if (rc < 0 && r->job.fail == FAIL_NONE)
		return 1;
	if (rc < 0) {
		if (r->streaming)
			stream_error(&t->stream);
		return -1;
	}
	if (stored_otherwise(t))
		return 1;
	body.messages = turn_messages(turn, &body.nmessages);
	return tell_body(t, &body);
}

/* A turn that was stopped among its calls: those that were not made got a result in the database alone. */
static bool
stored_otherwise(struct tell *t)
{
	int			 n;
	const struct message	*m = turn_messages(&t->turn, &n);

	if (strcmp(t->turn.state, "approval_required") == 0 || m[n - 1].ncalls == 0 ||
	    m[n - 1].calls[m[n - 1].ncalls - 1].result != NULL)
		return false;
	/* That it was stopped is past. */
	t->req->job.stop = JOB_RUNS;
	follow_open(t, t->stream_wanted);
	if (follow_look(&t->follow) == 0)
		return true;
	/* Deleted, perhaps: what is known must do. */
	job_forgive(&t->req->job);
	return false;
}

/* 202 says that it is not over: an end that is not stored yet, or not told, is found where Location leads. */
static const char *
state_live(const char *state)
{
	return state != NULL && strcmp(state, "queued") == 0 ? "queued" : "running";
}

/* A client who has waited long enough, or whose worker ends: the turn goes on. */
static void
accept_mine(void *arg)
{
	struct tell	*t = arg;

	wait_accepted(t->req, t->turn.key.conversation_id, t->turn.key.turn, state_live(t->turn.state));
}

static void
begun(void *arg, const struct turn *turn)
{
	struct tell	*t = arg;
	struct job	*job = &t->req->job;
	const struct message	*m;
	int		 n;

	if (t->stream_wanted) {
		if (!t->req->streaming)
			stream_open(&t->stream, t->req);
		/* The message that has just come: also where it is a yes or no in the middle of a turn. */
		m = turn_messages(turn, &n);
		stream_turn(&t->stream, turn->key.conversation_id, turn->key.turn, turn->key.run,
		    m[m[n - 1].role == ROLE_USER ? n - 1 : 0].id);
		attach_before(&t->stream, m, n);
	} else
		wait_join(&t->waiter, job, wait_until(t->req), accept_mine, t);
}

static void
delta(void *arg, const struct turn *turn, const char *text, size_t n)
{
	struct tell	*t = arg;

	(void)turn;
	if (t->req->streaming)
		stream_delta(&t->stream, text, n);
}

static void
called(void *arg, const struct turn *turn, const struct call *call)
{
	struct tell	*t = arg;

	(void)turn;
	if (t->req->streaming)
		stream_called(&t->stream, call);
}

static void
returned(void *arg, const struct turn *turn, const struct call *call)
{
	struct tell		*t = arg;
	int			 n;
	const struct message	*m = turn_messages(turn, &n);
	int			 index = t->stream.at.index;
	bool			 last;

	if (!t->req->streaming)
		return;
	/* A message's index is its place in the turn. */
	last = index < n && t->stream.at.calls + 1 == 2 * m[index].ncalls;
	stream_returned(&t->stream, call, last ? message_after(m, n, index) : 0);
}

/* -- a turn of somebody else -- */

static int
follow_other(struct tell *t)
{
	struct request	*r = t->req;
	int		 rc;

	/* Told to come back, or nobody there: the turn needs neither. */
	if (r->answered && (!r->streaming || fcgi_gone(r->fcgi)))
		return 0;
	if (r->job.stop == JOB_RUNS && !api_ended()) {
		rc = t->stream_wanted ? follow_stream(t, true) : follow_whole(t);
		if (rc == 0 || r->job.stop != JOB_DRAINED)
			return rc;
		job_forgive(&r->job);
	}
	/* This worker ends: a stream is closed without an end, and others come back for theirs. */
	if (!r->streaming)
		wait_accepted(r, t->turn.key.conversation_id, t->turn.key.turn,
		    state_live(t->follow.now.state));
	return 0;
}

static void
follow_open(struct tell *t, bool text)
{
	/* As the turn may have left it. */
	t->req->job.masked = false;
	t->follow.job = &t->req->job;
	t->follow.conversation_id = t->turn.key.conversation_id;
	t->follow.turn = t->turn.key.turn;
	t->follow.text = text;
}

/* HEAD: as GET begins, without waiting for anything. */
static int
follow_head(struct tell *t)
{
	follow_open(t, false);
	if (follow_look(&t->follow) < 0)
		return -1;
	stream_open(&t->stream, t->req);
	return 0;
}

static int
follow_stream(struct tell *t, bool accepted)
{
	struct request	*r = t->req;

	follow_open(t, true);
	if (attach_run(r, &t->stream, &t->follow, accepted) < 0) {
		if (r->streaming && r->job.stop != JOB_DRAINED)
			stream_error(&t->stream);
		return -1;
	}
	/* The worker ends, or the client has gone. */
	if (r->job.stop != JOB_RUNS || t->follow.now.state == NULL || follow_is_live(&t->follow)) {
		job_forgive(&r->job);
		return 0;
	}
	return tell_now(t);
}

/* As accept_mine(); and whoever waits inside follow_next() has nobody to wait for any more. */
static void
accept_other(void *arg)
{
	struct tell	*t = arg;

	wait_accepted(t->req, t->follow.conversation_id, t->follow.turn,
	    t->follow.now.state != NULL ? state_live(t->follow.now.state) : "queued");
	follow_quit(&t->follow);
}

static int
follow_whole(struct tell *t)
{
	struct job	*job = &t->req->job;
	int		 rc;

	/* One that is over already is answered as such also by a worker that ends. */
	follow_open(t, false);
	rc = follow_look(&t->follow);
	wait_join(&t->waiter, job, wait_until(t->req), accept_other, t);
	while (rc < 0 && follow_bear(&t->follow, NEVER) == 0)
		rc = follow_look(&t->follow);
	if (rc == 0)
		rc = follow_to_end(&t->follow, NEVER);
	wait_leave(&t->waiter);

	if (t->req->answered) {
		job_forgive(job);
		return 0;
	}
	return rc < 0 ? -1 : tell_now(t);
}

/* The turn is over, as the last look found it. */
static int
tell_now(struct tell *t)
{
	struct body	 body;

	if (strcmp(t->follow.now.state, "failed") == 0) {
		(void)follow_fail(&t->follow);
		if (t->req->streaming)
			stream_error(&t->stream);
		return -1;
	}
	body = body_of_turn(t->follow.conversation_id, t->follow.turn, &t->follow.now);
	return tell_body(t, &body);
}

/* -- the answer -- */

/* The newest page of the conversation in the place of the turn's messages. */
static int
read_page(struct tell *t, const char **page)
{
	struct job	*job = &t->req->job;
	struct buf	*b = buf_new(job->arena);
	json_object	*whole, *messages = NULL;

	if (store_conversation(job, t->turn.key.conversation_id, PAGE_MESSAGES, NULL, false, b) < 0)
		return -1;
	whole = json_read_stored(job->arena, buf_text(b), b->n, NULL);
	if (json_get_array(whole, "messages", &messages) != JSON_GOT)
		return job_fail(job, FAIL_INTERNAL_ERROR, NULL);
	*page = arena_strdup(job->arena, json_text(messages));
	return 0;
}

static void
tell_done(struct tell *t, const struct body *body, const char *json)
{
	struct buf		 said = { 0 };
	const struct call	*c;

	body_put_response(&said, body);
	stream_settle(&t->stream, buf_text(&said));
	for (int i = 0; (c = body_question(body, i)) != NULL; i++)
		stream_approval(&t->stream, c);
	stream_done(&t->stream, json);
	buf_free(&said);
}

static int
tell_body(struct tell *t, struct body *body)
{
	struct request	*r = t->req;
	struct buf	 b = { 0 };

	/* A turn whose client was told to come back has nobody to tell. */
	if (r->answered && !r->streaming)
		return 0;
	if (t->page_wanted && read_page(t, &body->page) < 0)
		job_forgive(&r->job);	/* the turn is over all the same: its own messages then */
	body_put(&b, body);
	if (r->streaming)
		tell_done(t, body, b.p);
	else
		request_reply(r, 200, b.p);
	buf_free(&b);
	return 0;
}
