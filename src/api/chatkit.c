/* POST /api/chatkit: which operation it is. */
#include "api/chatkit.h"

#include <string.h>

#include "api/handlers.h"
#include "api/request.h"
#include "chat/kit.h"
#include "io/json.h"

/* run NULL: known to the protocol, and not offered here. */
static const struct operation {
	const char	*type;
	int		(*run)(struct request *, json_object *params);
} operations[] = {
	{ "attachments.create",			NULL },
	{ "attachments.delete",			NULL },
	{ "input.transcribe",			NULL },
	{ "items.feedback",			chatkit_items_feedback },
	{ "items.list",				chatkit_items_list },
	{ "threads.add_client_tool_output",	NULL },
	{ "threads.add_structured_input",	chatkit_threads_answer },
	{ "threads.add_user_message",		chatkit_threads_add },
	{ "threads.create",			chatkit_threads_create },
	{ "threads.custom_action",		NULL },
	{ "threads.delete",			chatkit_threads_delete },
	{ "threads.get_by_id",			chatkit_threads_get },
	{ "threads.list",			chatkit_threads_list },
	{ "threads.retry_after_item",		chatkit_threads_retry },
	{ "threads.sync_custom_action",		NULL },
	{ "threads.update",			chatkit_threads_update },
};

static const struct operation *
operation_find(const char *type)
{
	for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
		if (strcmp(operations[i].type, type) == 0)
			return &operations[i];
	return NULL;
}

int
chatkit_post(struct request *r)
{
	const struct operation	*op;
	json_object		*params = NULL;
	const char		*type = NULL;

	if (chatkit_string(r, r->body, "type", &type) < 0)
		return -1;
	if ((op = operation_find(type)) == NULL)
		return chatkit_bad(r, "type", "There is no operation of this name.");
	if (op->run == NULL)
		return chatkit_bad(r, "type", "%s is not offered by this server.", op->type);
	if (json_get_object(r->body, "params", &params) != JSON_GOT)
		return chatkit_bad(r, "params", "params is required, and must be an object.");
	return op->run(r, params);
}

void
chatkit_put_thread(struct buf *b, const struct kit_thread *thread, const char *items)
{
	jw_open(b, '{');
	jw_key(b, "id"), jw_string(b, thread->id);
	if (thread->title != NULL)
		jw_key(b, "title"), jw_string(b, thread->title);
	jw_key(b, "created_at"), jw_string(b, thread->created_at);
	jw_key(b, "status"), jw_raw(b, "{\"type\":\"active\"}");
	jw_key(b, "metadata"), jw_raw(b, "{}");
	jw_key(b, "items"), jw_raw(b, items != NULL ? items : "{\"data\":[],\"has_more\":false}");
	jw_close(b, '}');
}
