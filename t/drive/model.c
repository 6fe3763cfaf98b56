/*
 * model -- drives the model client alone: asks a server, runs no tool, prints what came of it.
 *
 *	t/drive/model BASE_URL < asks
 *
 * Each line of the input is one ask, a JSON object: "name", "message", and if wanted "model",
 * "fallback" (another model's name), "history" (turns before this one), "conf" (numbers by
 * the names of the table below).  All run at once, each on a fiber, and each prints
 * one line of JSON when it ends.  Calls are answered like the worker does, with {"ok":true}
 * where it would have run a tool; tools whose name begins with "list" only read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "io/http.h"
#include "io/json.h"
#include "model/client.h"
#include "model/prompt.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

#define STEPS_MAX	4

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"add_task\",\"description\":\"Adds a task.\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\"}},\"required\":[\"title\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"list_tasks\",\"description\":\"Lists tasks.\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"status\":{\"type\":\"string\"}}}}}]";

struct ask {
	struct conf	 conf;
	struct conf_model models[2];
	const char	*name;
	const char	*message;
	int64_t		 history;

	struct prompt	 prompt;
	struct answer	 total;		/* tokens and requests of all steps */
	struct buf	 given;		/* deltas of the last step */
	int64_t		 held_ms;	/* -1: no hold */
	struct ask	*next;
};

static struct arena	*arena;		/* for the asks */
static struct ask	*asks;
static int		 running;

static struct ask *ask_read(json_object *, const char *base);
static void	 ask_conf(struct ask *, json_object *, const char *base);
static void	 ask_run(void *);
static int	 ask_steps(struct ask *, struct job *, struct answer *);
static int	 ask_step(struct ask *, struct job *, struct answer *);
static void	 ask_append(struct ask *, const struct answer *);
static void	 ask_history(struct ask *, struct job *);
static void	 ask_print(const struct ask *, const struct job *, const struct answer *);
static void	 on_hold(void *, int, int64_t);

int
main(int argc, char **argv)
{
	char		*line = NULL;
	size_t		 cap = 0;
	ssize_t		 n;

	if (argc != 2 || loop_open() < 0 || http_start() < 0 || log_open(NULL, LOG_WARN, NULL) < 0) {
		fprintf(stderr, "usage: %s BASE_URL < asks\n", argv[0]);
		return 2;
	}
	arena = arena_open();
	while ((n = getline(&line, &cap, stdin)) > 0) {
		json_object	*o = json_read(arena, line, (size_t)n, NULL);
		struct ask	*ask = ask_read(o, argv[1]);

		ask->next = asks;
		asks = ask;
	}
	free(line);
	for (struct ask *a = asks; a != NULL; a = a->next, running++)
		if (fiber_start(ask_run, a) == NULL)
			abort();
	if (running > 0)
		loop_run();
	http_stop();
	loop_close();
	arena_close(&arena);
	return 0;
}

static struct ask *
ask_read(json_object *o, const char *base)
{
	struct ask	*a = arena_new(arena, struct ask);

	a->name = json_text_or_null(o, "name");
	a->message = json_text_or_null(o, "message");
	if (a->name == NULL || a->message == NULL) {
		fprintf(stderr, "an ask needs a name and a message\n");
		exit(2);
	}
	(void)json_get_int(o, "history", &a->history);
	ask_conf(a, o, base);
	a->held_ms = -1;
	return a;
}

static void
ask_conf(struct ask *a, json_object *o, const char *base)
{
	struct conf	*c = &a->conf;
	json_object	*given;
	const char	*text;
	struct { const char *key; int64_t *to, usual; } numbers[] = {
		{ "first_byte_timeout", &c->model_first_byte_timeout, 30000 },
		{ "idle_timeout", &c->model_idle_timeout, 30000 },
		{ "call_timeout", &c->model_call_timeout, 60000 },
		{ "connect_timeout", &c->model_connect_timeout, 10000 },
		{ "retries", &c->model_retries, 2 },
		{ "retry_base", &c->model_retry_base, 500 },
		{ "retry_max", &c->model_retry_max, 20000 },
		{ "max_answer", &c->model_max_answer, 1048576 },
		{ "deadline", &c->turn_deadline, 100000 },
		{ "max_tokens", &a->models[0].max_tokens, 0 },
		{ "max_to_model", &c->tools_max_to_model, 16384 },
	};

	if (json_get_object(o, "conf", &given) != JSON_GOT)
		given = NULL;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (json_get_int(given, numbers[i].key, numbers[i].to) != JSON_GOT)
			*numbers[i].to = numbers[i].usual;
	c->model_parallel_tool_calls = true;
	c->models = a->models;
	c->nmodels = 1;
	text = json_text_or_null(o, "base_url");
	a->models[0].base_url = text != NULL ? text : base;
	text = json_text_or_null(o, "model");
	a->models[0].model = text != NULL ? text : "drive";
	a->models[0].key = "a-secret-key";
	a->models[0].headers = "X-Title: drive| HTTP-Referer: https://example.org/";
	a->models[0].extra_body = json_text_or_null(o, "extra_body");
	a->models[0].temperature = json_text_or_null(o, "temperature");
	text = json_text_or_null(o, "fallback");
	if (text != NULL)
		a->models[c->nmodels++] = (struct conf_model){ .name = "b", .base_url = base, .model = text };
}

