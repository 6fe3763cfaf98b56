#include "api/chatkit_show.h"

#include <string.h>

#include "api/request.h"
#include "base/arena.h"
#include "base/uuid.h"
#include "io/json.h"

static void	 sync_text(struct kit *, const struct item *);
static void	 sync_ask(struct kit *, const struct item *);
static void	 sync_calls(struct kit *, const struct item *, bool close, bool ended);
static void	 sync_tasks(struct kit *, const struct item *, bool ended);

/* -- what is known -- */

const char *
kit_thread_id(const struct kit *k)
{
	return k->tell.turn.key.conversation_id;
}

/* The messages of the turn, as far as they are whole: as the last look found them, or as this worker makes them. */
const struct message *
kit_messages_now(const struct kit *k, int *n)
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
void
kit_message_now(const struct kit *k, char id[UUID_TEXT])
{
	const struct place	*at = &k->tell.stream.at;
	int			 n;
	const struct message	*m = kit_messages_now(k, &n);

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

bool
kit_shown_done(struct kit *k, const char *id)
{
	const struct kit_shown	*s = shown_find(k, id);

	return s != NULL && s->done;
}

void
kit_shown_add(struct kit *k, const char *id, bool done)
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

void
kit_event_open(struct buf *b, const char *type)
{
	jw_open(b, '{');
	jw_key(b, "type"), jw_string(b, type);
}

void
kit_event_send(struct kit *k, struct buf *b)
{
	jw_close(b, '}');
	stream_data(&k->tell.stream, b);
}

void
kit_send_item(struct kit *k, const char *type, const struct item *item, bool ended)
{
	struct buf	 b = { 0 };

	kit_event_open(&b, type);
	jw_key(&b, "item"), item_put(&b, item, kit_thread_id(k), ended);
	kit_event_send(k, &b);
}

/* The member `update` is open then. */
static void
update_open(struct buf *b, const char *id, const char *type)
{
	kit_event_open(b, "thread.item.updated");
	jw_key(b, "item_id"), jw_string(b, id);
	jw_key(b, "update");
	kit_event_open(b, type);
}

static void
update_send(struct kit *k, struct buf *b)
{
	jw_close(b, '}');
	kit_event_send(k, b);
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

void
kit_send_delta(struct kit *k, const char *text, size_t n)
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

	kit_event_open(&b, "thread.item.removed");
	jw_key(&b, "item_id"), jw_string(&b, id);
	kit_event_send(k, &b);
}

/* -- the text that is being said -- */

void
kit_text_begin(struct kit *k, const char *id, const char *text)
{
	memccpy(k->text_id, id, '\0', sizeof k->text_id);
	k->text_shown = false;
	buf_clear(&k->text);
	buf_str(&k->text, text);
}

/* What is known of it now. */
void
kit_text_show(struct kit *k)
{
	struct buf	 b = { 0 };

	k->text_shown = true;
	kit_shown_add(k, k->text_id, false);
	kit_event_open(&b, "thread.item.added");
	jw_key(&b, "item"), item_put_begun(&b, k->text_id, kit_thread_id(k));
	kit_event_send(k, &b);
	send_part(k, "assistant_message.content_part.added", "");
	kit_send_delta(k, k->text.p, k->text.n);
}

/* Nothing came of it. */
void
kit_text_drop(struct kit *k)
{
	struct kit_shown	*s = shown_find(k, k->text_id);

	if (k->text_shown && s != NULL) {
		send_removed(k, k->text_id);
		*s = k->shown[--k->nshown];
	}
	k->text_id[0] = '\0';
	k->text_shown = false;
}

/* -- telling what is there now -- */

void
kit_sync(struct kit *k, enum sync how)
{
	struct arena		*arena = arena_open();
	bool			 ended = how == SYNC_END;
	struct item		*items;
	int			 n;
	const struct message	*m = kit_messages_now(k, &n);

	n = items_of(arena, m, n, &items);
	for (int i = 0; i < n; i++) {
		const struct item	*item = &items[i];

		if (kit_shown_done(k, item->id))
			continue;
		if (item->kind == ITEM_TEXT)
			sync_text(k, item);
		else if (item->kind == ITEM_ASK)
			sync_ask(k, item);
		else
			sync_calls(k, item, how != SYNC_ON || i + 1 < n, ended);
	}
	if (ended && k->text_id[0] != '\0')
		kit_text_drop(k);

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
		kit_text_drop(k);
	if (reply && !k->text_shown) {
		kit_text_begin(k, item->id, item->m->content);
		kit_text_show(k);
	}
	if (reply)
		send_part(k, "assistant_message.content_part.done", item->m->content);
	kit_send_item(k, "thread.item.done", item, true);
	kit_shown_add(k, item->id, true);
	k->text_id[0] = '\0';
	k->text_shown = false;
}

static void
sync_ask(struct kit *k, const struct item *item)
{
	kit_send_item(k, "thread.item.done", item, false);
	kit_shown_add(k, item->id, true);
}

static void
sync_calls(struct kit *k, const struct item *item, bool close, bool ended)
{
	if (shown_find(k, item->id) == NULL) {
		struct item	 first = *item;

		first.ncalls = 1;
		k->ntasks = 0;
		sync_tasks(k, &first, ended);
		kit_send_item(k, "thread.item.added", &first, ended);
		kit_shown_add(k, item->id, false);
	}
	sync_tasks(k, item, ended);
	if (close && (ended || item_is_over(item))) {
		kit_send_item(k, "thread.item.done", item, ended);
		kit_shown_add(k, item->id, true);
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
