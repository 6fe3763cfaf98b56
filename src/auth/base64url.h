/*
 * base64url -- RFC 4648 section 5 without padding, as RFC 7515 (JWS) writes it.
 *
 * Reading is strict: the alphabet alone, no padding, no white space, no length that cannot be, and the unused bits of
 * the last character are zero, so that each byte string has exactly one text.  Nothing yields, nothing allocates.
 */
#ifndef PARLEY_AUTH_BASE64URL_H
#define PARLEY_AUTH_BASE64URL_H

#include <stddef.h>
#include <sys/types.h>

struct buf;

#define BASE64URL_BYTES(n)	((n) / 4 * 3 + 2)	/* room that n characters may need */

/* Bytes written to out, which has room for BASE64URL_BYTES(n); -1: not base64url. */
ssize_t	 base64url_read(const char *, size_t n, unsigned char *out);
void	 base64url_add(struct buf *, const void *, size_t);

#endif
