#include "auth/jwk.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "auth/base64url.h"
#include "auth/signature.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "io/json.h"

/* Below 2048 bits RFC 7518 section 3.3 forbids the use; above 8192 one check takes longer than a turn should. */
#define RSA_BITS_MIN	2048
#define RSA_BITS_MAX	8192
/* OpenSSL refuses longer exponents for large keys. */
#define RSA_E_BITS_MAX	64
#define EC_FIELD_MAX	66	/* bytes of P-521 */
#define KID_MAX		255

struct curve {
	const char	*crv;
	const char	*group;
	size_t		 field;
};

static const struct curve curves[] = {
	{ "P-256", "prime256v1", 32 },
	{ "P-384", "secp384r1", 48 },
	{ "P-521", "secp521r1", 66 },
};

static EVP_PKEY *
key_from(const char *type, OSSL_PARAM_BLD *bld)
{
	OSSL_PARAM	*params = OSSL_PARAM_BLD_to_param(bld);
	EVP_PKEY_CTX	*ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY	*key = NULL;

	if (params != NULL && ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
		(void)EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params);
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return key;
}

/* The bytes of a base64url member; NULL: absent, no string, or no base64url. */
static unsigned char *
member_bytes(struct arena *a, json_object *o, const char *name, size_t *n)
{
	const char	*s = json_text_or_null(o, name);
	unsigned char	*p;
	ssize_t		 got;

	*n = 0;
	if (s == NULL || *s == '\0')
		return NULL;
	p = arena_alloc(a, BASE64URL_BYTES(strlen(s)));
	got = base64url_read(s, strlen(s), p);
	*n = (size_t)got;
	return got < 0 ? NULL : p;
}

static void
bn_free(void *bn)
{
	BN_free(bn);
}

static BIGNUM *
member_number(struct arena *a, json_object *o, const char *name)
{
	size_t		 n;
	unsigned char	*p = member_bytes(a, o, name, &n);
	BIGNUM		*bn = p != NULL ? BN_bin2bn(p, (int)n, NULL) : NULL;

	if (bn != NULL)
		arena_defer(a, bn_free, bn);
	return bn;
}

static EVP_PKEY *
rsa_read(struct arena *a, json_object *o, const char **why)
{
	BIGNUM		*n = member_number(a, o, "n");
	BIGNUM		*e = member_number(a, o, "e");
	OSSL_PARAM_BLD	*bld;
	EVP_PKEY	*key = NULL;

	*why = "its n or e is missing or broken";
	if (n == NULL || e == NULL || !BN_is_odd(e) || BN_is_one(e) || BN_num_bits(e) > RSA_E_BITS_MAX)
		return NULL;
	*why = "RSA keys must have 2048 to 8192 bits";
	if (BN_num_bits(n) < RSA_BITS_MIN || BN_num_bits(n) > RSA_BITS_MAX)
		return NULL;

	*why = "OpenSSL refuses it";
	bld = OSSL_PARAM_BLD_new();
	if (bld != NULL &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		key = key_from("RSA", bld);
	OSSL_PARAM_BLD_free(bld);
	return key;
}

static const struct curve *
curve_find(const char *crv)
{
	for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
		if (crv != NULL && strcmp(curves[i].crv, crv) == 0)
			return &curves[i];
	return NULL;
}

static EVP_PKEY *
ec_read(struct arena *a, json_object *o, const char **why)
{
	const struct curve *c = curve_find(json_text_or_null(o, "crv"));
	unsigned char	*x, *y, point[1 + 2 * EC_FIELD_MAX];
	size_t		 nx, ny;
	OSSL_PARAM_BLD	*bld;
	EVP_PKEY	*key = NULL;

	*why = "its curve is none of P-256, P-384 and P-521";
	if (c == NULL)
		return NULL;
	*why = "its x or y is missing or broken";
	x = member_bytes(a, o, "x", &nx);
	y = member_bytes(a, o, "y", &ny);
	if (x == NULL || y == NULL || nx != c->field || ny != c->field)
		return NULL;
	point[0] = POINT_CONVERSION_UNCOMPRESSED;
	memcpy(point + 1, x, nx);
	memcpy(point + 1 + nx, y, ny);

	/* OpenSSL refuses a point that is not on its curve. */
	*why = "OpenSSL refuses it";
	bld = OSSL_PARAM_BLD_new();
	if (bld != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, c->group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + nx + ny) == 1)
		key = key_from("EC", bld);
	OSSL_PARAM_BLD_free(bld);
	return key;
}

static EVP_PKEY *
okp_read(struct arena *a, json_object *o, const char **why)
{
	const char	*crv = json_text_or_null(o, "crv");
	unsigned char	*x;
	size_t		 n;

	*why = "its curve is not Ed25519";
	if (crv == NULL || strcmp(crv, "Ed25519") != 0)
		return NULL;
	*why = "its x is missing or broken";
	x = member_bytes(a, o, "x", &n);
	return x != NULL && n == 32 ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, n) : NULL;
}

static EVP_PKEY *
key_read(struct arena *a, json_object *o, const char **why)
{
	const char	*kty = json_text_or_null(o, "kty");

	*why = "its kty is none of RSA, EC and OKP";
	if (kty == NULL)
		return NULL;
	if (strcmp(kty, "RSA") == 0)
		return rsa_read(a, o, why);
	if (strcmp(kty, "EC") == 0)
		return ec_read(a, o, why);
	return strcmp(kty, "OKP") == 0 ? okp_read(a, o, why) : NULL;
}

