#include "api/chatkit_voice.h"

#include <string.h>

#include "api/chatkit.h"
#include "api/chatkit_show.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/kit.h"
#include "chat/pulse.h"
#include "chat/work.h"
#include "io/fcgi.h"
#include "io/json.h"
#include "run/deadline.h"

/* Storing that a turn is to stop must not take long: it stops by itself in the end. */
#define CANCEL_MS	5000

#define WAITING		"Waiting for the answer before this one."
#define RESTART		"The server is being restarted. The answer goes on: open the conversation again in a moment."

/* -- the voice -- */

static void
send_notice(struct kit *k, const char *text)
{
	struct buf	 b = { 0 };

	kit_event_open(&b, "notice");
	jw_key(&b, "level"), jw_string(&b, "info");
	jw_key(&b, "message"), jw_string(&b, text);
	kit_event_send(k, &b);
}

static void
send_thread_created(struct kit *k, const char *created_at)
{
	struct job		*job = &k->req->job;
	struct kit_thread	 thread = { .id = kit_thread_id(k), .created_at = created_at };
	struct buf		 b = { 0 };

	/* Stored it is; a title that cannot be read now is read later. */
	if (kit_thread(job, kit_thread_id(k), &thread) < 0)
		job_forgive(job);
	kit_event_open(&b, "thread.created");
	jw_key(&b, "thread"), chatkit_put_thread(&b, &thread, NULL);
	kit_event_send(k, &b);
}

/*
 * A turn that waited for the user goes on: of what is there, the client knows everything but what becomes of the
 * calls that it was asked about last, and its own word, if it was a message.  Those were answered, which it is told.
 */
static void
resume(struct kit *k, const struct message *m, int n)
{
	struct arena		*arena = arena_open();
	struct item		*items;
	const struct item	*ask = NULL;

	n = items_of(arena, m, n, &items);
	for (int i = 0; i < n; i++)
		if (items[i].kind == ITEM_ASK)
			ask = &items[i];
	for (int i = 0; i < n && ask != NULL; i++)
		if (items[i].m->index < ask->m->index || (items[i].m == ask->m && items[i].kind <= ITEM_ASK))
			kit_shown_add(k, items[i].id, true);
	if (ask != NULL)
		kit_send_item(k, "thread.item.replaced", ask, false);
	arena_close(&arena);
}

static void
send_options(struct kit *k)
{
	struct buf	 b = { 0 };

	kit_event_open(&b, "stream_options");
	jw_key(&b, "stream_options");
	jw_open(&b, '{');
	jw_key(&b, "allow_cancel"), jw_bool(&b, k->req->job.conf->chatkit_cancel);
	jw_close(&b, '}');
	kit_event_send(k, &b);
}

static void
voice_turn(void *arg)
{
	struct kit		*k = arg;
	int			 n;
	const struct message	*m = kit_messages_now(k, &n);
	/* What a worker begins with more than one message goes on. */
	bool			 goes_on = k->answers || (k->tell.follow.now.state == NULL && n > 1);
	struct item		 mine = { .kind = ITEM_TEXT, .m = m };

	k->begun = true;
	if (k->creates)
		send_thread_created(k, m->created_at);
	if (goes_on && m[n - 1].role == ROLE_USER)
		mine.m = &m[n - 1];
	item_id_write(mine.id, mine.m->id, ITEM_TEXT);
	kit_shown_add(k, mine.id, true);
	if (k->echoes)
		kit_send_item(k, "thread.item.done", &mine, true);
	send_options(k);
	if (goes_on)
		resume(k, m, n);
}

static void
voice_queued(void *arg)
{
	struct kit	*k = arg;
	struct buf	 b = { 0 };

	kit_event_open(&b, "progress_update");
	jw_key(&b, "text"), jw_string(&b, WAITING);
	jw_key(&b, "icon"), jw_string(&b, "clock");
	kit_event_send(k, &b);
}

static void
voice_delta(void *arg, const char *text, size_t n)
{
	struct kit	*k = arg;
	char		 id[UUID_TEXT];

	kit_message_now(k, id);
	if (kit_shown_done(k, id))
		return;
	if (strcmp(k->text_id, id) != 0) {
		kit_sync(k, SYNC_ON);
		if (k->text_id[0] != '\0')
			kit_text_drop(k);
		if (kit_shown_done(k, id))
			return;
		kit_text_begin(k, id, "");
	}
	buf_add(&k->text, text, n);
	if (k->text_shown)
		kit_send_delta(k, text, n);
	else if (!text_is_blank(buf_text(&k->text))) {
		/* One thing at a time is open: what tools did is over when there is something to say about it. */
		kit_sync(k, SYNC_TEXT);
		kit_text_show(k);
	}
}

