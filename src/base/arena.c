#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARENA_FIRST	((size_t)2048)		/* the arena itself included */
#define ARENA_CHUNK_MAX	((size_t)64 * 1024)	/* chunks double up to this */
#define ARENA_ALIGN	alignof(max_align_t)

/*
 * Under ASan each allocation gets a block of its own: packed together, an
 * overrun would land in a neighbour and nobody would notice.
 */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_TIGHT	1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_TIGHT	1
#endif
#endif
#ifndef ARENA_TIGHT
#define ARENA_TIGHT	0
#endif

struct chunk {
	struct chunk	*next;
	alignas(max_align_t) char mem[];
};

struct defer {
	struct defer	*next;
	void		(*fn)(void *);
	void		*arg;
};

struct arena {
	struct chunk	*chunks;
	struct defer	*defers;
	char		*at, *end;	/* free space of the newest packed chunk */
	size_t		 grow;		/* size of the next one */
};

static char	*chunk_add(struct arena *, size_t);

void
arena_exhausted(void)
{
	static const char	 line[] = "parley: out of memory\n";

	if (write(STDERR_FILENO, line, sizeof line - 1) < 0)
		abort();
	abort();
}

struct arena *
arena_open(void)
{
	struct arena	*a = calloc(1, ARENA_TIGHT ? sizeof *a : ARENA_FIRST);
	size_t		 used = (sizeof *a + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);

	if (a == NULL)
		arena_exhausted();
	a->grow = ARENA_FIRST;
	if (!ARENA_TIGHT) {
		a->at = (char *)a + used;
		a->end = (char *)a + ARENA_FIRST;
	}
	return a;
}

void
arena_close(struct arena **ap)
{
	struct arena	*a = *ap;

	if (a == NULL)
		return;

	/* A deferred call may still use the arena, and even defer another. */
	while (a->defers != NULL) {
		struct defer	*d = a->defers;

		a->defers = d->next;
		d->fn(d->arg);
	}
	while (a->chunks != NULL) {
		struct chunk	*c = a->chunks;

		a->chunks = c->next;
		free(c);
	}
	free(a);
	*ap = NULL;
}

void *
arena_alloc(struct arena *a, size_t n)
{
	size_t	 whole;
	char	*p;

	/* A size this large is a negative number that lost its sign. */
	if (n > SIZE_MAX / 4)
		arena_exhausted();
	if (ARENA_TIGHT)
		return chunk_add(a, n);

	whole = (n + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
	if (whole > (size_t)(a->end - a->at)) {
		/* A large piece must not waste the rest of the present chunk. */
		if (whole > a->grow / 4)
			return chunk_add(a, whole);
		a->at = chunk_add(a, a->grow);
		a->end = a->at + a->grow;
		if (a->grow < ARENA_CHUNK_MAX)
			a->grow *= 2;
	}
	p = a->at;
	a->at += whole;
	return p;
}

/* calloc: fresh pages of a large chunk come zeroed from the kernel for nothing. */
static char *
chunk_add(struct arena *a, size_t n)
{
	struct chunk	*c = calloc(1, sizeof *c + n);

	if (c == NULL)
		arena_exhausted();
	c->next = a->chunks;
	a->chunks = c;
	return c->mem;
}

char *
arena_strdup(struct arena *a, const char *s)
{
	return s == NULL ? NULL : arena_memdup(a, s, strlen(s));
}

char *
arena_memdup(struct arena *a, const void *p, size_t n)
{
	char	*copy = arena_alloc(a, n + 1);

	if (n > 0)
		memcpy(copy, p, n);
	return copy;
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list	 ap;
	char	*s;

	va_start(ap, fmt);
	s = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return s;
}

char *
arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
	char	 here[128];
	va_list	 again;
	char	*s;
	int	 n;

	/* Most are short: then once is enough. */
	va_copy(again, ap);
	n = vsnprintf(here, sizeof here, fmt, ap);
	if (n < 0)
		arena_exhausted();
	s = arena_alloc(a, (size_t)n + 1);
	if ((size_t)n < sizeof here)
		memcpy(s, here, (size_t)n + 1);
	else
		(void)vsnprintf(s, (size_t)n + 1, fmt, again);
	va_end(again);
	return s;
}

void
arena_defer(struct arena *a, void (*fn)(void *), void *arg)
{
	struct defer	*d = arena_new(a, struct defer);

	d->fn = fn;
	d->arg = arg;
	d->next = a->defers;
	a->defers = d;
}
