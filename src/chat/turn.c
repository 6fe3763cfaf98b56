#include "chat/turn.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/act.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/job.h"
#include "tool/tool.h"

/* How long an ending may take to be stored when the turn's own time is up. */
#define TURN_END_MS	10000

static int	 turn_begin(struct turn *);
static int	 turn_talk(struct turn *);
static int	 turn_ask(struct turn *);
static int	 turn_finish(struct turn *);
static int	 turn_fail(struct turn *);
static void	 turn_log(const struct turn *);

int
turn_run(struct turn *t, struct job *job)
{
	int	 rc;

	t->job = job;

	/* Store the question first: a crash may cost the answer, never the question. */
	if (turn_begin(t) < 0)
		return -1;

	/* Ask the model, run the tools it wants, ask again, until it wants none. */
	rc = turn_talk(t);

	/* Store how it ended before anybody is told. */
	rc = rc == 0 ? turn_finish(t) : turn_fail(t);

	pulse_leave(&t->pulse);
	buf_free(&t->partial);
	turn_log(t);
	return rc;
}

static void
hold_store(void *arg, int model, int64_t ms)
{
	struct turn	*t = arg;

	/* Others will find out for themselves if it cannot be stored. */
	if (store_hold(t->job, model, ms) < 0 && t->job->stop == JOB_RUNS)
		job_forgive(t->job);
}

/* One statement stores the message and the turn, and reads the history. */
static int
turn_begin(struct turn *t)
{
	struct job		*job = t->job;
	struct store_begun	 begun = { 0 };
	int64_t			 at = now_us();

	/* Taken before anything is stored: a turn without its tools would act the fool. */
	if ((t->tools = tool_table_take(job)) == NULL ||
	    store_begin(job, &t->ask, &begun) < 0)
		return -1;

	t->key = begun.key;
	t->state = "running";
	t->holds = begun.holds;
	t->first = begun.nhistory - 1;
	t->room = begun.nhistory;
	t->prompt = (struct prompt){
		.instructions = job->conf->agent_instructions,
		.local_time = begun.local_time,
		.messages = begun.history,
		.nmessages = begun.nhistory,
		.tools = t->tools->json,
	};
	memcpy(job->conversation_id, t->key.conversation_id, sizeof job->conversation_id);
	job->turn = t->key.turn;
	job->deadline = deadline_ms(job->conf->turn_deadline);
	job->late = FAIL_TURN_TIMEOUT;
	t->begin_us = now_us() - at;

	t->pulse.partial = &t->partial;
	pulse_join(&t->pulse, &t->key, job);
	if (t->listener->begun != NULL)
		t->listener->begun(t->listener->arg, t);
	return 0;
}

static int
turn_talk(struct turn *t)
{
	int64_t	 max = t->job->conf->agent_max_steps;

	while (t->steps < max) {
		if (turn_ask(t) < 0)
			return -1;
		if (t->answer.ncalls == 0)
			return 0;
		if (turn_act(t) < 0)
			return -1;
	}
	return job_fail(t->job, FAIL_TOO_MANY_STEPS, NULL);
}

/* One step: the model's whole message, given out piece by piece as it comes. */
static int
turn_ask(struct turn *t)
{
	struct job	*job = t->job;
	struct model	*m = model_open(job, &t->prompt);
	const char	*text;
	size_t		 n;
	int		 got;

	t->steps++;
	buf_clear(&t->partial);
	model_holds(m, t->holds, job->conf->nmodels);
	model_on_hold(m, hold_store, t);
	while ((got = model_next(m, &text, &n)) > 0) {
		buf_add(&t->partial, text, n);
		if (t->listener->delta != NULL)
			t->listener->delta(t->listener->arg, t, text, n);
	}

	/* Also a failed step has cost something, and may have text worth keeping. */
	t->answer = *model_answer(m);
	t->input_tokens += t->answer.input_tokens;
	t->output_tokens += t->answer.output_tokens;
	t->estimated |= t->answer.estimated;
	if (t->answer.model_name != NULL)
		t->model = t->answer.model_name;
	if (t->steps == 1)
		t->first_byte_us = t->answer.first_byte_us;
	t->model_us += t->answer.total_us;
	model_close(&m);
	return got;
}

struct message *
turn_append(struct turn *t, const struct answer *a)
{
	struct message	*m;
	char		*id = arena_alloc(t->job->arena, UUID_TEXT);

	if (t->prompt.nmessages == t->room) {
		struct message	*wider = arena_array(t->job->arena, struct message, t->room + 8);

		memcpy(wider, t->prompt.messages, sizeof *wider * (size_t)t->room);
		t->prompt.messages = wider;
		t->room += 8;
	}
	uuid_new(id);
	m = &t->prompt.messages[t->prompt.nmessages];
	*m = (struct message){
		.id = id,
		.turn = t->key.turn,
		.run = t->key.run,
		.index = t->prompt.nmessages - t->first,
		.role = ROLE_ASSISTANT,
		.content = a->content,
		.raw = a->raw,
		.model = a->model,
		.turn_state = t->state,
		.calls = a->calls,
		.ncalls = a->ncalls,
	};
	t->prompt.nmessages++;
	return m;
}

