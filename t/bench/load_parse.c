/*
 * Reads answers: HTTP/1.1 framing (RFC 9112 section 7), then lines, of which
 * the few things that a bench wants to know are kept.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "load.h"

static size_t	 line_take(char *, size_t size, size_t *have, const char *, size_t n, bool *whole);
static int	 mark_line(struct answer *);
static int	 head_line(struct answer *);
static size_t	 body_take(struct answer *, const char *, size_t);
static void	 body_line(struct answer *);
static void	 member_copy(const char *line, const char *key, char *out, size_t size);
static void	 answer_end(struct answer *);

void
answer_reset(struct answer *a)
{
	memset(a, 0, offsetof(struct answer, line));
	a->line[0] = a->mark[0] = a->conversation[0] = a->code[0] = a->event[0] = '\0';
	a->left = -1;
}

ptrdiff_t
answer_feed(struct answer *a, const char *p, size_t n)
{
	size_t	 at = 0;
	bool	 whole;

	while (at < n && a->state != ANSWER_DONE) {
		switch (a->state) {
		case ANSWER_LENGTH:
		case ANSWER_CHUNK:
		case ANSWER_REST:
			at += body_take(a, p + at, n - at);
			break;
		case ANSWER_HEAD:
			at += line_take(a->line, sizeof a->line, &a->n, p + at, n - at, &whole);
			if (whole && head_line(a) < 0)
				return -1;
			if (whole)
				a->n = 0;
			break;
		default:
			at += line_take(a->mark, sizeof a->mark, &a->marked, p + at, n - at, &whole);
			if (whole && mark_line(a) < 0)
				return -1;
			if (whole)
				a->marked = 0;
		}
	}
	return (ptrdiff_t)at;
}

/* Adds to a line what comes before its end; a long one is kept by its beginning. */
static size_t
line_take(char *line, size_t size, size_t *have, const char *p, size_t n, bool *whole)
{
	const char	*nl = memchr(p, '\n', n);
	size_t		 part = nl == NULL ? n : (size_t)(nl - p), room = size - 1 - *have;

	*whole = nl != NULL;
	memcpy(line + *have, p, part < room ? part : room);
	*have += part < room ? part : room;
	if (*whole && *have > 0 && line[*have - 1] == '\r')
		--*have;
	line[*have] = '\0';
	return part + *whole;
}

static int
head_line(struct answer *a)
{
	if (a->status == 0) {
		if (strncmp(a->line, "HTTP/1.1 ", 9) != 0 && strncmp(a->line, "HTTP/1.0 ", 9) != 0)
			return -1;
		a->status = atoi(a->line + 9);
		return a->status >= 100 && a->status <= 999 ? 0 : -1;
	}
	if (strncasecmp(a->line, "content-length:", 15) == 0)
		a->left = strtoll(a->line + 15, NULL, 10);
	else if (strncasecmp(a->line, "transfer-encoding: chunked", 26) == 0)
		a->left = -2;
	else if (strncasecmp(a->line, "connection: close", 17) == 0)
		a->close = true;
	if (a->n > 0)
		return 0;
	a->line[0] = '\0';
	a->state = a->left == -2 ? ANSWER_SIZE : a->left >= 0 ? ANSWER_LENGTH : ANSWER_REST;
	if (a->left == 0 || a->status == 204)
		answer_end(a);
	return 0;
}

/* What stands around chunks: a size, the line end behind one, the end of all. */
static int
mark_line(struct answer *a)
{
	char	*end;

	if (a->state == ANSWER_CRLF) {
		a->state = ANSWER_SIZE;
		return a->marked == 0 ? 0 : -1;
	}
	if (a->state == ANSWER_TRAILER) {
		if (a->marked == 0)
			answer_end(a);
		return 0;
	}
	a->left = strtoll(a->mark, &end, 16);
	if (end == a->mark || a->left < 0)
		return -1;
	a->state = a->left == 0 ? ANSWER_TRAILER : ANSWER_CHUNK;
	return 0;
}

static size_t
body_take(struct answer *a, const char *p, size_t n)
{
	size_t	 used = 0;
	bool	 whole;

	if (a->left >= 0 && (int64_t)n > a->left)
		n = (size_t)a->left;
	a->first = true;
	while (used < n) {
		used += line_take(a->line, sizeof a->line, &a->n, p + used, n - used, &whole);
		if (!whole)
			break;
		body_line(a);
		a->n = 0;
	}
	if (a->left < 0)
		return used;
	a->left -= (int64_t)used;
	if (a->left == 0 && a->state == ANSWER_CHUNK)
		a->state = ANSWER_CRLF;
	else if (a->left == 0)
		answer_end(a);
	return used;
}

static void
body_line(struct answer *a)
{
	if (strncmp(a->line, "event: ", 7) == 0) {
		(void)snprintf(a->event, sizeof a->event, "%.*s", (int)sizeof a->event - 1, a->line + 7);
		a->delta |= strcmp(a->event, "delta") == 0;
		a->done |= strcmp(a->event, "done") == 0;
		a->failed |= strcmp(a->event, "error") == 0;
		return;
	}
	if (a->conversation[0] == '\0')
		member_copy(a->line, "\"conversation_id\":\"", a->conversation, sizeof a->conversation);
	if (a->code[0] == '\0' && (a->failed || a->status != 200))
		member_copy(a->line, "\"error_code\":\"", a->code, sizeof a->code);
}

static void
member_copy(const char *line, const char *key, char *out, size_t size)
{
	const char	*at = strstr(line, key);
	size_t		 n;

	if (at == NULL)
		return;
	at += strlen(key);
	n = strcspn(at, "\"\\");
	if (at[n] != '"' || n >= size)
		return;
	memcpy(out, at, n);
	out[n] = '\0';
}

static void
answer_end(struct answer *a)
{
	/* The last line of a JSON body has no end of its own. */
	if (a->n > 0)
		body_line(a);
	a->state = ANSWER_DONE;
}