static void
ask_run(void *arg)
{
	struct ask	*a = arg;
	struct job	 job;
	struct answer	 answer = { .content = "" };

	job_open(&job, &a->conf);
	job.route = a->name;
	job.deadline = deadline_ms(a->conf.turn_deadline);
	job.late = FAIL_TURN_TIMEOUT;
	ask_history(a, &job);
	(void)ask_steps(a, &job, &answer);
	ask_print(a, &job, &answer);
	buf_free(&a->given);
	job_close(&job);
	if (--running == 0)
		loop_stop();
}

static int
ask_steps(struct ask *a, struct job *job, struct answer *answer)
{
	for (int i = 0; i < STEPS_MAX; i++) {
		if (ask_step(a, job, answer) < 0)
			return -1;
		ask_append(a, answer);
		if (answer->ncalls == 0)
			return 0;
	}
	return job_fail(job, FAIL_TOO_MANY_STEPS, NULL);
}

static int
ask_step(struct ask *a, struct job *job, struct answer *answer)
{
	struct model	*m = model_open(job, &a->prompt);
	const char	*text;
	size_t		 n;
	int		 got;

	buf_clear(&a->given);
	model_on_hold(m, on_hold, a);
	while ((got = model_next(m, &text, &n)) > 0)
		buf_add(&a->given, text, n);
	*answer = *model_answer(m);
	a->total.attempts += answer->attempts;
	a->total.input_tokens += answer->input_tokens;
	a->total.output_tokens += answer->output_tokens;
	a->total.estimated |= answer->estimated;
	model_close(&m);
	return got;
}

static void
ask_append(struct ask *a, const struct answer *answer)
{
	struct message	*m = &a->prompt.messages[a->prompt.nmessages++];

	*m = (struct message){
		.turn = (int)a->history + 1, .role = ROLE_ASSISTANT, .content = answer->content, .raw = answer->raw,
		.model = answer->model, .turn_state = "running", .calls = answer->calls, .ncalls = answer->ncalls,
	};
	for (int i = 0; i < m->ncalls; i++) {
		struct call	*c = &m->calls[i];

		c->is_error = c->broken != NULL && !(c->repaired && strncmp(c->tool_name, "list", 4) == 0);
		c->result = c->is_error ? "{\"error\":\"The arguments are no JSON object.\"}" : "{\"ok\":true}";
	}
}

static void
ask_history(struct ask *a, struct job *job)
{
	struct prompt	*p = &a->prompt;

	p->instructions = "Be brief.";
	p->local_time = "Friday, 2026-11-20 11:00 (Europe/Berlin)";
	p->tools = tools;
	p->messages = arena_array(job->arena, struct message, a->history * 2 + 1 + STEPS_MAX);
	for (int i = 1; i <= (int)a->history; i++) {
		p->messages[p->nmessages++] = (struct message){ .turn = i, .role = ROLE_USER, .turn_state = "done",
			.content = arena_printf(job->arena, "Question %d", i) };
		p->messages[p->nmessages++] = (struct message){ .turn = i, .role = ROLE_ASSISTANT, .turn_state = "done",
			.content = arena_printf(job->arena, "Answer %d", i) };
	}
	p->messages[p->nmessages++] = (struct message){ .turn = (int)a->history + 1, .role = ROLE_USER,
		.turn_state = "running", .content = a->message };
}

static void
ask_print(const struct ask *a, const struct job *job, const struct answer *last)
{
	struct buf	*b = buf_new(job->arena);

	jw_open(b, '{');
	jw_key(b, "name");
	jw_string(b, a->name);
	jw_key(b, "text");
	jw_string(b, last->content);
	jw_key(b, "given");
	jw_string(b, buf_text(&a->given));
	jw_key(b, "tool_calls");
	jw_open(b, '[');
	for (int i = 0; i < a->prompt.nmessages; i++)
		for (int k = 0; k < a->prompt.messages[i].ncalls; k++) {
			const struct call	*c = &a->prompt.messages[i].calls[k];

			jw_open(b, '{');
			jw_key(b, "tool_name");
			jw_string(b, c->tool_name);
			jw_key(b, "parameters");
			jw_raw(b, c->parameters);
			jw_key(b, "is_error");
			jw_bool(b, c->is_error);
			jw_close(b, '}');
		}
	jw_close(b, ']');
	jw_key(b, "error_code");
	jw_string(b, job->fail != FAIL_NONE ? fail_kind(job->fail)->code : NULL);
	jw_key(b, "detail");
	jw_string(b, job->detail);
	jw_key(b, "retry_after");
	jw_int(b, job->retry_after);
	jw_key(b, "hold_ms");
	jw_int(b, a->held_ms);
	jw_key(b, "requests");
	jw_int(b, a->total.attempts);
	jw_key(b, "model");
	jw_string(b, last->model_name);
	jw_key(b, "refusal");
	jw_bool(b, last->refusal);
	jw_key(b, "cut");
	jw_bool(b, last->cut);
	jw_key(b, "estimated");
	jw_bool(b, a->total.estimated);
	jw_key(b, "input_tokens");
	jw_int(b, a->total.input_tokens);
	jw_key(b, "output_tokens");
	jw_int(b, a->total.output_tokens);
	jw_key(b, "first_byte_us");
	jw_int(b, last->first_byte_us);
	jw_key(b, "total_us");
	jw_int(b, last->total_us);
	jw_close(b, '}');
	puts(b->p);
	fflush(stdout);
}

static void
on_hold(void *arg, int model, int64_t ms)
{
	struct ask	*a = arg;

	(void)model;
	a->held_ms = ms;
}