static void
voice_calls(void *arg)
{
	kit_sync(arg, SYNC_ON);
}

/* The step, or the whole turn (index 0), is being said anew. */
static void
voice_reset(void *arg)
{
	struct kit	*k = arg;

	if (k->text_id[0] != '\0')
		kit_text_drop(k);
	if (k->tell.stream.at.index == 0)
		kit_sync(k, SYNC_ON);
}

static void
voice_done(void *arg)
{
	struct kit	*k = arg;

	kit_sync(k, SYNC_END);
	k->over = true;
}

static void
voice_error(void *arg)
{
	struct kit		*k = arg;
	const struct job	*job = &k->req->job;
	struct buf		 b = { 0 };

	if (k->begun)
		kit_sync(k, SYNC_END);
	kit_event_open(&b, "error");
	jw_key(&b, "code"), jw_string(&b, "custom");
	jw_key(&b, "message"), jw_string(&b, job->sentence);
	/* Again from its message: only one that is stored can be. */
	jw_key(&b, "allow_retry"), jw_bool(&b, k->begun && fail_kind(job->fail)->status >= 500);
	kit_event_send(k, &b);
	k->over = true;
}

/* Without an end: the worker ends, and another goes on with the turn. */
static void
voice_closed(void *arg)
{
	struct kit	*k = arg;

	if (!k->over && fcgi_gone(k->req->fcgi))
		k->gone = true;
	else if (!k->over)
		send_notice(k, RESTART);
	k->over = true;
	buf_free(&k->text);
}

static bool
voice_look(void *arg)
{
	struct kit	*k = arg;
	struct turn	*turn = &k->tell.turn;

	if (k->over)
		return false;
	if (!fcgi_hung_up(k->req->fcgi))
		return true;
	k->gone = true;
	if (k->req->job.conf->chatkit_cancel && k->begun) {
		pulse_cancel(turn->key.user, turn->key.conversation_id, turn->key.turn);
		/* One that runs elsewhere is asked to stop when the following has ended. */
		follow_quit(&k->tell.follow);
	}
	return false;
}

static const struct stream_voice kit_voice = {
	.media_type = "text/event-stream; charset=utf-8",
	/* With a blank line it would be an event without data, which the clients' parser hands out. */
	.comment = ": still here\n",
	.turn = voice_turn,
	.queued = voice_queued,
	.delta = voice_delta,
	.calls = voice_calls,
	.reset = voice_reset,
	.done = voice_done,
	.error = voice_error,
	.closed = voice_closed,
	.look = voice_look,
};

/* -- the course of it -- */

void
kit_open(struct kit *k, struct request *r)
{
	k->req = r;
	tell_open(&k->tell, r);
	k->tell.stream_wanted = true;
	k->tell.stream.voice = &kit_voice;
	k->tell.stream.voice_arg = k;
}

/* The user has gone, which says stop: also to a turn that runs elsewhere, or waits. */
static void
kit_stop(struct kit *k)
{
	struct job		*job = &k->req->job;
	const struct turn_key	*key = &k->tell.turn.key;
	struct job_failure	 why = job_failure_take(job);
	enum job_stop		 stop = job->stop;
	struct turn_key		 next = { 0 };
	const char		*state;

	job->stop = JOB_RUNS;
	job->deadline = deadline_ms(CANCEL_MS);
	if (store_cancel(job, key->conversation_id, key->turn, work_wanted(), &state, &next) == 0) {
		pulse_cancel(job->user, key->conversation_id, key->turn);
		work_run(&next);
	}
	/* It may have ended by itself. */
	job_forgive(job);
	job->deadline = NEVER;
	job->stop = stop;
	(void)job_failure_put(job, &why);
}

int
kit_run(struct kit *k, int rc)
{
	struct tell	*t = &k->tell;
	struct job	*job = &k->req->job;

	if (rc < 0) {
		stream_error(&t->stream);
		stream_close(&t->stream);
		return -1;
	}
	/* Gone before its turn was known here. */
	if (k->gone && job->conf->chatkit_cancel && t->turn.mine)
		job_stop(job, JOB_CANCELLED);
	rc = tell_run(t);
	if (k->gone && job->conf->chatkit_cancel && !t->turn.mine)
		kit_stop(k);
	return rc;
}
