/*
 * store_walk -- chat/store and chat/pulse against a real database, for t/store.t, which is in command.
 *
 * The argument is the worker's connection string.  It speaks TAP; a line "say WORD" asks the test to do
 * something to the database while the loop goes on; there is no answer, so it is given time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/uuid.h"
#include "chat/pulse.h"
#include "chat/store.h"
#include "chat/watch.h"
#include "io/pg.h"
#include "model/client.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "tap.h"

static struct conf_model	 models[] = {
	{ .name = "", .base_url = "http://a/v1", .model = "m \"1\"" }, { .name = "b", .base_url = "http://b/v1", .model = "m" }
};
static struct conf		 conf = {
	.models = models, .nmodels = 2, .database_connections = 4, .database_wait = 500,
	.database_connect_timeout = 2000, .database_statement_timeout = 5000,
	.turn_deadline = 100000, .turn_lease = 15000, .turn_history_messages = 50, .turn_history_tokens = 24000,
	.turn_max_attempts = 3, .limits_user_turns = 256, .limits_queue = 2,
	.tools_max_result = 1000,
};
static char			 ids[64][UUID_TEXT];
static int			 nids;

static const char *
id_new(void)
{
	uuid_new(ids[nids % 64]);
	return ids[nids++ % 64];
}

static void
say(const char *word)
{
	printf("say %s\n", word);
	fflush(stdout);
}

static bool
failed(struct job *job, enum fail how, const char *name)
{
	bool	 good = ok(job->fail == how, "%s", name);

	if (!good)
		printf("# %s %s\n", fail_kind(job->fail)->code, job->detail != NULL ? job->detail : "");
	job_forgive(job);
	return good;
}

/* The hash of what a key is bound to is the text itself. */
static int
begin_as(struct job *job, const char *id, const char *content, enum on_busy how, const char *key, struct store_begun *b)
{
	memset(b, 0, sizeof *b);
	return store_begin(job, &(struct store_begin){
		.user = "ann", .conversation_id = id, .new_id = id_new(), .message_id = id_new(), .content = content,
		.on_busy = how, .key = key, .key_hash = key != NULL ? content : NULL
	}, 0, b);
}

static int
begin(struct job *job, const char *id, const char *content, struct store_begun *b)
{
	return begin_as(job, id, content, ON_BUSY_REJECT, NULL, b);
}

static struct turn_key		 next;		/* what the last end() has handed on */

static int
end(struct job *job, const struct store_begun *b, const char *state, const char *text)
{
	struct message		 m = { .id = id_new(), .index = b->nown, .content = text, .raw = "{}", .model = "http://a/v1 m" };
	struct store_end	 e = { .state = state, .reply = text != NULL ? &m : NULL, .model = "m", .timings = "{}",
		.take_next = true };
	int			 rc = store_end(job, &b->key, &e);

	next = e.next;
	if (rc == 0 && text != NULL)
		ok(m.created_at != NULL && strlen(m.created_at) == 24, "the reply has its time");
	return rc;
}

static void
walk_begin(struct job *job, struct store_begun *b)
{
	struct store_begun	 c;

	ok(begin(job, NULL, "add \"milk\" \\ 'now'", b) == 0, "a turn begins");
	is_text(b->history[b->nhistory].content, "add \"milk\" \\ 'now'", "the message is as it was");
	ok(b->key.turn == 1 && b->key.run == 1 && b->key.fence == 1, "its key");
	ok(b->holds[0] == 0 && b->holds[1] == 0, "no model is held back");
	ok(strstr(b->local_time, "(UTC)") != NULL, "local time");
	ok(begin(job, b->key.conversation_id, "x", &c) < 0, "a second one does not");
	is_text(job->conversation_id, b->key.conversation_id, "... and is told where");
	failed(job, FAIL_CONVERSATION_BUSY, "... conversation_busy");
	ok(begin(job, "00000000-0000-4000-8000-000000000000", "x", &c) < 0, "an unknown conversation");
	failed(job, FAIL_CONVERSATION_NOT_FOUND, "... conversation_not_found");
	ok(store_begin(job, &(struct store_begin){ .user = "ann", .new_id = id_new(), .message_id = id_new(),
	    .content = "x", .time_zone = "Mars/Olympus" }, 0, &c) < 0, "an unknown zone");
	is_text(job->field, "time_zone", "... names the field");
	failed(job, FAIL_VALIDATION_ERROR, "... validation_error");
}

