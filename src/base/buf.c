#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/decimal.h"

#define BUF_FIRST	64

static void	 buf_release(void *);

struct buf *
buf_new(struct arena *a)
{
	struct buf	*b = arena_new(a, struct buf);

	arena_defer(a, buf_release, b);
	return b;
}

static void
buf_release(void *b)
{
	buf_free(b);
}

void
buf_free(struct buf *b)
{
	free(b->p);
	memset(b, 0, sizeof *b);
}

void
buf_clear(struct buf *b)
{
	b->n = 0;
	if (b->p != NULL)
		b->p[0] = '\0';
}

void
buf_reserve(struct buf *b, size_t more)
{
	size_t	 need, cap = b->cap > 0 ? b->cap : BUF_FIRST;

	if (more > SIZE_MAX / 4 - b->n)
		arena_exhausted();
	need = b->n + more + 1;
	if (need <= b->cap)
		return;
	while (cap < need)
		cap *= 2;
	b->p = realloc(b->p, cap);
	if (b->p == NULL)
		arena_exhausted();
	b->p[b->n] = '\0';
	b->cap = cap;
}

void
buf_add(struct buf *b, const void *p, size_t n)
{
	if (n >= b->cap - b->n || b->p == NULL)
		buf_reserve(b, n);
	if (n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = '\0';
}

void
buf_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void
buf_char(struct buf *b, char c)
{
	if (b->cap - b->n < 2)
		buf_reserve(b, 1);
	b->p[b->n++] = c;
	b->p[b->n] = '\0';
}

void
buf_int(struct buf *b, int64_t n)
{
	buf_reserve(b, DECIMAL_SIZE);
	b->n += decimal_write(b->p + b->n, n);
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list	 ap;
	size_t	 room;
	int	 n;

	/* Into what room there is, and again if that was too little. */
	buf_reserve(b, BUF_FIRST / 2);
	room = b->cap - b->n;
	va_start(ap, fmt);
	n = vsnprintf(b->p + b->n, room, fmt, ap);
	va_end(ap);
	if (n < 0)
		arena_exhausted();
	if ((size_t)n >= room) {
		b->p[b->n] = '\0';
		buf_reserve(b, (size_t)n);
		va_start(ap, fmt);
		(void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	b->n += (size_t)n;
}

void
buf_drop(struct buf *b, size_t n)
{
	if (n >= b->n) {
		buf_clear(b);
		return;
	}
	if (n == 0)
		return;
	memmove(b->p, b->p + n, b->n - n + 1);
	b->n -= n;
}

const char *
buf_text(const struct buf *b)
{
	return b->p != NULL ? b->p : "";
}
