/*
 * issuer -- one question to the issuer of tokens: which keys are yours now?
 *
 * All workers ask through one row of `facts`: who finds it fresh enough takes it; otherwise one of them, at most once in
 * auth.jwks_min_interval, fetches the URL and stores what it got, and the others wait for that.  Without a database each
 * worker asks by itself, as seldom.
 */
#ifndef PARLEY_AUTH_ISSUER_H
#define PARLEY_AUTH_ISSUER_H

#include <stdint.h>

#include "auth/jwk.h"

struct job;

struct issuer_answer {
	struct jwk_set	*set;		/* NULL: nothing newer; else the caller's to free */
	int64_t		 said_at;	/* when the issuer said so */
};

/*
 * yields for some seconds at most.  have: when the issuer said what the caller has (NEVER: it has nothing);
 * fresh_ms: how old a word of the row may be to be taken for the issuer's last one.  0: this is the issuer's last
 * word; -1: it could not be asked (the reason is in the log), though the row may still have known something newer.
 */
int	 issuer_ask(struct job *, int64_t have, int64_t fresh_ms, struct issuer_answer *);

#endif
