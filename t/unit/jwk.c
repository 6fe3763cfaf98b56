/*
 * JWK sets: which keys count, which are left out, and which key a token gets.
 */
#include "auth/jwk.h"

#include "auth/signature.h"
#include "base/arena.h"
#include "base/buf.h"
#include "signer.h"
#include "tap.h"

static struct arena	*texts;
static EVP_PKEY		*rsa, *p256, *p384, *p521, *ed;

/* How many keys of {"keys":[text]} count; -1: no set. */
static int
count(const char *text)
{
	struct buf	 why = { 0 };
	struct jwk_set	*set = jwk_set_read(text, strlen(text), &why);
	int		 n = set != NULL ? set->n : -1;

	ok((set == NULL) == (why.n > 0), "a reason is given where there is no set: %s", why.n > 0 ? buf_text(&why) : "-");
	jwk_set_free(&set);
	buf_free(&why);
	return n;
}

static void
is_kept(const char *jwk, bool kept, const char *name)
{
	ok(count(arena_printf(texts, "{\"keys\":[%s]}", jwk)) == (kept ? 1 : 0), "%s: %s", name, kept ? "kept" : "left out");
}

static void
test_sets(void)
{
	const char	*key = jwk_of(texts, ed, "");
	struct buf	*many = buf_new(texts), *large = buf_new(texts);

	ok(count("") < 0, "nothing");
	ok(count("no JSON") < 0, "no JSON");
	ok(count("[]") < 0, "a list");
	ok(count("{}") < 0, "no keys");
	ok(count("{\"keys\":{}}") < 0, "keys that are no list");
	ok(count("{\"keys\":null}") < 0, "keys null");
	ok(count("{\"keys\":[],\"keys\":[]}") < 0, "keys twice");
	ok(count("{\"keys\":[]}") == 0, "an empty set is a set");
	ok(count(arena_printf(texts, "{\"keys\":[null,1,[],\"x\",%s]}", key)) == 1, "what is no object is left out");

	buf_str(many, "{\"keys\":[");
	for (int i = 0; i < JWK_SET_KEYS; i++)
		buf_printf(many, "%s%s", i > 0 ? "," : "", key);
	ok(count(arena_printf(texts, "%s]}", buf_text(many))) == JWK_SET_KEYS, "64 keys");
	ok(count(arena_printf(texts, "%s,%s]}", buf_text(many), key)) < 0, "65 keys");

	buf_str(large, "{\"keys\":[]");
	while (large->n < JWK_SET_BYTES)
		buf_char(large, ' ');
	buf_char(large, '}');
	ok(count(buf_text(large)) < 0, "more than 256 KiB");
}

static void
test_kinds(void)
{
	EVP_PKEY	*weak = EVP_RSA_gen(2040);

	is_kept(jwk_of(texts, rsa, ""), true, "RSA 2048");
	is_kept(jwk_of(texts, weak, ""), false, "RSA 2040");
	is_kept(jwk_of(texts, p256, ""), true, "P-256");
	is_kept(jwk_of(texts, p384, ""), true, "P-384");
	is_kept(jwk_of(texts, p521, ""), true, "P-521");
	is_kept(jwk_of(texts, ed, ""), true, "Ed25519");
	is_kept("{\"kty\":\"oct\",\"alg\":\"HS256\"}", false, "a shared secret");
	is_kept("{\"kty\":\"oct\",\"k\":\"AAAA\"}", false, "a shared secret that is shown");
	is_kept("{\"kty\":\"rsa\"}", false, "kty in another case");
	is_kept("{\"kty\":1}", false, "kty as a number");
	is_kept("{\"crv\":\"Ed25519\",\"x\":\"AAAA\"}", false, "no kty");
	is_kept("{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AAAA\",\"y\":\"AAAA\"}", false, "secp256k1");
	is_kept("{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}", false, "X25519");
	is_kept("{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}", false, "Ed448");
	EVP_PKEY_free(weak);
}

static void
test_members(void)
{
	static const char	 x[] = "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"";

	is_kept(jwk_of(texts, ed, ",\"use\":\"sig\""), true, "use sig");
	is_kept(jwk_of(texts, rsa, ",\"use\":\"enc\""), false, "use enc");
	is_kept(jwk_of(texts, ed, ",\"use\":1"), false, "use as a number");
	is_kept(jwk_of(texts, ed, ",\"key_ops\":[\"verify\"]"), true, "key_ops verify");
	is_kept(jwk_of(texts, ed, ",\"key_ops\":[\"sign\",\"verify\"]"), true, "key_ops sign and verify");
	is_kept(jwk_of(texts, rsa, ",\"key_ops\":[\"wrapKey\"]"), false, "key_ops wrapKey");
	is_kept(jwk_of(texts, ed, ",\"key_ops\":[]"), false, "no key_ops");
	is_kept(jwk_of(texts, ed, ",\"alg\":\"EdDSA\""), true, "alg EdDSA");
	is_kept(jwk_of(texts, rsa, ",\"alg\":\"PS256\""), false, "alg PS256");
	is_kept(jwk_of(texts, rsa, ",\"alg\":\"RSA-OAEP\""), false, "alg RSA-OAEP");
	is_kept(jwk_of(texts, rsa, ",\"alg\":\"HS256\""), false, "alg HS256 of a public key");
	is_kept(jwk_of(texts, p384, ",\"alg\":\"ES256\""), false, "alg of another curve");
	is_kept(jwk_of(texts, ed, ",\"alg\":1"), false, "alg as a number");
	is_kept(jwk_of(texts, ed, ",\"kid\":1"), false, "kid as a number");
	is_kept(jwk_of(texts, ed, ",\"x5c\":[\"…\"],\"other\":{\"d\":1}"), true, "members that mean nothing here");
	is_kept(jwk_of(texts, ed, ",\"d\":\"AAAA\""), false, "a private Ed25519 key");
	is_kept(jwk_of(texts, rsa, ",\"p\":\"AAAA\""), false, "a private RSA key");
	is_kept(arena_printf(texts, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",%s}", x), true, "the key of RFC 8037, appendix A");
	is_kept(arena_printf(texts, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",%.20s\"}", x), false, "a short x");
	is_kept(arena_printf(texts, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",%.*s=\"}", (int)strlen(x) - 1, x), false, "padding");
	is_kept("{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}", false, "no x");
	is_kept("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"\"}", false, "an empty x");
	is_kept("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":null}", false, "x null");
}

