/*
 * sha256 -- the SHA-256 (FIPS 180-4) of a text in lower-case hexadecimal, to tell whether it is the same text.
 */
#ifndef PARLEY_BASE_SHA256_H
#define PARLEY_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>

#define SHA256_TEXT	65	/* 64 digits and the NUL */

bool	 sha256_hex(const void *, size_t, char out[SHA256_TEXT]);	/* false: OpenSSL has failed */

#endif
