/* How a client and /mcp get to know each other: initialize and ping in the older era, server/discover in the newer. */
#include "api/mcp.h"
#include "api/request.h"
#include "base/buf.h"
#include "base/conf.h"
#include "config.h"
#include "io/json.h"

void
rpc_put_server(struct buf *b)
{
	jw_open(b, '{');
	jw_key(b, "name"), jw_string(b, "parley");
	jw_key(b, "title"), jw_string(b, "Parley");
	jw_key(b, "version"), jw_string(b, PACKAGE_VERSION);
	jw_close(b, '}');
}

/* A new function is a new tool after tools.refresh at the latest.  Who may not ask us is not told by a cache either. */
void
rpc_put_cache(struct rpc *m)
{
	jw_key(m->result, "ttlMs"), jw_int(m->result, m->req->job.conf->tools_refresh);
	jw_key(m->result, "cacheScope"), jw_string(m->result, "private");
}

/* Tools, and no word when they change: that would need a stream. */
static void
put_capabilities(struct buf *b)
{
	jw_key(b, "capabilities");
	jw_open(b, '{');
	jw_key(b, "tools");
	jw_open(b, '{');
	jw_close(b, '}');
	jw_close(b, '}');
}

/* A client that is offered another version than it asked for goes on with it or leaves (lifecycle, version negotiation). */
int
rpc_initialize(struct rpc *m)
{
	const char	*version = NULL;

	if (json_get_string(m->params, "protocolVersion", &version) != JSON_GOT)
		return rpc_error(m, 200, RPC_INVALID_PARAMS, "protocolVersion must be a string.");
	m->version = mcp_version_is_legacy(version) ? version : MCP_LEGACY;
	jw_key(m->result, "protocolVersion"), jw_string(m->result, m->version);
	put_capabilities(m->result);
	jw_key(m->result, "serverInfo"), rpc_put_server(m->result);
	return 0;
}

int
rpc_ping(struct rpc *m)
{
	(void)m;
	return 0;
}

int
rpc_discover(struct rpc *m)
{
	jw_key(m->result, "supportedVersions"), jw_raw(m->result, MCP_VERSIONS);
	put_capabilities(m->result);
	rpc_put_cache(m);
	return 0;
}
