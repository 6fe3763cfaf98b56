#include "api/wait.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"
#include "api/body.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/fcgi.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/fiber.h"

#define LOCATION	"/api/conversations/%s/turns/%d?wait=30"

/* Whom a drain must tell; forgotten with the process. */
static struct waiter	*waiting;
static bool		 draining;

int64_t
wait_until(const struct request *r)
{
	int64_t		 ms = r->job.conf->client_max_wait;
	const char	*at = fcgi_param(r->fcgi, "HTTP_PREFER");

	while (at != NULL && *at != '\0') {
		at += strspn(at, ", \t");
		/* Anything else in it is for others, and what cannot be read counts as not said. */
		if (strncasecmp(at, "wait=", 5) == 0 && isdigit((unsigned char)at[5]))
			ms = deadline_first(ms, 1000 * deadline_first(strtol(at + 5, NULL, 10), ms));
		at += strcspn(at, ",");
	}
	return r->job.started + 1000 * ms;
}

void
wait_join(struct waiter *w, struct job *job, int64_t until, void (*attend)(void *), void *arg)
{
	w->job = job;
	w->next = waiting;
	w->link = &waiting;
	if (waiting != NULL)
		waiting->link = &w->next;
	waiting = w;
	job->attend = attend;
	job->attend_arg = arg;
	job->attend_at = draining ? now_us() : until;
}

void
wait_leave(struct waiter *w)
{
	if (w->link == NULL)
		return;
	w->job->attend_at = NEVER;
	*w->link = w->next;
	if (w->next != NULL)
		w->next->link = w->link;
	w->next = NULL;
	w->link = NULL;
}

void
wait_accepted(struct request *r, const char *conversation_id, int turn, const char *state)
{
	struct buf	 b = { 0 };

	if (!r->answered)
		r->location = arena_printf(r->job.arena, LOCATION, conversation_id, turn);
	jw_open(&b, '{');
	jw_key(&b, "status"), jw_string(&b, body_status(state));
	jw_key(&b, "conversation_id"), jw_string(&b, conversation_id);
	jw_key(&b, "turn"), jw_int(&b, turn);
	jw_close(&b, '}');
	request_reply(r, 202, b.p);
	buf_free(&b);
}

void
api_drain(void)
{
	draining = true;
	for (struct waiter *w = waiting; w != NULL; w = w->next) {
		w->job->attend_at = now_us();
		fiber_wake(w->job->fiber);
	}
}
