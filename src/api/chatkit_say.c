/* The operations of POST /api/chatkit that begin a turn: checks, the head of the stream, the rows; in this order. */
#include "api/chatkit.h"

#include <string.h>

#include "api/chatkit_voice.h"
#include "api/key.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/uuid.h"
#include "chat/kit.h"
#include "chat/store.h"
#include "io/fcgi.h"
#include "tool/tool.h"

struct wish {
	const char	*key, *key_hash;	/* Idempotency-Key; NULL: none */
	const char	*content;		/* a new message, or */
	int		 turn;			/* the turn to be asked anew */
};

static int	 say(struct request *, const char *thread_id, const struct wish *);
static int	 begin(struct kit *, const char *thread_id, const struct wish *);
static int	 read_wish(struct request *, struct wish *);

int
chatkit_threads_create(struct request *r, json_object *params)
{
	struct wish	 wish = { 0 };

	if (read_wish(r, &wish) < 0 || chatkit_input(r, params, &wish.content) < 0)
		return -1;
	return say(r, NULL, &wish);
}

int
chatkit_threads_add(struct request *r, json_object *params)
{
	struct wish	 wish = { 0 };
	char		 id[UUID_TEXT];

	if (read_wish(r, &wish) < 0 ||
	    chatkit_thread_id(r, params, id) < 0 ||
	    chatkit_input(r, params, &wish.content) < 0)
		return -1;
	return say(r, id, &wish);
}

/* All that was said after this message is taken out of the thread, and it is answered anew. */
int
chatkit_threads_retry(struct request *r, json_object *params)
{
	struct wish		 wish = { 0 };
	struct kit_place	 place;
	const char		*item = NULL;
	enum item_kind		 kind;
	char			 id[UUID_TEXT], message_id[UUID_TEXT];

	if (read_wish(r, &wish) < 0 ||
	    chatkit_thread_id(r, params, id) < 0 ||
	    chatkit_string(r, params, "item_id", &item) < 0)
		return -1;
	/* Whose thread it is comes first: what is no id is asked for as well, and is not there. */
	if (kit_place(&r->job, id, item_id_read(item, message_id, &kind) ? message_id : NULL, &place) < 0)
		return -1;
	if (place.turn == 0 || !place.shown)
		return job_fail(&r->job, FAIL_NOT_FOUND, "There is no such item in this thread.");
	if (kind != ITEM_TEXT || place.role != ROLE_USER)
		return chatkit_bad(r, "item_id", "Only a message of the user can be answered again.");
	wish.turn = place.turn;
	return say(r, id, &wish);
}

static int
read_wish(struct request *r, struct wish *wish)
{
	return key_read(r, "chatkit", &wish->key, &wish->key_hash);
}

static int
say(struct request *r, const char *thread_id, const struct wish *wish)
{
	struct kit	 k = { .creates = thread_id == NULL, .echoes = wish->turn == 0 };

	/* What can be known before anything is said: refused now, it has not been. */
	kit_open(&k, r);
	if (kit_check(&r->job, thread_id, wish->turn, wish->key, wish->key_hash) < 0 ||
	    tool_table_take(&r->job) == NULL ||
	    tell_hold(&k.tell) < 0)
		return -1;

	/* From here on there is no 5xx that a client would answer with the same message again. */
	stream_open(&k.tell.stream, r);
	stream_flush(&k.tell.stream);
	if (fcgi_gone(r->fcgi)) {
		stream_close(&k.tell.stream);
		return 0;
	}
	return kit_run(&k, begin(&k, thread_id, wish));
}

static int
begin(struct kit *k, const char *thread_id, const struct wish *wish)
{
	struct job		*job = &k->req->job;
	char			*ids = arena_alloc(job->arena, 2 * UUID_TEXT);
	struct store_begin	 ask = {
		.user = job->user,
		.conversation_id = thread_id,
		.new_id = ids,
		.message_id = ids + UUID_TEXT,
		.content = wish->content,
		.on_busy = ON_BUSY_QUEUE,
		.key = wish->key,
		.key_hash = wish->key_hash,
	};

	if (wish->turn > 0)
		return turn_retry(&k->tell.turn, thread_id, wish->turn, true, wish->key, wish->key_hash);
	uuid_new(ids);
	uuid_new(ids + UUID_TEXT);
	return turn_begin(&k->tell.turn, &ask);
}
