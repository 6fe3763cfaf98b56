/* POST /api/chat and POST /api/{user_id}/chat: contract section 2. */
#include <string.h>

#include "api/api.h"
#include "api/body.h"
#include "api/handlers.h"
#include "api/request.h"
#include "api/stream.h"
#include "api/zone.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/turn.h"
#include "io/fcgi.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/fiber.h"

struct chat {
	struct request	*req;
	struct turn	 turn;
	struct store_begin ask;
	struct turn_listener listener;
	struct stream	 stream;
	bool		 stream_wanted;
	bool		 page_wanted;
	struct chat	*next, **link;	/* in the list of those who wait for a whole answer */
};

/* Whom a drain must tell; forgotten with the process. */
static struct chat	*waiting;
static bool		 draining;

static int	 chat_read(struct chat *);
static int	 chat_answer(struct chat *);
static void	 chat_listen(struct chat *);
static void	 chat_leave(struct chat *);
static void	 chat_accepted(struct chat *);

int
chat_post(struct request *r)
{
	struct chat	 c = { .req = r };
	int		 rc;

	/* Is it a proper message? */
	if (chat_read(&c) < 0)
		return -1;

	/* From here on the turn goes its way, whoever listens. */
	chat_listen(&c);
	c.turn.job = &r->job;
	rc = turn_begin(&c.turn, &c.ask);
	if (rc == 0 && !c.turn.mine) {
		c.turn.state = "queued";
		chat_accepted(&c);
		return 0;
	}
	if (rc == 0)
		rc = turn_run(&c.turn);
	chat_leave(&c);

	/* Everything is stored: now say so. */
	if (rc == 0)
		rc = chat_answer(&c);
	else if (r->streaming)
		stream_error(&c.stream, &c.turn);
	stream_close(&c.stream);
	return rc;
}

static int
read_conversation_id(struct chat *c)
{
	struct request		*r = c->req;
	struct store_begin	*ask = &c->ask;
	const char		*text = NULL;
	char			*id = arena_alloc(r->job.arena, UUID_TEXT);
	enum json_got		 got = json_get_string(r->body, "conversation_id", &text);

	ask->create_unknown = r->job.conf->api_create_unknown;
	if (got == JSON_ABSENT || got == JSON_NULL)
		return 0;
	if (got == JSON_GOT && uuid_parse(text, id)) {
		ask->conversation_id = id;
		return 0;
	}
	/* The forgiving variant takes what is no id for an unknown one (contract, section 6). */
	return ask->create_unknown ? 0 :
	    job_fail_field(&r->job, "conversation_id", "conversation_id must be a UUID or null.");
}

/* A field that may hold one of a few words; the first is the default. */
static int
read_word(struct request *r, const char *field, const char *const *words, int *which)
{
	const char	*text = NULL;

	*which = 0;
	if (request_string(r, field, &text) < 0)
		return -1;
	if (text == NULL)
		return 0;
	for (; words[*which] != NULL; ++*which)
		if (strcmp(text, words[*which]) == 0)
			return 0;
	return job_fail_field(&r->job, field, "%s has a value that is not known here.", field);
}

static int
read_options(struct chat *c)
{
	static const char *const on_busy[] = { "queue", "reject", "interrupt", NULL };
	static const char *const pages[] = { "turn", "conversation", NULL };
	struct request	*r = c->req;
	const char	*accept = fcgi_param(r->fcgi, "HTTP_ACCEPT");
	int		 which;

	if (request_flag(r, "stream", &c->stream_wanted) < 0 ||
	    read_word(r, "on_busy", on_busy, &which) < 0 ||
	    (c->ask.on_busy = (enum on_busy)which, false) ||
	    read_word(r, "return", pages, &which) < 0)
		return -1;
	c->page_wanted = which == 1;
	if (accept != NULL && strcasestr(accept, "text/event-stream") != NULL)
		c->stream_wanted = true;

	if (request_string(r, "time_zone", &c->ask.time_zone) < 0)
		return -1;
	if (c->ask.time_zone != NULL && !zone_valid(c->ask.time_zone))
		return job_fail_field(&r->job, "time_zone", "time_zone must be an IANA name such as Europe/Berlin.");
	return 0;
}

static int
chat_read(struct chat *c)
{
	struct request		*r = c->req;
	struct store_begin	*ask = &c->ask;
	char			*ids = arena_alloc(r->job.arena, 2 * UUID_TEXT);

	uuid_new(ids);
	uuid_new(ids + UUID_TEXT);
	ask->user = r->job.user;
	ask->new_id = ids;
	ask->message_id = ids + UUID_TEXT;
	if (json_object_object_get(r->body, "approvals") != NULL)
		return job_fail_field(&r->job, "approvals", "No call is waiting for a decision.");
	if (request_text(r, "message", r->job.conf->limits_message, &ask->content) < 0 ||
	    read_conversation_id(c) < 0 ||
	    read_options(c) < 0)
		return -1;

	/* The tree has served; a turn may stay for minutes. */
	ask->time_zone = arena_strdup(r->job.arena, ask->time_zone);
	return 0;
}

