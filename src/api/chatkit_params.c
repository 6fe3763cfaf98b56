/* What the operations of POST /api/chatkit are asked with.  The protocol's clients write null where they mean nothing. */
#include "api/chatkit.h"

#include <stdarg.h>
#include <string.h>

#include "api/chatkit_item.h"
#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "base/uuid.h"
#include "io/json.h"

#define PAGE_DEFAULT	20	/* the protocol's own */
#define PAGE_MAX	100

static int	 check_unused(struct request *, json_object *);
static int	 put_quote(struct request *, json_object *, struct buf *);
static int	 put_parts(struct request *, json_object *, struct buf *);
static int	 put_part(struct request *, json_object *, struct buf *);

int
chatkit_bad(struct request *r, const char *field, const char *fmt, ...)
{
	const char	*text;
	va_list		 ap;

	va_start(ap, fmt);
	text = arena_vprintf(r->job.arena, fmt, ap);
	va_end(ap);
	if (r->job.fail == FAIL_NONE)
		r->job.field = arena_strdup(r->job.arena, field);
	return job_fail(&r->job, FAIL_BAD_REQUEST, "%s", text);
}

int
chatkit_string(struct request *r, json_object *o, const char *field, const char **text)
{
	if (json_get_string(o, field, text) != JSON_GOT)
		return chatkit_bad(r, field, "%s is required, and must be a string.", field);
	return 0;
}

int
chatkit_thread_id(struct request *r, json_object *params, char out[UUID_TEXT])
{
	const char	*text = NULL;

	if (chatkit_string(r, params, "thread_id", &text) < 0)
		return -1;
	if (!uuid_parse(text, out))
		return job_fail(&r->job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	memcpy(r->job.conversation_id, out, UUID_TEXT);
	return 0;
}

int
chatkit_page(struct request *r, json_object *params, struct chatkit_page *page)
{
	int64_t		 limit = 0;
	const char	*order = NULL;

	if (json_get_int(params, "limit", &limit) == JSON_WRONG || limit < 0)
		return chatkit_bad(r, "limit", "limit must be a whole number, 0 or more.");
	if (json_get_string(params, "order", &order) == JSON_WRONG ||
	    (order != NULL && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0))
		return chatkit_bad(r, "order", "order must be asc or desc.");
	if (json_get_string(params, "after", &page->after) == JSON_WRONG)
		return chatkit_bad(r, "after", "after must be a string.");
	/* Who asks for more than a page gets a page, and hears that there is more. */
	page->limit = limit == 0 ? PAGE_DEFAULT : limit > PAGE_MAX ? PAGE_MAX : (int)limit;
	page->oldest_first = order != NULL && *order == 'a';
	return 0;
}

int
chatkit_input(struct request *r, json_object *params, const char **content)
{
	int64_t		 max = r->job.conf->limits_message;
	struct buf	*b = buf_new(r->job.arena);
	json_object	*input = NULL;
	const char	*text;
	size_t		 n;

	if (json_get_object(params, "input", &input) != JSON_GOT)
		return chatkit_bad(r, "input", "input is required, and must be an object.");
	if (check_unused(r, input) < 0 || put_quote(r, input, b) < 0 || put_parts(r, input, b) < 0)
		return -1;
	text = buf_text(b);
	n = b->n;
	utf8_trim(&text, &n);
	if (n == 0)
		return chatkit_bad(r, "content", "The message must not be empty.");
	if (utf8_length(text, n) > (size_t)max)
		return chatkit_bad(r, "content", "The message must be %lld characters or less.", (long long)max);
	*content = arena_memdup(r->job.arena, text, n);
	return 0;
}

/* What a client could wish for and would not get is better refused than forgotten. */
static int
check_unused(struct request *r, json_object *input)
{
	json_object	*list = NULL, *options = NULL;

	if (json_get_array(input, "attachments", &list) == JSON_WRONG)
		return chatkit_bad(r, "attachments", "attachments must be an array.");
	if (list != NULL && json_object_array_length(list) > 0)
		return chatkit_bad(r, "attachments", "This server takes no attachments.");
	if (json_get_object(input, "inference_options", &options) == JSON_WRONG)
		return chatkit_bad(r, "inference_options", "inference_options must be an object.");
	if (json_object_object_get(options, "model") != NULL || json_object_object_get(options, "tool_choice") != NULL)
		return chatkit_bad(r, "inference_options", "The choice of model and tools is this server's own.");
	return 0;
}

/* The text that the message is about, as mail does it: a person sees it, and so does the model. */
static int
put_quote(struct request *r, json_object *input, struct buf *b)
{
	const char	*text = NULL;

	if (json_get_string(input, "quoted_text", &text) == JSON_WRONG)
		return chatkit_bad(r, "quoted_text", "quoted_text must be a string.");
	while (text != NULL && *text != '\0') {
		size_t	 n = strcspn(text, "\n");

		buf_str(b, "> ");
		buf_add(b, text, n);
		buf_char(b, '\n');
		text += n + (text[n] == '\n');
	}
	if (b->n > 0)
		buf_char(b, '\n');
	return 0;
}

static int
put_parts(struct request *r, json_object *input, struct buf *b)
{
	json_object	*parts = NULL;
	size_t		 before = b->n;

	if (json_get_array(input, "content", &parts) != JSON_GOT)
		return chatkit_bad(r, "content", "content is required, and must be an array.");
	for (size_t i = 0; i < json_object_array_length(parts); i++)
		if (put_part(r, json_object_array_get_idx(parts, i), b) < 0)
			return -1;
	/* A quotation alone says nothing. */
	if (text_is_blank(buf_text(b) + before))
		return chatkit_bad(r, "content", "The message must not be empty.");
	return 0;
}

static int
put_part(struct request *r, json_object *part, struct buf *b)
{
	const char	*type = json_text_or_null(part, "type"), *text = json_text_or_null(part, "text");
	bool		 tag = type != NULL && strcmp(type, "input_tag") == 0;

	if (type == NULL || (!tag && strcmp(type, "input_text") != 0))
		return chatkit_bad(r, "content", "A part of content must be of type input_text or input_tag.");
	if (text == NULL)
		return chatkit_bad(r, "content", "A part of content must have a text.");
	buf_str(b, tag ? "@" : "");
	buf_str(b, text);
	return 0;
}
