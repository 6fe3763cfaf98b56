/*
 * GET /api/metrics: how it goes, for Prometheus (text exposition format 0.0.4).
 *
 * Everything is counted from rows, so any worker tells the same, and none has anything to lose.
 */
#include <json-c/json_object.h>
#include <json-c/linkhash.h>
#include <string.h>

#include "api/handlers.h"
#include "api/request.h"
#include "auth/token.h"
#include "base/buf.h"
#include "base/conf.h"
#include "chat/store.h"
#include "config.h"
#include "io/fcgi.h"
#include "io/json.h"

#define TYPE	"text/plain; version=0.0.4; charset=utf-8"
#define RECENT	" in the last 5 minutes."

/* What the database counts (parley.metrics_rows), in the order it is told.  All are gauges: rows come and go. */
static const struct family {
	const char	*name, *help;
} families[] = {
	{ "parley_turns", "Turns that are live, by state." },
	{ "parley_oldest_turn_seconds", "How long the oldest turn has been in its state; 0: there is none." },
	{ "parley_turns_without_worker", "Running turns whose lease has expired and which nobody has taken over yet." },
	{ "parley_turns_ended", "Turns that ended" RECENT },
	{ "parley_turn_seconds", "How long turns took that were done" RECENT },
	{ "parley_first_text_seconds", "How long the model took until its first text, of turns that were done" RECENT },
	{ "parley_turn_errors", "Turns that ended with an error code" RECENT },
	{ "parley_tokens", "Tokens of turns that ended" RECENT },
	{ "parley_tool_calls", "Tool calls of turns that ended" RECENT },
	{ "parley_tool_seconds", "How long tool calls took, of turns that ended" RECENT },
};

static bool	 asked_from_here(struct request *);
static void	 family_write(const struct family *, json_object *rows, struct buf *);
static void	 sample_write(json_object *row, struct buf *);
static void	 label_write(const char *name, const char *value, struct buf *);

int
metrics_get(struct request *r)
{
	struct job	*job = &r->job;
	struct buf	*out = buf_new(job->arena);
	const char	*own = job->conf->metrics_token, *text;
	json_object	*rows;

	/* Without a token it is there for this machine alone. */
	if (own == NULL && !asked_from_here(r))
		return job_fail(job, FAIL_NOT_FOUND, NULL);
	if (own != NULL && token_check_own(job, fcgi_param(r->fcgi, "HTTP_AUTHORIZATION"), own) < 0)
		return -1;

	if (store_metrics(job, &text) < 0)
		return -1;
	rows = json_read(job->arena, text, strlen(text), NULL);
	buf_str(out, "# HELP parley_info The program that tells this.\n# TYPE parley_info gauge\n"
	    "parley_info{version=\"" PACKAGE_VERSION "\"} 1\n");
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		family_write(&families[i], rows, out);
	request_reply_text(r, 200, TYPE, buf_text(out));
	return 0;
}

/*
 * By what the web server says of the connection.  A proxy before it on this machine would make everybody look as if they were
 * here, but says so in a header; one that says nothing is the reason to set a token.
 */
static bool
asked_from_here(struct request *r)
{
	static const char *const	 proxied[] = { "HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA" };
	const char			*from = fcgi_param(r->fcgi, "REMOTE_ADDR");

	for (size_t i = 0; i < sizeof proxied / sizeof *proxied; i++)
		if (fcgi_param(r->fcgi, proxied[i]) != NULL)
			return false;
	return from != NULL && (strncmp(from, "127.", 4) == 0 || strcmp(from, "::1") == 0 || strncmp(from, "::ffff:127.", 11) == 0);
}

/* A family without samples is left out whole. */
static void
family_write(const struct family *f, json_object *rows, struct buf *out)
{
	bool	 begun = false;

	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		json_object	*row = json_object_array_get_idx(rows, i);

		if (strcmp(json_object_get_string(json_object_array_get_idx(row, 0)), f->name) != 0)
			continue;
		if (!begun)
			buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", f->name, f->help, f->name);
		begun = true;
		sample_write(row, out);
	}
}

static void
sample_write(json_object *row, struct buf *out)
{
	json_object	*labels = json_object_array_get_idx(row, 1);
	const char	*comma = "";

	buf_str(out, json_object_get_string(json_object_array_get_idx(row, 0)));
	if (labels != NULL) {
		buf_char(out, '{');
		json_object_object_foreach(labels, name, value) {
			buf_str(out, comma);
			label_write(name, json_object_get_string(value), out);
			comma = ",";
		}
		buf_char(out, '}');
	}
	buf_printf(out, " %s\n", json_object_get_string(json_object_array_get_idx(row, 2)));
}

/* Of a label's value these three are escaped, and nothing else. */
static void
label_write(const char *name, const char *value, struct buf *out)
{
	buf_printf(out, "%s=\"", name);
	for (; value != NULL && *value != '\0'; value++)
		if (*value == '\n')
			buf_str(out, "\\n");
		else {
			if (*value == '\\' || *value == '"')
				buf_char(out, '\\');
			buf_char(out, *value);
		}
	buf_char(out, '"');
}
