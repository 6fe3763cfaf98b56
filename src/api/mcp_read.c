/* One message of MCP: JSON-RPC 2.0, its era, and the headers that must say the same as the body. */
#include <string.h>

#include "api/mcp.h"
#include "api/request.h"
#include "auth/base64url.h"
#include "base/arena.h"
#include "base/buf.h"
#include "io/fcgi.h"
#include "io/json.h"

#define META_VERSION		"io.modelcontextprotocol/protocolVersion"
#define META_CAPABILITIES	"io.modelcontextprotocol/clientCapabilities"

static int	 read_envelope(struct rpc *, json_object *);
static int	 read_era(struct rpc *);
static int	 read_legacy(struct rpc *, const char *header);
static int	 read_modern(struct rpc *, json_object *meta, const char *header, const char *version);
static int	 check_headers(struct rpc *);
static int	 unsupported(struct rpc *, const char *version);

bool
mcp_version_is_legacy(const char *version)
{
	return strcmp(version, MCP_LEGACY) == 0 || strcmp(version, MCP_STRUCTURED) == 0 || strcmp(version, MCP_OLDEST) == 0;
}

int
rpc_read(struct rpc *m, json_object *message)
{
	if (read_envelope(m, message) < 0)
		return -1;
	return read_era(m);
}

static int
read_envelope(struct rpc *m, json_object *message)
{
	const char	*jsonrpc = json_text_or_null(message, "jsonrpc");
	json_object	*id = NULL;
	enum json_got	 got;

	if (jsonrpc == NULL || strcmp(jsonrpc, "2.0") != 0)
		return rpc_error(m, 400, RPC_INVALID_REQUEST, "This is no message of JSON-RPC 2.0.");
	/* Unlike in JSON-RPC itself an id is never null, and a number is whole. */
	if (json_object_object_get_ex(message, "id", &id)) {
		if (!json_object_is_type(id, json_type_string) && !json_object_is_type(id, json_type_int))
			return rpc_error(m, 400, RPC_INVALID_REQUEST, "The id must be a string or a whole number.");
		m->id = id;
	}
	if ((got = json_get_string(message, "method", &m->method)) == JSON_GOT)
		;
	else if (got == JSON_ABSENT && (json_object_object_get_ex(message, "result", NULL) ||
	    json_object_object_get_ex(message, "error", NULL)))
		m->id = NULL;	/* a response; we ask nobody anything, so it means nothing */
	else
		return rpc_error(m, 400, RPC_INVALID_REQUEST, "The message has no method.");
	if ((got = json_get_object(message, "params", &m->params)) != JSON_GOT && got != JSON_ABSENT)
		return rpc_error(m, 400, RPC_INVALID_REQUEST, "params must be an object.");
	return 0;
}

/* A version in _meta is of 2026-07-28 or later; those before say it in the header alone, or not at all. */
static int
read_era(struct rpc *m)
{
	const char	*header = fcgi_param(m->req->fcgi, "HTTP_MCP_PROTOCOL_VERSION"), *version = NULL;
	json_object	*meta = NULL;

	(void)json_get_object(m->params, "_meta", &meta);
	switch (json_get_string(meta, META_VERSION, &version)) {
	case JSON_GOT:
		return read_modern(m, meta, header, version);
	case JSON_ABSENT:
		return read_legacy(m, header);
	default:
		return rpc_error(m, 400, RPC_INVALID_PARAMS, "%s in params._meta must be a string.", META_VERSION);
	}
}

static int
read_legacy(struct rpc *m, const char *header)
{
	m->version = header != NULL ? header : MCP_OLDEST;
	if (mcp_version_is_legacy(m->version))
		return 0;
	m->version = NULL;
	if (strcmp(header, MCP_MODERN) != 0)
		return unsupported(m, header);
	/* What notifications must say is not defined there. */
	m->version = MCP_MODERN;
	m->modern = true;
	if (m->id == NULL)
		return 0;
	return rpc_error(m, 400, RPC_INVALID_PARAMS, "params._meta lacks %s.", META_VERSION);
}