/* 202: the client has waited long enough, the turn goes on (contract, "Long turns"). */
static void
chat_accepted(struct chat *c)
{
	struct request	*r = c->req;
	struct buf	*b = buf_new(r->job.arena);

	r->location = arena_printf(r->job.arena, "/api/conversations/%s/turns/%d?wait=30",
	    c->turn.key.conversation_id, c->turn.key.turn);
	jw_open(b, '{');
	jw_key(b, "status"), jw_string(b, body_status(c->turn.state));
	jw_key(b, "conversation_id"), jw_string(b, c->turn.key.conversation_id);
	jw_key(b, "turn"), jw_int(b, c->turn.key.turn);
	jw_close(b, '}');
	request_reply(r, 202, b->p);
}

/* Called from inside the turn's waits when its time has come. */
static void
chat_attend(void *arg)
{
	struct chat	*c = arg;
	struct job	*job = &c->req->job;

	if (c->req->streaming) {
		stream_keepalive(&c->stream);
		job->attend_at = stream_keepalive_at(&c->stream);
	} else {
		job->attend_at = NEVER;
		chat_accepted(c);
	}
}

static void
on_begun(void *arg, const struct turn *t)
{
	struct chat	*c = arg;
	struct job	*job = &c->req->job;

	job->attend = chat_attend;
	job->attend_arg = c;
	if (c->stream_wanted) {
		stream_open(&c->stream, c->req, t);
		job->attend_at = stream_keepalive_at(&c->stream);
		return;
	}
	job->attend_at = draining ? now_us() : job->started + 1000 * job->conf->client_max_wait;
	c->next = waiting;
	c->link = &waiting;
	if (waiting != NULL)
		waiting->link = &c->next;
	waiting = c;
}

static void
on_delta(void *arg, const struct turn *t, const char *text, size_t n)
{
	struct chat	*c = arg;

	if (c->req->streaming)
		stream_delta(&c->stream, t, text, n);
}

static void
on_called(void *arg, const struct turn *t, const struct call *call)
{
	struct chat	*c = arg;

	if (c->req->streaming)
		stream_called(&c->stream, t, call);
}

static void
on_returned(void *arg, const struct turn *t, const struct call *call)
{
	struct chat	*c = arg;

	if (c->req->streaming)
		stream_returned(&c->stream, t, call);
}

static void
chat_listen(struct chat *c)
{
	c->listener = (struct turn_listener){
		.begun = on_begun,
		.delta = on_delta,
		.called = on_called,
		.returned = on_returned,
		.arg = c,
	};
	c->turn.listener = &c->listener;
}

static void
chat_leave(struct chat *c)
{
	c->req->job.attend_at = NEVER;
	if (c->link == NULL)
		return;
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	c->link = NULL;
}

void
api_drain(void)
{
	draining = true;
	for (struct chat *c = waiting; c != NULL; c = c->next) {
		c->req->job.attend_at = now_us();
		fiber_wake(c->req->job.fiber);
	}
}

bool
api_draining(void)
{
	return draining;
}

/* The newest page of the conversation in the place of the turn's messages. */
static int
read_page(struct chat *c, const char **page)
{
	struct job	*job = &c->req->job;
	struct buf	*b = buf_new(job->arena);
	json_object	*whole, *messages = NULL;

	if (store_conversation(job, c->turn.key.conversation_id, PAGE_MESSAGES, NULL, false, b) < 0)
		return -1;
	whole = json_read(job->arena, buf_text(b), b->n, NULL);
	if (json_get_array(whole, "messages", &messages) != JSON_GOT)
		return job_fail(job, FAIL_INTERNAL_ERROR, NULL);
	*page = arena_strdup(job->arena, json_text(messages));
	return 0;
}

static int
chat_answer(struct chat *c)
{
	struct request	*r = c->req;
	struct buf	*b = buf_new(r->job.arena);
	struct body	 body = {
		.status = body_status(c->turn.state),
		.conversation_id = c->turn.key.conversation_id,
		.turn = c->turn.key.turn,
		.input_tokens = c->turn.input_tokens,
		.output_tokens = c->turn.output_tokens,
		.model = c->turn.model,
	};

	/* A turn whose client was told to come back has nobody to tell. */
	if (r->answered && !r->streaming)
		return 0;
	body.messages = turn_messages(&c->turn, &body.nmessages);
	if (c->page_wanted && read_page(c, &body.page) < 0)
		job_forgive(&r->job);	/* the turn is done all the same: its own messages then */
	body_put(b, &body);
	if (r->streaming)
		stream_done(&c->stream, &c->turn, b->p);
	else
		request_reply(r, 200, b->p);
	return 0;
}
