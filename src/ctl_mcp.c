#include "ctl_mcp.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/utf8.h"
#include "io/http.h"
#include "io/pg.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "tool/mcp.h"
#include "tool/mcp_tools.h"
#include "tool/tool.h"

#define ASK_MS		30000	/* the database may have to be given up first */
#define WORDS_MAX	200	/* of what a server says */
#define REST_MS		2000	/* for farewells to servers */
#define LOOK_MS		10

/* What is to be done, on a fiber for each server. */
struct errand {
	const struct conf	*conf;
	struct arena		*arena;
	struct ctl_mcp		*answer;
	const char		*user;		/* NULL: nobody's sessions */
	const char		*token;
	const char		*name;		/* of the tool to call; NULL: none */
	const char		*arguments;
	struct mcp_result	*result;
	bool			 called;
	int			*left;		/* errands that are not done */
};

static int	 errands_run(const struct conf *, struct errand *, int n);
static void	 errand_run(void *);
static bool	 tools_ask(struct job *, const struct errand *);
static void	 tool_call(struct job *, struct errand *);
static void	 refused(const struct errand *, const struct mcp_reply *);
static const char *plain(struct arena *, const char *);

int
ctl_mcp_ask(const struct conf *conf, struct arena *a, const char *token, struct ctl_mcp *answers)
{
	struct errand	*errands = arena_array(a, struct errand, conf->nmcp + 1);

	for (int i = 0; i < conf->nmcp; i++) {
		answers[i] = (struct ctl_mcp){ .server = &conf->mcp[i] };
		errands[i] = (struct errand){ .conf = conf, .arena = a, .answer = &answers[i], .token = token };
	}
	return errands_run(conf, errands, conf->nmcp);
}

const struct conf_mcp *
ctl_mcp_of(const struct conf *conf, const char *name)
{
	for (int i = 0; i < conf->nmcp; i++) {
		size_t	 n = strlen(conf->mcp[i].name);

		if (strncmp(name, conf->mcp[i].name, n) == 0 && name[n] == '_')
			return &conf->mcp[i];
	}
	return NULL;
}

int
ctl_mcp_call(const struct conf *conf, struct arena *a, const struct conf_mcp *m, const char *name, const char *arguments,
    const char *user, const char *token, struct mcp_result *out)
{
	struct ctl_mcp	 answer = { .server = m };
	struct errand	 e = { .conf = conf, .arena = a, .answer = &answer, .user = user, .token = token, .name = name,
			     .arguments = arguments, .result = out };

	if (strcmp(m->auth, "caller") == 0 && token == NULL) {
		fprintf(stderr, "parleyctl: the server %s is asked with the caller's own token: give one with --token-file FILE\n",
		    m->name);
		return -1;
	}
	if (errands_run(conf, &e, 1) < 0)
		return -1;
	if (answer.why != NULL)
		fprintf(stderr, "parleyctl: the server %s %s: %s\n", m->name, answer.why, answer.mend);
	else if (!e.called)
		fprintf(stderr, "parleyctl: there is no tool %s\n", name);
	return e.called ? 0 : -1;
}

/* -- the loop -- */

void
ctl_fibers(const struct conf *conf)
{
	static bool	 known;

	if (!known)
		fiber_stack_size((size_t)conf->worker_stack_size);
	known = true;
}

static int
errands_run(const struct conf *conf, struct errand *errands, int n)
{
	int	 left = n;

	if (n == 0)
		return 0;
	/* What a worker would log of it is said here in other words. */
	(void)log_open(NULL, LOG_ERROR, NULL);
	ctl_fibers(conf);
	(void)signal(SIGPIPE, SIG_IGN);
	if (conf->database_url == NULL || loop_open() < 0)
		return -1;
	if (pg_start(conf) < 0 || http_start() < 0)
		return -1;
	for (int i = 0; i < n; i++) {
		errands[i].left = &left;
		if (fiber_start(errand_run, &errands[i]) == NULL)
			return -1;
	}
	loop_run();
	http_stop();
	pg_stop();
	loop_close();
	(void)signal(SIGPIPE, SIG_DFL);
	return 0;
}

