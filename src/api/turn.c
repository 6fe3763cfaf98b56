/* GET /api/conversations/{id}/turns/{n}: contract section 4. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/body.h"
#include "api/handlers.h"
#include "api/request.h"
#include "api/route.h"
#include "base/buf.h"
#include "base/uuid.h"
#include "chat/store.h"
#include "run/deadline.h"

#define WAIT_MAX	60	/* seconds that ?wait= may ask for */
#define WAIT_STEP_MS	500	/* between two looks; the turn may run on another worker */

static int
read_number(struct request *r, int *n)
{
	const char	*text = r->parts[4];
	size_t		 len = strlen(text);

	if (len == 0 || len > 9 || strspn(text, "0123456789") != len || *text == '0')
		return job_fail(&r->job, FAIL_TURN_NOT_FOUND, NULL);
	*n = atoi(text);
	return 0;
}

static bool
turn_is_live(const struct store_turn *t)
{
	return strcmp(t->state, "running") == 0 || strcmp(t->state, "queued") == 0;
}

/* Section 6's body for a failed turn, with 200: reading it has worked. */
static void
reply_failed(struct request *r, const struct store_turn *t, struct buf *b)
{
	if (t->sentence != NULL)
		job_fail(&r->job, fail_by_code(t->error_code), "%s", t->sentence);
	else
		job_fail(&r->job, fail_by_code(t->error_code), NULL);
	request_error_json(r, b);
	job_forgive(&r->job);
	request_reply(r, 200, b->p);
}

int
turn_get(struct request *r)
{
	struct store_turn	 t = { 0 };
	struct buf		*b = buf_new(r->job.arena);
	char			 id[UUID_TEXT];
	int			 n = 0, wait = 0;
	int64_t			 until;

	if (route_uuid(r, 2, FAIL_TURN_NOT_FOUND, id) < 0 ||
	    read_number(r, &n) < 0 ||
	    request_query_int(r, "wait", 0, WAIT_MAX, &wait) < 0)
		return -1;
	r->job.turn = n;

	/* It may run on any worker, so the rows are asked, not our memory. */
	for (until = deadline_ms(1000 * wait);;) {
		if (store_turn(&r->job, id, n, false, &t) < 0)
			return -1;
		if (!turn_is_live(&t) || now_us() >= until || api_draining())
			break;
		if (job_wait(&r->job, deadline_first(until, deadline_ms(WAIT_STEP_MS))) < 0 &&
		    r->job.fail != FAIL_NONE)
			return -1;
	}

	if (strcmp(t.state, "failed") == 0) {
		reply_failed(r, &t, b);
		return 0;
	}
	body_put(b, &(struct body){
		.status = body_status(t.state),
		.conversation_id = id,
		.turn = n,
		.messages = t.messages,
		.nmessages = t.nmessages,
		.input_tokens = t.input_tokens,
		.output_tokens = t.output_tokens,
		.model = t.model,
	});
	request_reply(r, 200, b->p);
	return 0;
}
