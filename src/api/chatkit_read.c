/* The operations of POST /api/chatkit that are answered with one object. */
#include "api/chatkit.h"

#include <string.h>

#include "api/chatkit_item.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "base/uuid.h"
#include "chat/kit.h"
#include "chat/store.h"
#include "io/json.h"

#define ITEMS_FIRST	20	/* of a thread that is opened: the protocol's own */
#define FEEDBACK_MAX	100	/* items in one request */

static int	 put_items(struct request *, const char *id, const struct chatkit_page *, struct buf *);
static int	 put_visible(struct request *, const char *id, const struct chatkit_page *, const struct kit_place *,
		    enum item_kind, struct buf *);
static bool	 item_is_after(const struct item *, const struct kit_place *, enum item_kind, bool oldest_first);
static void	 put_page_end(struct buf *, const char *after);
static int	 read_items(struct request *, json_object *, const char ***, const char ***);

/* A thread alone, as all but get_by_id show it. */
static int
reply_thread(struct request *r, const char *id)
{
	struct kit_thread	 thread;
	struct buf		*b = buf_new(r->job.arena);

	if (kit_thread(&r->job, id, &thread) < 0)
		return -1;
	chatkit_put_thread(b, &thread, NULL);
	request_reply(r, 200, buf_text(b));
	return 0;
}

int
chatkit_threads_get(struct request *r, json_object *params)
{
	struct chatkit_page	 page = { .limit = ITEMS_FIRST, .oldest_first = true };
	struct kit_thread	 thread;
	struct buf		*items = buf_new(r->job.arena), *b = buf_new(r->job.arena);
	char			 id[UUID_TEXT];

	if (chatkit_thread_id(r, params, id) < 0 ||
	    kit_thread(&r->job, id, &thread) < 0 ||
	    put_items(r, id, &page, items) < 0)
		return -1;
	chatkit_put_thread(b, &thread, buf_text(items));
	request_reply(r, 200, buf_text(b));
	return 0;
}

