#include "chat/turn.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/act.h"
#include "chat/budget.h"
#include "chat/work.h"
#include "io/json.h"
#include "run/deadline.h"
#include "run/job.h"
#include "tool/tool.h"

/* How long an ending may take to be stored when the turn's own time is up. */
#define TURN_END_MS	10000
/* And giving it away, when the worker has no more time. */
#define TURN_RELEASE_MS	2000

static int	 turn_prepare(struct turn *);
static int	 turn_open(struct turn *, int, struct store_begun *);
static void	 turn_set_earlier(struct turn *, int);
static int	 turn_talk(struct turn *);
static int	 turn_ask(struct turn *);
static int	 turn_finish(struct turn *);
static int	 turn_wait(struct turn *);
static int	 turn_fail(struct turn *);
static int	 turn_lose(struct turn *);
static void	 turn_log(const struct turn *);

/* One statement stores the message and the turn, and reads the history. */
int
turn_begin(struct turn *t, const struct store_begin *ask)
{
	struct store_begun	 begun;

	if (turn_prepare(t) < 0)
		return -1;
	if (turn_open(t, store_begin(t->job, ask, budget_call(t->job->conf, t->tools->json), &begun), &begun) < 0)
		return -1;
	/* Those before it were asked to stop when it was stored; if they run here, they hear of it now. */
	if (begun.waits && ask->on_busy == ON_BUSY_INTERRUPT)
		pulse_cancel_before(t->key.user, t->key.conversation_id, t->key.turn);
	return 0;
}

int
turn_decide(struct turn *t, const char *conversation_id, const struct decision *d, int n, const char *key,
    const char *key_hash)
{
	struct store_begun	 begun;

	if (turn_prepare(t) < 0)
		return -1;
	return turn_open(t, store_decide(t->job, conversation_id, d, n, key, key_hash, &begun), &begun);
}

int
turn_retry(struct turn *t, const char *conversation_id, int turn, bool supersede, const char *key,
    const char *key_hash)
{
	struct store_begun	 begun;

	if (turn_prepare(t) < 0)
		return -1;
	return turn_open(t, store_retry(t->job, conversation_id, turn, supersede, key, key_hash,
	    budget_call(t->job->conf, t->tools->json), &begun), &begun);
}

int
turn_take(struct turn *t, const struct turn_key *key, bool handed)
{
	struct store_begun	 begun;

	if (turn_prepare(t) < 0)
		return -1;
	return turn_open(t, handed ? store_load(t->job, key, &begun) :
	    store_take(t->job, key, work_wanted(), &begun), &begun);
}

/* Taken before anything is stored: a turn without its tools would act the fool. */
static int
turn_prepare(struct turn *t)
{
	t->tools = tool_table_take(t->job);
	t->begin_us = now_us();
	return t->tools != NULL ? 0 : -1;
}

/* Where it stands: at its first message, or in the middle when a worker before this one has come so far. */
static int
turn_open(struct turn *t, int rc, struct store_begun *begun)
{
	struct job	*job = t->job;

	if (rc < 0)
		return -1;
	t->begin_us = now_us() - t->begin_us;
	work_run(&begun->next);
	t->key = begun->key;
	memcpy(job->conversation_id, t->key.conversation_id, sizeof job->conversation_id);
	job->turn = t->key.turn;
	t->closed = begun->got == STORE_ENDED;
	if (begun->got != STORE_BEGUN)
		return 0;

	t->mine = true;
	t->state = "running";
	t->holds = begun->holds;
	t->first = begun->nhistory;
	t->room = begun->nhistory + begun->nown;
	t->prompt = (struct prompt){
		.instructions = job->conf->agent_instructions,
		.local_time = begun->local_time,
		.messages = begun->history,
		.nmessages = t->room,
		.notice = t->tools->notice,
		.tools = t->tools->json,
	};
	if (begun->nearlier > 0)
		turn_set_earlier(t, begun->nearlier);
	for (int i = t->first; i < t->prompt.nmessages; i++)
		t->steps += t->prompt.messages[i].role == ROLE_ASSISTANT;
	t->input_tokens = begun->input_tokens;
	t->output_tokens = begun->output_tokens;
	t->budget_ms = begun->budget_ms;
	/* One that was begun here has it from its request; one that is gone on with, from whoever began it. */
	if (begun->trace != NULL)
		job->trace = begun->trace;
	job->deadline = deadline_ms(begun->left_ms);
	job->late = FAIL_TURN_TIMEOUT;
	return 0;
}

int
turn_run(struct turn *t)
{
	int	 rc;

	t->pulse.partial = &t->partial;
	t->pulse.index = t->prompt.nmessages - t->first;
	pulse_join(&t->pulse, &t->key, t->job);
	if (t->listener->begun != NULL)
		t->listener->begun(t->listener->arg, t);

	/* Ask the model, run the tools it wants, ask again, until it wants none. */
	rc = turn_talk(t);

	/* Store how it ended before anybody is told; a question to the user is stored already. */
	if (rc == 0)
		rc = turn_finish(t);
	else if (rc < 0)
		rc = turn_fail(t);
	else
		rc = turn_wait(t);

	pulse_leave(&t->pulse);
	buf_free(&t->partial);
	turn_log(t);
	return rc;
}

