/* What the operations of ChatKit are asked with: the same refusals and bounds as in the rest of the interface. */
#include "asked.h"

#include "api/chatkit.h"
#include "api/chatkit_item.h"

#include "base/uuid.h"

static int
page(struct asked *q, json_object *params)
{
	struct chatkit_page	 p = { 0 };

	if (chatkit_page(&q->r, params, &p) < 0)
		return -1;
	must(p.limit >= 1 && p.limit <= 100);
	return 0;
}

static int
input(struct asked *q, json_object *params)
{
	const char	*text = NULL;
	size_t		 n;

	if (chatkit_input(&q->r, params, &text) < 0)
		return -1;
	n = strlen(text);
	must(n > 0 && utf8_valid(text, n) && utf8_length(text, n) <= (size_t)asked_conf.limits_message);
	must(!text_is_blank(text));
	utf8_trim(&text, &n);
	must(strlen(text) == n);
	return 0;
}

static int
thread(struct asked *q, json_object *params)
{
	char	 id[UUID_TEXT];

	if (chatkit_thread_id(&q->r, params, id) < 0)
		return -1;
	must(strcmp(q->r.job.conversation_id, id) == 0);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static int		 (*const parts[])(struct asked *, json_object *) = { page, input, thread };
	struct asked		 q;
	json_object		*params = NULL;
	int			 rc = asked_open(&q, data, n);

	if (rc == 0 && asked_body(&q) && json_get_object(q.r.body, "params", &params) == JSON_GOT)
		for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
			asked_verdict(&q, parts[i](&q, params));
			job_forgive(&q.r.job);
		}
	else
		asked_verdict(&q, rc);
	asked_close(&q);
	return 0;
}
