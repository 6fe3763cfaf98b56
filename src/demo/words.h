/*
 * words -- what people type, made comparable.
 *
 * Texts are UTF-8; results belong to the arena.  Letters are folded with the
 * C library's table for the locale that main() set (C.UTF-8).
 */
#ifndef PARLEY_DEMO_WORDS_H
#define PARLEY_DEMO_WORDS_H

#include <stdbool.h>
#include <stddef.h>

struct arena;

/* Small letters, plain quotes, single spaces, none at the ends: for comparing. */
char	*words_fold(struct arena *, const char *);
/* One line, single spaces, otherwise as typed: for showing. */
char	*words_line(struct arena *, const char *);
/* Without spaces, sentence marks and one pair of quotes around it. */
char	*words_bare(struct arena *, const char *);
/* Bytes of an opening quote at s, 0: none; *close is what ends it. */
size_t	 words_quote(const char *s, const char **close);
/* Is the folded word (or words) in the folded text, not inside another word? */
bool	 words_has(const char *text, const char *word);
/* Is every word of the second in the first? Both folded. */
bool	 words_all(struct arena *, const char *text, const char *words);
/* Is the text up to n bytes inside an open double quote? */
bool	 words_quoted(const char *text, size_t n);

#endif
