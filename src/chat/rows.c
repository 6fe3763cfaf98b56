#include "chat/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "io/json.h"
#include "run/job.h"

static int	 rows_calls(struct job *, const char *, struct message *);

int
rows_message(struct job *job, const struct pg_rows *rows, int row, struct message *m)
{
	const char	*interrupted = pg_col(rows, row, ROWS_INTERRUPTED);

	*m = (struct message){
		.id = pg_col(rows, row, ROWS_ID),
		.turn = atoi(pg_col(rows, row, ROWS_TURN)),
		.run = atoi(pg_col(rows, row, ROWS_RUN)),
		.index = atoi(pg_col(rows, row, ROWS_IDX)),
		.role = strcmp(pg_col(rows, row, ROWS_ROLE), "user") == 0 ? ROLE_USER : ROLE_ASSISTANT,
		.content = pg_col(rows, row, ROWS_CONTENT),
		.raw = pg_col(rows, row, ROWS_RAW),
		.model = pg_col(rows, row, ROWS_SOURCE),
		.turn_state = pg_col(rows, row, ROWS_TURN_STATE),
		.error_code = pg_col(rows, row, ROWS_ERROR_CODE),
		.interrupted = interrupted != NULL && *interrupted == 't',
		.created_at = pg_col(rows, row, ROWS_CREATED_AT),
	};
	return rows_calls(job, pg_col(rows, row, ROWS_CALLS), m);
}

void
rows_keep(struct job *job, struct message *m)
{
	const char	**texts[] = {
		&m->id, &m->content, &m->raw, &m->model, &m->turn_state, &m->error_code, &m->created_at
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		*texts[i] = arena_strdup(job->arena, *texts[i]);
}

static int
rows_calls(struct job *job, const char *text, struct message *m)
{
	json_object	*list, *o;
	const char	*why = NULL;

	if (text == NULL)
		return 0;
	if ((list = json_read_stored(job->arena, text, strlen(text), &why)) == NULL) {
		job_detail(job, "stored calls: %s", why);
		return job_fail(job, FAIL_INTERNAL_ERROR, NULL);
	}
	m->ncalls = (int)json_object_array_length(list);
	m->calls = arena_array(job->arena, struct call, m->ncalls);
	for (int i = 0; i < m->ncalls; i++) {
		struct call	*c = &m->calls[i];

		o = json_object_array_get_idx(list, (size_t)i);
		c->id = json_text_or_null(o, "id");
		c->call_id = json_text_or_null(o, "call_id");
		c->tool_name = json_text_or_null(o, "tool_name");
		c->parameters = rows_json(job, json_text_or_null(o, "parameters"));
		c->broken = json_text_or_null(o, "broken");
		c->result = rows_json(job, json_text_or_null(o, "result"));
		c->approval = json_text_or_null(o, "approval");
		c->question = json_text_or_null(o, "question");
		c->expires_at = json_text_or_null(o, "expires_at");
		c->executed_at = json_text_or_null(o, "executed_at");
		(void)json_get_bool(o, "is_error", &c->is_error);
		(void)json_get_bool(o, "started", &c->started);
		(void)json_get_int(o, "duration_ms", &c->duration_ms);
	}
	return 0;
}

const char *
rows_json(struct job *job, const char *text)
{
	struct buf	*b;

	if (text == NULL)
		return NULL;
	b = buf_new(job->arena);
	jw_raw(b, text);
	return buf_text(b);
}

void
rows_array_add(struct buf *b, const char *s, size_t n)
{
	buf_char(b, b->n == 0 ? '{' : ',');
	if (s == NULL) {
		buf_str(b, "NULL");
		return;
	}
	buf_char(b, '"');
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\0')
			continue;
		if (s[i] == '"' || s[i] == '\\')
			buf_char(b, '\\');
		buf_char(b, s[i]);
	}
	buf_char(b, '"');
}

const char *
rows_array_end(struct buf *b)
{
	buf_str(b, b->n == 0 ? "{}" : "}");
	return buf_text(b);
}

void
rows_array_ints(const char *text, int64_t *v, int n)
{
	for (int i = 0; i < n; i++) {
		v[i] = 0;
		if (text == NULL || *text == '\0' || *text == '}')
			continue;
		v[i] = strtoll(text + 1, NULL, 10);		/* after '{' or ',' */
		text += 1 + strcspn(text + 1, ",}");
	}
}
