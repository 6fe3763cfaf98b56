/*
 * A longjmp() onto another stack is what this file is about; glibc's checked one takes it for a mistake.
 */
#undef _FORTIFY_SOURCE
#include "run/fiber.h"

#include <assert.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "run/deadline.h"
#include "run/loop.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN	1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN	1
#endif
#endif
#ifndef FIBER_ASAN
#define FIBER_ASAN	0
#endif
#if FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

#define STACK_DEFAULT	((size_t)64 * 1024)
#define STACK_MIN	((size_t)16 * 1024)
/* Red zones and unoptimised frames make a sanitized program's frames several times larger. */
#define STACK_FACTOR	((size_t)(FIBER_ASAN ? 4 : 1))
/* Enough that a steady load maps nothing, little enough (one touched page each) to keep after a peak. */
#define POOL_MAX	256

/* It lies at the top of its own mapping, in the page that the stack touches anyway. */
struct fiber {
	jmp_buf		 at;		/* where it goes on */
	bool		 begun;		/* fiber_entry() waits on its stack */
	void		(*fn)(void *);
	void		*arg;
	struct timer	 timer;
	struct fiber	*next;		/* of the ready, or of the pool */
	bool		 ready;		/* in the queue */
	bool		 parked;
	bool		 woken;
	bool		 over;		/* fn has returned */
	char		*map;		/* guard page, stack, this struct */
	size_t		 map_size;
	char		*stack;
	size_t		 stack_size;
	void		*fake;		/* ASan's fake stack while not running */
};

/* All of this is about fibers of this process, which end with it. */
static struct {
	struct fiber	*self;
	struct fiber	*first, **last;	/* the queue of the ready */
	struct fiber	*pool;
	int		 pooled;
	int		 alive;
	size_t		 size;
	jmp_buf		 loop;
	void		*loop_fake;
	const void	*loop_stack;
	size_t		 loop_stack_size;
} fibers = { .last = &fibers.first, .size = STACK_DEFAULT * STACK_FACTOR };

static struct fiber *stack_take(void);
static struct fiber *stack_map(void);
static void	 stack_give(struct fiber *);
static void	 fiber_ready(struct fiber *);
static void	 fiber_entry(void);
static void	 fiber_resume(struct fiber *);
static void	 fiber_enter(struct fiber *);
static void	 fiber_leave(struct fiber *);
static void	 fiber_timeout(void *);

void
fiber_stack_size(size_t n)
{
	size_t	 page = (size_t)sysconf(_SC_PAGESIZE);

	assert(fibers.alive == 0 && fibers.pool == NULL);
	if (n < STACK_MIN)
		n = STACK_MIN;
	fibers.size = (n * STACK_FACTOR + page - 1) / page * page;
}

struct fiber *
fiber_start(void (*fn)(void *), void *arg)
{
	struct fiber	*f = stack_take();

	if (f == NULL)
		return NULL;
	f->fn = fn;
	f->arg = arg;
	f->timer = (struct timer){ .fn = fiber_timeout, .arg = f };
	f->parked = f->woken = f->over = false;
	f->fake = NULL;
	fibers.alive++;
	fiber_ready(f);
	return f;
}

static struct fiber *
stack_take(void)
{
	struct fiber	*f = fibers.pool;

	if (f == NULL)
		return stack_map();
	fibers.pool = f->next;
	fibers.pooled--;
	return f;
}

static struct fiber *
stack_map(void)
{
	size_t		 page = (size_t)sysconf(_SC_PAGESIZE);
	size_t		 top = (sizeof(struct fiber) + 63) & ~(size_t)63;
	size_t		 size = page + fibers.size;
	struct fiber	*f;
	char		*map;

	map = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (mprotect(map, page, PROT_NONE) < 0) {
		(void)munmap(map, size);
		return NULL;
	}
#if FIBER_ASAN
	/* What a waiting fiber's stack points at is no leak. */
	__lsan_register_root_region(map + page, size - page);
	ASAN_UNPOISON_MEMORY_REGION(map + page, size - page);
#endif
	f = (struct fiber *)(void *)(map + size - top);
	f->begun = false;
	f->map = map;
	f->map_size = size;
	f->stack = map + page;
	f->stack_size = size - page - top;
	return f;
}

