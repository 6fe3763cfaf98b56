/* A set of public keys from an issuer: each key counts or is left out, and what counts can verify what it is for. */
#include "fuzz.h"

#include "auth/jwk.h"
#include "auth/signature.h"
#include "base/buf.h"
#include "base/log.h"
#include "io/json.h"

static void
check(struct arena *a, const struct jwk_set *set, const char *p, size_t n)
{
	static const char *const	 names[] = { "RS256", "RS512", "ES256", "ES384", "ES512", "EdDSA" };
	json_object			*keys = NULL;

	must(json_get_array(json_read(a, p, n, NULL), "keys", &keys) == JSON_GOT);
	must(set->n >= 0 && (size_t)(set->n + set->skipped) == json_object_array_length(keys));
	for (int i = 0; i < set->n; i++) {
		const struct jwk	*k = &set->keys[i];
		bool			 fits = false;

		for (size_t j = 0; j < sizeof names / sizeof *names; j++)
			fits |= alg_fits(alg_find(names[j]), k->key);
		must(fits && !alg_fits(alg_find("HS256"), k->key));
		must(!EVP_PKEY_is_a(k->key, "RSA") || EVP_PKEY_get_bits(k->key) >= 2048);
		must(k->alg == NULL || alg_fits(alg_find(k->alg), k->key));
	}
	for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
		const struct jwk	*found = jwk_set_find(set, alg_find(names[j]), NULL);

		must(found == NULL || alg_fits(alg_find(names[j]), found->key));
		must(jwk_set_find(set, alg_find("HS256"), NULL) == NULL);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static bool	 quiet;
	struct arena	*a = arena_open();
	struct buf	*why = buf_new(a);
	char		*p = fuzz_copy((const char *)data, n);
	struct jwk_set	*set;

	if (!quiet)
		(void)log_open("/dev/null", LOG_ERROR, NULL);
	quiet = true;
	set = jwk_set_read(p, n, why);
	must((set == NULL) == (why->n > 0));
	if (set != NULL)
		check(a, set, p, n);
	jwk_set_free(&set);
	free(p);
	arena_close(&a);
	return 0;
}
