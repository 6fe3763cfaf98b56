/* /api/conversations/{id}/turns/{n} and what is below it. */
#include <stdlib.h>
#include <string.h>

#include "api/body.h"
#include "api/follow.h"
#include "api/handlers.h"
#include "api/key.h"
#include "api/request.h"
#include "api/route.h"
#include "api/tell.h"
#include "api/wait.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/uuid.h"
#include "chat/pulse.h"
#include "chat/work.h"
#include "io/fcgi.h"
#include "run/deadline.h"

#define WAIT_MAX	60	/* seconds that ?wait= may ask for */

static int	 read_turn(struct request *, char id[UUID_TEXT]);
static int	 read_number(struct request *, int *);

/* -- GET …/{n} -- */

/* The worker ends: the state as it is now must do. */
static void
wait_no_longer(void *arg)
{
	follow_quit(arg);
}

/* As far as the time allows, for the end of the turn. */
static int
wait_for_end(struct follow *f, int64_t until)
{
	struct waiter	 w = { 0 };
	int		 rc;

	wait_join(&w, f->job, NEVER, wait_no_longer, f);
	rc = follow_to_end(f, until);
	wait_leave(&w);
	return rc < 0 && f->job->fail != FAIL_NONE ? -1 : 0;
}

/* Section 6's body for a failed turn, with 200: reading it has worked. */
static void
reply_turn(struct request *r, const struct follow *f)
{
	struct buf	 b = { 0 };
	struct body	 body;

	if (strcmp(f->now.state, "failed") == 0) {
		(void)follow_fail(f);
		request_error_json(r, &b);
		job_forgive(&r->job);
	} else {
		body = body_of_turn(f->conversation_id, f->turn, &f->now);
		body_put(&b, &body);
	}
	request_reply(r, 200, b.p);
	buf_free(&b);
}

int
turn_get(struct request *r)
{
	struct follow	 f = { .job = &r->job };
	char		 id[UUID_TEXT];
	int		 wait = 0, rc;

	if (read_turn(r, id) < 0 ||
	    request_query_int(r, "wait", 0, WAIT_MAX, &wait) < 0)
		return -1;

	/* It may run on any worker, so the rows are asked, not our memory. */
	f.conversation_id = id;
	f.turn = r->job.turn;
	rc = follow_look(&f);
	if (rc == 0 && wait > 0)
		rc = wait_for_end(&f, r->job.started + INT64_C(1000000) * wait);
	if (rc == 0)
		reply_turn(r, &f);
	follow_close(&f);
	return rc;
}

/* -- GET …/{n}/events -- */

int
turn_events_get(struct request *r)
{
	struct tell	 t = { .req = r, .stream_wanted = true };
	const char	*heard = fcgi_param(r->fcgi, "HTTP_LAST_EVENT_ID");

	if (read_turn(r, t.turn.key.conversation_id) < 0)
		return -1;
	t.turn.key.turn = r->job.turn;

	/* Who has heard something knows the turn; what cannot be read leads nowhere, and so to a reset. */
	if (heard != NULL && *heard != '\0') {
		t.stream.named = true;
		(void)place_read(&t.stream.at, heard);
	}
	return tell_events(&t);
}

/* -- POST …/{n}/cancel -- */

int
turn_cancel_post(struct request *r)
{
	struct turn_key	 next = { 0 };
	const char	*state = NULL;
	char		 id[UUID_TEXT];

	if (read_turn(r, id) < 0 ||
	    store_cancel(&r->job, id, r->job.turn, work_wanted(), &state, &next) < 0)
		return -1;

	/* Here at once, elsewhere with the pulse of its worker; and who waited behind it goes on. */
	pulse_cancel(r->job.user, id, r->job.turn);
	work_run(&next);
	wait_accepted(r, id, r->job.turn, state);
	return 0;
}

/* -- POST …/{n}/retry -- */

int
turn_retry_post(struct request *r)
{
	struct tell	 t = { 0 };
	const char	*key = NULL, *hash = NULL, *kind;
	char		 id[UUID_TEXT];

	if (read_turn(r, id) < 0)
		return -1;
	kind = arena_printf(r->job.arena, "retry %s %d", id, r->job.turn);
	if (tell_read(&t, r) < 0 ||
	    key_read(r, kind, &key, &hash) < 0)
		return -1;

	if (tell_hold(&t) < 0 ||
	    turn_retry(&t.turn, id, r->job.turn, false, key, hash) < 0)
		return -1;
	return tell_run(&t);
}

/* -- the address -- */

static int
read_turn(struct request *r, char id[UUID_TEXT])
{
	int	 n = 0;

	if (route_uuid(r, 2, FAIL_TURN_NOT_FOUND, id) < 0 ||
	    read_number(r, &n) < 0)
		return -1;
	r->job.turn = n;
	return 0;
}

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
