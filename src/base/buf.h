/*
 * buf -- bytes that grow.
 *
 * The text is always followed by a NUL that does not count, so b->p can be
 * used as a string when it is known to hold none.  A zeroed struct is an empty
 * buffer whose p is NULL until something is added; buf_text() never is.
 *
 * A buffer made by buf_new() belongs to its arena; any other is given back
 * with buf_free().  Growing never fails (see arena.h).  Nothing yields.
 */
#ifndef PARLEY_BASE_BUF_H
#define PARLEY_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct arena;

struct buf {
	char	*p;
	size_t	 n;		/* bytes in use, without the NUL */
	size_t	 cap;
};

struct buf *buf_new(struct arena *);	/* freed when the arena closes */
void	 buf_free(struct buf *);	/* empty again; may be used on */
void	 buf_clear(struct buf *);	/* n = 0, keeps the memory */
void	 buf_reserve(struct buf *, size_t more);
void	 buf_add(struct buf *, const void *, size_t);
void	 buf_str(struct buf *, const char *);
void	 buf_char(struct buf *, char);
void	 buf_int(struct buf *, int64_t);	/* as decimal digits */
void	 buf_printf(struct buf *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
void	 buf_drop(struct buf *, size_t n);	/* forgets the first n bytes */
const char *buf_text(const struct buf *);	/* "" when empty */

#endif
