#include "api/api.h"

#include <string.h>

#include "api/cors.h"
#include "api/request.h"
#include "api/route.h"
#include "auth/token.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/fcgi.h"
#include "run/deadline.h"

/* Whom the end of the worker must stop; each struct belongs to its request. */
static struct request	*requests;
static bool		 ended;

/* The same by user: one that asks thousands of times at once leaves room for others.  Each struct belongs to its request. */
#define BY_USER	256
static struct request	*by_user[BY_USER];

/* Requests to one turn: who waits for it, and who stops, repeats or follows it. */
#define PER_TURN	2

static int	 request_join_user(struct request *);

static void
request_join(struct request *r)
{
	r->next = requests;
	r->link = &requests;
	if (requests != NULL)
		requests->link = &r->next;
	requests = r;
	if (ended)
		job_stop(&r->job, JOB_DRAINED);
}

static void
request_leave(struct request *r)
{
	*r->link = r->next;
	if (r->next != NULL)
		r->next->link = r->link;
	if (r->peer_link == NULL)
		return;
	*r->peer_link = r->peer;
	if (r->peer != NULL)
		r->peer->peer_link = r->peer_link;
}

void
api_end(void)
{
	ended = true;
	for (struct request *r = requests; r != NULL; r = r->next)
		job_stop(&r->job, JOB_DRAINED);
}

bool
api_ended(void)
{
	return ended;
}

/* Who is asking; the time it took goes to the log. */
static int
request_authorize(struct request *r)
{
	int64_t	 at = now_us();
	int	 rc = token_check(&r->job, fcgi_param(r->fcgi, "HTTP_AUTHORIZATION"));

	r->auth_us = now_us() - at;
	return rc;
}

/* The path names a user: nobody may speak for another, whatever the token's rights. */
static int
request_check_user(struct request *r)
{
	if (strncmp(r->route->template, "/api/{user}", strlen("/api/{user}")) != 0 ||
	    strcmp(r->parts[1], r->job.user) == 0)
		return 0;
	return job_fail(&r->job, FAIL_FORBIDDEN, NULL);
}

static int
preflight(struct request *r)
{
	struct buf	*head = buf_new(r->job.arena);

	request_head(r, 204, NULL, head);
	cors_preflight_head(r, head);
	buf_str(head, "\r\n");
	r->answered = true;
	r->status = 204;
	(void)fcgi_write(r->fcgi, head->p, head->n);
	return 0;
}

/* The order of checks is that of openapi.yaml. */
static int
request_walk(struct request *r)
{
	if (request_open(r) < 0)
		return -1;
	if (route_find(r) < 0) {
		if (!cors_preflight(r))
			return -1;
		job_forgive(&r->job);
		return preflight(r);
	}
	if (!r->route->open && (request_authorize(r) < 0 || request_check_user(r) < 0))
		return -1;
	if (r->route->body != BODY_NONE && request_read_body(r, r->route->body == BODY_OPTIONAL) < 0)
		return -1;
	if (!r->route->open && request_join_user(r) < 0)
		return -1;
	return r->route->handler(r);
}

static int
request_join_user(struct request *r)
{
	int64_t		 n = 0, max = r->job.conf->limits_user_turns * PER_TURN;
	uint32_t	 hash = 2166136261u;	/* FNV-1a: to spread users, not to keep secrets */
	struct request	**list;

	for (const char *p = r->job.user; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	list = &by_user[(hash ^ hash >> 16) % BY_USER];
	for (const struct request *other = *list; other != NULL; other = other->peer)
		n += strcmp(other->job.user, r->job.user) == 0;
	if (max > 0 && n >= max)
		return job_fail(&r->job, FAIL_RATE_LIMITED, NULL);
	r->peer = *list;
	r->peer_link = list;
	if (r->peer != NULL)
		r->peer->peer_link = &r->peer;
	*list = r;
	return 0;
}

static void
request_log(const struct request *r)
{
	const struct job	*job = &r->job;
	enum log_level		 level = r->status >= 500 ? LOG_ERROR : LOG_INFO;

	if (!job_log(job, level, "request"))
		return;
	log_str("method", r->method);
	log_int("status", r->status);
	log_ms("auth_ms", r->auth_us);
	log_ms("total_ms", now_us() - job->started);
	if (job->fail != FAIL_NONE) {
		log_str("error_code", fail_kind(job->fail)->code);
		log_str("detail", job->detail);
		log_str("at", job->where);
	}
	log_end();
}

/* What the end of the worker has stopped before anything was done is to be asked again, of another. */
static void
request_was_stopped(struct request *r)
{
	struct job	*job = &r->job;

	if (job->stop != JOB_DRAINED || job->fail != FAIL_TURN_ABANDONED || r->answered)
		return;
	job_forgive(job);
	(void)job_fail(job, FAIL_OVERLOADED, NULL);
}

void
api_serve(struct fcgi *f, const struct conf *conf)
{
	struct request	 r = { .fcgi = f };

	job_open(&r.job, conf);
	request_join(&r);
	if (request_walk(&r) < 0) {
		request_was_stopped(&r);
		request_fail(&r);
	}
	request_leave(&r);
	request_log(&r);
	job_close(&r.job);
}

void
api_overloaded(struct fcgi *f, const struct conf *conf)
{
	struct request	 r = { .fcgi = f };

	job_open(&r.job, conf);
	if (request_open(&r) == 0)
		job_fail(&r.job, FAIL_OVERLOADED, NULL);
	request_fail(&r);
	request_log(&r);
	job_close(&r.job);
}
