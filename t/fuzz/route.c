/* A request's address: segments and parameters are decoded once, are UTF-8, and lead to one row of the table or to none. */
#include "asked.h"

#include "api/query.h"
#include "api/route.h"
#include "api/wait.h"
#include "base/uuid.h"

/* Written again with every byte escaped, it is read as the same. */
static void
again(struct arena *a, const char *text)
{
	struct buf	*b = buf_new(a);
	const char	*back;

	for (const char *p = text; *p != '\0'; p++)
		buf_printf(b, "%%%02X", (unsigned char)*p);
	back = query_decode(a, buf_text(b), b->n, true);
	must(back != NULL && strcmp(back, text) == 0);
}

static void
parameters(struct asked *q)
{
	static const char *const	 names[] = { "limit", "cursor", "q", "wait", "runs", "a b" };
	struct arena			*a = q->r.job.arena;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char	*value = NULL;

		if (query_find(a, q->r.query, names[i], &value) == 0 && value != NULL) {
			must(utf8_valid(value, strlen(value)));
			again(a, value);
		}
	}
}

static int
number(struct asked *q)
{
	int	 n = 20;

	if (request_query_int(&q->r, "limit", 1, 100, &n) < 0)
		return -1;
	must(n >= 1 && n <= 100);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct asked	 q;
	char		 id[UUID_TEXT];
	int		 rc = asked_open(&q, data, n);

	must(wait_until(&q.r) >= q.r.job.started && wait_until(&q.r) <= q.r.job.started + asked_conf.client_max_wait * 1000);
	must(strlen(q.r.job.request_id) >= 1 && strlen(q.r.job.request_id) <= 128);
	if (rc == 0) {
		must(q.r.nparts <= REQUEST_PARTS_MAX);
		for (int i = 0; i < q.r.nparts; i++) {
			must(utf8_valid(q.r.parts[i], strlen(q.r.parts[i])));
			again(q.r.job.arena, q.r.parts[i]);
		}
		parameters(&q);
		rc = route_find(&q.r);
	}
	if (q.r.job.fail == FAIL_METHOD_NOT_ALLOWED) {
		struct buf	*allow = buf_new(q.r.job.arena);

		route_allow(&q.r, allow);
		must(allow->n > 0);
	}
	if (rc == 0) {
		must(q.r.route != NULL && q.r.route->handler != NULL);
		rc = number(&q);
	}
	if (rc == 0 && strstr(q.r.route->template, "{id}") != NULL && (rc = route_uuid(&q.r, 2, FAIL_NOT_FOUND, id)) == 0)
		must(strlen(id) == 36);
	asked_verdict(&q, rc);
	asked_close(&q);
	return 0;
}
