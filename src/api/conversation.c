/* /api/conversations and /api/conversations/{id}. */
#include <string.h>

#include "api/handlers.h"
#include "api/request.h"
#include "api/route.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/store.h"

#define PAGE_MAX	100	/* conversations or messages in one answer */

static struct buf *
answer_buf(struct request *r)
{
	return buf_new(r->job.arena);
}

int
conversations_get(struct request *r)
{
	struct buf	*b = answer_buf(r);
	const char	*cursor = NULL, *q = NULL;
	int		 limit = 20;

	if (request_query_int(r, "limit", 1, PAGE_MAX, &limit) < 0 ||
	    request_query(r, "cursor", &cursor) < 0 ||
	    request_query(r, "q", &q) < 0 ||
	    store_conversations(&r->job, limit, cursor, q, b) < 0)
		return -1;
	request_reply(r, 200, buf_text(b));
	return 0;
}

/* ?runs=all: what was said in earlier runs of retried turns, too. */
static int
read_runs(struct request *r, bool *all)
{
	const char	*runs = NULL;

	if (request_query(r, "runs", &runs) < 0)
		return -1;
	*all = runs != NULL;
	if (runs != NULL && strcmp(runs, "all") != 0)
		return job_fail_field(&r->job, "runs", "runs can only be all.");
	return 0;
}

int
conversation_get(struct request *r)
{
	struct buf	*b = answer_buf(r);
	const char	*cursor = NULL;
	bool		 all = false;
	char		 id[UUID_TEXT];
	int		 limit = PAGE_MESSAGES;

	if (route_uuid(r, 2, FAIL_CONVERSATION_NOT_FOUND, id) < 0 ||
	    request_query_int(r, "limit", 1, PAGE_MAX, &limit) < 0 ||
	    request_query(r, "cursor", &cursor) < 0 ||
	    read_runs(r, &all) < 0 ||
	    store_conversation(&r->job, id, limit, cursor, all, b) < 0)
		return -1;
	request_reply(r, 200, buf_text(b));
	return 0;
}

int
conversation_patch(struct request *r)
{
	struct buf	*b = answer_buf(r);
	const char	*title;
	char		 id[UUID_TEXT];

	if (route_uuid(r, 2, FAIL_CONVERSATION_NOT_FOUND, id) < 0 ||
	    request_text(r, "title", r->job.conf->limits_title, &title) < 0 ||
	    store_rename(&r->job, id, title, b) < 0)
		return -1;
	request_reply(r, 200, buf_text(b));
	return 0;
}

int
conversation_delete(struct request *r)
{
	char	 id[UUID_TEXT];

	if (route_uuid(r, 2, FAIL_CONVERSATION_NOT_FOUND, id) < 0 ||
	    store_delete(&r->job, id) < 0)
		return -1;
	request_reply(r, 204, NULL);
	return 0;
}
