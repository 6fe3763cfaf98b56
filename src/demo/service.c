/*
 * The paths of the demo model.  A request goes to a script, to the short way
 * of the benches, or to the brain.
 */
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/answer.h"
#include "demo/brain.h"
#include "demo/glance.h"
#include "demo/journal.h"
#include "demo/reply.h"
#include "demo/script.h"
#include "demo/server.h"
#include "io/json.h"

static struct reply *chat_answer(struct server *, struct slice body, uint64_t entry);
static struct reply *models_list(void);
static struct reply *requests_answer(struct server *, const struct request *);
static bool	 script_asked(const struct glance *, char *);
static bool	 script_named(struct slice, char *);
static bool	 bench_answer(const struct glance *, struct answer *);
static struct reply *brain_reply(struct server *, struct slice body, const struct manner *);
static bool	 path_is(const struct request *, const char *);

struct reply *
service_answer(struct server *s, const struct request *r, struct slice body, uint64_t *entry)
{
	*entry = 0;
	if (s->journal != NULL && path_is(r, "/_requests"))
		return requests_answer(s, r);
	if (s->journal != NULL)
		*entry = journal_add(s->journal, r, body);

	if (path_is(r, "/v1/chat/completions"))
		return slice_is(r->method, "POST") ? chat_answer(s, body, *entry) :
		    reply_error(405, "use POST");
	if (path_is(r, "/v1/models"))
		return slice_is(r->method, "GET") ? models_list() :
		    reply_error(405, "use GET");
	return reply_error(404, "there is nothing here; the demo model has "
	    "POST /v1/chat/completions and GET /v1/models");
}

static struct reply *
chat_answer(struct server *s, struct slice body, uint64_t entry)
{
	struct answer	 a = { .text = "" };
	struct manner	 m = { .delay = s->delay, .pieces = s->pieces, .number = ++s->answers };
	struct glance	 g;
	char		 script[SCRIPT_NAME_MAX + 1];

	if (glance_at(body, &g) < 0)
		return brain_reply(s, body, NULL);
	m.model = g.model.n > 0 ? g.model : slice_of("parley-demo");
	m.stream = g.stream;
	m.include_usage = g.include_usage;
	m.asked = g.messages.n + g.tools.n;

	if (s->scripts != NULL && script_asked(&g, script)) {
		journal_script(s->journal, entry, script);
		return script_reply(s->scripts, script);
	}
	if (bench_answer(&g, &a))
		return answer_reply(&a, &m);
	return brain_reply(s, body, &m);
}

static struct reply *
models_list(void)
{
	return reply_json(200, "{\"object\":\"list\",\"data\":[{\"id\":\"parley-demo\","
	    "\"object\":\"model\",\"created\":1760000000,\"owned_by\":\"parley\"}]}");
}

static struct reply *
requests_answer(struct server *s, const struct request *r)
{
	struct buf	 b = { 0 };
	struct reply	*reply;

	if (slice_is(r->method, "DELETE")) {
		journal_clear(s->journal);
		scripts_reset(s->scripts);
		return reply_json(200, "{}");
	}
	journal_write(s->journal, &b);
	reply = reply_json(200, buf_text(&b));
	buf_free(&b);
	return reply;
}

/* By the name of the model, or by the first word of the user's message. */
static bool
script_asked(const struct glance *g, char *name)
{
	return script_named(g->model, name) || script_named(g->user, name);
}

static bool
script_named(struct slice s, char *name)
{
	static const char	 allowed[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t			 n = 0;

	if (!slice_starts(s, "script:"))
		return false;
	s.p += strlen("script:");
	s.n -= strlen("script:");
	/* No slash is allowed, so that a name never leaves the folder. */
	while (n < s.n && n < SCRIPT_NAME_MAX && strchr(allowed, s.p[n]) != NULL)
		n++;
	memcpy(name, s.p, n);
	name[n] = '\0';
	return n > 0 && name[0] != '.';
}

/*
 * "bench": about 200 bytes at once.  "bench:tool": list_tasks, then "ok".
 * "bench:call" has arguments to read and goes to the brain.
 */
static bool
bench_answer(const struct glance *g, struct answer *a)
{
	if (!slice_starts(g->user, "bench") || slice_starts(g->user, "bench:call"))
		return false;
	if (!slice_starts(g->user, "bench:tool")) {
		a->text = "ok, this is the answer that a bench gets: it has about two hundred "
		    "bytes, it comes in as many pieces as the demo model was told to make of "
		    "an answer, and it says nothing of any interest.";
		return true;
	}
	a->text = "ok";
	if (!g->answered && g->tools.n > 0 &&
	    memmem(g->tools.p, g->tools.n, "\"list_tasks\"", 12) != NULL) {
		a->text = "";
		a->calls[a->ncalls++] = (struct answer_call){ "list_tasks", "{\"status\":\"all\"}" };
	}
	return true;
}

/* m is NULL when the glance failed: then the parser says what is wrong, or the shape is. */
static struct reply *
brain_reply(struct server *s, struct slice body, const struct manner *m)
{
	struct arena	*arena = arena_open();
	struct answer	 a = { .text = "" };
	const char	*why = NULL;
	json_object	*asked = json_read(arena, body.p, body.n, &why);
	struct reply	*r;

	if (asked == NULL)
		r = reply_error(400, "the body is not JSON: %s", why == NULL ? "?" : why);
	else if (m == NULL)
		r = reply_error(400, "the body needs an array \"messages\"");
	else if ((why = brain_answer(s->brain, arena, asked, &a)) != NULL)
		r = reply_error(400, "%s", why);
	else
		r = answer_reply(&a, m);
	arena_close(&arena);
	return r;
}

static bool
path_is(const struct request *r, const char *path)
{
	size_t	 n = strlen(path);

	return slice_starts(r->target, path) && (r->target.n == n || r->target.p[n] == '?');
}
