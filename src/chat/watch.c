#include "chat/watch.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "chat/pulse.h"
#include "chat/rows.h"
#include "io/pg.h"
#include "run/fiber.h"
#include "run/job.h"

/* Those who wait on this worker now; each struct belongs to its follower. */
static struct watch	*watches;
static int		 nwatches;

void
watch_join(struct watch *w)
{
	w->changed = false;
	w->place = 0;
	w->next = watches;
	w->link = &watches;
	if (watches != NULL)
		watches->link = &w->next;
	watches = w;
	nwatches++;
	pulse_wake();
}

void
watch_leave(struct watch *w)
{
	if (w->link == NULL)
		return;
	*w->link = w->next;
	if (w->next != NULL)
		w->next->link = w->link;
	w->next = NULL;
	w->link = NULL;
	nwatches--;
}

int
watch_wait(struct watch *w, int64_t until)
{
	/* A wake without a change, as after a word to the client, changes nothing. */
	while (!w->changed)
		if (job_wait(w->job, until) < 0 && !w->changed)
			return -1;
	w->changed = false;
	return 0;
}

void
watch_stop_all(void)
{
	for (struct watch *w = watches; w != NULL; w = w->next)
		job_stop(w->job, JOB_DRAINED);
}

int
watch_count(void)
{
	return nwatches;
}

void
watch_ask(struct job *job, struct watch_beat *b)
{
	*b = (struct watch_beat){
		.users = buf_new(job->arena),
		.conversations = buf_new(job->arena),
		.turns = buf_new(job->arena),
		.texts = buf_new(job->arena),
		.seen = buf_new(job->arena),
	};
	for (struct watch *w = watches; w != NULL; w = w->next) {
		const char	*turn = pg_num(job, w->turn);

		/* Told already: it has not looked yet. */
		w->place = 0;
		if (w->changed)
			continue;
		w->place = ++b->n;
		rows_array_add(b->users, w->job->user, strlen(w->job->user));
		rows_array_add(b->conversations, w->conversation_id, strlen(w->conversation_id));
		rows_array_add(b->turns, turn, strlen(turn));
		rows_array_add(b->texts, pg_flag(w->text), 1);
		rows_array_add(b->seen, w->digest, strlen(w->digest));
	}
}

void
watch_tell(const struct watch_beat *b)
{
	for (struct watch *w = watches; w != NULL; w = w->next) {
		if (w->place == 0 || !b->changed[w->place])
			continue;
		w->changed = true;
		fiber_wake(w->job->fiber);
	}
}
