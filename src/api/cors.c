#include "api/cors.h"

#include <string.h>

#include "api/handlers.h"
#include "api/request.h"
#include "api/route.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/fcgi.h"

/* Pages that may call tools without the user's word in between are another matter than those that may chat. */
static const char *
origins(const struct request *r)
{
	const struct conf	*conf = r->job.conf;

	return r->route != NULL && r->route->handler == mcp_post ? conf->mcp_origins : conf->cors_origins;
}

static const char *
origin(const struct request *r)
{
	const char	*o = fcgi_param(r->fcgi, "HTTP_ORIGIN");

	if (o == NULL || !conf_list_has(origins(r), o))
		return NULL;
	return o;
}

bool
cors_preflight(const struct request *r)
{
	return strcmp(r->method, "OPTIONS") == 0 && r->route != NULL && origin(r) != NULL &&
	    fcgi_param(r->fcgi, "HTTP_ACCESS_CONTROL_REQUEST_METHOD") != NULL;
}

void
cors_head(const struct request *r, struct buf *out)
{
	const char	*o = origin(r);

	/* Caches must keep the answers to different origins apart, also those without the header. */
	if (origins(r) != NULL && *origins(r) != '\0')
		buf_str(out, "Vary: Origin\r\n");
	if (o == NULL)
		return;
	buf_printf(out, "Access-Control-Allow-Origin: %s\r\n", o);
	buf_str(out, "Access-Control-Expose-Headers: X-Request-Id, Location, Retry-After\r\n");
}

void
cors_preflight_head(const struct request *r, struct buf *out)
{
	buf_str(out, "Access-Control-Allow-Methods: ");
	route_allow(r, out);
	buf_str(out, "\r\n"
	    "Access-Control-Allow-Headers: Authorization, Content-Type, Accept, Idempotency-Key, Last-Event-ID, Prefer,"
	    " X-Request-Id, traceparent, tracestate");
	if (r->route->handler == mcp_post)
		buf_str(out, ", MCP-Protocol-Version, Mcp-Method, Mcp-Name");
	buf_str(out, "\r\n"
	    "Access-Control-Max-Age: 600\r\n");
}