static void
stack_give(struct fiber *f)
{
	if (fibers.pooled < POOL_MAX) {
		f->next = fibers.pool;
		fibers.pool = f;
		fibers.pooled++;
		return;
	}
#if FIBER_ASAN
	__lsan_unregister_root_region(f->stack, f->map_size - (size_t)(f->stack - f->map));
#endif
	(void)munmap(f->map, f->map_size);
}

static void
fiber_entry(void)
{
	struct fiber	*f = fibers.self;

#if FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &fibers.loop_stack, &fibers.loop_stack_size);
#endif
	/* A stack that comes from the pool goes on here with another one's function. */
	for (;;) {
		f->fn(f->arg);
		f->over = true;
		fiber_leave(f);
	}
}

/* To the loop's stack; comes back when the fiber is resumed; when it was over, as another. */
static void
fiber_leave(struct fiber *f)
{
#if FIBER_ASAN
	__sanitizer_start_switch_fiber(f->over ? NULL : &f->fake,
	    fibers.loop_stack, fibers.loop_stack_size);
#endif
	if (_setjmp(f->at) == 0)
		_longjmp(fibers.loop, 1);
#if FIBER_ASAN
	__sanitizer_finish_switch_fiber(f->fake, &fibers.loop_stack, &fibers.loop_stack_size);
#endif
}

/*
 * Onto the fiber's stack, and back with its next fiber_leave().  Only the first time by way of a context: setcontext()
 * sets the signal mask, which is the same for all here, and costs a system call each time.  Nothing but this in
 * the function that calls _setjmp(): its locals could be clobbered.
 */
static void
fiber_enter(struct fiber *f)
{
	ucontext_t	 first;

	if (_setjmp(fibers.loop) != 0)
		return;
	if (f->begun)
		_longjmp(f->at, 1);
	f->begun = true;
	(void)getcontext(&first);	/* has no errors */
	first.uc_stack.ss_sp = f->stack;
	first.uc_stack.ss_size = f->stack_size;
	first.uc_link = NULL;
	makecontext(&first, fiber_entry, 0);
	(void)setcontext(&first);
}

/* From the loop's stack; comes back when the fiber parks or is over. */
static void
fiber_resume(struct fiber *f)
{
	fibers.self = f;
#if FIBER_ASAN
	__sanitizer_start_switch_fiber(&fibers.loop_fake, f->stack, f->stack_size);
#endif
	fiber_enter(f);
#if FIBER_ASAN
	__sanitizer_finish_switch_fiber(fibers.loop_fake, NULL, NULL);
#endif
	fibers.self = NULL;
	if (!f->over)
		return;

	fibers.alive--;
#if FIBER_ASAN
	/* The frames that never returned have left their red zones behind. */
	ASAN_UNPOISON_MEMORY_REGION(f->stack, f->stack_size);
#endif
	stack_give(f);
}

struct fiber *
fiber_self(void)
{
	return fibers.self;
}

int
fiber_park(int64_t until)
{
	struct fiber	*f = fibers.self;
	bool		 woken;

	assert(f != NULL);
	if (!f->woken) {
		if (until != NEVER)
			timer_set(&f->timer, until);
		f->parked = true;
		fiber_leave(f);
		f->parked = false;
		timer_clear(&f->timer);
	}
	/* Woken counts for more than late: the waker has something to say. */
	woken = f->woken;
	f->woken = false;
	return woken ? 0 : -1;
}

void
fiber_wake(struct fiber *f)
{
	f->woken = true;
	if (f->parked)
		fiber_ready(f);
}

static void
fiber_timeout(void *arg)
{
	fiber_ready(arg);
}

static void
fiber_ready(struct fiber *f)
{
	if (f->ready)
		return;
	f->ready = true;
	f->next = NULL;
	*fibers.last = f;
	fibers.last = &f->next;
}

int
fiber_count(void)
{
	return fibers.alive;
}

void
fiber_run_ready(void)
{
	assert(fibers.self == NULL);
	while (fibers.first != NULL) {
		struct fiber	*f = fibers.first;

		fibers.first = f->next;
		if (fibers.first == NULL)
			fibers.last = &fibers.first;
		f->ready = false;
		fiber_resume(f);
	}
}
