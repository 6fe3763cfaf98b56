/* POST /api/chat and POST /api/{user_id}/chat. */
#include "api/decisions.h"
#include "api/handlers.h"
#include "api/key.h"
#include "api/request.h"
#include "api/tell.h"
#include "api/zone.h"
#include "base/arena.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/turn.h"
#include "chat/word.h"
#include "chat/work.h"
#include "io/json.h"

static int	 read_message(struct request *, struct store_begin *, int ndecisions);
static int	 decide_first(struct request *, const struct store_begin *, const struct decision *, int);
static int	 read_conversation_id(struct request *, struct store_begin *);
static int	 read_options(struct request *, struct store_begin *);

int
chat_post(struct request *r)
{
	struct tell		 t = { 0 };
	struct store_begin	 ask = { 0 };
	struct decision		*decisions = NULL;
	int			 n = 0;

	/* Is it a proper message, or an answer to questions? */
	if (decisions_read(r, &decisions, &n) < 0 ||
	    read_message(r, &ask, n) < 0 ||
	    tell_read(&t, r) < 0 ||
	    key_read(r, "chat", &ask.key, &ask.key_hash) < 0)
		return -1;

	/* From here on the turn goes its way, whoever listens. */
	if (tell_hold(&t) < 0)
		return -1;
	if (ask.content == NULL) {
		if (turn_decide(&t.turn, ask.conversation_id, decisions, n, ask.key, ask.key_hash) < 0)
			return -1;
	} else if ((n > 0 && decide_first(r, &ask, decisions, n) < 0) ||
	    turn_begin(&t.turn, &ask) < 0)
		return -1;
	return tell_run(&t);
}

/* yields.  The decisions that come with a message: the turn that they let go on is not the one that is answered here. */
static int
decide_first(struct request *r, const struct store_begin *ask, const struct decision *decisions, int n)
{
	struct store_begun	 begun;
	const char		*key = NULL;

	/* The key stands for the message's turn; another, which no client can choose, for this. */
	if (ask->key != NULL)
		key = arena_printf(r->job.arena, " approvals %s", ask->key);
	if (store_decide(&r->job, ask->conversation_id, decisions, n, key, ask->key_hash, &begun) < 0)
		return -1;
	if (begun.got == STORE_BEGUN)
		work_run(&begun.key);
	return 0;
}

static int
read_message(struct request *r, struct store_begin *ask, int ndecisions)
{
	char	*ids = arena_alloc(r->job.arena, 2 * UUID_TEXT);

	uuid_new(ids);
	uuid_new(ids + UUID_TEXT);
	ask->user = r->job.user;
	ask->new_id = ids;
	ask->message_id = ids + UUID_TEXT;
	if ((ndecisions == 0 || json_object_object_get(r->body, "message") != NULL) &&
	    request_text(r, "message", r->job.conf->limits_message, &ask->content) < 0)
		return -1;
	if (ask->content != NULL)
		ask->word = word_of(r->job.conf, ask->content);
	if (read_conversation_id(r, ask) < 0)
		return -1;
	if (ndecisions > 0 && ask->conversation_id == NULL)
		return job_fail_field(&r->job, "conversation_id", "approvals need the conversation_id.");
	return read_options(r, ask);
}

static int
read_conversation_id(struct request *r, struct store_begin *ask)
{
	const char	*text = NULL;
	char		*id = arena_alloc(r->job.arena, UUID_TEXT);
	enum json_got	 got = json_get_string(r->body, "conversation_id", &text);

	ask->create_unknown = r->job.conf->api_create_unknown;
	if (got == JSON_ABSENT || got == JSON_NULL)
		return 0;
	if (got == JSON_GOT && uuid_parse(text, id)) {
		ask->conversation_id = id;
		return 0;
	}
	/* The forgiving variant takes what is no id for an unknown one (api.unknown_conversation). */
	return ask->create_unknown ? 0 :
	    job_fail_field(&r->job, "conversation_id", "conversation_id must be a UUID or null.");
}

static int
read_options(struct request *r, struct store_begin *ask)
{
	/* In the order of enum on_busy. */
	static const char *const on_busy[] = { "queue", "reject", "interrupt", NULL };
	int	 which;

	if (request_word(r, "on_busy", on_busy, &which) < 0 ||
	    request_string(r, "time_zone", &ask->time_zone) < 0)
		return -1;
	ask->on_busy = (enum on_busy)which;
	if (ask->time_zone != NULL && !zone_valid(ask->time_zone))
		return job_fail_field(&r->job, "time_zone", "time_zone must be an IANA name such as Europe/Berlin.");
	return 0;
}
