#include "api/chatkit_voice.h"

#include <string.h>

#include "api/chatkit.h"
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

enum sync { SYNC_ON, SYNC_TEXT, SYNC_END };	/* the turn goes on; and says something now; it has ended */

static void	 kit_sync(struct kit *, enum sync);
static void	 sync_text(struct kit *, const struct item *);
static void	 sync_ask(struct kit *, const struct item *);
static void	 sync_calls(struct kit *, const struct item *, bool close, bool ended);
static void	 sync_tasks(struct kit *, const struct item *, bool ended);

/* -- what is known -- */

static const char *
thread_id(const struct kit *k)
{
	return k->tell.turn.key.conversation_id;
}

/* The messages of the turn, as far as they are whole: as the last look found them, or as this worker makes them. */
static const struct message *
messages_now(const struct kit *k, int *n)
{
	const struct tell	*t = &k->tell;

	if (t->follow.now.state != NULL) {
		*n = t->follow.now.nmessages;
		return t->follow.now.messages;
	}
	*n = 0;
	return t->turn.prompt.messages != NULL ? turn_messages(&t->turn, n) : NULL;
}

/* The id of the message that is being said. */
static void
message_now(const struct kit *k, char id[UUID_TEXT])
{
	const struct place	*at = &k->tell.stream.at;
	int			 n;
	const struct message	*m = messages_now(k, &n);

	for (int i = 0; i < n; i++)
		if (m[i].index == at->index) {
			memccpy(id, m[i].id, '\0', UUID_TEXT);
			return;
		}
	turn_message_id(m[0].id, at->run, at->index, id);
}

/* -- what the client was shown -- */

static struct kit_shown *
shown_find(struct kit *k, const char *id)
{
	for (int i = 0; i < k->nshown; i++)
		if (strcmp(k->shown[i].id, id) == 0)
			return &k->shown[i];
	return NULL;
}

static bool
shown_done(struct kit *k, const char *id)
{
	const struct kit_shown	*s = shown_find(k, id);

	return s != NULL && s->done;
}

static void
shown_add(struct kit *k, const char *id, bool done)
{
	struct kit_shown	*s = shown_find(k, id);

	if (s == NULL) {
		if (k->nshown == k->room) {
			struct kit_shown	*wider = arena_array(k->req->job.arena, struct kit_shown, 2 * k->room + 8);

			if (k->nshown > 0)
				memcpy(wider, k->shown, sizeof *wider * (size_t)k->nshown);
			k->shown = wider;
			k->room = 2 * k->room + 8;
		}
		s = &k->shown[k->nshown++];
		memccpy(s->id, id, '\0', sizeof s->id);
	}
	s->done = done;
}

/* -- events -- */

static void
event_open(struct buf *b, const char *type)
{
	jw_open(b, '{');
	jw_key(b, "type"), jw_string(b, type);
}

static void
event_send(struct kit *k, struct buf *b)
{
	jw_close(b, '}');
	stream_data(&k->tell.stream, b);
}

static void
send_item(struct kit *k, const char *type, const struct item *item, bool ended)
{
	struct buf	 b = { 0 };

	event_open(&b, type);
	jw_key(&b, "item"), item_put(&b, item, thread_id(k), ended);
	event_send(k, &b);
}

/* The member `update` is open then. */
static void
update_open(struct buf *b, const char *id, const char *type)
{
	event_open(b, "thread.item.updated");
	jw_key(b, "item_id"), jw_string(b, id);
	jw_key(b, "update");
	event_open(b, type);
}

static void
update_send(struct kit *k, struct buf *b)
{
	jw_close(b, '}');
	event_send(k, b);
}

static void
send_part(struct kit *k, const char *type, const char *text)
{
	struct buf	 b = { 0 };

	update_open(&b, k->text_id, type);
	jw_key(&b, "content_index"), jw_int(&b, 0);
	jw_key(&b, "content"), item_put_part(&b, text);
	update_send(k, &b);
}

static void
send_delta(struct kit *k, const char *text, size_t n)
{
	struct buf	 b = { 0 };

	update_open(&b, k->text_id, "assistant_message.content_part.text_delta");
	jw_key(&b, "content_index"), jw_int(&b, 0);
	jw_key(&b, "delta"), jw_string_n(&b, text, n);
	update_send(k, &b);
}

static void
send_removed(struct kit *k, const char *id)
{
	struct buf	 b = { 0 };

	event_open(&b, "thread.item.removed");
	jw_key(&b, "item_id"), jw_string(&b, id);
	event_send(k, &b);
}

