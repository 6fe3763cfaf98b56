/*
 * token -- the gate: who is asking?
 *
 * A strict reading of the JWT comes before any library sees it (exactly three
 * base64url segments without padding, strict JSON, alg from a case-sensitive allow-list, no crit), the key's type is
 * bound to the algorithm, and the claims are checked here.  libjwt verifies
 * HS*, RS* and ES*, OpenSSL Ed25519.
 */
#ifndef PARLEY_AUTH_TOKEN_H
#define PARLEY_AUTH_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct conf;
struct job;

#define TOKEN_MAX	8192	/* bytes; longer is invalid_token */

/*
 * yields only when keys must be fetched.  Takes the value of the Authorization header (NULL: none) and sets
 * job->user and job->user_hash.  -1: missing_token, invalid_token or token_expired; the reason goes to the detail.
 */
int	 token_check(struct job *, const char *authorization);

/* Signs an HS256 token for the command line (parleyctl token): sub, iat, exp, and iss and aud where configured. -1: no secret. */
int	 token_make(const struct conf *, const char *user, long seconds, struct buf *out);

#endif
