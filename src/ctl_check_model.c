#include "ctl_check.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "ctl_mcp.h"
#include "io/http.h"
#include "model/client.h"
#include "model/prompt.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

/* Enough for a model that thinks before it calls a tool, and less than a cent of any. */
#define TOKENS_MAX	512
#define TOOL		"add_task"

/* A user's message, and a tool that it cannot do without; no tool is run. */
static const char	 tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"" TOOL "\",\"description\":\"Adds a task to the user's list.\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\",\"description\":\"What is to be done.\"}},"
    "\"required\":[\"title\"],\"additionalProperties\":false}}}]";
static const char	 question[] = "Add task: Check Parley";
static const char	 instructions[] = "You keep the user's list of tasks. Use the tools to change it; do not only say so.";

/* What is asked, on a fiber, as a worker asks it. */
struct trial {
	struct conf		 conf;		/* the one model, and not again and again */
	struct conf_model	 model;
	struct arena		*arena;
	bool			 answered;
	const char		*why;		/* it did not: code and detail */
	bool			 called;
	const char		*broken;	/* arguments that are no JSON object */
	const char		*said;		/* the model's name */
	int64_t			 input, output, ms;
};

static void	 request_try(const struct conf *, const struct conf_model *, const char *name);
static bool	 trial_run(struct trial *);
static void	 trial_fiber(void *);
static void	 trial_ask(struct job *, struct trial *);

void
check_model(const struct conf *conf, const struct conf_model *m, bool asked)
{
	struct check_body	 body = { .max = 16 * 1024 * 1024 };
	struct buf	 url = { 0 };
	char		 why[CURL_ERROR_SIZE];
	const char	*name = *m->name != '\0' ? m->name : "model";
	long		 status;

	if (m->base_url == NULL || m->model == NULL) {
		check_bad("model: [%s] has no %s: set it", name, m->base_url == NULL ? "base_url" : "model");
		return;
	}
	/* This costs nothing; a server that does not know it is there all the same. */
	buf_printf(&url, "%s/models", m->base_url);
	status = check_fetch(buf_text(&url), m->key, conf->model_ca_file, &body, why);
	if (status == 0)
		check_bad("model: [%s] %s cannot be reached (%s): correct base_url or start the server",
		    name, m->base_url, check_line(why));
	else if (status == 401 || status == 403)
		check_bad("model: [%s] %s refuses the key (%ld): correct key_file or the environment", name, m->base_url, status);
	else if (status >= 500)
		check_bad("model: [%s] %s answers %ld: try again later, or correct base_url", name, m->base_url, status);
	else
		asked ? request_try(conf, m, name) : check_good("model: [%s] %s answers (not asked to call a tool)", name, m->base_url);
	buf_free(&url);
	buf_free(&body.text);
}

static void
request_try(const struct conf *conf, const struct conf_model *m, const char *name)
{
	struct trial	 t = { .conf = *conf, .model = *m, .arena = arena_open() };
	bool		 bounded = m->max_tokens > 0;

	t.conf.models = &t.model;
	t.conf.nmodels = 1;
	t.conf.model_retries = 0;
	if (!bounded || m->max_tokens > TOKENS_MAX)
		t.model.max_tokens = TOKENS_MAX;
	/* Some want the bound by its other name, and it was not the configuration that gave it one. */
	if (trial_run(&t) && !t.answered && !bounded) {
		t.model.max_tokens_field = "max_completion_tokens";
		(void)trial_run(&t);
	}
	if (!t.answered)
		check_bad("model: [%s] %s of %s gives no answer (%s): correct model, key or base_url", name, m->model, m->base_url,
		    t.why != NULL ? t.why : "it could not be asked");
	else if (t.broken != NULL)
		check_bad("model: [%s] %s calls a tool with arguments that are no JSON: choose another model", name, t.said);
	else if (!t.called)
		check_bad("model: [%s] %s answers, but did not call the tool that it needed: choose a model that can call tools, or switch"
		    " that on at its server", name, t.said);
	else
		check_good("model: [%s] %s of %s calls tools (%lld ms, %lld + %lld tokens)", name, t.said, m->base_url,
		    (long long)t.ms, (long long)t.input, (long long)t.output);
	arena_close(&t.arena);
}

/* false: not even a loop could be had. */
static bool
trial_run(struct trial *t)
{
	(void)log_open(NULL, LOG_ERROR, NULL);
	ctl_fibers(&t->conf);
	(void)signal(SIGPIPE, SIG_IGN);
	if (loop_open() < 0)
		return false;
	if (http_start() == 0 && fiber_start(trial_fiber, t) != NULL)
		loop_run();
	http_stop();
	loop_close();
	(void)signal(SIGPIPE, SIG_DFL);
	return true;
}

static void
trial_fiber(void *arg)
{
	struct trial	*t = arg;
	struct job	 job;

	job_open(&job, &t->conf);
	job.route = "parleyctl";
	job.deadline = deadline_ms(t->conf.model_call_timeout);
	trial_ask(&job, t);
	job_close(&job);
	loop_stop();
}

static void
trial_ask(struct job *job, struct trial *t)
{
	struct message		 said = { .id = "", .turn = 1, .run = 1, .role = ROLE_USER, .content = question, .turn_state = "running" };
	struct prompt		 prompt = { .instructions = instructions, .messages = &said, .nmessages = 1, .tools = tools };
	struct model		*m = model_open(job, &prompt);
	const struct answer	*a;
	const char		*text;
	size_t			 n;
	int			 got;

	while ((got = model_next(m, &text, &n)) > 0)
		;
	a = model_answer(m);
	t->answered = got == 0;
	if (got < 0) {
		t->why = arena_printf(t->arena, "%s%s%s", fail_kind(job->fail)->code, job->detail != NULL ? ": " : "",
		    job->detail != NULL ? job->detail : "");
	} else {
		t->said = arena_strdup(t->arena, a->model_name);
		t->input = a->input_tokens;
		t->output = a->output_tokens;
		t->ms = a->total_us / 1000;
		for (int i = 0; i < a->ncalls; i++) {
			t->called |= strcmp(a->calls[i].tool_name, TOOL) == 0;
			if (a->calls[i].broken != NULL && !a->calls[i].repaired)
				t->broken = "";
		}
	}
	model_close(&m);
}
