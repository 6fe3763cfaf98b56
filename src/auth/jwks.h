/*
 * jwks -- the issuer's public keys (RFC 7517), from a file or a URL.
 *
 * Fetched without blocking, kept with an expiry and shared by all workers as a row of `facts`; refetched once on an
 * unknown kid, at most once in auth.jwks_min_interval, one fetch at a time; unknown kids are remembered as unknown until then;
 * the last good set is kept while the issuer is down, for at most auth.jwks_stale.  A key that has gone from the set dies with the expiry.
 */
#ifndef PARLEY_AUTH_JWKS_H
#define PARLEY_AUTH_JWKS_H

#include <stdbool.h>

#include <openssl/evp.h>

struct job;

struct jwk {
	const char	*kid;		/* NULL: none */
	const char	*alg;		/* NULL: any of its type */
	EVP_PKEY	*key;		/* RSA (2048 bits at least), EC P-256/384/521, Ed25519 */
	const char	*pem;		/* the same, for libjwt */
};

/*
 * yields when the set must be fetched.  The key for that algorithm and kid (kid NULL: the only one of its type);
 * NULL: there is none (*down says whether the issuer could not be asked).  Valid until the next call that yields.
 */
const struct jwk *jwks_find(struct job *, const char *alg, const char *kid, bool *down);

#endif
