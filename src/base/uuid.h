/*
 * uuid -- random ids, version 4 of RFC 9562, in lower-case text; and ids that follow from one (version 8).
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
/* The id of what stands at (a, b) under this random id: always the same, and no other's.  -1: that is no id. */
int	 uuid_derive(const char *, int a, int b, char out[UUID_TEXT]);
void	 random_bytes(void *, size_t);

#endif
