/* What clients read, rename and delete: the other half of store.h. */
#include "chat/store.h"

#include <stdlib.h>
#include <string.h>

#include "auth/base64url.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/uuid.h"
#include "chat/rows.h"
#include "io/json.h"
#include "io/pg.h"
#include "run/job.h"

/* A cursor is the place of a row, as text, in base64url: opaque, so that nobody builds on it. */
#define CURSOR_MAX	96
/* Several pools are scraped at once, every 15 s or so: one of them has the work. */
#define METRICS_KEEP_MS	5000

static int	 cursor_read(struct job *, const char *, char *);
static int	 cursor_bad(struct job *);
static bool	 cursor_number(char **, char **, int);
static void	 cursor_write(struct buf *, const char *);

int
store_conversations(struct job *job, int limit, const char *cursor, const char *q, struct buf *out)
{
	struct pg_rows	 rows;
	char		 place[CURSOR_MAX] = "", id[UUID_TEXT], *at = place, *before = NULL;

	if (cursor != NULL &&
	    (cursor_read(job, cursor, place) < 0 ||
	     ((!cursor_number(&at, &before, 17) || !uuid_parse(at, id)) && cursor_bad(job) < 0)))
		return -1;

	/* One more than asked for: then there is another page. */
	if (pg_query(job, PG_TURN, &rows,
	    "SELECT conversation, cursor FROM parley.conversation_list($1::text, $2::int, $3::bigint, $4::uuid, $5::text)",
	    job->user, pg_num(job, limit + 1), before, cursor != NULL ? id : NULL, q) < 0)
		return -1;
	jw_open(out, '{');
	jw_key(out, "conversations");
	jw_open(out, '[');
	for (int i = 0; i < rows.n && i < limit; i++)
		jw_raw(out, pg_col(&rows, i, 0));
	jw_close(out, ']');
	cursor_write(out, rows.n > limit ? pg_col(&rows, limit - 1, 1) : NULL);
	jw_close(out, '}');
	pg_free(&rows);
	return 0;
}

int
store_conversation(struct job *job, const char *id, int limit, const char *cursor, bool all_runs, struct buf *out)
{
	struct pg_rows	 rows;
	char		 place[CURSOR_MAX] = "", *at = place, *turn = NULL, *run = NULL, *idx = NULL;

	if (cursor != NULL &&
	    (cursor_read(job, cursor, place) < 0 ||
	     ((!cursor_number(&at, &turn, 9) || !cursor_number(&at, &run, 9) || !cursor_number(&at, &idx, 9) ||
	       *at != '\0') && cursor_bad(job) < 0)))
		return -1;
	if (pg_query(job, PG_TURN, &rows,
	    "SELECT conversation, messages, cursor"
	    "  FROM parley.conversation_read($1::text, $2::uuid, $3::int, $4::int, $5::int, $6::int, $7::boolean)",
	    job->user, id, pg_num(job, limit), turn, run, idx, pg_flag(all_runs)) < 0)
		return -1;
	if (rows.n == 0)
		return job_fail(job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	jw_open(out, '{');
	jw_key(out, "conversation"), jw_raw(out, pg_col(&rows, 0, 0));
	jw_key(out, "messages"), jw_raw(out, pg_col(&rows, 0, 1));
	cursor_write(out, pg_col(&rows, 0, 2));
	jw_close(out, '}');
	pg_free(&rows);
	return 0;
}

int
store_rename(struct job *job, const char *id, const char *title, struct buf *out)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_TURN, &rows, "SELECT parley.conversation_rename($1::text, $2::uuid, $3::text)",
	    job->user, id, title) < 0)
		return -1;
	if (pg_col(&rows, 0, 0) == NULL)
		return job_fail(job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	jw_raw(out, pg_col(&rows, 0, 0));
	return 0;
}

