#include "model/request.h"

#include <string.h>

#include <json-c/linkhash.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/trace.h"
#include "base/utf8.h"
#include "io/json.h"
#include "model/prompt.h"

static void	 options(struct buf *, struct arena *, const struct conf *, const struct conf_model *, bool tools);
static void	 option(struct buf *, json_object *extra, const char *key, const char *json);

void
request_make(struct request *r, struct arena *a, const struct conf *conf, const struct conf_model *to,
    const struct prompt *p)
{
	struct buf	*b = &r->body;

	memset(r, 0, sizeof *r);
	options(b, a, conf, to, p->tools != NULL);
	if (p->tools != NULL) {
		jw_key(b, "tools");
		buf_str(b, p->tools);
	}
	jw_key(b, "messages");
	prompt_messages(p, conf, request_who(a, to), b);
	jw_close(b, '}');
	r->size = b->n;
}

void
request_free(struct request *r)
{
	buf_free(&r->body);
}

const char *
request_url(struct arena *a, const struct conf_model *to)
{
	return arena_printf(a, "%s/chat/completions", to->base_url);
}

const char *const *
request_headers(struct arena *a, const struct conf_model *to, const struct trace *trace)
{
	char	 parent[TRACE_PARENT];
	int	 n = 0, max = 7;
	const char	**list, *at = to->headers, *bar;

	for (const char *p = at; p != NULL && (p = strchr(p, '|')) != NULL; p++)
		max++;
	list = arena_array(a, const char *, max);
	list[n++] = "Content-Type: application/json";
	list[n++] = "Accept: text/event-stream";
	if (to->key != NULL && *to->key != '\0')
		list[n++] = arena_printf(a, "Authorization: Bearer %s", to->key);
	if (trace != NULL) {
		trace_next(trace, parent);
		list[n++] = arena_printf(a, "traceparent: %s", parent);
		if (trace->state != NULL)
			list[n++] = arena_printf(a, "tracestate: %s", trace->state);
	}
	for (; at != NULL && *at != '\0'; at = *bar != '\0' ? bar + 1 : bar) {
		const char	*s = at;
		size_t		 k;

		bar = strchrnul(at, '|');
		k = (size_t)(bar - at);
		utf8_trim(&s, &k);
		if (k > 0)
			list[n++] = arena_memdup(a, s, k);
	}
	return list;
}

const char *
request_who(struct arena *a, const struct conf_model *to)
{
	return arena_printf(a, "%s %s", to->base_url, to->model);
}

/*
 * {"model":…, options …   without the closing brace.  Members of extra_body go before ours of the same name (null: it is
 * left out, for a server that knows no stream_options), except those without which an answer could not be read.
 */
static void
options(struct buf *b, struct arena *a, const struct conf *conf, const struct conf_model *to, bool tools)
{
	json_object	*extra = NULL;

	if (to->extra_body != NULL)
		extra = json_read(a, to->extra_body, strlen(to->extra_body), NULL);
	jw_open(b, '{');
	jw_key(b, "model");
	jw_string(b, to->model);
	jw_key(b, "stream");
	jw_bool(b, true);
	option(b, extra, "stream_options", "{\"include_usage\":true}");
	if (to->temperature != NULL)
		option(b, extra, "temperature", to->temperature);
	if (to->max_tokens > 0)
		option(b, extra, to->max_tokens_field != NULL ? to->max_tokens_field : "max_tokens",
		    arena_printf(a, "%lld", (long long)to->max_tokens));
	if (tools && !conf->model_parallel_tool_calls)
		option(b, extra, "parallel_tool_calls", "false");
	if (json_object_is_type(extra, json_type_object)) {
		json_object_object_foreach(extra, key, value) {
			if (value == NULL || strcmp(key, "model") == 0 || strcmp(key, "stream") == 0 ||
			    strcmp(key, "messages") == 0 || strcmp(key, "tools") == 0)
				continue;
			jw_key(b, key);
			jw_raw(b, json_text(value));
		}
	}
}

static void
option(struct buf *b, json_object *extra, const char *key, const char *json)
{
	if (json_object_is_type(extra, json_type_object) && json_object_object_get_ex(extra, key, NULL))
		return;
	jw_key(b, key);
	jw_raw(b, json);
}