static void
walk_calls(struct job *job, struct store_begun *b)
{
	struct call	 calls[] = {
		{ .id = id_new(), .call_id = "c\"1", .tool_name = "add_task", .parameters = "{\"title\":\"Buy \\u006dilk\"}" },
		{ .id = id_new(), .call_id = "c2", .tool_name = "none", .parameters = "{}", .broken = "{\"a" },
	};
	struct message	 m = { .id = id_new(), .index = 1, .content = "look", .raw = "{\"role\":\"assistant\"}",
		.model = "http://a/v1 m", .calls = calls, .ncalls = 2 };
	struct answer	 a = { .model_name = "m", .input_tokens = 3, .output_tokens = 4 };
	struct store_turn	 t = { 0 };

	ok(store_step(job, &b->key, &m, &a, &(int64_t){ 0 }) == 0 && m.created_at != NULL, "a step");
	ok(store_tool_run(job, &b->key, 1, 0, &calls[0]) == 0, "a tool runs");
	ok(!calls[0].is_error && strstr(calls[0].result, "\"Buy milk\"") != NULL, "... and has a result");
	ok(calls[0].executed_at != NULL && calls[0].duration_ms >= 0, "... with its time");
	calls[1].result = "{\"error\":\"No.\"}";
	calls[1].is_error = true;
	ok(store_tool_answer(job, &b->key, 1, 1, &calls[1]) == 0, "a result without running");
	b->nown = 2;
	ok(end(job, b, "done", "Done.") == 0, "the end");
	ok(end(job, b, "done", "Done.") == 0, "the end said again");

	ok(store_turn(job, b->key.conversation_id, 1, false, &t) == 0, "the turn is read");
	is_text(t.state, "done", "its state");
	ok(t.nmessages == 3 && t.messages[1].ncalls == 2, "its messages and calls");
	is_text(t.messages[1].calls[0].parameters, "{\"title\":\"Buy \\u006dilk\"}", "parameters are as the model wrote them");
	is_text(t.messages[1].calls[0].call_id, "c\"1", "the model's id");
	is_text(t.messages[1].calls[1].broken, "{\"a", "what was broken");
	is_text(t.messages[1].model, "http://a/v1 m", "who said it");
	ok(store_turn(job, b->key.conversation_id, 2, false, &t) < 0, "a turn that is not there");
	failed(job, FAIL_TURN_NOT_FOUND, "... turn_not_found");

	b->key.fence = 9;
	ok(store_tool_run(job, &b->key, 1, 0, &calls[0]) < 0 && job->stop == JOB_FENCED, "a foreign fence stops the job");
	job->stop = JOB_RUNS;
	failed(job, FAIL_TURN_ABANDONED, "... turn_abandoned");
}

/* The value of "next_cursor" in a page that is known to have one. */
static const char *
cursor_of(struct job *job, const struct buf *page)
{
	const char	*at = strstr(page->p, "\"next_cursor\":\"");

	return at == NULL ? NULL : arena_memdup(job->arena, at + 15, strcspn(at + 15, "\""));
}

