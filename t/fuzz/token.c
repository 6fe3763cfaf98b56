/*
 * The gate.  A header and a payload, a line each, are signed here with keys that it knows, and what opens it is read
 * once more by another: right in all that is asked for.  The same token with any one bit changed opens nothing.
 *
 * A first line of its own says by whom: hs, ed, es, none (no signature at all), or raw: the second line is the whole
 * value of Authorization, which nobody here has signed.
 */
#include "fuzz.h"

#include <json-c/json_tokener.h>
#include <time.h>
#include <unistd.h>

#include "../unit/signer.h"
#include "auth/claims.h"
#include "auth/token.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/utf8.h"
#include "run/job.h"

#define SECRET	"a secret of more than thirty-two bytes, for tests"
#define FLIPS	8

static char		 keys[] = "/tmp/parley-fuzz-jwks-XXXXXX";
static struct signer	 hs = { .secret = SECRET, .digest = "SHA256" }, ed, es = { .digest = "SHA256" };
static const struct conf conf = {
	.auth_secret = SECRET,
	.auth_jwks_file = keys,
	.auth_jwks_ttl = 86400000,
	.auth_jwks_stale = 86400000,
	.auth_jwks_min_interval = 10000,
	.auth_leeway = 30,
	.auth_issuer = "https://issuer.example",
	.auth_audience = "chat",
};

static void
end(void)
{
	(void)unlink(keys);
	EVP_PKEY_free(ed.key);
	EVP_PKEY_free(es.key);
}

/* The same keys each time, or an input would mean another thing each time. */
static const char es_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZ4/6+FmVeRriQ7ov\n"
    "NK+rQitLinOFcx/nSeV5K2a98gShRANCAASGXGBkxw1Vi5c/VtIJ2CWzGRmkwqIe\n"
    "mm0iFVp2mly400mwJe4s8hDBfe8CLl+/9kpjq0ksvxGunnVvdU04v/n5\n"
    "-----END PRIVATE KEY-----\n";

static void
begin(void)
{
	static const unsigned char	 seed[32] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	struct arena			*a;
	BIO				*bio;
	FILE				*f;
	int				 fd;

	if (ed.key != NULL)
		return;
	(void)log_open("/dev/null", LOG_ERROR, NULL);
	a = arena_open();
	ed.key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
	bio = BIO_new_mem_buf(es_pem, -1);
	es.key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	BIO_free(bio);
	if (ed.key == NULL || es.key == NULL || (fd = mkstemp(keys)) == -1 || (f = fdopen(fd, "w")) == NULL)
		abort();
	fprintf(f, "{\"keys\":[%s,%s]}", jwk_of(a, ed.key, ",\"kid\":\"ed\""), jwk_of(a, es.key, ",\"kid\":\"es\",\"alg\":\"ES256\""));
	(void)fclose(f);
	arena_close(&a);
	(void)atexit(end);
}

/* Does it open the gate?  Whose it is then is said in user. */
static bool
opens(const char *authorization, char user[USER_MAX + 1])
{
	struct job	 job;
	int		 rc;

	job_open(&job, &conf);
	rc = token_check(&job, authorization);
	must((rc < 0) == (job.fail != FAIL_NONE));
	must(rc < 0 ? job.user == NULL && *job.user_hash == '\0' : job.user != NULL && strlen(job.user_hash) == 16);
	must(job.fail == FAIL_NONE || job.fail == FAIL_MISSING_TOKEN || job.fail == FAIL_INVALID_TOKEN || job.fail == FAIL_TOKEN_EXPIRED);
	if (rc == 0)
		snprintf(user, USER_MAX + 1, "%s", job.user);
	job_close(&job);
	return rc == 0;
}

/* By a reader that is not ours, and more forgiving: nothing of what it sees may be wrong. */
static void
check(const char *header, const char *payload, const char *alg, const char *user)
{
	json_object	*h = json_tokener_parse(header), *p = json_tokener_parse(payload);
	json_object	*sub = json_object_object_get(p, "sub"), *exp = json_object_object_get(p, "exp");

	must(h != NULL && p != NULL && sub != NULL && exp != NULL);
	must(strcmp(json_object_get_string(json_object_object_get(h, "alg")), alg) == 0);
	must(!json_object_object_get_ex(h, "crit", NULL) && !json_object_object_get_ex(h, "b64", NULL));
	must(strcmp(json_object_get_string(sub), user) == 0);
	must(utf8_valid(user, strlen(user)) && user_is_sane(user));
	must(json_object_get_double(exp) + 31 > (double)time(NULL));
	must(strcmp(json_object_get_string(json_object_object_get(p, "iss")), conf.auth_issuer) == 0);
	must(strstr(json_object_get_string(json_object_object_get(p, "aud")), conf.auth_audience) != NULL);
	json_object_put(h);
	json_object_put(p);
}

/* Eight bits of the token, one at a time. */
static void
flip(struct arena *a, const struct input *in, const char *token)
{
	char	*copy = arena_printf(a, "Bearer %s", token), user[USER_MAX + 1];
	size_t	 n = strlen(token);

	for (int i = 0; i < FLIPS; i++) {
		size_t	 at = (fuzz_pick(in, n * 8) + (size_t)i * 7919) % (n * 8);
		char	*byte = &copy[7 + at / 8];

		*byte = (char)(*byte ^ (1 << at % 8));
		must(!opens(copy, user));
		*byte = (char)(*byte ^ (1 << at % 8));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct { const char *name, *alg; const struct signer *by; } kinds[] = {
		{ "hs", "HS256", &hs }, { "ed", "EdDSA", &ed }, { "es", "ES256", &es },
	};
	struct input	 in = { (const char *)data, n };
	struct arena	*a = arena_open();
	const char	*kind = fuzz_line(a, &in), *header = fuzz_line(a, &in), *payload = fuzz_rest(a, &in), *token;
	char		 user[USER_MAX + 1];

	begin();
	/* Once: the time goes on. */
	payload = at_times(a, payload);
	if (strcmp(kind, "raw") == 0)
		must(!opens(header, user));
	else if (strcmp(kind, "none") == 0)
		must(!opens(arena_printf(a, "Bearer %s.%s.", b64(a, header, strlen(header)), b64(a, payload, strlen(payload))), user));
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(kind, kinds[i].name) != 0)
			continue;
		token = sign(a, kinds[i].by, header, payload);
		if (opens(arena_printf(a, "Bearer %s", token), user)) {
			check(header, payload, kinds[i].alg, user);
			flip(a, &in, token);
		}
	}
	arena_close(&a);
	return 0;
}
