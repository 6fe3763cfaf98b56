#include "auth/signature.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>

#include "base/mac.h"

static const struct alg algs[] = {
	{ "HS256", ALG_HS, "SHA256", NULL },
	{ "HS384", ALG_HS, "SHA384", NULL },
	{ "HS512", ALG_HS, "SHA512", NULL },
	{ "RS256", ALG_RS, "SHA256", NULL },
	{ "RS384", ALG_RS, "SHA384", NULL },
	{ "RS512", ALG_RS, "SHA512", NULL },
	{ "ES256", ALG_ES, "SHA256", "prime256v1" },
	{ "ES384", ALG_ES, "SHA384", "secp384r1" },
	{ "ES512", ALG_ES, "SHA512", "secp521r1" },
	{ "EdDSA", ALG_ED, NULL, NULL },
};

/* The key of the configuration's secret, made ready for the algorithm of the last token; made again when forgotten. */
static struct {
	const struct alg *alg;
	char		*secret;
	struct mac	*mac;
} kept;

const struct alg *
alg_find(const char *name)
{
	for (size_t i = 0; i < sizeof algs / sizeof *algs; i++)
		if (strcmp(algs[i].name, name) == 0)
			return &algs[i];
	return NULL;
}

bool
alg_fits(const struct alg *a, const EVP_PKEY *key)
{
	char	 group[32];
	size_t	 n;

	switch (a->family) {
	case ALG_RS:
		return EVP_PKEY_is_a(key, "RSA");
	case ALG_ES:
		return EVP_PKEY_is_a(key, "EC") &&
		    EVP_PKEY_get_group_name(key, group, sizeof group, &n) == 1 &&
		    strcmp(group, a->group) == 0;
	case ALG_ED:
		return EVP_PKEY_is_a(key, "ED25519");
	case ALG_HS:
		break;
	}
	return false;
}

static struct mac *
mac_kept(const struct alg *a, const char *secret)
{
	if (kept.alg == a && strcmp(kept.secret, secret) == 0)
		return kept.mac;
	mac_close(&kept.mac);
	free(kept.secret);
	kept.secret = strdup(secret);
	kept.mac = kept.secret != NULL ? mac_open(a->digest, secret, strlen(secret)) : NULL;
	kept.alg = kept.mac != NULL ? a : NULL;
	return kept.mac;
}

/* Not by libjwt: its releases before 1.17 compare MACs with strcmp(), which tells by its time how much was right (CVE-2024-25189). */
bool
signature_by_secret(const struct alg *a, const char *secret, const struct signed_text *t)
{
	unsigned char	 mac[MAC_MAX];
	struct mac	*by;
	size_t		 n;

	/* An empty secret would be one that everybody knows. */
	if (a->family != ALG_HS || secret == NULL || *secret == '\0' || (by = mac_kept(a, secret)) == NULL)
		return false;
	n = mac_sign(by, t->text, t->nsigned, mac);
	return n > 0 && n == t->nsignature && CRYPTO_memcmp(mac, t->signature, n) == 0;
}

/*
 * JWS writes an ECDSA signature as r and s side by side, each as long as the field (RFC 7518 section 3.4); OpenSSL reads
 * the ASN.1 of RFC 3279.  Bytes of the second form, 0 when it is none.
 */
static size_t
ecdsa_der(const EVP_PKEY *key, const struct signed_text *t, unsigned char **der)
{
	size_t		 half = ((size_t)EVP_PKEY_get_bits(key) + 7) / 8;
	ECDSA_SIG	*sig = ECDSA_SIG_new();
	BIGNUM		*r, *s;
	int		 n = 0;

	if (sig != NULL && t->nsignature == 2 * half) {
		r = BN_bin2bn(t->signature, (int)half, NULL);
		s = BN_bin2bn(t->signature + half, (int)half, NULL);
		if (ECDSA_SIG_set0(sig, r, s) == 1)
			n = i2d_ECDSA_SIG(sig, der);
	}
	ECDSA_SIG_free(sig);
	return n > 0 ? (size_t)n : 0;
}

/*
 * With the key as it was parsed when the set was read.  libjwt would read its PEM again for each token, which takes
 * several times as long as the signature itself, and it refuses the "at+jwt" of RFC 9068.
 */
static bool
key_holds(const struct alg *a, EVP_PKEY *key, const unsigned char *sig, size_t nsig, const struct signed_text *t)
{
	EVP_MD_CTX	*ctx = EVP_MD_CTX_new();
	bool		 good;

	/* The default padding of an RSA key is the PKCS #1 v1.5 of RS*. */
	good = ctx != NULL && nsig > 0 &&
	    EVP_DigestVerifyInit_ex(ctx, NULL, a->digest, NULL, NULL, key, NULL) == 1 &&
	    EVP_DigestVerify(ctx, sig, nsig, (const unsigned char *)t->text, t->nsigned) == 1;
	EVP_MD_CTX_free(ctx);
	return good;
}

bool
signature_by_key(const struct alg *a, EVP_PKEY *key, const struct signed_text *t)
{
	unsigned char	*der = NULL;
	size_t		 n;
	bool		 good;

	if (!alg_fits(a, key))
		return false;
	if (a->family == ALG_ES) {
		n = ecdsa_der(key, t, &der);
		good = key_holds(a, key, der, n, t);
	} else
		good = key_holds(a, key, t->signature, t->nsignature, t);
	OPENSSL_free(der);

	/* What is left in OpenSSL's queue would be read by the next TLS call of this thread as its own failure. */
	ERR_clear_error();
	return good;
}
