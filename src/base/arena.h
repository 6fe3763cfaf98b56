/*
 * arena -- memory that lives exactly as long as one job.
 *
 * Whatever a handler builds (strings, rows, JSON text) comes from the arena
 * of its job and goes away with it.  Nothing is freed piece by piece, so an
 * error path has nothing to undo.
 *
 * Things that need their own release call (a PGresult, a json_object, a curl
 * handle) are tied to the arena with arena_defer(); the calls run last-in
 * first-out when the arena closes.
 *
 * A first chunk is small (2 KiB), later ones grow: ten thousand waiting turns
 * have ten thousand arenas.  Allocation never fails: a worker without memory
 * aborts and its parent starts another.  Nothing here yields.
 */
#ifndef PARLEY_BASE_ARENA_H
#define PARLEY_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

struct arena;

struct arena *arena_open(void);
void	 arena_close(struct arena **);	/* runs the defers; NULL is fine */

/* Zeroed and aligned for any type; size 0 gives a pointer that may not be read. */
void	*arena_alloc(struct arena *, size_t);
char	*arena_strdup(struct arena *, const char *);	/* NULL stays NULL */
char	*arena_memdup(struct arena *, const void *, size_t);	/* adds a NUL */
char	*arena_printf(struct arena *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
char	*arena_vprintf(struct arena *, const char *fmt, va_list)
	    __attribute__((format(printf, 2, 0)));
void	 arena_defer(struct arena *, void (*)(void *), void *);

/* Says so and aborts; for other code whose malloc() failed. */
void	 arena_exhausted(void) __attribute__((noreturn));

#define arena_new(a, type)	((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, n)	((type *)arena_alloc((a), sizeof(type) * (size_t)(n)))

#endif
