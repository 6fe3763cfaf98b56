#include "io/http_memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "io/http_exchange.h"

#define BUFFER_SIZE	((size_t)RECEIVE_SIZE_TLS + 1)	/* what curl asks for */
#define SLOT_SIZE	((size_t)20 * 1024)		/* whole pages */
#define SLOTS_MAX	4096				/* turns of a full worker (worker.max_turns) */
#define SLOTS_STEP	64				/* made at a time */

/* A slot that is free begins with the one that was freed before it. */
struct slot {
	struct slot	*next;
};

/* Memory of this process for its own exchanges. */
static struct {
	char		*base;		/* NULL: there are none */
	int		 made;		/* the others cannot be touched yet */
	struct slot	*free;
} slots;

static void	*memory_malloc(size_t);
static void	 memory_free(void *);
static void	*memory_realloc(void *, size_t);
static void	*slot_take(void);
static bool	 slot_is(const void *);

CURLcode
http_memory_init(void)
{
	slots.base = mmap(NULL, SLOT_SIZE * SLOTS_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slots.base == MAP_FAILED)
		slots.base = NULL;
	return curl_global_init_mem(CURL_GLOBAL_DEFAULT, memory_malloc, memory_free, memory_realloc, strdup, calloc);
}

void
http_memory_end(void)
{
	curl_global_cleanup();
	if (slots.base != NULL)
		(void)munmap(slots.base, SLOT_SIZE * SLOTS_MAX);
	memset(&slots, 0, sizeof slots);
}

static void *
memory_malloc(size_t n)
{
	void	*p = n == BUFFER_SIZE ? slot_take() : NULL;

	return p != NULL ? p : malloc(n);
}

static void
memory_free(void *p)
{
	struct slot	*s = p;

	if (!slot_is(p)) {
		free(p);
		return;
	}
	s->next = slots.free;
	slots.free = s;
}

/* curl lets no receive buffer grow; should it ever, it moves to the heap. */
static void *
memory_realloc(void *p, size_t n)
{
	void	*heap;

	if (!slot_is(p))
		return realloc(p, n);
	if ((heap = malloc(n)) == NULL)
		return NULL;
	memcpy(heap, p, n < BUFFER_SIZE ? n : BUFFER_SIZE);
	memory_free(p);
	return heap;
}

/* NULL: no more to be had. */
static void *
slot_take(void)
{
	struct slot	*s = slots.free;
	char		*next = slots.base + SLOT_SIZE * (size_t)slots.made;

	if (s != NULL) {
		slots.free = s->next;
		return s;
	}
	if (slots.base == NULL || slots.made == SLOTS_MAX)
		return NULL;
	if (slots.made % SLOTS_STEP == 0 && mprotect(next, SLOT_SIZE * SLOTS_STEP, PROT_READ | PROT_WRITE) < 0)
		return NULL;
	slots.made++;
	return next;
}

static bool
slot_is(const void *p)
{
	const char	*at = p;

	return at >= slots.base && at < slots.base + SLOT_SIZE * SLOTS_MAX && slots.base != NULL;
}
