/*
 * uuid -- random ids, version 4 of RFC 9562, in lower-case text.
 * Randomness comes from getrandom(2), a page at a time.
 */
#ifndef PARLEY_BASE_UUID_H
#define PARLEY_BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>

#define UUID_TEXT	37	/* 36 characters and the NUL */

void	 uuid_new(char out[UUID_TEXT]);
/* Takes the 8-4-4-4-12 form in either case, writes it in lower case. */
bool	 uuid_parse(const char *, char out[UUID_TEXT]);
void	 random_bytes(void *, size_t);

#endif
