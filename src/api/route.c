#include "api/route.h"

#include <string.h>

#include "api/handlers.h"
#include "api/request.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/uuid.h"

/* {user} before {id}: "chat" is never an id, and any text may be a user. */
static const struct route routes[] = {
	{ "POST",   "/api/chat",				chat_post,		false, BODY_OBJECT },
	{ "POST",   "/api/{user}/chat",				chat_post,		false, BODY_OBJECT },
	{ "POST",   "/api/chatkit",				chatkit_post,		false, BODY_OBJECT },
	{ "GET",    "/api/conversations",			conversations_get,	false, BODY_NONE },
	{ "GET",    "/api/conversations/{id}",			conversation_get,	false, BODY_NONE },
	{ "PATCH",  "/api/conversations/{id}",			conversation_patch,	false, BODY_OBJECT },
	{ "DELETE", "/api/conversations/{id}",			conversation_delete,	false, BODY_NONE },
	{ "GET",    "/api/conversations/{id}/turns/{n}",	turn_get,		false, BODY_NONE },
	{ "GET",    "/api/conversations/{id}/turns/{n}/events",	turn_events_get,	false, BODY_NONE },
	{ "POST",   "/api/conversations/{id}/turns/{n}/cancel",	turn_cancel_post,	false, BODY_NONE },
	{ "POST",   "/api/conversations/{id}/turns/{n}/retry",	turn_retry_post,	false, BODY_OPTIONAL },
	{ "GET",    "/api/health",				health_get,		true,  BODY_NONE },
	{ "GET",    "/api/metrics",				metrics_get,		true,  BODY_NONE },
	{ "POST",   "/mcp",					mcp_post,		false, BODY_NONE },
};

#define NROUTES	(sizeof routes / sizeof *routes)

/* A pool may serve one of the two alone, and no ChatKit; that it is well, and how it goes, it says in any case. */
static bool
route_served(const struct route *route, const struct conf *conf)
{
	bool	 mcp = route->handler == mcp_post;

	if (route->handler == chatkit_post && !conf->chatkit_enabled)
		return false;
	if (strcmp(conf->api_serve, "all") == 0 || route->handler == health_get || route->handler == metrics_get)
		return true;
	return mcp == (strcmp(conf->api_serve, "mcp") == 0);
}

static bool
template_fits(const char *template, const struct request *r)
{
	int	 i = 0;

	for (const char *at = template; *at == '/'; i++) {
		size_t	 n = strcspn(++at, "/");

		if (i == r->nparts)
			return false;
		/* A name may be any text, but not none: /api//chat is no address. */
		if (*at == '{' ? *r->parts[i] == '\0' :
		    strlen(r->parts[i]) != n || memcmp(r->parts[i], at, n) != 0)
			return false;
		at += n;
	}
	return i == r->nparts;
}

static bool
method_fits(const char *method, const struct request *r)
{
	return strcmp(method, r->method) == 0 ||
	    (strcmp(method, "GET") == 0 && strcmp(r->method, "HEAD") == 0);
}

int
route_find(struct request *r)
{
	const struct route	*found = NULL;

	for (size_t i = 0; i < NROUTES; i++) {
		if (found != NULL ? strcmp(found->template, routes[i].template) != 0 :
		    !template_fits(routes[i].template, r) || !route_served(&routes[i], r->job.conf))
			continue;
		found = &routes[i];
		if (method_fits(found->method, r))
			break;
	}
	if (found == NULL)
		return job_fail(&r->job, FAIL_NOT_FOUND, NULL);
	r->route = found;
	r->job.route = found->template;
	if (!method_fits(found->method, r))
		return job_fail(&r->job, FAIL_METHOD_NOT_ALLOWED, NULL);
	return 0;
}

void
route_allow(const struct request *r, struct buf *out)
{
	const char	*comma = "";

	for (size_t i = 0; i < NROUTES; i++) {
		if (strcmp(routes[i].template, r->route->template) != 0)
			continue;
		buf_printf(out, "%s%s", comma, routes[i].method);
		if (strcmp(routes[i].method, "GET") == 0)
			buf_str(out, ", HEAD");
		comma = ", ";
	}
}

int
route_uuid(struct request *r, int part, int otherwise, char out[UUID_TEXT])
{
	if (!uuid_parse(r->parts[part], out))
		return job_fail(&r->job, (enum fail)otherwise, NULL);
	memcpy(r->job.conversation_id, out, UUID_TEXT);
	return 0;
}