int
store_delete(struct job *job, const char *id)
{
	struct pg_rows	 rows;

	/* It meets a turn that is just being written once in a long while; then one of the two is asked to try again. */
	while (pg_query(job, PG_TURN, &rows, "SELECT parley.conversation_delete($1::text, $2::uuid)", job->user, id) < 0) {
		if (strcmp(rows.sqlstate, "40P01") != 0)
			return -1;
		job_forgive(job);
	}
	if (*pg_col(&rows, 0, 0) != 't')
		return job_fail(job, FAIL_CONVERSATION_NOT_FOUND, NULL);
	return 0;
}

int
store_turn(struct job *job, const char *conversation_id, int turn, bool text, struct store_turn *out)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT " ROWS_MESSAGE ", sentence, model, input_tokens, output_tokens, ahead, digest"
	    "  FROM parley.turn_read($1::text, $2::uuid, $3::int, $4::boolean)",
	    job->user, conversation_id, pg_num(job, turn), pg_flag(text)) < 0)
		return -1;
	if (rows.n == 0)
		return job_fail(job, FAIL_TURN_NOT_FOUND, NULL);
	memset(out, 0, sizeof *out);
	out->nmessages = rows.n;
	out->messages = arena_array(job->arena, struct message, rows.n);
	for (int i = 0; i < rows.n; i++)
		if (rows_message(job, &rows, i, &out->messages[i]) < 0)
			return -1;
	/* What is still being said is no message yet. */
	if (out->messages[rows.n - 1].id == NULL)
		out->partial = &out->messages[--out->nmessages];
	out->run = out->messages[0].run;
	out->state = out->messages[0].turn_state;
	out->error_code = out->messages[0].error_code;
	out->sentence = pg_text(&rows, 0, "sentence");
	out->model = pg_text(&rows, 0, "model");
	out->input_tokens = pg_int(&rows, 0, "input_tokens");
	out->output_tokens = pg_int(&rows, 0, "output_tokens");
	out->ahead = (int)pg_int(&rows, 0, "ahead");
	out->digest = pg_text(&rows, 0, "digest");
	return 0;
}

int
store_health(struct job *job)
{
	struct pg_rows	 rows;

	/* Not just any database: one that has been migrated and lets us in. */
	return pg_query(job, PG_TURN, &rows, "SELECT key FROM parley.facts LIMIT 0");
}

int
store_metrics(struct job *job, const char **json)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_TURN, &rows, "SELECT parley.metrics($1::int)", pg_num(job, METRICS_KEEP_MS)) < 0)
		return -1;
	*json = pg_col(&rows, 0, 0);
	return 0;
}

/* -- cursors -- */

static int
cursor_bad(struct job *job)
{
	return job_fail_field(job, "cursor", "This cursor is not one that was given out here.");
}

static int
cursor_read(struct job *job, const char *cursor, char *place)
{
	unsigned char	 bytes[BASE64URL_BYTES(CURSOR_MAX)];
	size_t		 len = strlen(cursor);
	ssize_t		 n = len < CURSOR_MAX ? base64url_read(cursor, len, bytes) : -1;

	if (n <= 0 || n >= CURSOR_MAX || memchr(bytes, '\0', (size_t)n) != NULL)
		return cursor_bad(job);
	memcpy(place, bytes, (size_t)n);
	place[n] = '\0';
	return 0;
}

/* A number of at most `digits` digits, up to a comma or the end. */
static bool
cursor_number(char **at, char **number, int digits)
{
	size_t	 n = strspn(*at, "0123456789");
	char	*end = *at + n;

	if (n == 0 || n > (size_t)digits || (*end != ',' && *end != '\0'))
		return false;
	*number = *at;
	*at = *end == ',' ? end + 1 : end;
	*end = '\0';
	return true;
}

static void
cursor_write(struct buf *out, const char *place)
{
	jw_key(out, "next_cursor");
	if (place == NULL) {
		jw_null(out);
		return;
	}
	buf_char(out, '"');
	base64url_add(out, place, strlen(place));
	buf_char(out, '"');
}
