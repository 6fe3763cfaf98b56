#include "api/cors.h"

#include <string.h>

#include "api/request.h"
#include "api/route.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/fcgi.h"

static const char *
origin(const struct request *r)
{
	const char	*o = fcgi_param(r->fcgi, "HTTP_ORIGIN");

	if (o == NULL || !conf_list_has(r->job.conf->cors_origins, o))
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
	if (r->job.conf->cors_origins != NULL && *r->job.conf->cors_origins != '\0')
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
	    "Access-Control-Allow-Headers: Authorization, Content-Type, Accept, Idempotency-Key, Last-Event-ID, X-Request-Id\r\n"
	    "Access-Control-Max-Age: 600\r\n");
}