static void
send_notice(struct kit *k, const char *text)
{
	struct buf	 b = { 0 };

	event_open(&b, "notice");
	jw_key(&b, "level"), jw_string(&b, "info");
	jw_key(&b, "message"), jw_string(&b, text);
	event_send(k, &b);
}

/* -- the text that is being said -- */

static void
text_begin(struct kit *k, const char *id, const char *text)
{
	memccpy(k->text_id, id, '\0', sizeof k->text_id);
	k->text_shown = false;
	buf_clear(&k->text);
	buf_str(&k->text, text);
}

/* What is known of it now. */
static void
text_show(struct kit *k)
{
	struct buf	 b = { 0 };

	k->text_shown = true;
	shown_add(k, k->text_id, false);
	event_open(&b, "thread.item.added");
	jw_key(&b, "item"), item_put_begun(&b, k->text_id, thread_id(k));
	event_send(k, &b);
	send_part(k, "assistant_message.content_part.added", "");
	send_delta(k, k->text.p, k->text.n);
}

/* Nothing came of it. */
static void
text_drop(struct kit *k)
{
	struct kit_shown	*s = shown_find(k, k->text_id);

	if (k->text_shown) {
		send_removed(k, k->text_id);
		*s = k->shown[--k->nshown];
	}
	k->text_id[0] = '\0';
	k->text_shown = false;
}

/* -- the voice -- */

static void
send_thread_created(struct kit *k, const char *created_at)
{
	struct job		*job = &k->req->job;
	struct kit_thread	 thread = { .id = thread_id(k), .created_at = created_at };
	struct buf		 b = { 0 };

	/* Stored it is; a title that cannot be read now is read later. */
	if (kit_thread(job, thread_id(k), &thread) < 0)
		job_forgive(job);
	event_open(&b, "thread.created");
	jw_key(&b, "thread"), chatkit_put_thread(&b, &thread, NULL);
	event_send(k, &b);
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
			shown_add(k, items[i].id, true);
	if (ask != NULL)
		send_item(k, "thread.item.replaced", ask, false);
	arena_close(&arena);
}

static void
send_options(struct kit *k)
{
	struct buf	 b = { 0 };

	event_open(&b, "stream_options");
	jw_key(&b, "stream_options");
	jw_open(&b, '{');
	jw_key(&b, "allow_cancel"), jw_bool(&b, k->req->job.conf->chatkit_cancel);
	jw_close(&b, '}');
	event_send(k, &b);
}

static void
voice_turn(void *arg)
{
	struct kit		*k = arg;
	int			 n;
	const struct message	*m = messages_now(k, &n);
	/* What a worker begins with more than one message goes on. */
	bool			 goes_on = k->answers || (k->tell.follow.now.state == NULL && n > 1);
	struct item		 mine = { .kind = ITEM_TEXT, .m = m };

	k->begun = true;
	if (k->creates)
		send_thread_created(k, m->created_at);
	if (goes_on && m[n - 1].role == ROLE_USER)
		mine.m = &m[n - 1];
	item_id_write(mine.id, mine.m->id, ITEM_TEXT);
	shown_add(k, mine.id, true);
	if (k->echoes)
		send_item(k, "thread.item.done", &mine, true);
	send_options(k);
	if (goes_on)
		resume(k, m, n);
}

static void
voice_queued(void *arg)
{
	struct kit	*k = arg;
	struct buf	 b = { 0 };

	event_open(&b, "progress_update");
	jw_key(&b, "text"), jw_string(&b, WAITING);
	jw_key(&b, "icon"), jw_string(&b, "clock");
	event_send(k, &b);
}

