/*
 * jwk -- public keys in JSON (RFC 7517, RFC 7518 section 6, RFC 8037) made into keys that OpenSSL can use.
 *
 * A set holds what can verify: RSA of 2048 to 8192 bits, EC P-256, P-384 and P-521, Ed25519.  A key that is
 * anything else, is meant for something else, or shows private members is left out with a line in the log; the
 * others count.
 *
 * A set owns its keys and their texts; jwk_set_free() ends them.  Nothing yields.
 */
#ifndef PARLEY_AUTH_JWK_H
#define PARLEY_AUTH_JWK_H

#include <stddef.h>

#include <openssl/evp.h>

struct alg;
struct arena;
struct buf;

/* An issuer has a handful of keys; these bound what a broken one can cost. */
#define JWK_SET_BYTES	(256 * 1024)
#define JWK_SET_KEYS	64

struct jwk {
	const char	*kid;		/* NULL: none */
	const char	*alg;		/* NULL: any of its type */
	EVP_PKEY	*key;
};

struct jwk_set {
	struct arena	*arena;
	struct jwk	*keys;
	int		 n;
	int		 skipped;
};

/* {"keys":[…]}; NULL: it is no JWK set, and why gets a sentence about it.  A set without usable keys is a set. */
struct jwk_set *jwk_set_read(const char *, size_t, struct buf *why);
void	 jwk_set_free(struct jwk_set **);

/* The key for that algorithm and kid; with kid NULL the only one that fits.  NULL: there is none. */
const struct jwk *jwk_set_find(const struct jwk_set *, const struct alg *, const char *kid);

#endif
