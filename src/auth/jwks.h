/*
 * jwks -- the issuer's public keys (RFC 7517), from a file or a URL, as this worker has them now.
 *
 * The set is a copy of a public fact that may be forgotten at any time.  From a URL it is asked for by issuer.h,
 * on a fiber of its own: when the first token comes, then each auth.jwks_ttl by a timer, so that a key that has
 * gone from the set dies and yet no request waits; and once for a kid that is not in the set, of which this worker
 * takes notice at most once a second, and the whole pool at most once in auth.jwks_min_interval.  Until then an
 * unknown kid stays unknown.  Whoever must wait waits for the same answer.
 *
 * A file is read again when it changes, and each auth.jwks_ttl.  Where both are configured the file counts.
 *
 * While the issuer is down (no answer, no 200, no JWK set) the last good set is used, for at most auth.jwks_stale.
 */
#ifndef PARLEY_AUTH_JWKS_H
#define PARLEY_AUTH_JWKS_H

#include <stdbool.h>

#include "auth/jwk.h"

struct alg;
struct job;

/*
 * yields when the set must be fetched.  The key for that algorithm and kid (kid NULL: the only one that fits), valid
 * until the next call that yields.  NULL: there is none, and *down says whether the issuer could not be asked: then
 * nobody knows whether the token is good, and the answer is 503 `overloaded` with Retry-After.  NULL with a failed
 * job: a stop or the deadline ended the wait.
 */
const struct jwk *jwks_find(struct job *, const struct alg *, const char *kid, bool *down);

#endif
