#include "demo/glance.h"

#include <string.h>

static const char *space_skip(const char *, const char *);
static const char *string_skip(const char *, const char *);
static const char *value_skip(const char *, const char *);
static bool	 member_next(const char **, const char *, struct slice *, struct slice *);
static void	 messages_glance(struct glance *);
static void	 message_glance(struct glance *, struct slice);
static struct slice unquoted(struct slice);

int
glance_at(struct slice body, struct glance *g)
{
	const char	*at = body.p, *end = body.p + body.n, *inner;
	struct slice	 key, value, k, v;

	*g = (struct glance){ 0 };
	at = space_skip(at, end);
	if (at == end || *at != '{')
		return -1;
	for (at++; member_next(&at, end, &key, &value);) {
		if (slice_is(key, "model"))
			g->model = unquoted(value);
		else if (slice_is(key, "messages"))
			g->messages = value;
		else if (slice_is(key, "tools"))
			g->tools = value;
		else if (slice_is(key, "stream"))
			g->stream = slice_is(value, "true");
		else if (slice_is(key, "stream_options") && value.n > 0 && *value.p == '{')
			for (inner = value.p + 1; member_next(&inner, value.p + value.n, &k, &v);)
				if (slice_is(k, "include_usage"))
					g->include_usage = slice_is(v, "true");
	}
	if (at == NULL || g->messages.n == 0 || *g->messages.p != '[')
		return -1;
	messages_glance(g);
	return 0;
}

static const char *
space_skip(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

/* p stands behind the opening quote; NULL: the string does not end. */
static const char *
string_skip(const char *p, const char *end)
{
	for (; p < end; p++) {
		if (*p == '\\')
			p++;
		else if (*p == '"')
			return p + 1;
	}
	return NULL;
}

static const char *
value_skip(const char *p, const char *end)
{
	int	 depth = 0;

	do {
		if (p == NULL || p >= end)
			return NULL;
		switch (*p) {
		case '"':
			p = string_skip(p + 1, end);
			break;
		case '{':
		case '[':
			depth++;
			p++;
			break;
		case '}':
		case ']':
			depth--;
			p++;
			break;
		default:
			/* In a bracket any other byte is passed over; outside, a scalar ends at the next mark. */
			if (depth > 0)
				p++;
			else
				while (p < end && strchr(",}] \n\t\r", *p) == NULL)
					p++;
		}
	} while (depth > 0);
	return depth < 0 ? NULL : p;
}

/* *at becomes NULL when the text makes no sense. */
static bool
member_next(const char **at, const char *end, struct slice *key, struct slice *value)
{
	const char	*p = space_skip(*at, end), *q;

	if (p < end && *p == ',')
		p = space_skip(p + 1, end);
	if (p < end && *p == '}')
		return false;
	*at = NULL;
	if (p == end || *p != '"' || (q = string_skip(p + 1, end)) == NULL)
		return false;
	*key = (struct slice){ p + 1, (size_t)(q - p) - 2 };
	p = space_skip(q, end);
	if (p == end || *p != ':')
		return false;
	p = space_skip(p + 1, end);
	q = value_skip(p, end);
	if (q == NULL || q == p)
		return false;
	*value = (struct slice){ p, (size_t)(q - p) };
	*at = q;
	return true;
}

bool
glance_element(const char **at, const char *end, struct slice *value)
{
	const char	*p = space_skip(*at, end), *q;

	if (p < end && *p == ',')
		p = space_skip(p + 1, end);
	if (p == end || *p == ']')
		return false;
	q = value_skip(p, end);
	if (q == NULL || q == p)
		return false;
	*value = (struct slice){ p, (size_t)(q - p) };
	*at = q;
	return true;
}

static void
messages_glance(struct glance *g)
{
	const char	*at = g->messages.p + 1;
	struct slice	 message;

	while (glance_element(&at, g->messages.p + g->messages.n, &message))
		if (*message.p == '{')
			message_glance(g, message);
}

static void
message_glance(struct glance *g, struct slice message)
{
	const char	*at = message.p + 1;
	struct slice	 key, value, role = { "", 0 }, content = { "", 0 };

	while (member_next(&at, message.p + message.n, &key, &value)) {
		if (slice_is(key, "role"))
			role = unquoted(value);
		else if (slice_is(key, "content"))
			content = unquoted(value);
	}
	/* A word of the user's right behind a tool's result belongs to the message before (talk.c). */
	if (slice_is(role, "user") &&
	    (!g->behind_tool || slice_starts(content, "script:") || slice_starts(content, "bench"))) {
		g->user = content;
		g->answered = false;
	} else if (slice_is(role, "tool"))
		g->answered = true;
	g->behind_tool = slice_is(role, "tool");
}

static struct slice
unquoted(struct slice s)
{
	if (s.n < 2 || *s.p != '"')
		return (struct slice){ s.p, 0 };
	return (struct slice){ s.p + 1, s.n - 2 };
}
