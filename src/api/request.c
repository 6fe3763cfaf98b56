#include "api/request.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/cors.h"
#include "api/query.h"
#include "api/route.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/trace.h"
#include "base/utf8.h"
#include "io/fcgi.h"
#include "io/json.h"

/* The caller's own id is taken over only when it is safe to print anywhere. */
static bool
request_id_sane(const char *id)
{
	size_t	 n = strlen(id);

	return n >= 1 && n <= 128 && strspn(id,
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

/* Cuts the raw path at its slashes first: an escaped slash is part of its segment. */
static int
path_split(struct request *r, const char *path, size_t n)
{
	const char	*end = path + n;

	while (path < end && *path == '/') {
		const char	*from = ++path;

		while (path < end && *path != '/')
			path++;
		if (r->nparts == REQUEST_PARTS_MAX)
			return -1;
		r->parts[r->nparts] = query_decode(r->job.arena, from, (size_t)(path - from), false);
		if (r->parts[r->nparts++] == NULL)
			return -1;
	}
	return path == end ? 0 : -1;
}

int
request_open(struct request *r)
{
	const char	*id = fcgi_param(r->fcgi, "HTTP_X_REQUEST_ID");
	const char	*uri = fcgi_param(r->fcgi, "REQUEST_URI");
	size_t		 n;

	if (id != NULL && request_id_sane(id))
		memcpy(r->job.request_id, id, strlen(id) + 1);
	r->job.trace = trace_read(r->job.arena, fcgi_param(r->fcgi, "HTTP_TRACEPARENT"), fcgi_param(r->fcgi, "HTTP_TRACESTATE"));
	r->method = fcgi_param(r->fcgi, "REQUEST_METHOD");
	if (r->method == NULL)
		r->method = "";
	if (uri == NULL)
		uri = "";
	n = strcspn(uri, "?");
	r->query = uri[n] == '?' ? uri + n + 1 : "";
	if (path_split(r, uri, n) < 0)
		return job_fail(&r->job, FAIL_NOT_FOUND, NULL);
	return 0;
}

/* application/json, with no other charset than UTF-8 (RFC 8259, section 8.1). */
static bool
media_type_fits(const char *type)
{
	size_t		 n = type == NULL ? 0 : strcspn(type, "; \t");
	const char	*charset;

	if (n != strlen("application/json") || strncasecmp(type, "application/json", n) != 0)
		return false;
	charset = strcasestr(type + n, "charset=");
	if (charset == NULL)
		return true;
	charset += strlen("charset=");
	charset += *charset == '"';
	return strncasecmp(charset, "utf-8", 5) == 0 && !isalnum((unsigned char)charset[5]);
}

int
request_read_text(struct request *r, struct buf *body, bool optional)
{
	struct job	*job = &r->job;
	size_t		 max = (size_t)job->conf->limits_body;
	const char	*length = fcgi_param(r->fcgi, "CONTENT_LENGTH");
	int		 rc = 0;

	if (length != NULL && strtoll(length, NULL, 10) > (long long)max)
		return job_fail(job, FAIL_BODY_TOO_LARGE, NULL);
	if ((rc = fcgi_body(r->fcgi, body, max)) > 0)
		return job_fail(job, FAIL_BODY_TOO_LARGE, NULL);
	if (rc < 0)
		return job_fail(job, FAIL_INVALID_JSON, "The request's body did not arrive whole.");
	if (optional && body->n == 0)
		return 0;

	if (!media_type_fits(fcgi_param(r->fcgi, "CONTENT_TYPE")))
		return job_fail(job, FAIL_UNSUPPORTED_MEDIA_TYPE, NULL);
	return 0;
}

int
request_read_body(struct request *r, bool optional)
{
	struct job	*job = &r->job;
	struct buf	*body = buf_new(job->arena);
	const char	*why;

	if (request_read_text(r, body, optional) < 0)
		return -1;
	if (optional && body->n == 0)
		return 0;
	r->body = json_read_small(job->arena, buf_text(body), body->n, &why);
	if (r->body == NULL)
		return job_fail(job, FAIL_INVALID_JSON, "The body is not valid JSON: %s.", why);
	if (!json_object_is_type(r->body, json_type_object))
		return job_fail(job, FAIL_INVALID_JSON, "The body must be one JSON object.");
	buf_free(body);
	return 0;
}

int
request_query(struct request *r, const char *name, const char **value)
{
	if (query_find(r->job.arena, r->query, name, value) < 0)
		return job_fail_field(&r->job, name, "%s is not properly encoded UTF-8 text.", name);
	return 0;
}

int
request_query_int(struct request *r, const char *name, int min, int max, int *value)
{
	const char	*text = NULL;
	char		*end;
	long		 n;

	if (request_query(r, name, &text) < 0)
		return -1;
	if (text == NULL)
		return 0;
	errno = 0;
	n = strtol(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end != '\0' || errno != 0 || n < min || n > max)
		return job_fail_field(&r->job, name, "%s must be a whole number from %d to %d.", name, min, max);
	*value = (int)n;
	return 0;
}

int
request_string(struct request *r, const char *field, const char **value)
{
	if (json_get_string(r->body, field, value) == JSON_WRONG)
		return job_fail_field(&r->job, field, "%s must be a string.", field);
	return 0;
}

int
request_flag(struct request *r, const char *field, bool *value)
{
	if (json_get_bool(r->body, field, value) == JSON_WRONG)
		return job_fail_field(&r->job, field, "%s must be true or false.", field);
	return 0;
}

int
request_word(struct request *r, const char *field, const char *const *words, int *which)
{
	const char	*text = NULL;

	*which = 0;
	if (request_string(r, field, &text) < 0)
		return -1;
	if (text == NULL)
		return 0;
	for (; words[*which] != NULL; ++*which)
		if (strcmp(text, words[*which]) == 0)
			return 0;
	return job_fail_field(&r->job, field, "%s has a value that is not known here.", field);
}

int
request_text(struct request *r, const char *field, int64_t max, const char **value)
{
	const char	*text = NULL;
	size_t		 n;

	if (request_string(r, field, &text) < 0)
		return -1;
	if (text == NULL)
		return job_fail_field(&r->job, field, "%s is required.", field);
	n = strlen(text);
	utf8_trim(&text, &n);
	if (n == 0)
		return job_fail_field(&r->job, field, "%s must not be empty.", field);
	if (utf8_length(text, n) > (size_t)max)
		return job_fail_field(&r->job, field, "%s must be %lld characters or less.", field, (long long)max);
	*value = arena_memdup(r->job.arena, text, n);
	return 0;
}

/* value NULL: none */
static void
field(struct buf *out, const char *name, const char *value)
{
	if (value == NULL)
		return;
	buf_str(out, name);
	buf_str(out, value);
	buf_str(out, "\r\n");
}

void
request_head(struct request *r, int status, const char *content_type, struct buf *out)
{
	int	 retry;

	buf_str(out, "Status: ");
	buf_int(out, status);
	buf_char(out, ' ');
	buf_str(out, http_reason(status));
	buf_str(out, "\r\nX-Content-Type-Options: nosniff\r\n");
	field(out, "Content-Type: ", content_type);
	field(out, "X-Request-Id: ", r->job.request_id);
	field(out, "Location: ", r->location);
	retry = r->job.retry_after > 0 ? r->job.retry_after : fail_kind(r->job.fail)->retry_after;
	if (retry > 0)
		buf_printf(out, "Retry-After: %d\r\n", retry);
	cors_head(r, out);
}

static void
request_send(struct request *r, int status, struct buf *head, const char *body)
{
	if (r->answered)
		return;
	r->answered = true;
	r->status = status;
	if (body != NULL) {
		buf_str(head, "Content-Length: ");
		buf_int(head, (int64_t)strlen(body));
		buf_str(head, "\r\n");
	}
	buf_str(head, "Cache-Control: no-store\r\n\r\n");

	/* A client that has gone changes nothing: the answer is stored. */
	(void)(fcgi_write(r->fcgi, head->p, head->n) == 0 && body != NULL &&
	    strcmp(r->method, "HEAD") != 0 &&
	    fcgi_write(r->fcgi, body, strlen(body)));
	fcgi_finish(r->fcgi);
}

void
request_reply(struct request *r, int status, const char *json)
{
	request_reply_text(r, status, json != NULL ? "application/json" : NULL, json);
}

void
request_reply_text(struct request *r, int status, const char *type, const char *text)
{
	struct buf	*head = buf_new(r->job.arena);

	request_head(r, status, type, head);
	request_send(r, status, head, text);
}

void
request_error_json(const struct request *r, struct buf *out)
{
	const struct job	*job = &r->job;
	const struct fail_kind	*kind = fail_kind(job->fail);

	jw_open(out, '{');
	jw_key(out, "status"), jw_string(out, "error");
	jw_key(out, "error"), jw_string(out, http_reason(kind->status));
	jw_key(out, "error_code"), jw_string(out, kind->code);
	jw_key(out, "message"), jw_string(out, job->sentence);
	if (job->field != NULL)
		jw_key(out, "field"), jw_string(out, job->field);
	jw_key(out, "request_id"), jw_string(out, job->request_id);
	if (job->conversation_id[0] != '\0')
		jw_key(out, "conversation_id"), jw_string(out, job->conversation_id);
	if (job->turn > 0)
		jw_key(out, "turn"), jw_int(out, job->turn);
	jw_close(out, '}');
}

/* RFC 6750, section 3: no error attribute when there was no token at all. */
static void
challenge(const struct job *job, struct buf *head)
{
	if (job->fail == FAIL_MISSING_TOKEN)
		buf_str(head, "WWW-Authenticate: Bearer realm=\"parley\"\r\n");
	else
		buf_printf(head, "WWW-Authenticate: Bearer realm=\"parley\", error=\"invalid_token\","
		    " error_description=\"%s\"\r\n",
		    job->fail == FAIL_TOKEN_EXPIRED ? "The token has expired" : "The token is not valid");
}

void
request_fail(struct request *r)
{
	struct job		*job = &r->job;
	const struct fail_kind	*kind = fail_kind(job->fail);
	struct buf		*head = buf_new(job->arena);
	struct buf		*body = buf_new(job->arena);

	request_error_json(r, body);
	request_head(r, kind->status, "application/json", head);
	if (kind->status == 401)
		challenge(job, head);
	if (kind->status == 405) {
		buf_str(head, "Allow: ");
		route_allow(r, head);
		buf_str(head, "\r\n");
	}
	request_send(r, kind->status, head, buf_text(body));
}
