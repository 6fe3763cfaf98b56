/*
 * signature -- the algorithms of RFC 7518 and RFC 8037 that the gate knows, and the check of one signature.
 *
 * The name decides the kind of key: a public key is never a shared secret, and P-384 never signs ES256.  MACs are compared in
 * constant time.  Everything is OpenSSL's; signature.c says why not libjwt's.  Nothing yields.
 */
#ifndef PARLEY_AUTH_SIGNATURE_H
#define PARLEY_AUTH_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/evp.h>

enum alg_family { ALG_HS, ALG_RS, ALG_ES, ALG_ED };

struct alg {
	const char	*name;
	enum alg_family	 family;
	const char	*digest;	/* NULL: the algorithm brings its own */
	const char	*group;		/* OpenSSL's name of the curve, for ES* */
};

const struct alg *alg_find(const char *name);	/* case-sensitive (RFC 7515 section 4.1.1); NULL: not one of ours */
bool	 alg_fits(const struct alg *, const EVP_PKEY *);	/* is the key of the kind that this algorithm asks for? */

/* "header.payload" and the bytes of the signature over it. */
struct signed_text {
	const char	*text;
	size_t		 nsigned;
	const unsigned char *signature;
	size_t		 nsignature;
};

bool	 signature_by_secret(const struct alg *, const char *secret, const struct signed_text *);
bool	 signature_by_key(const struct alg *, EVP_PKEY *, const struct signed_text *);

#endif