static void
walk_reads(struct job *job, const char *id)
{
	static const char *const bad[] = { "", "x", "!!", "MSwy", "MSwyLDMsNA", "MSwyLDM0NTY3ODkwMTIz" };
	struct store_begun	 b;
	struct buf		*page = buf_new(job->arena);
	const char		*cursor;

	ok(begin(job, NULL, "another", &b) == 0 && end(job, &b, "done", "a") == 0, "another conversation");
	ok(store_conversations(job, 1, NULL, NULL, page) == 0 && strstr(page->p, "another") != NULL, "a page of conversations");
	cursor = cursor_of(job, page);
	buf_clear(page);
	ok(cursor != NULL && store_conversations(job, 1, cursor, NULL, page) == 0 && strstr(page->p, id) != NULL, "the next");
	ok(strstr(page->p, "\"next_cursor\":null") != NULL, "... is the last");
	buf_clear(page);
	ok(store_conversation(job, id, 2, NULL, false, page) == 0 && strstr(page->p, "Done.") != NULL, "a page of messages");
	cursor = cursor_of(job, page);
	buf_clear(page);
	ok(cursor != NULL && store_conversation(job, id, 2, cursor, false, page) == 0 && strstr(page->p, "milk") != NULL, "older ones");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ok(store_conversations(job, 1, bad[i], NULL, page) < 0, "no cursor: '%s'", bad[i]);
		is_text(job->field, "cursor", "... names the field");
		failed(job, FAIL_VALIDATION_ERROR, "... validation_error");
		ok(store_conversation(job, id, 1, bad[i], false, page) < 0, "... of messages");
		failed(job, FAIL_VALIDATION_ERROR, "... validation_error");
	}
	buf_clear(page);
	ok(store_rename(job, id, "Na\"me", page) == 0 && strstr(page->p, "Na\\\"me") != NULL, "renamed");
	ok(store_delete(job, id) == 0, "deleted");
	ok(store_delete(job, id) < 0, "twice");
	failed(job, FAIL_CONVERSATION_NOT_FOUND, "... conversation_not_found");
	ok(store_conversation(job, id, 1, NULL, false, page) < 0, "read");
	failed(job, FAIL_CONVERSATION_NOT_FOUND, "... conversation_not_found");
	ok(store_rename(job, id, "x", page) < 0, "renamed");
	failed(job, FAIL_CONVERSATION_NOT_FOUND, "... conversation_not_found");
	ok(store_health(job) == 0, "health");
}

static void
walk_holds(struct job *job)
{
	struct store_begun	 b;

	ok(store_hold(job, 0, 5000) == 0, "a model asks for time");
	ok(begin(job, NULL, "x", &b) == 0 && b.holds[0] > 3000 && b.holds[1] == 0, "all workers know");
	ok(end(job, &b, "done", NULL) == 0, "an end without a reply");
}

/* Keys and the queue: who has it, and who is told where it is. */
static void
walk_queue(struct job *job)
{
	struct store_begun	 b, c, d;
	struct store_turn	 t = { 0 };
	const char		*state = NULL;
	struct turn_key		 none;

	ok(begin_as(job, NULL, "one", ON_BUSY_QUEUE, "key", &b) == 0 && b.got == STORE_BEGUN, "a turn with a key");
	ok(begin_as(job, NULL, "one", ON_BUSY_QUEUE, "key", &c) == 0 && c.got == STORE_ELSEWHERE, "its key again");
	is_text(c.key.conversation_id, b.key.conversation_id, "... leads to it");
	ok(c.key.turn == 1, "... and its number");
	ok(begin_as(job, NULL, "two", ON_BUSY_QUEUE, "key", &c) < 0, "another body");
	failed(job, FAIL_IDEMPOTENCY_MISMATCH, "... idempotency_mismatch");
	ok(begin_as(job, b.key.conversation_id, "two", ON_BUSY_QUEUE, NULL, &c) == 0 && c.got == STORE_ELSEWHERE
	    && c.key.turn == 2, "the next waits");
	ok(begin_as(job, b.key.conversation_id, "three", ON_BUSY_QUEUE, NULL, &d) == 0 && d.key.turn == 3, "and one more");
	ok(begin_as(job, b.key.conversation_id, "four", ON_BUSY_QUEUE, NULL, &d) < 0, "not a third");
	failed(job, FAIL_QUEUE_FULL, "... queue_full");
	ok(store_turn(job, b.key.conversation_id, 3, true, &t) == 0 && t.ahead == 2, "it knows its place");
	is_text(t.state, "queued", "... and its state");
	ok(store_cancel(job, b.key.conversation_id, 3, true, &state, &none) == 0, "one that waits is cancelled");
	is_text(state, "cancelled", "... at once");
	ok(store_cancel(job, b.key.conversation_id, 3, true, &state, &none) < 0, "twice");
	failed(job, FAIL_TURN_NOT_RUNNING, "... turn_not_running");
	ok(store_cancel(job, b.key.conversation_id, 7, true, &state, &none) < 0, "none such");
	failed(job, FAIL_TURN_NOT_FOUND, "... turn_not_found");

	ok(store_load(job, &c.key, &d) == 0 && d.got == STORE_GONE, "what waits is nobody's");
	ok(end(job, &b, "done", "First.") == 0 && next.turn == 2, "the end hands the next one on");
	ok(store_load(job, &next, &c) == 0 && c.got == STORE_BEGUN, "which is loaded");
	ok(c.nhistory == 2 && c.nearlier == 0 && c.nown == 1, "... with its history");
	is_text(c.history[1].content, "First.", "... of the moment");
	is_text(c.history[2].content, "two", "... and its message");
	ok(c.left_ms > 90000, "its time begins now");
	ok(end(job, &c, "done", "Second.") == 0 && next.turn == 0, "then nobody waits");
}