static int
read_modern(struct rpc *m, json_object *meta, const char *header, const char *version)
{
	json_object	*capabilities;

	m->modern = true;
	if (header != NULL && strcmp(header, version) != 0)
		return rpc_error(m, 400, RPC_HEADER_MISMATCH, "The header MCP-Protocol-Version and %s differ.", META_VERSION);
	if (strcmp(version, MCP_MODERN) != 0)
		return unsupported(m, version);
	m->version = MCP_MODERN;
	if (m->id == NULL)
		return 0;
	if (header == NULL)
		return rpc_error(m, 400, RPC_HEADER_MISMATCH, "The header MCP-Protocol-Version is missing.");
	if (json_get_object(meta, META_CAPABILITIES, &capabilities) != JSON_GOT)
		return rpc_error(m, 400, RPC_INVALID_PARAMS, "params._meta lacks %s.", META_CAPABILITIES);
	return check_headers(m);
}

/* Plain, or as =?base64?...?= (RFC 4648 section 4, with padding); *n bytes, NULL: neither. */
static const char *
header_decode(struct arena *a, const char *text, size_t *n)
{
	static const char	 head[] = "=?base64?", tail[] = "?=";
	size_t			 len = strlen(text), at;
	ssize_t			 got;
	char			*copy, *out;

	*n = len;
	if (len < sizeof head + sizeof tail - 2 || strncmp(text, head, sizeof head - 1) != 0 ||
	    strcmp(text + len - (sizeof tail - 1), tail) != 0)
		return text;
	len -= sizeof head + sizeof tail - 2;
	copy = arena_memdup(a, text + sizeof head - 1, len);
	if (len % 4 != 0 || strpbrk(copy, "-_") != NULL)
		return NULL;
	while (len > 0 && copy[len - 1] == '=')
		copy[--len] = '\0';
	for (at = strcspn(copy, "+/"); copy[at] != '\0'; at += strcspn(copy + at, "+/"))
		copy[at] = copy[at] == '+' ? '-' : '_';
	out = arena_alloc(a, BASE64URL_BYTES(len));
	if ((got = base64url_read(copy, len, (unsigned char *)out)) < 0)
		return NULL;
	*n = (size_t)got;
	return out;
}

/* What stands between us and the client goes by the headers, so they must not say another thing than the body. */
static int
check_headers(struct rpc *m)
{
	const char	*method = fcgi_param(m->req->fcgi, "HTTP_MCP_METHOD");
	const char	*name = fcgi_param(m->req->fcgi, "HTTP_MCP_NAME"), *wanted;
	size_t		 n;

	if (method == NULL || strcmp(method, m->method) != 0)
		return rpc_error(m, 400, RPC_HEADER_MISMATCH, "The header Mcp-Method %s.",
		    method == NULL ? "is missing" : "names another method than the body");
	if (strcmp(m->method, "tools/call") != 0 || (wanted = json_text_or_null(m->params, "name")) == NULL)
		return 0;
	if (name == NULL)
		return rpc_error(m, 400, RPC_HEADER_MISMATCH, "The header Mcp-Name is missing.");
	if ((name = header_decode(m->req->job.arena, name, &n)) == NULL)
		return rpc_error(m, 400, RPC_HEADER_MISMATCH, "The header Mcp-Name is not properly encoded.");
	if (n != strlen(wanted) || memcmp(name, wanted, n) != 0)
		return rpc_error(m, 400, RPC_HEADER_MISMATCH, "The header Mcp-Name names another tool than the body.");
	return 0;
}

static int
unsupported(struct rpc *m, const char *version)
{
	struct buf	*b = buf_new(m->req->job.arena);

	jw_open(b, '{');
	jw_key(b, "supported"), jw_raw(b, MCP_VERSIONS);
	jw_key(b, "requested"), jw_string(b, version);
	jw_close(b, '}');
	m->data = buf_text(b);
	return rpc_error(m, 400, RPC_UNSUPPORTED_VERSION, "This version of the protocol is not served.");
}