static void
errand_run(void *arg)
{
	struct errand	*e = arg;
	struct job	 job;
	int64_t		 rest;

	job_open(&job, e->conf);
	job.route = "parleyctl";
	job.user = e->user;
	job.token = e->token;
	job.deadline = deadline_ms(ASK_MS);
	if (tools_ask(&job, e) && e->name != NULL)
		tool_call(&job, e);
	job_close(&job);
	if (--*e->left > 0)
		return;
	for (rest = deadline_ms(REST_MS); fiber_count() > 1 && now_us() < rest; )
		loop_sleep(deadline_ms(LOOK_MS));
	loop_stop();
}

static bool
tools_ask(struct job *job, const struct errand *e)
{
	struct ctl_mcp		*to = e->answer;
	struct mcp_reply	 r;
	struct mcp_link		 link;
	struct buf		*text = buf_new(e->arena);
	int64_t			 ms;

	mcp_link_make(&link, to->server, e->user, e->token);
	if (mcp_tools_ask(job, &link, text, &ms, &r) < 0) {
		refused(e, &r);
		mcp_reply_close(&r);
		return false;
	}
	to->version = arena_strdup(e->arena, link.peer.version);
	to->tools = arena_array(e->arena, struct tool, MCP_TOOLS_MAX);
	to->ntools = mcp_tools_read(e->arena, to->server, buf_text(text), to->tools);
	to->left_out = link.left_out;
	to->fault = link.fault;
	mcp_link_close(job, &link);
	return true;
}

static void
tool_call(struct job *job, struct errand *e)
{
	const struct tool	*tool = NULL;
	const char		*why;

	for (int i = 0; i < e->answer->ntools; i++)
		if (strcmp(e->answer->tools[i].name, e->name) == 0)
			tool = &e->answer->tools[i];
	if (tool == NULL)
		return;
	e->called = true;
	job->deadline = deadline_ms(ASK_MS + tool->server->timeout);
	if ((why = mcp_call_refusal(job, tool, e->arguments)) != NULL)
		mcp_result_error(e->arena, e->result, "%s", why);
	else if (mcp_call(job, tool, e->arguments, e->result) < 0)
		mcp_result_error(e->arena, e->result, "The call took too long; it may have been carried out.");
	/* It was the job's. */
	e->result->json = arena_strdup(e->arena, e->result->json);
}

/* -- why not -- */

static void
refused(const struct errand *e, const struct mcp_reply *r)
{
	struct ctl_mcp		*to = e->answer;
	const char		*auth = to->server->auth, *name = to->server->name;
	const char		*words = plain(e->arena, r->message != NULL ? r->message : r->detail);

	to->mend = arena_printf(e->arena, "is mcp.%s.url the address of its MCP endpoint, often …/mcp?", name);
	if (r->status == 401 || r->status == 403) {
		to->wants_token = strcmp(auth, "caller") == 0 && e->token == NULL;
		to->why = to->wants_token ? NULL : arena_printf(e->arena, "does not let us in (%d)", r->status);
		to->mend = arena_printf(e->arena, strcmp(auth, "none") == 0 ? "set mcp.%s.auth, and key_file for a key" :
		    strcmp(auth, "key") == 0 ? "correct mcp.%s.key_file" : "try another token for %s", name);
	} else if (r->status >= 300 && r->status < 400) {
		to->why = arena_printf(e->arena, "sends us to another address (%d), which is not followed", r->status);
		to->mend = arena_printf(e->arena, "correct mcp.%s.url", name);
	} else if (r->fate == MCP_UNSENT) {
		to->why = arena_printf(e->arena, "cannot be reached (%s)", words);
		to->mend = arena_printf(e->arena, "correct mcp.%s.url or start the server", name);
	} else if (r->fate == MCP_LATE || r->fate == MCP_STOPPED) {
		to->why = "did not answer in time";
	} else if (r->status >= 400) {
		to->why = arena_printf(e->arena, "refuses (HTTP %d: %s)", r->status, words);
	} else {
		to->why = arena_printf(e->arena, "gives no answer that could be used (%s)", words);
	}
}

/* Other people's words on a terminal: one line, and no orders to it. */
static const char *
plain(struct arena *a, const char *text)
{
	size_t	 n = text != NULL ? strlen(text) : 0;
	char	*s = arena_memdup(a, text != NULL ? text : "", n > WORDS_MAX ? utf8_whole(text, WORDS_MAX) : n);

	for (char *p = s; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	return *s != '\0' ? s : "no reason given";
}
