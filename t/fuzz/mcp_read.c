/* A message to /mcp, with its headers: one era, one version, one kind, or one error that says what is wrong. */
#include "asked.h"

#include "api/mcp.h"

static void
check(struct asked *q, struct rpc *m, int rc)
{
	must((rc < 0) == (m->code != 0));
	if (rc < 0) {
		must(m->sentence != NULL && utf8_valid(m->sentence, strlen(m->sentence)));
		must(m->status >= 400 && m->status < 500);
		must(m->data == NULL || json_read(q->r.job.arena, m->data, strlen(m->data), NULL) != NULL);
		return;
	}
	must(m->version != NULL);
	must(m->modern == (strcmp(m->version, MCP_MODERN) == 0));
	must(m->modern || mcp_version_is_legacy(m->version));
	must(m->id == NULL || json_object_is_type(m->id, json_type_string) || json_object_is_type(m->id, json_type_int));
	must(m->method != NULL || m->id == NULL);
	must(m->params == NULL || json_object_is_type(m->params, json_type_object));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct asked	 q;

	(void)asked_open(&q, data, n);
	if (asked_body(&q)) {
		struct rpc	 m = { .req = &q.r, .result = buf_new(q.r.job.arena) };

		check(&q, &m, rpc_read(&m, q.r.body));
	}
	asked_close(&q);
	return 0;
}
