/*
 * utf8 -- text as RFC 3629 defines it: no overlong forms, no surrogates,
 * nothing above U+10FFFF.  Pure functions; lengths are bytes unless a name
 * says otherwise.
 */
#ifndef PARLEY_BASE_UTF8_H
#define PARLEY_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool	 utf8_valid(const char *, size_t);
size_t	 utf8_length(const char *, size_t);	/* code points; the text must be valid */
/* Bytes of the longest prefix that does not end inside a character. */
size_t	 utf8_whole(const char *, size_t);
/* Narrows [*s, *s + *n) by Unicode White_Space on both sides. */
void	 utf8_trim(const char **s, size_t *n);
/* Reads one code point of valid text and moves on. */
uint32_t utf8_next(const char **s, const char *end);
/* Writes one code point, a surrogate as well: how many bytes. */
size_t	 utf8_write(char out[4], uint32_t);

#endif