/* From hand to hand, and once more. */
static void
walk_hands(struct job *job)
{
	struct store_begun	 b, c, d;
	struct turn_key		*keys = NULL;
	struct call		 call = { .id = id_new(), .call_id = "c", .tool_name = "add_task", .parameters = "{\"title\":\"x\"}" };
	struct message		 m = { .id = id_new(), .index = 1, .content = "look", .calls = &call, .ncalls = 1 };
	struct answer		 a = { .model_name = "m", .input_tokens = 3, .output_tokens = 4 };
	int			 n = -1;

	ok(begin(job, NULL, "go", &b) == 0 && store_step(job, &b.key, &m, &a, &(int64_t){ 0 }) == 0, "a turn with a step");
	ok(store_expired(job, 10, false, &keys, &n) == 0 && n == 0, "none is without a worker");
	ok(store_take(job, &b.key, true, &c) == 0 && c.got == STORE_GONE, "nor can it be taken");
	ok(store_release(job, &b.key) == 0, "given away");
	ok(store_expired(job, 10, false, &keys, &n) == 0 && n == 1, "it is offered");
	is_text(keys[0].conversation_id, b.key.conversation_id, "... by its name");
	is_text(keys[0].user, "ann", "... and its user");
	ok(store_take(job, &keys[0], true, &c) == 0 && c.got == STORE_BEGUN, "taken");
	ok(c.nown == 2 && c.history[c.nhistory + 1].ncalls == 1, "... with its step");
	ok(c.history[c.nhistory + 1].calls[0].result == NULL, "... whose call has no result");
	ok(c.input_tokens == 3 && c.output_tokens == 4, "... and what it has cost");
	ok(store_release(job, &b.key) == 0, "who gave it away cannot do so twice");
	ok(store_tool_run(job, &b.key, 1, 0, &call) < 0 && job->stop == JOB_FENCED, "... nor run anything");
	job->stop = JOB_RUNS;
	job_forgive(job);
	ok(store_tool_run(job, &c.key, 1, 0, &call) == 0 && !call.is_error, "who took it can");
	ok(end(job, &c, "done", "Done.") == 0, "... and ends it");

	ok(store_retry(job, c.key.conversation_id, 1, false, NULL, NULL, 0, &d) == 0 && d.got == STORE_BEGUN, "again");
	ok(d.key.run == 2 && d.key.turn == 1, "... as run 2");
	ok(d.nearlier == 1 && d.history[d.nhistory].ncalls == 1 && d.nown == 1, "... with the calls of the first");
	ok(store_retry(job, c.key.conversation_id, 1, false, NULL, NULL, 0, &c) < 0, "not while it runs");
	failed(job, FAIL_TURN_NOT_RETRYABLE, "... turn_not_retryable");
	ok(store_retry(job, d.key.conversation_id, 8, false, NULL, NULL, 0, &c) < 0, "nor what is not there");
	failed(job, FAIL_TURN_NOT_FOUND, "... turn_not_found");
	ok(end(job, &d, "failed", NULL) == 0, "the end of the second run");
}

static void
walk_watch(struct job *job)
{
	struct store_begun	 b;
	struct store_turn	 t = { 0 };
	struct watch		 w = { .job = job, .turn = 1, .text = true };
	struct pulse_turn	 p = { 0 };
	struct buf		*text = buf_new(job->arena);

	ok(begin(job, NULL, "go", &b) == 0, "a turn that is watched");
	p.partial = text;
	p.index = 1;
	pulse_join(&p, &b.key, job);
	w.conversation_id = b.key.conversation_id;
	w.digest = "";
	watch_join(&w);
	ok(watch_wait(&w, deadline_ms(3000)) == 0, "to one who knows nothing all is new");
	ok(store_turn(job, w.conversation_id, 1, true, &t) == 0 && t.digest != NULL && t.partial == NULL, "it is read");
	w.digest = t.digest;
	ok(watch_wait(&w, deadline_ms(600)) < 0 && job->fail == FAIL_NONE, "nothing happens");
	buf_str(text, "half");
	ok(watch_wait(&w, deadline_ms(3000)) == 0, "more text");
	ok(store_turn(job, w.conversation_id, 1, true, &t) == 0 && t.partial != NULL, "... is read");
	is_text(t.partial->content, "half", "... as it is");
	w.digest = t.digest;
	pulse_leave(&p);
	ok(end(job, &b, "done", "half and half") == 0, "the end");
	ok(watch_wait(&w, deadline_ms(3000)) == 0, "... is seen");
	ok(store_turn(job, w.conversation_id, 1, true, &t) == 0 && t.partial == NULL, "... and read");
	is_text(t.state, "done", "... as done");
	watch_leave(&w);
	watch_leave(&w);
}