static void
voice_delta(void *arg, const char *text, size_t n)
{
	struct kit	*k = arg;
	char		 id[UUID_TEXT];

	message_now(k, id);
	if (shown_done(k, id))
		return;
	if (strcmp(k->text_id, id) != 0) {
		kit_sync(k, SYNC_ON);
		if (k->text_id[0] != '\0')
			text_drop(k);
		if (shown_done(k, id))
			return;
		text_begin(k, id, "");
	}
	buf_add(&k->text, text, n);
	if (k->text_shown)
		send_delta(k, text, n);
	else if (!text_is_blank(buf_text(&k->text))) {
		/* One thing at a time is open: what tools did is over when there is something to say about it. */
		kit_sync(k, SYNC_TEXT);
		text_show(k);
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
		text_drop(k);
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
	event_open(&b, "error");
	jw_key(&b, "code"), jw_string(&b, "custom");
	jw_key(&b, "message"), jw_string(&b, job->sentence);
	/* Again from its message: only one that is stored can be. */
	jw_key(&b, "allow_retry"), jw_bool(&b, k->begun && fail_kind(job->fail)->status >= 500);
	event_send(k, &b);
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

/* -- telling what is there now -- */

static void
kit_sync(struct kit *k, enum sync how)
{
	struct arena		*arena = arena_open();
	bool			 ended = how == SYNC_END;
	struct item		*items;
	int			 n;
	const struct message	*m = messages_now(k, &n);

	n = items_of(arena, m, n, &items);
	for (int i = 0; i < n; i++) {
		const struct item	*item = &items[i];

		if (shown_done(k, item->id))
			continue;
		if (item->kind == ITEM_TEXT)
			sync_text(k, item);
		else if (item->kind == ITEM_ASK)
			sync_ask(k, item);
		else
			sync_calls(k, item, how != SYNC_ON || i + 1 < n, ended);
	}
	if (ended && k->text_id[0] != '\0')
		text_drop(k);

	/* What is not there any more: of a run before this one, or of a step that was lost. */
	for (int i = 0; i < k->nshown; i++) {
		bool	 there = k->text_shown && strcmp(k->shown[i].id, k->text_id) == 0;

		for (int j = 0; j < n && !there; j++)
			there = strcmp(k->shown[i].id, items[j].id) == 0;
		if (!there) {
			send_removed(k, k->shown[i].id);
			k->shown[i--] = k->shown[--k->nshown];
		}
	}
	arena_close(&arena);
}

/* A text that is whole. */
static void
sync_text(struct kit *k, const struct item *item)
{
	bool	 reply = item->m->role == ROLE_ASSISTANT;

	if (strcmp(k->text_id, item->id) != 0 && k->text_id[0] != '\0')
		text_drop(k);
	if (reply && !k->text_shown) {
		text_begin(k, item->id, item->m->content);
		text_show(k);
	}
	if (reply)
		send_part(k, "assistant_message.content_part.done", item->m->content);
	send_item(k, "thread.item.done", item, true);
	shown_add(k, item->id, true);
	k->text_id[0] = '\0';
	k->text_shown = false;
}

static void
sync_ask(struct kit *k, const struct item *item)
{
	send_item(k, "thread.item.done", item, false);
	shown_add(k, item->id, true);
}

static void
sync_calls(struct kit *k, const struct item *item, bool close, bool ended)
{
	if (shown_find(k, item->id) == NULL) {
		struct item	 first = *item;

		first.ncalls = 1;
		k->ntasks = 0;
		sync_tasks(k, &first, ended);
		send_item(k, "thread.item.added", &first, ended);
		shown_add(k, item->id, false);
	}
	sync_tasks(k, item, ended);
	if (close && (ended || item_is_over(item))) {
		send_item(k, "thread.item.done", item, ended);
		shown_add(k, item->id, true);
	}
}

static void
send_task(struct kit *k, const char *id, const char *type, int index)
{
	struct buf	 b = { 0 };

	update_open(&b, id, type);
	jw_key(&b, "task_index"), jw_int(&b, index);
	jw_key(&b, "task"), jw_raw(&b, k->tasks[index]);
	update_send(k, &b);
}

/* Those of a workflow that the client does not know yet are only noted. */
static void
sync_tasks(struct kit *k, const struct item *item, bool ended)
{
	bool	 known = shown_find(k, item->id) != NULL;

	for (int i = 0; i < item->ncalls; i++) {
		struct buf	 b = { 0 };
		bool		 old = i < k->ntasks;

		item_put_task(&b, item->calls[i], ended);
		if (i == k->tasks_room) {
			const char	**wider = arena_array(k->req->job.arena, const char *, 2 * i + 8);

			if (i > 0)
				memcpy(wider, k->tasks, sizeof *wider * (size_t)i);
			k->tasks = wider;
			k->tasks_room = 2 * i + 8;
		}
		if (!old || strcmp(k->tasks[i], buf_text(&b)) != 0) {
			k->tasks[i] = arena_strdup(k->req->job.arena, buf_text(&b));
			k->ntasks = old ? k->ntasks : i + 1;
			if (known)
				send_task(k, item->id, old ? "workflow.task.updated" : "workflow.task.added", i);
		}
		buf_free(&b);
	}
}

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