/* after: a thread that is there, or was when the page before was read. */
static int
read_after_thread(struct request *r, struct chatkit_page *page, char id[UUID_TEXT])
{
	struct kit_thread	 thread;

	if (page->after == NULL)
		return 0;
	if (!uuid_parse(page->after, id))
		return job_fail(&r->job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	page->after = id;
	return kit_thread(&r->job, id, &thread);
}

int
chatkit_threads_list(struct request *r, json_object *params)
{
	struct chatkit_page	 page = { 0 };
	struct kit_thread	*threads;
	struct buf		*b = buf_new(r->job.arena);
	char			 after[UUID_TEXT];
	int			 n;

	if (chatkit_page(r, params, &page) < 0 ||
	    read_after_thread(r, &page, after) < 0 ||
	    kit_threads(&r->job, page.limit + 1, page.oldest_first, page.after, &threads, &n) < 0)
		return -1;
	jw_open(b, '{');
	jw_key(b, "data");
	jw_open(b, '[');
	for (int i = 0; i < n && i < page.limit; i++)
		chatkit_put_thread(b, &threads[i], NULL);
	put_page_end(b, n > page.limit ? threads[page.limit - 1].id : NULL);
	request_reply(r, 200, buf_text(b));
	return 0;
}

int
chatkit_threads_update(struct request *r, json_object *params)
{
	int64_t		 max = r->job.conf->limits_title;
	struct buf	*unused = buf_new(r->job.arena);
	const char	*title = NULL;
	char		 id[UUID_TEXT];
	size_t		 n;

	if (chatkit_thread_id(r, params, id) < 0 || chatkit_string(r, params, "title", &title) < 0)
		return -1;
	n = strlen(title);
	utf8_trim(&title, &n);
	if (n == 0 || utf8_length(title, n) > (size_t)max)
		return chatkit_bad(r, "title", "title must have 1 to %lld characters.", (long long)max);
	if (store_rename(&r->job, id, arena_memdup(r->job.arena, title, n), unused) < 0)
		return -1;
	return reply_thread(r, id);
}

int
chatkit_threads_delete(struct request *r, json_object *params)
{
	char	 id[UUID_TEXT];

	if (chatkit_thread_id(r, params, id) < 0 || store_delete(&r->job, id) < 0)
		return -1;
	request_reply(r, 200, "{}");
	return 0;
}

int
chatkit_items_list(struct request *r, json_object *params)
{
	struct chatkit_page	 page = { 0 };
	struct kit_thread	 thread;
	struct buf		*b = buf_new(r->job.arena);
	char			 id[UUID_TEXT];

	if (chatkit_thread_id(r, params, id) < 0 ||
	    chatkit_page(r, params, &page) < 0 ||
	    kit_thread(&r->job, id, &thread) < 0 ||
	    put_items(r, id, &page, b) < 0)
		return -1;
	request_reply(r, 200, buf_text(b));
	return 0;
}

int
chatkit_items_feedback(struct request *r, json_object *params)
{
	const char	**items = NULL, **messages = NULL, *kind = NULL;
	char		  id[UUID_TEXT];
	int		  n;

	if (chatkit_thread_id(r, params, id) < 0 || chatkit_string(r, params, "kind", &kind) < 0)
		return -1;
	if (strcmp(kind, "positive") != 0 && strcmp(kind, "negative") != 0)
		return chatkit_bad(r, "kind", "kind must be positive or negative.");
	if ((n = read_items(r, params, &items, &messages)) < 0 ||
	    kit_feedback(&r->job, id, items, messages, n, kind) < 0)
		return -1;
	request_reply(r, 200, "{}");
	return 0;
}

/* item_ids: how many; each also with the id of its message. */
static int
read_items(struct request *r, json_object *params, const char ***items, const char ***messages)
{
	json_object	*list = NULL;
	enum item_kind	 kind;
	int		 n;

	if (json_get_array(params, "item_ids", &list) != JSON_GOT ||
	    json_object_array_length(list) < 1 || json_object_array_length(list) > FEEDBACK_MAX)
		return chatkit_bad(r, "item_ids", "item_ids must be an array of 1 to %d ids.", FEEDBACK_MAX);
	n = (int)json_object_array_length(list);
	*items = arena_array(r->job.arena, const char *, n);
	*messages = arena_array(r->job.arena, const char *, n);
	for (int i = 0; i < n; i++) {
		json_object	*o = json_object_array_get_idx(list, (size_t)i);
		char		*id = arena_alloc(r->job.arena, UUID_TEXT), *item = arena_alloc(r->job.arena, ITEM_ID);

		if (!json_object_is_type(o, json_type_string))
			return chatkit_bad(r, "item_ids", "item_ids must be strings.");
		if (!item_id_read(json_object_get_string(o), id, &kind))
			return job_fail(&r->job, FAIL_NOT_FOUND, "There is no such item in this thread.");
		item_id_write(item, id, kind);
		(*items)[i] = item;
		(*messages)[i] = id;
	}
	return n;
}

/* -- pages of items -- */

static int
put_items(struct request *r, const char *id, const struct chatkit_page *page, struct buf *b)
{
	struct kit_place	 place = { 0 };
	enum item_kind		 kind = ITEM_TEXT;
	char			 message_id[UUID_TEXT];

	/* An item that was superseded meanwhile still tells where to go on. */
	if (page->after != NULL) {
		if (!item_id_read(page->after, message_id, &kind))
			return job_fail(&r->job, FAIL_NOT_FOUND, "There is no such item in this thread.");
		if (kit_place(&r->job, id, message_id, &place) < 0)
			return -1;
		if (place.turn == 0)
			return job_fail(&r->job, FAIL_NOT_FOUND, "There is no such item in this thread.");
	}
	return put_visible(r, id, page, &place, kind, b);
}

static int
put_visible(struct request *r, const char *id, const struct chatkit_page *page, const struct kit_place *place,
    enum item_kind kind, struct buf *b)
{
	struct message	*messages;
	struct item	*items;
	const char	*last = NULL;
	int		 n, nitems, said = 0;

	/* A turn has an item at least: the turn of the last item, a page, and one to know whether there is more. */
	if (kit_messages(&r->job, id, place->turn, page->limit + 2, page->oldest_first, &messages, &n) < 0)
		return -1;
	nitems = items_of(r->job.arena, messages, n, &items);
	jw_open(b, '{');
	jw_key(b, "data");
	jw_open(b, '[');
	for (int i = 0; i < nitems; i++) {
		const struct item	*item = &items[page->oldest_first ? i : nitems - 1 - i];
		const char		*state = item->m->turn_state;

		if (place->turn != 0 && !item_is_after(item, place, kind, page->oldest_first))
			continue;
		if (said == page->limit) {
			put_page_end(b, last);
			return 0;
		}
		item_put(b, item, id, strcmp(state, "running") != 0 && strcmp(state, "approval_required") != 0);
		last = item->id;
		said++;
	}
	put_page_end(b, NULL);
	return 0;
}

static bool
item_is_after(const struct item *item, const struct kit_place *place, enum item_kind kind, bool oldest_first)
{
	int	 diff = item->m->turn - place->turn;

	if (diff == 0)
		diff = item->m->index - place->index;
	if (diff == 0)
		diff = (int)item->kind - (int)kind;
	return oldest_first ? diff > 0 : diff < 0;
}

/* Closes the list and the page; after NULL: there is no more. */
static void
put_page_end(struct buf *b, const char *after)
{
	jw_close(b, ']');
	jw_key(b, "has_more"), jw_bool(b, after != NULL);
	if (after != NULL)
		jw_key(b, "after"), jw_string(b, after);
	jw_close(b, '}');
}