/*
 * The rows come as history, earlier runs, this run; the prompt has what tools did in earlier runs behind the
 * question, which is this run's first message.
 */
static void
turn_set_earlier(struct turn *t, int n)
{
	struct message	*from = &t->prompt.messages[t->first];
	size_t		 own = (size_t)(t->room - t->first);
	struct message	*earlier = arena_array(t->job->arena, struct message, n);

	memcpy(earlier, from, sizeof *from * (size_t)n);
	memmove(from, from + n, sizeof *from * own);
	t->prompt.earlier = earlier;
	t->prompt.nearlier = n;
}

static void
hold_store(void *arg, int model, int64_t ms)
{
	struct turn	*t = arg;

	/* Others will find out for themselves if it cannot be stored. */
	if (store_hold(t->job, model, ms) < 0 && t->job->stop == JOB_RUNS)
		job_forgive(t->job);
}

/* 0: the model has come to its end; 1: the turn waits for the user. */
static int
turn_talk(struct turn *t)
{
	int64_t	 max = t->job->conf->agent_max_steps;
	int	 rc;

	/* A worker before this one may have stopped in the middle of a step, or the user was asked there. */
	if ((rc = turn_act_rest(t)) != 0)
		return rc;
	while (t->steps < max) {
		/* What the last step said of the budget; the step itself is done, and stored. */
		if (t->budget_ms > 0)
			return budget_refuse(t->job, "budget_exceeded", t->budget_ms);
		if (turn_ask(t) < 0)
			return -1;
		if (t->answer.ncalls == 0)
			return 0;
		if ((rc = turn_act(t)) != 0)
			return rc;
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
	t->pulse.index = t->prompt.nmessages - t->first;
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
	t->estimated |= t->answer.estimated && t->answer.input_tokens + t->answer.output_tokens > 0;
	if (t->answer.model_name != NULL)
		t->model = t->answer.model_name;
	if (t->steps == 1)
		t->first_byte_us = t->answer.first_byte_us;
	t->model_us += t->answer.total_us;
	model_close(&m);
	return got;
}

void
turn_message_id(const char *first, int run, int index, char out[UUID_TEXT])
{
	if (uuid_derive(first, run, index, out) < 0)
		uuid_new(out);
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
	turn_message_id(t->prompt.messages[t->first].id, t->key.run, t->prompt.nmessages - t->first, id);
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
	jw_key(b, key);
	jw_int(b, us / 1000);
	buf_char(b, '.');
	buf_int(b, us % 1000 / 100);
}

static const char *
timings(const struct turn *t)
{
	struct buf	*b = buf_new(t->job->arena);

	jw_open(b, '{');
	put_ms(b, "begin_ms", t->begin_us);
	put_ms(b, "first_byte_ms", t->first_byte_us);
	put_ms(b, "model_ms", t->model_us);
	put_ms(b, "tools_ms", t->tools_us);
	jw_key(b, "steps"), jw_int(b, t->steps);
	jw_close(b, '}');
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
	end->estimated = t->estimated;
	end->timings = timings(t);
	job->masked = true;
	if (job->deadline < enough)
		job->deadline = enough;
	end->take_next = work_wanted();
	rc = store_end(job, &t->key, end);
	job->deadline = NEVER;
	t->end_us = now_us() - at;

	/* Who waited behind it is this worker's guest now. */
	if (rc == 0)
		work_run(&end->next);
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
	return t->job->stop == JOB_FENCED ? turn_lose(t) : -1;
}

/* It belongs to no worker now. */
static int
turn_wait(struct turn *t)
{
	turn_set_state(t, "approval_required");
	t->job->deadline = NEVER;
	return 0;
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

	if (job->stop == JOB_FENCED || job->stop == JOB_DRAINED)
		return turn_lose(t);

	turn_set_state(t, cancelled ? "cancelled" : "failed");
	end.reply = turn_interrupted(t);
	if (!cancelled) {
		end.error_code = fail_kind(why.fail)->code;
		end.sentence = why.sentence;
	}
	if (end.reply != NULL)
		end.reply->error_code = end.error_code;

	/* One that was cancelled because its conversation is gone finds nothing to write to. */
	if (turn_store_end(t, &end) < 0) {
		if (job->stop == JOB_FENCED)
			return turn_lose(t);
		job_forgive(job);
	}
	return cancelled ? 0 : job_failure_put(job, &why);
}

/* Another has it; or this worker ends, and another shall have it. */
static int
turn_lose(struct turn *t)
{
	struct job	*job = t->job;

	job_forgive(job);
	t->mine = false;
	t->state = "running";
	/* Not to be renewed by a pulse any more. */
	pulse_leave(&t->pulse);
	if (job->stop == JOB_DRAINED) {
		job->masked = true;
		job->deadline = deadline_ms(TURN_RELEASE_MS);
		/* If it cannot be said, its lease says it later. */
		if (store_release(job, &t->key) < 0)
			job_forgive(job);
		job->masked = false;
	} else {
		/* The job may go on without it. */
		job->stop = JOB_RUNS;
	}
	job->deadline = NEVER;
	return -1;
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
	log_str("state", t->mine ? t->state : "lost");
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