static bool
has_private_member(json_object *o)
{
	static const char *const names[] = { "d", "p", "q", "dp", "dq", "qi", "oth", "k" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (json_object_object_get_ex(o, names[i], NULL))
			return true;
	return false;
}

/* RFC 7517 sections 4.2 and 4.3: absent means anything. */
static bool
is_for_verifying(json_object *o)
{
	json_object	*ops;
	const char	*use;

	switch (json_get_string(o, "use", &use)) {
	case JSON_ABSENT:
		break;
	case JSON_GOT:
		if (strcmp(use, "sig") == 0)
			break;
		return false;
	default:
		return false;
	}

	switch (json_get_array(o, "key_ops", &ops)) {
	case JSON_ABSENT:
		return true;
	case JSON_GOT:
		for (size_t i = 0; i < json_object_array_length(ops); i++) {
			json_object	*op = json_object_array_get_idx(ops, i);

			if (json_object_is_type(op, json_type_string) && strcmp(json_object_get_string(op), "verify") == 0)
				return true;
		}
		return false;
	default:
		return false;
	}
}

static bool
alg_is_its_own(const char *name, const EVP_PKEY *key)
{
	const struct alg	*a = alg_find(name);

	return a != NULL && alg_fits(a, key);
}

static void
key_free(void *key)
{
	EVP_PKEY_free(key);
}

/* Adds one key to the set; NULL, or why not. */
static const char *
set_add(struct jwk_set *set, struct arena *scratch, json_object *o)
{
	enum json_got	 kid_got, alg_got;
	const char	*kid = NULL, *alg = NULL, *why;
	EVP_PKEY	*key;

	if (!json_object_is_type(o, json_type_object))
		return "it is no object";
	kid_got = json_get_string(o, "kid", &kid);
	alg_got = json_get_string(o, "alg", &alg);
	if ((kid_got != JSON_ABSENT && kid_got != JSON_GOT) || (kid_got == JSON_GOT && strlen(kid) > KID_MAX))
		return "its kid is no string of at most 255 bytes";
	if (alg_got != JSON_ABSENT && alg_got != JSON_GOT)
		return "its alg is no string";
	if (has_private_member(o))
		return "it shows private members: this key is known to everybody, replace it";
	if (!is_for_verifying(o))
		return "it is not for signatures";
	if ((key = key_read(scratch, o, &why)) == NULL)
		return why;
	arena_defer(set->arena, key_free, key);
	if (alg_got == JSON_GOT && !alg_is_its_own(alg, key))
		return "its alg is unknown or of another type";

	set->keys[set->n++] = (struct jwk){
		.kid = kid_got == JSON_GOT ? arena_strdup(set->arena, kid) : NULL,
		.alg = alg_got == JSON_GOT ? arena_strdup(set->arena, alg) : NULL,
		.key = key,
	};
	return NULL;
}

static void
set_fill(struct jwk_set *set, struct arena *scratch, json_object *keys)
{
	size_t	 n = json_object_array_length(keys);

	set->keys = arena_array(set->arena, struct jwk, n);
	for (size_t i = 0; i < n; i++) {
		json_object	*o = json_object_array_get_idx(keys, i);
		const char	*why = set_add(set, scratch, o);

		if (why == NULL)
			continue;
		set->skipped++;
		if (log_begin(LOG_WARN, "jwk_skipped")) {
			log_str("kid", json_text_or_null(o, "kid"));
			log_str("reason", why);
			log_end();
		}
	}
	ERR_clear_error();
}

struct jwk_set *
jwk_set_read(const char *text, size_t n, struct buf *why)
{
	struct arena	*scratch = arena_open();
	struct jwk_set	*set = NULL;
	json_object	*o, *keys;
	const char	*reason = NULL;

	if (n > JWK_SET_BYTES)
		buf_printf(why, "it has more than %d bytes", JWK_SET_BYTES);
	else if ((o = json_read(scratch, text, n, &reason)) == NULL)
		buf_printf(why, "it is no JSON: %s", reason);
	else if (json_get_array(o, "keys", &keys) != JSON_GOT)
		buf_str(why, "it is no object with an array \"keys\"");
	else if (json_object_array_length(keys) > JWK_SET_KEYS)
		buf_printf(why, "it has more than %d keys", JWK_SET_KEYS);
	else {
		struct arena	*a = arena_open();

		set = arena_new(a, struct jwk_set);
		set->arena = a;
		set_fill(set, scratch, keys);
	}
	arena_close(&scratch);
	return set;
}

void
jwk_set_free(struct jwk_set **set)
{
	struct arena	*a;

	if (*set == NULL)
		return;
	a = (*set)->arena;
	*set = NULL;
	arena_close(&a);
}

static bool
key_serves(const struct jwk *k, const struct alg *a)
{
	return alg_fits(a, k->key) && (k->alg == NULL || strcmp(k->alg, a->name) == 0);
}

const struct jwk *
jwk_set_find(const struct jwk_set *set, const struct alg *a, const char *kid)
{
	const struct jwk	*found = NULL;

	for (int i = 0; i < set->n; i++) {
		const struct jwk	*k = &set->keys[i];

		if (!key_serves(k, a))
			continue;
		if (kid != NULL) {
			if (k->kid != NULL && strcmp(k->kid, kid) == 0)
				return k;
			continue;
		}
		/* A token without kid is only accepted where there is nothing to choose. */
		if (found != NULL)
			return NULL;
		found = k;
	}
	return found;
}