static void
test_numbers(void)
{
	const char	*n = b64_bn(texts, rsa, "n", 0), *x = b64_bn(texts, p256, "qx", 32), *y = b64_bn(texts, p256, "qy", 32);
	const char	*zero = b64(texts, (char[32]){ 0 }, 32), *shorter = b64(texts, (char[31]){ 0 }, 31);

	is_kept(arena_printf(texts, "{\"kty\":\"RSA\",\"n\":\"%s\"}", n), false, "RSA without e");
	is_kept(arena_printf(texts, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"AQAB\"}", n), true, "e 65537");
	is_kept(arena_printf(texts, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"AQ\"}", n), false, "e 1");
	is_kept(arena_printf(texts, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"AAAA\"}", n), false, "e 0");
	is_kept(arena_printf(texts, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"BA\"}", n), false, "an even e");
	is_kept(arena_printf(texts, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"}", n, n), false, "an e as long as n");
	is_kept(arena_printf(texts, "{\"kty\":\"RSA\",\"n\":\"%s%s%s%s%s\",\"e\":\"AQAB\"}",
	    n, n, n, n, n), false, "an n beyond 8192 bits");
	is_kept(arena_printf(texts, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}", x, y), true, "a point");
	is_kept(arena_printf(texts, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}", x, zero), false, "a point off the curve");
	is_kept(arena_printf(texts, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}", shorter, y), false, "a short x");
	is_kept(arena_printf(texts, "{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"%s\",\"y\":\"%s\"}", x, y), false, "a point of another curve");
	is_kept(arena_printf(texts, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\"}", x), false, "no y");
}

static const char *
found_kid(const struct jwk_set *set, const char *alg, const char *kid)
{
	const struct jwk	*k = jwk_set_find(set, alg_find(alg), kid);

	return k == NULL ? "none" : k->kid == NULL ? "nameless" : k->kid;
}

static void
test_find(void)
{
	struct buf	 why = { 0 };
	const char	*text = arena_printf(texts, "{\"keys\":[%s,%s,%s,%s]}",
	    jwk_of(texts, rsa, ",\"kid\":\"a\""), jwk_of(texts, rsa, ",\"kid\":\"b\",\"alg\":\"RS512\""),
	    jwk_of(texts, p256, ",\"kid\":\"a\""), jwk_of(texts, ed, ""));
	struct jwk_set	*set = jwk_set_read(text, strlen(text), &why);

	ok(set != NULL && set->n == 4 && set->skipped == 0, "four keys");
	is_text(found_kid(set, "RS256", "a"), "a", "by kid");
	is_text(found_kid(set, "ES256", "a"), "a", "the same kid for another kind of key");
	is_text(found_kid(set, "ES384", "a"), "none", "but not for another curve");
	is_text(found_kid(set, "RS256", "b"), "none", "a key is for its alg");
	is_text(found_kid(set, "RS512", "b"), "b", "and no other");
	is_text(found_kid(set, "RS256", NULL), "a", "without kid the only one that fits");
	is_text(found_kid(set, "RS512", NULL), "none", "and none of two");
	is_text(found_kid(set, "EdDSA", NULL), "nameless", "a key without kid");
	is_text(found_kid(set, "EdDSA", "a"), "none", "which no kid finds");
	is_text(found_kid(set, "HS256", "a"), "none", "nothing for a shared secret");
	jwk_set_free(&set);
	ok(set == NULL, "and away");
	jwk_set_free(&set);
	buf_free(&why);
}

static void
test_base64url(void)
{
	static const struct { const char *text; int bytes; } trials[] = {
		{ "", 0 }, { "A", -1 }, { "AA", 1 }, { "AB", -1 }, { "AAA", 2 }, { "AAB", -1 }, { "AAE", 2 }, { "AAAA", 3 },
		{ "AAAAA", -1 }, { "AA==", -1 }, { "A-_A", 3 }, { "A+/A", -1 }, { "AA\nA", -1 }, { "A AA", -1 }, { "_w", 1 }, { "_x", -1 },
	};
	unsigned char	 out[16];

	for (size_t i = 0; i < sizeof trials / sizeof *trials; i++)
		ok(base64url_read(trials[i].text, strlen(trials[i].text), out) == trials[i].bytes, "base64url \"%s\"", trials[i].text);
	is_text(b64(texts, "\xff", 1), "_w", "one byte");
	is_text(b64(texts, "\xff\xfe", 2), "__4", "two bytes");
	is_text(b64(texts, "\xff\xfe\xfd", 3), "__79", "three bytes");
}

int
main(void)
{
	texts = arena_open();
	rsa = EVP_RSA_gen(2048);
	p256 = EVP_EC_gen("P-256");
	p384 = EVP_EC_gen("P-384");
	p521 = EVP_EC_gen("P-521");
	ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	test_base64url();
	test_sets();
	test_kinds();
	test_members();
	test_numbers();
	test_find();
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
	EVP_PKEY_free(p521);
	EVP_PKEY_free(ed);
	arena_close(&texts);
	return done_testing();
}
