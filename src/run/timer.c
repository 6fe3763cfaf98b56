#include "run/timer.h"

#include <stdlib.h>

#include "base/arena.h"
#include "run/deadline.h"
#include "run/loop.h"

/*
 * A binary heap from place 1, the earliest on top.  It may live in memory
 * because it only points at what waits in this process anyway.
 */
static struct {
	struct timer	**v;
	int		 n, cap;
	int64_t		 passed;	/* while timers run: the time they run for */
} heap;

static void	 heap_room(void);
static void	 heap_put(struct timer *, int place);
static void	 heap_up(struct timer *, int place);
static void	 heap_down(struct timer *, int place);

void
timer_set(struct timer *t, int64_t at)
{
	int64_t	 was = t->at;

	/* A timer that sets itself to "now" again must not hold the loop, nor overtake the others. */
	if (at <= heap.passed)
		at = heap.passed + 1;
	t->at = at;
	if (t->place == 0) {
		heap_room();
		heap_up(t, ++heap.n);
	} else if (at < was) {
		heap_up(t, t->place);
	} else {
		heap_down(t, t->place);
	}
}

void
timer_clear(struct timer *t)
{
	struct timer	*last;
	int		 hole = t->place;

	if (hole == 0)
		return;
	t->place = 0;
	last = heap.v[heap.n--];
	if (last == t)
		return;

	/* The last one fills the hole, and may belong above or below it. */
	heap_put(last, hole);
	heap_up(last, hole);
	heap_down(last, last->place);
}

int64_t
timers_next(void)
{
	return heap.n > 0 ? heap.v[1]->at : NEVER;
}

void
timers_run(int64_t now)
{
	heap.passed = now;
	while (timers_next() <= now) {
		struct timer	*t = heap.v[1];

		timer_clear(t);
		t->fn(t->arg);
	}
	heap.passed = 0;
}

void
timers_forget(void)
{
	while (heap.n > 0)
		heap.v[heap.n--]->place = 0;
	free(heap.v);
	heap.v = NULL;
	heap.cap = 0;
}

static void
heap_room(void)
{
	if (heap.n + 1 < heap.cap)
		return;
	heap.cap = heap.cap > 0 ? heap.cap * 2 : 64;
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what it holds */
	heap.v = realloc(heap.v, sizeof *heap.v * (size_t)heap.cap);
	if (heap.v == NULL)
		arena_exhausted();
}

static void
heap_put(struct timer *t, int place)
{
	heap.v[place] = t;
	t->place = place;
}

static void
heap_up(struct timer *t, int place)
{
	while (place > 1 && t->at < heap.v[place / 2]->at) {
		heap_put(heap.v[place / 2], place);
		place /= 2;
	}
	heap_put(t, place);
}

static void
heap_down(struct timer *t, int place)
{
	for (;;) {
		int	 child = place * 2;

		if (child > heap.n)
			break;
		if (child < heap.n && heap.v[child + 1]->at < heap.v[child]->at)
			child++;
		if (t->at <= heap.v[child]->at)
			break;
		heap_put(heap.v[child], place);
		place = child;
	}
	heap_put(t, place);
}
