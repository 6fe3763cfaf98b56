/* GET /api/health. */
#include "api/handlers.h"
#include "api/request.h"
#include "base/buf.h"
#include "chat/store.h"
#include "config.h"
#include "io/json.h"

int
health_get(struct request *r)
{
	struct buf	*b = buf_new(r->job.arena);
	bool		 up = store_health(&r->job) == 0;

	jw_open(b, '{');
	jw_key(b, "status"), jw_string(b, up ? "ok" : "error");
	jw_key(b, "version"), jw_string(b, PACKAGE_VERSION);
	jw_key(b, "database"), jw_string(b, up ? "ok" : "unavailable");
	jw_close(b, '}');
	request_reply(r, up ? 200 : 503, b->p);
	return 0;
}
