/*
 * The fields of POST /api/chat, of a title and of an Idempotency-Key: what is taken is within its bounds, and a body
 * that says the same in another way has the same hash.
 */
#include "asked.h"

#include "api/decisions.h"
#include "api/key.h"
#include "api/zone.h"
#include "base/uuid.h"
#include "chat/store.h"

static int
text_of(struct asked *q, const char *field, int64_t max)
{
	const char	*text = NULL;
	size_t		 n;

	if (request_text(&q->r, field, max, &text) < 0)
		return -1;
	n = strlen(text);
	must(n > 0 && utf8_valid(text, n) && utf8_length(text, n) <= (size_t)max);
	utf8_trim(&text, &n);
	must(strlen(text) == n);
	return 0;
}

static int
decisions(struct asked *q)
{
	struct decision	*all = NULL;
	int		 n = 0;

	if (decisions_read(&q->r, &all, &n) < 0)
		return -1;
	must(n >= 0 && n <= DECISIONS_MAX);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < i; j++)
			must(strcmp(all[i].call_id, all[j].call_id) != 0);
	return 0;
}

static int
options(struct asked *q)
{
	static const char *const words[] = { "queue", "reject", "interrupt", NULL };
	const char	*zone = NULL;
	bool		 stream = false;
	int		 which = 0;

	if (request_flag(&q->r, "stream", &stream) < 0 || request_word(&q->r, "on_busy", words, &which) < 0 ||
	    request_string(&q->r, "time_zone", &zone) < 0)
		return -1;
	must(which >= 0 && which < 3);
	must(zone == NULL || !zone_valid(zone) || (strstr(zone, "..") == NULL && *zone != '/' && strlen(zone) <= 64));
	return 0;
}

static int
key(struct asked *q)
{
	const char	*name = NULL, *hash = NULL, *same = NULL, *other = NULL, *text;

	if (key_read(&q->r, "chat", &name, &hash) < 0)
		return -1;
	if (name == NULL)
		return 0;
	must(strlen(name) >= 1 && strlen(name) <= 255 && strlen(hash) == 64);
	text = json_text(q->r.body);
	q->r.body = json_read(q->r.job.arena, text, strlen(text), NULL);
	must(key_read(&q->r, "chat", &name, &same) == 0 && strcmp(hash, same) == 0);
	must(key_read(&q->r, "retry", &name, &other) == 0 && strcmp(hash, other) != 0);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct asked	 q;
	int		 rc = asked_open(&q, data, n);

	/* One after another: of a request that is refused the rest does not count. */
	if (rc == 0 && asked_body(&q)) {
		rc = text_of(&q, "title", asked_conf.limits_title);
		job_forgive(&q.r.job);
		rc = decisions(&q) < 0 || text_of(&q, "message", asked_conf.limits_message) < 0 || options(&q) < 0 || key(&q) < 0 ? -1 : 0;
	}
	asked_verdict(&q, rc);
	asked_close(&q);
	return 0;
}
