#include "api/decisions.h"

#include <string.h>

#include <json-c/linkhash.h>

#include "api/request.h"
#include "base/arena.h"
#include "base/uuid.h"
#include "chat/store.h"
#include "io/json.h"

#define FIELD	"approvals"

static int	 decision_read(struct request *, const char *, json_object *, struct decision *, int);

int
decisions_read(struct request *r, struct decision **all, int *n)
{
	json_object	*o = NULL;
	enum json_got	 got = json_get_object(r->body, FIELD, &o);
	int		 count;

	*n = 0;
	if (got == JSON_ABSENT || got == JSON_NULL)
		return 0;
	if (got != JSON_GOT)
		return job_fail_field(&r->job, FIELD, FIELD " must be an object.");
	count = json_object_object_length(o);
	if (count < 1 || count > DECISIONS_MAX)
		return job_fail_field(&r->job, FIELD, FIELD " must have 1 to %d members.", DECISIONS_MAX);
	*all = arena_array(r->job.arena, struct decision, count);
	json_object_object_foreach(o, name, value) {
		if (decision_read(r, name, value, *all, *n) < 0)
			return -1;
		++*n;
	}
	return 0;
}

/* The nth. */
static int
decision_read(struct request *r, const char *name, json_object *value, struct decision *all, int n)
{
	char	*id = arena_alloc(r->job.arena, UUID_TEXT);

	if (!uuid_parse(name, id))
		return job_fail_field(&r->job, FIELD, "The members of " FIELD " are named by the ids of calls.");
	if (!json_object_is_type(value, json_type_boolean))
		return job_fail_field(&r->job, FIELD, "The members of " FIELD " are true or false.");
	/* One id can be written in two ways. */
	for (int i = 0; i < n; i++)
		if (strcmp(all[i].call_id, id) == 0)
			return job_fail_field(&r->job, FIELD, FIELD " names a call twice.");
	all[n] = (struct decision){ .call_id = id, .yes = json_object_get_boolean(value) };
	return 0;
}
