/*
 * fuzz -- what a target needs to look at bytes that somebody else has chosen.
 *
 * A target is one file with LLVMFuzzerTestOneInput(), and says with must() what holds of every input.  It is built
 * twice: with libFuzzer (make fuzz), and with replay.c for the suite, which looks at the kept corpus and at some
 * thousand changes of it.  What must() finds ends the program; so does a sanitizer.
 *
 * Inputs are texts where that can be: settings in lines of their own in front, then what the parser is given.
 */
#ifndef PARLEY_FUZZ_H
#define PARLEY_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

int	 LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define must(what) \
	((what) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #what))

__attribute__((noreturn, unused)) static void
fuzz_broken(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
	fflush(stderr);
	abort();
}

/* What is left of an input. */
struct input {
	const char	*p;
	size_t		 n;
};

/* A copy in a block of its own size, so that ASan sees a step too far; the caller frees it. */
__attribute__((unused)) static char *
fuzz_copy(const char *p, size_t n)
{
	char	*copy = calloc(1, n > 0 ? n : 1);

	if (copy == NULL)
		abort();
	return n > 0 ? memcpy(copy, p, n) : copy;
}

/* As a string: up to the first NUL. */
__attribute__((unused)) static char *
fuzz_text(struct arena *a, const char *p, size_t n)
{
	return arena_memdup(a, p, strnlen(p, n));
}

/* The next line as a string, without its end; what is behind the last one is empty lines. */
__attribute__((unused)) static char *
fuzz_line(struct arena *a, struct input *in)
{
	const char	*end = in->n > 0 ? memchr(in->p, '\n', in->n) : NULL;
	size_t		 n = end != NULL ? (size_t)(end - in->p) : in->n;
	char		*line = n > 0 ? fuzz_text(a, in->p, n) : arena_strdup(a, "");

	n += end != NULL;
	in->p += n;
	in->n -= n;
	return line;
}

/* The rest as a string. */
__attribute__((unused)) static char *
fuzz_rest(struct arena *a, const struct input *in)
{
	return in->n > 0 ? fuzz_text(a, in->p, in->n) : arena_strdup(a, "");
}

/* A number from 0 to below - 1 that changes with every byte of the input. */
__attribute__((unused)) static size_t
fuzz_pick(const struct input *in, size_t below)
{
	uint32_t	 h = 2166136261u;

	for (size_t i = 0; i < in->n; i++)
		h = (h ^ (unsigned char)in->p[i]) * 16777619u;
	return below > 0 ? (h >> 8) % below : 0;
}

#endif