static void
wait_stop(struct job *job, int64_t ms)
{
	int64_t	 until = deadline_ms(ms);

	while (job->stop == JOB_RUNS && now_us() < until)
		loop_sleep(deadline_ms(20));
}

static void
walk_pulse(struct job *job)
{
	struct store_begun	 b, c;
	struct buf		*text = buf_new(job->arena);
	struct pulse_turn	 p = { 0 };
	struct pulse_turn	 q = { 0 };
	struct job		 other;

	job_open(&other, &conf);
	ok(begin(job, NULL, "go", &b) == 0 && begin(job, NULL, "go", &c) == 0, "two turns");
	buf_str(text, "half \"a\" \xc3");
	p.partial = text;
	pulse_leave(&p);
	pulse_join(&p, &b.key, job);
	pulse_join(&q, &c.key, &other);
	ok(pulse_turns() == 2, "two have joined");
	wait_stop(job, 2500);
	ok(job->stop == JOB_RUNS && other.stop == JOB_RUNS, "nobody is stopped");
	say("leases");
	loop_sleep(deadline_ms(800));
	ok(store_delete(job, c.key.conversation_id) == 0, "one is deleted");
	wait_stop(&other, 4000);
	ok(other.stop == JOB_CANCELLED, "... and stopped as cancelled");
	pulse_leave(&q);
	say("fence");
	wait_stop(job, 6000);
	ok(job->stop == JOB_FENCED, "the other is taken over");
	pulse_leave(&p);
	pulse_leave(&p);
	ok(pulse_turns() == 0, "both have left");
	job->stop = JOB_RUNS;
	job_close(&other);
}

static void
walk_away(struct job *job)
{
	struct store_begun	 b;
	struct message		 m = { .id = id_new(), .index = 1, .content = "look" };
	struct answer		 a = { .model_name = "m" };
	int64_t			 at = now_us();

	ok(begin(job, NULL, "go", &b) == 0, "a turn");
	say("restart");
	loop_sleep(deadline_ms(300));
	ok(store_step(job, &b.key, &m, &a, &(int64_t){ 0 }) == 0, "a step waits for the database");
	b.nown = 2;
	say("restart");
	loop_sleep(deadline_ms(300));
	ok(end(job, &b, "done", "Hi") == 0, "so does the end");
	ok(now_us() - at > 1000000, "it was away");
	say("stop");
	loop_sleep(deadline_ms(500));
	job->deadline = deadline_ms(1500);
	job->late = FAIL_TURN_TIMEOUT;
	ok(end(job, &b, "done", "Hi") < 0, "not for ever");
	ok(job->fail == FAIL_DATABASE_UNAVAILABLE || job->fail == FAIL_TURN_TIMEOUT, "... and says so");
	job_forgive(job);
}

static void
walk(void *arg)
{
	struct job		 job;
	struct store_begun	 b;

	(void)arg;
	job_open(&job, &conf);
	job.user = "ann";
	walk_begin(&job, &b);
	walk_calls(&job, &b);
	walk_reads(&job, b.key.conversation_id);
	walk_holds(&job);
	walk_queue(&job);
	walk_hands(&job);
	walk_watch(&job);
	walk_pulse(&job);
	walk_away(&job);
	job_close(&job);
	pulse_stop();
	loop_stop();
}

int
main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	conf.database_url = argv[1];
	log_open("/dev/null", LOG_ERROR, "test");
	if (loop_open() < 0 || pg_start(&conf) < 0 || pulse_start(&conf) < 0)
		return 2;
	fiber_start(walk, NULL);
	loop_run();
	pg_stop();
	loop_close();
	return done_testing();
}
