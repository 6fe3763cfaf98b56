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
#include "chat/word.h"
#include "io/fcgi.h"
#include "io/json.h"

struct wish {
	enum kit_wish	 kind;
	const char	*key, *key_hash;	/* Idempotency-Key; NULL: none */
	const char	*content;		/* KIT_MESSAGE */
	int		 turn;			/* KIT_RETRY, KIT_DECISION */
	struct decision	*decisions;		/* KIT_DECISION */
	int		 ndecisions;
	const char	*message_id;		/* whose calls are decided on */
	json_object	*input;
};

static int	 say(struct request *, const char *thread_id, const struct wish *);
static int	 begin(struct kit *, const char *thread_id, const struct wish *);
static int	 read_wish(struct request *, struct wish *);
static int	 read_decisions(struct request *, const char *thread_id, struct wish *);

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

/* Part of what the thread shows, or not_found; whose thread it is comes first, so what is no id is asked for as well. */
static int
find_item(struct request *r, const char *thread_id, const char *item, char message_id[UUID_TEXT], enum item_kind *kind,
    struct kit_place *place)
{
	bool	 sane = item_id_read(item, message_id, kind);

	if (kit_place(&r->job, thread_id, sane ? message_id : NULL, place) < 0)
		return -1;
	if (place->turn == 0 || !place->shown)
		return job_fail(&r->job, FAIL_NOT_FOUND, "There is no such item in this thread.");
	return 0;
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

	wish.kind = KIT_RETRY;
	if (read_wish(r, &wish) < 0 ||
	    chatkit_thread_id(r, params, id) < 0 ||
	    chatkit_string(r, params, "item_id", &item) < 0 ||
	    find_item(r, id, item, message_id, &kind, &place) < 0)
		return -1;
	if (kind != ITEM_TEXT || place.role != ROLE_USER)
		return chatkit_bad(r, "item_id", "Only a message of the user can be answered again.");
	wish.turn = place.turn;
	return say(r, id, &wish);
}

/* The user's yes or no to what a turn has asked: it goes on. */
int
chatkit_threads_answer(struct request *r, json_object *params)
{
	struct wish		 wish = { .kind = KIT_DECISION };
	struct kit_place	 place;
	const char		*item = NULL;
	enum item_kind		 kind;
	char			 id[UUID_TEXT], message_id[UUID_TEXT];

	if (read_wish(r, &wish) < 0 ||
	    chatkit_thread_id(r, params, id) < 0 ||
	    chatkit_string(r, params, "item_id", &item) < 0)
		return -1;
	if (json_get_object(params, "input", &wish.input) != JSON_GOT)
		return chatkit_bad(r, "input", "input is required, and must be an object.");
	if (find_item(r, id, item, message_id, &kind, &place) < 0)
		return -1;
	if (kind != ITEM_ASK)
		return chatkit_bad(r, "item_id", "Only questions can be answered.");
	wish.turn = place.turn;
	wish.message_id = message_id;
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
	struct kit	 k = {
		.creates = thread_id == NULL,
		.echoes = wish->kind == KIT_MESSAGE,
		.answers = wish->kind == KIT_DECISION,
	};
	struct wish	 whole = *wish;
	bool		 known = false;

	/* What can be known before anything is said: refused now, it has not been. */
	kit_open(&k, r);
	if (kit_check(&r->job, thread_id, wish->kind, wish->key, wish->key_hash, &known) < 0 ||
	    (wish->kind == KIT_DECISION && !known && read_decisions(r, thread_id, &whole) < 0) ||
	    tell_hold(&k.tell) < 0)
		return -1;

	/* From here on there is no 5xx that a client would answer with the same message again. */
	stream_open(&k.tell.stream, r);
	stream_flush(&k.tell.stream);
	if (fcgi_gone(r->fcgi)) {
		stream_close(&k.tell.stream);
		return 0;
	}
	return kit_run(&k, begin(&k, thread_id, &whole));
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

	if (wish->kind == KIT_RETRY)
		return turn_retry(&k->tell.turn, thread_id, wish->turn, true, wish->key, wish->key_hash);
	if (wish->kind == KIT_DECISION)
		return turn_decide(&k->tell.turn, thread_id, wish->decisions, wish->ndecisions, wish->key, wish->key_hash);
	ask.word = word_of(job->conf, wish->content);
	uuid_new(ids);
	uuid_new(ids + UUID_TEXT);
	return turn_begin(&k->tell.turn, &ask);
}

/* What the client has answered to one question: no answer is a no. */
static int
read_answer(struct request *r, json_object *answers, const char *call_id, bool *yes)
{
	json_object	*answer = NULL, *values = NULL, *value;
	const char	*text;

	*yes = false;
	if (json_get_object(answers, call_id, &answer) == JSON_WRONG ||
	    json_get_array(answer, "values", &values) == JSON_WRONG)
		return chatkit_bad(r, "answers", "An answer must be an object with an array of values.");
	if (values == NULL || json_object_array_length(values) == 0)
		return 0;
	/* Of a single choice the first value counts. */
	value = json_object_array_get_idx(values, 0);
	text = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
	*yes = strcmp(text, ITEM_YES) == 0;
	if (!*yes && strcmp(text, ITEM_NO) != 0)
		return chatkit_bad(r, "answers", "An answer must be " ITEM_YES " or " ITEM_NO ".");
	return 0;
}

/* Answers to all questions of the message that still wait. */
static int
read_decisions(struct request *r, const char *thread_id, struct wish *wish)
{
	const char		*status = json_text_or_null(wish->input, "status");
	bool			 skipped = status != NULL && strcmp(status, "skipped") == 0;
	json_object		*answers = NULL;
	struct store_turn	 turn;
	const struct message	*m;

	if (status == NULL || (!skipped && strcmp(status, "answered") != 0))
		return chatkit_bad(r, "status", "status must be answered or skipped.");
	if (json_get_object(wish->input, "answers", &answers) == JSON_WRONG)
		return chatkit_bad(r, "answers", "answers must be an object.");
	if (store_turn(&r->job, thread_id, wish->turn, false, &turn) < 0)
		return -1;
	m = turn.messages;
	while (m < turn.messages + turn.nmessages - 1 && strcmp(m->id, wish->message_id) != 0)
		m++;
	wish->decisions = arena_array(r->job.arena, struct decision, m->ncalls);
	for (int i = 0; i < m->ncalls; i++) {
		struct decision	*d = &wish->decisions[wish->ndecisions];

		if (!call_waits(&m->calls[i]))
			continue;
		d->call_id = m->calls[i].id;
		if (read_answer(r, skipped ? NULL : answers, d->call_id, &d->yes) < 0)
			return -1;
		wish->ndecisions++;
	}
	return wish->ndecisions > 0 ? 0 : job_fail(&r->job, FAIL_APPROVAL_ALREADY_DECIDED, NULL);
}