/* Milliseconds with a decimal, without the trouble of floating point. */
static void
put_ms(struct buf *b, const char *key, int64_t us)
{
	buf_printf(b, "\"%s\":%lld.%lld,", key, (long long)(us / 1000), (long long)(us % 1000 / 100));
}

static const char *
timings(const struct turn *t)
{
	struct buf	*b = buf_new(t->job->arena);

	buf_char(b, '{');
	put_ms(b, "begin_ms", t->begin_us);
	put_ms(b, "first_byte_ms", t->first_byte_us);
	put_ms(b, "model_ms", t->model_us);
	put_ms(b, "tools_ms", t->tools_us);
	buf_printf(b, "\"steps\":%d}", t->steps);
	return b->p;
}

/* The ending is stored whatever stops the turn now, within a time of its own. */
static int
turn_store_end(struct turn *t, struct store_end *end)
{
	struct job	*job = t->job;
	int64_t		 at = now_us();
	int64_t		 enough = deadline_ms(TURN_END_MS);
	int		 rc;

	end->state = t->state;
	end->answer = t->answer.content != NULL ? &t->answer : NULL;
	end->model = t->model;
	end->input_tokens = t->input_tokens;
	end->output_tokens = t->output_tokens;
	end->timings = timings(t);
	job->masked = true;
	if (job->deadline < enough)
		job->deadline = enough;
	rc = store_end(job, &t->key, end);
	job->deadline = NEVER;
	t->end_us = now_us() - at;
	return rc;
}

static void
turn_set_state(struct turn *t, const char *state)
{
	t->state = state;
	for (int i = t->first; i < t->prompt.nmessages; i++)
		t->prompt.messages[i].turn_state = state;
}

static int
turn_finish(struct turn *t)
{
	struct store_end	 end = { 0 };

	turn_set_state(t, "done");
	end.reply = turn_append(t, &t->answer);
	end.reply->turn_state = t->state;
	if (turn_store_end(t, &end) == 0)
		return 0;

	/* Its conversation was deleted in this very moment: whoever did that hears what the turn has become. */
	if (t->job->stop == JOB_CANCELLED) {
		job_forgive(t->job);
		turn_set_state(t, "cancelled");
		return 0;
	}
	turn_set_state(t, "running");
	return -1;
}

/*
 * Text that was already given out is kept, marked as interrupted, never as an answer.  The step may also have
 * been stored already (a tool's commit failed): then there is nothing to keep.
 */
static struct message *
turn_interrupted(struct turn *t)
{
	struct message	*m;

	if (t->partial.n == 0 || t->answer.ncalls > 0)
		return NULL;
	m = turn_append(t, &t->answer);
	m->content = arena_memdup(t->job->arena, t->partial.p, t->partial.n);
	m->raw = NULL;
	m->interrupted = true;
	return m;
}

static int
turn_fail(struct turn *t)
{
	struct job		*job = t->job;
	struct job_failure	 why = job_failure_take(job);
	struct store_end	 end = { 0 };
	bool			 cancelled = job->stop == JOB_CANCELLED;

	/* Somebody else's turn, or no rows left to write to. */
	if (job->stop == JOB_FENCED)
		return job_failure_put(job, &why);

	turn_set_state(t, cancelled ? "cancelled" : "failed");
	end.reply = turn_interrupted(t);
	if (!cancelled) {
		end.error_code = fail_kind(why.fail)->code;
		end.sentence = why.sentence;
	}
	if (end.reply != NULL)
		end.reply->error_code = end.error_code;

	/* One that was cancelled because its conversation is gone finds nothing to write to. */
	if (turn_store_end(t, &end) < 0)
		job_forgive(job);
	return cancelled ? 0 : job_failure_put(job, &why);
}

const struct message *
turn_messages(const struct turn *t, int *n)
{
	*n = t->prompt.nmessages - t->first;
	return &t->prompt.messages[t->first];
}

static void
turn_log(const struct turn *t)
{
	const struct job	*job = t->job;

	if (!job_log(job, job->fail == FAIL_NONE ? LOG_INFO : LOG_WARN, "turn"))
		return;
	log_str("state", t->state);
	log_str("model", t->model);
	log_int("steps", t->steps);
	log_int("input_tokens", t->input_tokens);
	log_int("output_tokens", t->output_tokens);
	if (t->estimated)
		log_bool("tokens_estimated", true);
	log_ms("begin_ms", t->begin_us);
	log_ms("first_byte_ms", t->first_byte_us);
	log_ms("model_ms", t->model_us);
	log_ms("tools_ms", t->tools_us);
	log_ms("end_ms", t->end_us);
	if (job->fail != FAIL_NONE)
		log_str("error_code", fail_kind(job->fail)->code);
	log_end();
}
