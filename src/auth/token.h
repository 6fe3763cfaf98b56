/*
 * token -- the gate: who is asking?
 *
 * A strict reading of the JWT comes before any library sees it (exactly three base64url segments without padding,
 * strict JSON, alg from a case-sensitive allow-list, no crit), the key's type is bound to the algorithm, and the
 * claims are checked here.
 *
 * Why a token is refused goes to the job's detail, which only the log sees; the client hears one sentence for all
 * of them.  token_expired is said only of a token that is right in everything else.
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
 * job->user and job->user_hash.  -1: missing_token, invalid_token or token_expired; or overloaded, when the issuer's keys
 * cannot be had (503 with Retry-After: the token may be good).
 */
int	 token_check(struct job *, const char *authorization);

/*
 * For a door that has a token of its own, any text: is that what the header brings?  Told in a time that does not depend on
 * how much of it is right.  -1: missing_token or invalid_token.
 */
int	 token_check_own(struct job *, const char *authorization, const char *own);

/* Is the algorithm one that auth.algorithms lists or, without that list, one that there are keys for? */
bool	 token_alg_allowed(const struct conf *, const char *alg);

/*
 * Signs an HS256 token (HS384, HS512 where only they are allowed) for the command line: sub (and the first claim of
 * auth.user_claim), iat, exp, and iss and aud where configured.  -1: no secret, or no sane user.
 */
int	 token_make(const struct conf *, const char *user, long seconds, struct buf *out);

#endif
