/*
 * texts -- many texts on stdin, each behind its length in digits and a line's end; for drivers that judge each of them.
 */
#ifndef PARLEY_DRIVE_TEXTS_H
#define PARLEY_DRIVE_TEXTS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* The next one, in a block of its own size with a NUL behind it, to be freed; NULL: there are no more. */
static char *
text_next(size_t *n)
{
	char	*text;

	if (scanf("%zu", n) != 1 || getchar() != '\n')
		return NULL;
	if ((text = malloc(*n + 1)) == NULL || fread(text, 1, *n, stdin) != *n)
		abort();
	text[*n] = '\0';
	return text;
}

#endif
