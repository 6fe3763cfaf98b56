/*
 * signer -- the other side of the gate: keys made on the spot, their JWKs, and tokens signed with them, right or wrong.
 *
 * Written with OpenSSL alone, so that nothing of what is tested signs for the test.  Texts belong to the arena given; keys to the caller.
 */
#ifndef PARLEY_UNIT_SIGNER_H
#define PARLEY_UNIT_SIGNER_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "auth/base64url.h"
#include "base/arena.h"
#include "base/buf.h"

struct signer {
	EVP_PKEY	*key;		/* NULL: HMAC with secret */
	const char	*secret;
	const char	*digest;	/* NULL: the key brings its own */
};

static char *
b64(struct arena *a, const void *p, size_t n)
{
	struct buf	*b = buf_new(a);

	base64url_add(b, p, n);
	return arena_strdup(a, buf_text(b));
}

static char *
b64_bn(struct arena *a, const EVP_PKEY *key, const char *name, int width)
{
	BIGNUM		*bn = NULL;
	unsigned char	 bytes[1024];
	int		 n;

	if (EVP_PKEY_get_bn_param(key, name, &bn) != 1)
		abort();
	n = width != 0 ? BN_bn2binpad(bn, bytes, width) : BN_bn2bin(bn, bytes);
	BN_free(bn);
	return b64(a, bytes, (size_t)n);
}

/* extra: further members with a comma in front, or "". */
__attribute__((unused)) static const char *
jwk_of(struct arena *a, const EVP_PKEY *key, const char *extra)
{
	unsigned char	 raw[32];
	size_t		 n = sizeof raw;
	int		 bits = EVP_PKEY_get_bits(key), width = (bits + 7) / 8;

	if (EVP_PKEY_is_a(key, "RSA"))
		return arena_printf(a, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}",
		    b64_bn(a, key, "n", 0), b64_bn(a, key, "e", 0), extra);
	if (EVP_PKEY_is_a(key, "EC"))
		return arena_printf(a, "{\"kty\":\"EC\",\"crv\":\"P-%d\",\"x\":\"%s\",\"y\":\"%s\"%s}", bits,
		    b64_bn(a, key, "qx", width), b64_bn(a, key, "qy", width), extra);
	if (EVP_PKEY_get_raw_public_key(key, raw, &n) != 1)
		abort();
	return arena_printf(a, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"%s}", b64(a, raw, n), extra);
}

__attribute__((unused)) static char *
pem_of(struct arena *a, EVP_PKEY *key)
{
	BIO	*bio = BIO_new(BIO_s_mem());
	char	*p, *text;
	long	 n;

	PEM_write_bio_PUBKEY(bio, key);
	n = BIO_get_mem_data(bio, &p);
	text = arena_memdup(a, p, (size_t)n);
	BIO_free(bio);
	return text;
}

/* DER to the two numbers side by side that JWS wants. */
static size_t
ecdsa_raw(const EVP_PKEY *key, unsigned char *sig, size_t n)
{
	const unsigned char	*p = sig;
	ECDSA_SIG		*s = d2i_ECDSA_SIG(NULL, &p, (long)n);
	int			 width = (EVP_PKEY_get_bits(key) + 7) / 8;

	BN_bn2binpad(ECDSA_SIG_get0_r(s), sig, width);
	BN_bn2binpad(ECDSA_SIG_get0_s(s), sig + width, width);
	ECDSA_SIG_free(s);
	return (size_t)(2 * width);
}

static size_t
sign_bytes(const struct signer *by, const char *text, unsigned char out[1024])
{
	EVP_MD_CTX	*ctx;
	size_t		 n = 1024;
	unsigned	 mac = 0;

	if (by->key == NULL) {
		HMAC(EVP_get_digestbyname(by->digest), by->secret, (int)strlen(by->secret),
		    (const unsigned char *)text, strlen(text), out, &mac);
		return mac;
	}
	ctx = EVP_MD_CTX_new();
	if (EVP_DigestSignInit_ex(ctx, NULL, by->digest, NULL, NULL, by->key, NULL) != 1 ||
	    EVP_DigestSign(ctx, out, &n, (const unsigned char *)text, strlen(text)) != 1)
		abort();
	EVP_MD_CTX_free(ctx);
	return EVP_PKEY_is_a(by->key, "EC") ? ecdsa_raw(by->key, out, n) : n;
}

/* "head.body" signed as it stands. */
static char *
sign_text(struct arena *a, const struct signer *by, const char *text)
{
	unsigned char	 sig[1024];
	size_t		 n = sign_bytes(by, text, sig);

	return arena_printf(a, "%s.%s", text, b64(a, sig, n));
}

/* "@+900" becomes the time in 900 seconds. */
static const char *
at_times(struct arena *a, const char *s)
{
	struct buf	*b = buf_new(a);

	while (*s != '\0') {
		if (*s == '@' && (s[1] == '+' || s[1] == '-')) {
			char	*end;

			buf_printf(b, "%ld", (long)((unsigned long)time(NULL) + (unsigned long)strtol(s + 1, &end, 10)));
			s = end;
		} else
			buf_char(b, *s++);
	}
	return arena_strdup(a, buf_text(b));
}

__attribute__((unused)) static char *
sign(struct arena *a, const struct signer *by, const char *header, const char *payload)
{
	payload = at_times(a, payload);
	return sign_text(a, by, arena_printf(a, "%s.%s",
	    b64(a, header, strlen(header)), b64(a, payload, strlen(payload))));
}

#endif
