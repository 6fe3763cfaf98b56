/*
 * mac -- HMAC (RFC 2104) with a key that is used again and again.
 *
 * The key is prepared once: OpenSSL's HMAC() looks its algorithm up and hashes the key anew
 * for each text, which costs several times what a short text does.  Nothing yields.
 */
#ifndef PARLEY_BASE_MAC_H
#define PARLEY_BASE_MAC_H

#include <stddef.h>

struct mac;

#define MAC_MAX	64	/* bytes: SHA-512 */

/* digest: "SHA256", …  NULL: no such digest. */
struct mac *mac_open(const char *digest, const void *key, size_t);
void	 mac_close(struct mac **);	/* NULL is fine */
/* The size of the result, 0 on failure. */
size_t	 mac_sign(struct mac *, const void *text, size_t, unsigned char out[MAC_MAX]);

#endif
