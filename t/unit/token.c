/*
 * The gate: what opens it and, much longer, what must not.
 */
#include "auth/token.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/conf.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "signer.h"
#include "tap.h"

#define SECRET	"a secret of more than thirty-two bytes, for tests"

enum who { BY_SECRET, BY_SECRET384, BY_SECRET512, BY_OTHER, BY_PEM, BY_ECPEM, BY_RSA, BY_RSA384, BY_RSA512, BY_RSA_OTHER, BY_RSA_WEAK,
	BY_P256, BY_P384, BY_P521, BY_P384_AS256, BY_ED, BY_ED_OTHER, BY_COUNT };

static struct signer	 signers[BY_COUNT];
static struct arena	*texts;
static char		 dir[] = "/tmp/parley-token-XXXXXX";

struct trial {
	const char	*name;
	enum fail	 want;
	enum who	 by;
	const char	*header;
	const char	*payload;
};

#define GOOD	"{\"sub\":\"ann\",\"exp\":@+900}"
#define HS	"{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define BAD	FAIL_INVALID_TOKEN

static const struct trial heads[] = {
	{ "HS256", FAIL_NONE, BY_SECRET, HS, GOOD },
	{ "HS384", FAIL_NONE, BY_SECRET384, "{\"alg\":\"HS384\"}", GOOD },
	{ "HS512", FAIL_NONE, BY_SECRET512, "{\"alg\":\"HS512\"}", GOOD },
	{ "RS256", FAIL_NONE, BY_RSA, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", GOOD },
	{ "RS384", FAIL_NONE, BY_RSA384, "{\"alg\":\"RS384\",\"kid\":\"rsa\"}", GOOD },
	{ "RS512", FAIL_NONE, BY_RSA512, "{\"alg\":\"RS512\",\"kid\":\"rsa\"}", GOOD },
	{ "ES256", FAIL_NONE, BY_P256, "{\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD },
	{ "ES384", FAIL_NONE, BY_P384, "{\"alg\":\"ES384\",\"kid\":\"p384\"}", GOOD },
	{ "ES512", FAIL_NONE, BY_P521, "{\"alg\":\"ES512\",\"kid\":\"p521\"}", GOOD },
	{ "EdDSA", FAIL_NONE, BY_ED, "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", GOOD },
	{ "no kid, and one key of that kind", FAIL_NONE, BY_ED, "{\"alg\":\"EdDSA\"}", GOOD },
	{ "no kid, and two keys of that kind", BAD, BY_RSA, "{\"alg\":\"RS256\"}", GOOD },
	{ "a kid of another key", BAD, BY_RSA, "{\"alg\":\"RS256\",\"kid\":\"rsa2\"}", GOOD },
	{ "a kid of another kind of key", BAD, BY_ED, "{\"alg\":\"EdDSA\",\"kid\":\"rsa\"}", GOOD },
	{ "a kid that nobody has", BAD, BY_ED, "{\"alg\":\"EdDSA\",\"kid\":\"nobody\"}", GOOD },
	{ "a kid in another case", BAD, BY_ED, "{\"alg\":\"EdDSA\",\"kid\":\"ED\"}", GOOD },
	{ "an empty kid", BAD, BY_ED, "{\"alg\":\"EdDSA\",\"kid\":\"\"}", GOOD },
	{ "a kid that is a number", BAD, BY_ED, "{\"alg\":\"EdDSA\",\"kid\":1}", GOOD },
	{ "a kid that is null", BAD, BY_ED, "{\"alg\":\"EdDSA\",\"kid\":null}", GOOD },
	{ "another Ed25519 key", BAD, BY_ED_OTHER, "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", GOOD },
	{ "another RSA key", BAD, BY_RSA_OTHER, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", GOOD },
	{ "another secret", BAD, BY_OTHER, HS, GOOD },
	{ "RS256 said, RS512 signed", BAD, BY_RSA512, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", GOOD },
	{ "an RSA key of 1024 bits", BAD, BY_RSA_WEAK, "{\"alg\":\"RS256\",\"kid\":\"weak\"}", GOOD },
	{ "ES256 by a P-384 key", BAD, BY_P384_AS256, "{\"alg\":\"ES256\",\"kid\":\"p384\"}", GOOD },
	{ "ES512 by a P-256 key", BAD, BY_P256, "{\"alg\":\"ES512\",\"kid\":\"p256\"}", GOOD },
	{ "RS256 with a key that is for RS512", BAD, BY_RSA_OTHER, "{\"alg\":\"RS256\",\"kid\":\"rs512\"}", GOOD },
	{ "HS256 made with the RSA key's PEM", BAD, BY_PEM, "{\"alg\":\"HS256\",\"kid\":\"rsa\"}", GOOD },
	{ "HS256 made with the EC key's PEM", BAD, BY_ECPEM, "{\"alg\":\"HS256\",\"kid\":\"p256\"}", GOOD },
	{ "RS256 said, signed with the shared secret", BAD, BY_SECRET, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", GOOD },
	{ "alg none", BAD, BY_SECRET, "{\"alg\":\"none\"}", GOOD },
	{ "alg NONE", BAD, BY_SECRET, "{\"alg\":\"NONE\"}", GOOD },
	{ "alg nOnE", BAD, BY_SECRET, "{\"alg\":\"nOnE\"}", GOOD },
	{ "no alg", BAD, BY_SECRET, "{\"typ\":\"JWT\"}", GOOD },
	{ "an empty alg", BAD, BY_SECRET, "{\"alg\":\"\"}", GOOD },
	{ "alg null", BAD, BY_SECRET, "{\"alg\":null}", GOOD },
	{ "alg as a list", BAD, BY_SECRET, "{\"alg\":[\"HS256\"]}", GOOD },
	{ "hs256 in lower case", BAD, BY_SECRET, "{\"alg\":\"hs256\"}", GOOD },
	{ "Hs256", BAD, BY_SECRET, "{\"alg\":\"Hs256\"}", GOOD },
	{ "PS256", BAD, BY_RSA, "{\"alg\":\"PS256\",\"kid\":\"rsa\"}", GOOD },
	{ "ES256K", BAD, BY_P256, "{\"alg\":\"ES256K\",\"kid\":\"p256\"}", GOOD },
	{ "alg twice", BAD, BY_SECRET, "{\"alg\":\"none\",\"alg\":\"HS256\"}", GOOD },
	{ "crit", BAD, BY_SECRET, "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", GOOD },
	{ "crit null", BAD, BY_SECRET, "{\"alg\":\"HS256\",\"crit\":null}", GOOD },
	{ "b64", BAD, BY_SECRET, "{\"alg\":\"HS256\",\"b64\":true}", GOOD },
	{ "typ jwt in lower case", FAIL_NONE, BY_SECRET, "{\"alg\":\"HS256\",\"typ\":\"jwt\"}", GOOD },
	{ "typ at+jwt", FAIL_NONE, BY_SECRET, "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}", GOOD },
	{ "typ at+jwt, RS256", FAIL_NONE, BY_RSA, "{\"alg\":\"RS256\",\"typ\":\"at+jwt\",\"kid\":\"rsa\"}", GOOD },
	{ "typ application/at+jwt", FAIL_NONE, BY_SECRET, "{\"alg\":\"HS256\",\"typ\":\"application/at+jwt\"}", GOOD },
	{ "typ of another kind of token", BAD, BY_SECRET, "{\"alg\":\"HS256\",\"typ\":\"logout+jwt\"}", GOOD },
	{ "typ as a number", BAD, BY_SECRET, "{\"alg\":\"HS256\",\"typ\":1}", GOOD },
	{ "its own key in the header", BAD, BY_ED_OTHER,
	    "{\"alg\":\"EdDSA\",\"jwk\":{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"},\"kid\":\"x\"}", GOOD },
	{ "a header that is a list", BAD, BY_SECRET, "[\"HS256\"]", GOOD },
	{ "a header that is no JSON", BAD, BY_SECRET, "{\"alg\":\"HS256\"", GOOD },
	{ "bytes after the header", BAD, BY_SECRET, "{\"alg\":\"HS256\"}x", GOOD },
};

#define SUB	"{\"sub\":\"ann\","
#define BYHS(name, want, payload)	{ name, want, BY_SECRET, HS, payload }

static const struct trial times[] = {
	BYHS("no exp", BAD, "{\"sub\":\"ann\"}"),
	BYHS("exp past", FAIL_TOKEN_EXPIRED, SUB "\"exp\":@-60}"),
	BYHS("exp past, within the leeway", FAIL_NONE, SUB "\"exp\":@-10}"),
	BYHS("exp with a fraction", FAIL_NONE, SUB "\"exp\":@+900.5}"),
	BYHS("exp 1.9", FAIL_TOKEN_EXPIRED, SUB "\"exp\":1.9}"),
	BYHS("exp 0", FAIL_TOKEN_EXPIRED, SUB "\"exp\":0}"),
	BYHS("exp 1e19", BAD, SUB "\"exp\":1e19}"),
	BYHS("exp 10000000000000000000", BAD, SUB "\"exp\":10000000000000000000}"),
	BYHS("exp 99999999999999999999999", BAD, SUB "\"exp\":99999999999999999999999}"),
	BYHS("exp in milliseconds", BAD, SUB "\"exp\":1900000000000}"),
	BYHS("exp 1e400", BAD, SUB "\"exp\":1e400}"),
	BYHS("exp below zero", BAD, SUB "\"exp\":-1}"),
	BYHS("exp \"5\"", BAD, SUB "\"exp\":\"5\"}"),
	BYHS("exp as text", BAD, SUB "\"exp\":\"@+900\"}"),
	BYHS("exp true", BAD, SUB "\"exp\":true}"),
	BYHS("exp null", BAD, SUB "\"exp\":null}"),
	BYHS("exp in a list", BAD, SUB "\"exp\":[@+900]}"),
	BYHS("exp twice", BAD, SUB "\"exp\":1,\"exp\":@+900}"),
	BYHS("nbf past", FAIL_NONE, SUB "\"exp\":@+900,\"nbf\":@-5}"),
	BYHS("nbf in the future, within the leeway", FAIL_NONE, SUB "\"exp\":@+900,\"nbf\":@+10}"),
	BYHS("nbf in the future", BAD, SUB "\"exp\":@+900,\"nbf\":@+60}"),
	BYHS("nbf as text", BAD, SUB "\"exp\":@+900,\"nbf\":\"0\"}"),
	BYHS("iat past", FAIL_NONE, SUB "\"exp\":@+900,\"iat\":@-5}"),
	BYHS("iat in the future", BAD, SUB "\"exp\":@+900,\"iat\":@+60}"),
	BYHS("iat true", BAD, SUB "\"exp\":@+900,\"iat\":true}"),
	BYHS("expired and nbf in the future", BAD, SUB "\"exp\":@-90,\"nbf\":@+90}"),
	{ "expired and of another secret", BAD, BY_OTHER, HS, SUB "\"exp\":@-90}" },
	BYHS("expired and without user", BAD, "{\"exp\":@-90}"),
};

static const struct trial users[] = {
	BYHS("no sub", BAD, "{\"exp\":@+900}"),
	BYHS("an empty sub", BAD, "{\"sub\":\"\",\"exp\":@+900}"),
	BYHS("sub null", BAD, "{\"sub\":null,\"exp\":@+900}"),
	BYHS("sub true", BAD, "{\"sub\":true,\"exp\":@+900}"),
	BYHS("sub 1.5", BAD, "{\"sub\":1.5,\"exp\":@+900}"),
	BYHS("sub beyond 64 bits", BAD, "{\"sub\":18446744073709551616,\"exp\":@+900}"),
	BYHS("sub twice", BAD, "{\"sub\":\"ann\",\"sub\":\"root\",\"exp\":@+900}"),
	BYHS("sub twice, once escaped", BAD, "{\"sub\":\"ann\",\"\\u0073ub\":\"root\",\"exp\":@+900}"),
	BYHS("sub with a NUL", BAD, "{\"sub\":\"ann\\u0000x\",\"exp\":@+900}"),
	BYHS("a name with a NUL", BAD, "{\"sub\\u0000x\":\"root\",\"exp\":@+900}"),
	BYHS("sub with a line break", BAD, "{\"sub\":\"ann\\nroot\",\"exp\":@+900}"),
	BYHS("sub with DEL", BAD, "{\"sub\":\"ann\\u007f\",\"exp\":@+900}"),
	BYHS("sub with a C1 control", BAD, "{\"sub\":\"ann\\u0085\",\"exp\":@+900}"),
	BYHS("sub with a lone surrogate", BAD, "{\"sub\":\"\\ud800\",\"exp\":@+900}"),
	BYHS("sub with invalid UTF-8", BAD, "{\"sub\":\"\xc0\xaf\",\"exp\":@+900}"),
	BYHS("a payload that is a list", BAD, "[{\"sub\":\"ann\",\"exp\":@+900}]"),
	BYHS("a payload that is text", BAD, "\"ann\""),
	BYHS("two payloads", BAD, GOOD GOOD),
};

/* -- one look at the gate -- */

static const struct conf *conf;
static char		 said_user[300];
static char		 said_detail[400];
static char		 said_hash[17];

static enum fail
gate(const char *authorization)
{
	struct job	 job;
	enum fail	 fail;
	int		 r;

	job_open(&job, conf);
	r = token_check(&job, authorization);
	fail = job.fail;
	snprintf(said_user, sizeof said_user, "%s", job.user != NULL ? job.user : "");
	snprintf(said_detail, sizeof said_detail, "%s", job.detail != NULL ? job.detail : "");
	snprintf(said_hash, sizeof said_hash, "%s", job.user_hash);
	if ((r < 0) != (fail != FAIL_NONE) || (r < 0 && (job.user != NULL || *job.user_hash != '\0')))
		fail = FAIL_COUNT;
	job_close(&job);
	return fail;
}

static enum fail
gate_token(const char *token)
{
	return gate(arena_printf(texts, "Bearer %s", token));
}

static void
is_fail(enum fail got, enum fail want, const char *name)
{
	if (!ok(got == want, "%s", name))
		printf("#      got: %s (%s)\n# expected: %s\n", fail_kind(got)->code, said_detail, fail_kind(want)->code);
}

static void
run(const struct trial *t, size_t n)
{
	for (size_t i = 0; i < n; i++)
		is_fail(gate_token(sign(texts, &signers[t[i].by], t[i].header, t[i].payload)), t[i].want, t[i].name);
}

#define RUN(table)	run((table), sizeof(table) / sizeof *(table))

/* -- the set-up -- */

static void
signers_make(void)
{
	EVP_PKEY	*rsa = EVP_RSA_gen(2048), *rsa2 = EVP_RSA_gen(2048), *p256 = EVP_EC_gen("P-256"), *p384 = EVP_EC_gen("P-384");

	signers[BY_SECRET] = (struct signer){ .secret = SECRET, .digest = "SHA256" };
	signers[BY_SECRET384] = (struct signer){ .secret = SECRET, .digest = "SHA384" };
	signers[BY_SECRET512] = (struct signer){ .secret = SECRET, .digest = "SHA512" };
	signers[BY_OTHER] = (struct signer){ .secret = "another secret, not ours", .digest = "SHA256" };
	signers[BY_PEM] = (struct signer){ .secret = pem_of(texts, rsa), .digest = "SHA256" };
	signers[BY_ECPEM] = (struct signer){ .secret = pem_of(texts, p256), .digest = "SHA256" };
	signers[BY_RSA] = (struct signer){ .key = rsa, .digest = "SHA256" };
	signers[BY_RSA384] = (struct signer){ .key = rsa, .digest = "SHA384" };
	signers[BY_RSA512] = (struct signer){ .key = rsa, .digest = "SHA512" };
	signers[BY_RSA_OTHER] = (struct signer){ .key = rsa2, .digest = "SHA256" };
	signers[BY_RSA_WEAK] = (struct signer){ .key = EVP_RSA_gen(1024), .digest = "SHA256" };
	signers[BY_P256] = (struct signer){ .key = p256, .digest = "SHA256" };
	signers[BY_P384] = (struct signer){ .key = p384, .digest = "SHA384" };
	signers[BY_P384_AS256] = (struct signer){ .key = p384, .digest = "SHA256" };
	signers[BY_P521] = (struct signer){ .key = EVP_EC_gen("P-521"), .digest = "SHA512" };
	signers[BY_ED] = (struct signer){ .key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") };
	signers[BY_ED_OTHER] = (struct signer){ .key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") };
}

static void
signers_free(void)
{
	static const enum who owners[] = { BY_RSA, BY_RSA_OTHER, BY_RSA_WEAK, BY_P256, BY_P384, BY_P521, BY_ED, BY_ED_OTHER };

	for (size_t i = 0; i < sizeof owners / sizeof *owners; i++)
		EVP_PKEY_free(signers[owners[i]].key);
}

static void
file_write(const char *path, const char *text)
{
	int	 fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) < 0)
		abort();
}

static const char *
jwks_text(void)
{
	return arena_printf(texts, "{\"keys\":[%s,%s,%s,%s,%s,%s,%s,%s]}",
	    jwk_of(texts, signers[BY_RSA].key, ",\"kid\":\"rsa\",\"use\":\"sig\""),
	    jwk_of(texts, signers[BY_RSA_OTHER].key, ",\"kid\":\"rsa2\""),
	    jwk_of(texts, signers[BY_RSA_OTHER].key, ",\"kid\":\"rs512\",\"alg\":\"RS512\""),
	    jwk_of(texts, signers[BY_RSA_WEAK].key, ",\"kid\":\"weak\""),
	    jwk_of(texts, signers[BY_P256].key, ",\"kid\":\"p256\",\"alg\":\"ES256\""),
	    jwk_of(texts, signers[BY_P384].key, ",\"kid\":\"p384\""),
	    jwk_of(texts, signers[BY_P521].key, ",\"kid\":\"p521\",\"key_ops\":[\"verify\"]"),
	    jwk_of(texts, signers[BY_ED].key, ",\"kid\":\"ed\",\"alg\":\"EdDSA\""));
}

static struct conf *
conf_make(void)
{
	struct conf	*c = arena_new(texts, struct conf);
	const char	*path = arena_printf(texts, "%s/jwks.json", dir);

	file_write(path, jwks_text());
	c->auth_secret = SECRET;
	c->auth_jwks_file = path;
	c->auth_jwks_ttl = 600000;
	c->auth_jwks_stale = 86400000;
	c->auth_jwks_min_interval = 10000;
	c->auth_user_claim = "sub";
	c->auth_leeway = 30;
	return c;
}

/* -- what is no matter of one header or payload -- */

static void
test_header_field(void)
{
	const char	*t = sign(texts, &signers[BY_SECRET], HS, GOOD);

	is_fail(gate(NULL), FAIL_MISSING_TOKEN, "no Authorization");
	is_fail(gate(""), FAIL_MISSING_TOKEN, "an empty Authorization");
	is_fail(gate("Bearer"), FAIL_MISSING_TOKEN, "Bearer alone");
	is_fail(gate("Bearer "), FAIL_MISSING_TOKEN, "Bearer and a space");
	is_fail(gate("Basic YW5uOng="), FAIL_MISSING_TOKEN, "another scheme");
	is_fail(gate(t), FAIL_MISSING_TOKEN, "a token without scheme");
	is_fail(gate(arena_printf(texts, "Bearer%s", t)), FAIL_MISSING_TOKEN, "no space");
	is_fail(gate(arena_printf(texts, "Bearer\t%s", t)), FAIL_MISSING_TOKEN, "a tab");
	is_fail(gate(arena_printf(texts, "bEARER %s", t)), FAIL_NONE, "the scheme in any case");
	is_text(said_user, "ann", "the user");
	ok(strlen(said_hash) == 16, "and the user's hash for the log");
	is_fail(gate(arena_printf(texts, "Bearer  %s", t)), BAD, "two spaces");
	is_fail(gate(arena_printf(texts, "Bearer %s ", t)), BAD, "a space behind");
	is_fail(gate(arena_printf(texts, "Bearer %s,x", t)), BAD, "a list");
	is_fail(gate("Bearer opaque-session-token"), BAD, "a session token that is no JWT");
}

static void
test_segments(void)
{
	const char	*t = sign(texts, &signers[BY_SECRET], HS, GOOD);
	size_t		 dot = strcspn(t, "."), dot2 = dot + 1 + strcspn(t + dot + 1, ".");
	struct buf	*long_one = buf_new(texts);

	is_fail(gate_token("."), BAD, "one dot");
	is_fail(gate_token(".."), BAD, "two dots");
	is_fail(gate_token("..."), BAD, "three dots");
	is_fail(gate_token(".e30.AAAA"), BAD, "an empty header");
	is_fail(gate_token("x..y"), BAD, "an empty payload");
	is_fail(gate_token(arena_printf(texts, "%.*s.", (int)dot2, t)), BAD, "an empty signature");
	is_fail(gate_token(arena_printf(texts, "%.*s", (int)dot2, t)), BAD, "no signature");
	is_fail(gate_token(arena_printf(texts, "%s.", t)), BAD, "a fourth, empty segment");
	is_fail(gate_token(arena_printf(texts, "%s.AAAA.AAAA", t)), BAD, "five segments");
	is_fail(gate_token(arena_printf(texts, "%s=", t)), BAD, "padding behind");
	is_fail(gate_token(arena_printf(texts, "%.*s=%s", (int)dot2, t, t + dot2)), BAD, "padding inside");
	is_fail(gate_token(sign_text(texts, &signers[BY_SECRET],
	    arena_printf(texts, "%s==.%s", b64(texts, HS, strlen(HS)), b64(texts, "{}", 2)))), BAD, "signed padding");
	/* Both are last characters that 32 bytes can have. */
	is_fail(gate_token(arena_printf(texts, "%.*s%c", (int)strlen(t) - 1, t, t[strlen(t) - 1] == 'A' ? 'E' : 'A')), BAD,
	    "another last character");
	is_fail(gate_token(arena_printf(texts, "%sA", t)), BAD, "a character more");
	is_fail(gate_token(arena_printf(texts, "%.*s", (int)strlen(t) - 1, t)), BAD, "a character less");
	is_fail(gate_token(arena_printf(texts, "+%s", t + 1)), BAD, "the other base64 alphabet");
	is_fail(gate_token(arena_printf(texts, "%.*s\n%s", (int)dot, t, t + dot)), BAD, "a line break");
	is_fail(gate_token(arena_printf(texts, "%.*s\xc3\xa9%s", (int)dot, t, t + dot)), BAD, "a letter that is not ASCII");

	for (int i = 0; i < TOKEN_MAX + 1; i++)
		buf_char(long_one, 'A');
	is_fail(gate_token(buf_text(long_one)), BAD, "a token of 8193 bytes");
	ok(strstr(said_detail, "longer") != NULL, "is refused for its length");
}

/* What libjwt reads past, and what one signature has in two spellings. */
static void
test_bytes(void)
{
	static const char	 nul_header[] = "{\"alg\":\"HS256\"}\0{\"crit\":[]}";
	const char		*good = at_times(texts, GOOD);
	char			*head = b64(texts, nul_header, sizeof nul_header - 1);
	char			*body = b64(texts, good, strlen(good));
	const char		*t;
	size_t			 n;

	is_fail(gate_token(sign_text(texts, &signers[BY_SECRET], arena_printf(texts, "%s.%s", head, body))), BAD, "a NUL in the header");
	is_fail(gate_token(sign_text(texts, &signers[BY_SECRET], arena_printf(texts, "%s.%s",
	    b64(texts, HS, strlen(HS)), b64(texts, good, strlen(good) + 1)))), BAD, "a NUL behind the payload");

	/* 64 bytes of Ed25519 signature leave four unused bits in the last character. */
	t = sign(texts, &signers[BY_ED], "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", GOOD);
	n = strlen(t);
	is_fail(gate_token(t), FAIL_NONE, "an Ed25519 signature as it should be");
	is_fail(gate_token(arena_printf(texts, "%.*s%c", (int)n - 1, t, t[n - 1] + 1)), BAD, "the same bytes spelled otherwise");
}

static void
test_ecdsa_forms(void)
{
	const char	*good = at_times(texts, GOOD), *head = "{\"alg\":\"ES256\",\"kid\":\"p256\"}";
	const char	*text = arena_printf(texts, "%s.%s", b64(texts, head, strlen(head)), b64(texts, good, strlen(good)));
	unsigned char	 sig[1024] = { 0 };
	size_t		 n;

	is_fail(gate_token(arena_printf(texts, "%s.%s", text, b64(texts, sig, 64))), BAD, "an ES256 signature of zeros");
	is_fail(gate_token(arena_printf(texts, "%s.%s", text, b64(texts, sig, 63))), BAD, "a short one");
	n = sign_bytes(&signers[BY_P256], text, sig);
	is_fail(gate_token(arena_printf(texts, "%s.%s", text, b64(texts, sig, n))), FAIL_NONE, "a right one");
	is_fail(gate_token(arena_printf(texts, "%s.%s", text, b64(texts, sig, n + 1))), BAD, "and a byte more");
	sig[10] ^= 1;
	is_fail(gate_token(arena_printf(texts, "%s.%s", text, b64(texts, sig, n))), BAD, "and a bit less");
}

static void
test_user_claim(struct conf *c)
{
	static const char	 both[] = "{\"sub\":\"ann\",\"user_id\":42,\"exp\":@+900}";
	struct buf		*name = buf_new(texts);

	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS, both)), FAIL_NONE, "two claims, sub is asked for");
	is_text(said_user, "ann", "sub it is");
	c->auth_user_claim = "user_id, sub";
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS, both)), FAIL_NONE, "two claims, user_id is asked for first");
	is_text(said_user, "42", "an integer becomes its digits");
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS, GOOD)), FAIL_NONE, "user_id is absent");
	is_text(said_user, "ann", "the next one of the list counts");
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS, "{\"sub\":\"ann\",\"user_id\":\"\",\"exp\":@+900}")), BAD,
	    "a broken first one is not passed over");
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS, "{\"sub\":\"ann\",\"user_id\":-7,\"exp\":@+900}")), FAIL_NONE, "below zero");
	is_text(said_user, "-7", "keeps its sign");
	c->auth_user_claim = "sub";

	for (int i = 0; i < 255; i++)
		buf_char(name, 'u');
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS,
	    arena_printf(texts, "{\"sub\":\"%s\",\"exp\":@+900}", buf_text(name)))), FAIL_NONE, "255 bytes");
	is_text(said_user, buf_text(name), "all of them");
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS,
	    arena_printf(texts, "{\"sub\":\"%sx\",\"exp\":@+900}", buf_text(name)))), BAD, "256 bytes");
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS, "{\"sub\":\"J\\u00fcrgen \\ud83d\\ude00\",\"exp\":@+900}")), FAIL_NONE,
	    "letters of the world");
	is_text(said_user, "J\xc3\xbcrgen \xf0\x9f\x98\x80", "as UTF-8");
}

static void
test_issuer_audience(struct conf *c)
{
	static const struct trial bound[] = {
		BYHS("iss and aud as configured", FAIL_NONE, SUB "\"exp\":@+900,\"iss\":\"https://i\",\"aud\":\"chat\"}"),
		BYHS("aud among others", FAIL_NONE, SUB "\"exp\":@+900,\"iss\":\"https://i\",\"aud\":[\"x\",\"chat\"]}"),
		BYHS("another iss", BAD, SUB "\"exp\":@+900,\"iss\":\"https://j\",\"aud\":\"chat\"}"),
		BYHS("iss with a slash more", BAD, SUB "\"exp\":@+900,\"iss\":\"https://i/\",\"aud\":\"chat\"}"),
		BYHS("iss as a list", BAD, SUB "\"exp\":@+900,\"iss\":[\"https://i\"],\"aud\":\"chat\"}"),
		BYHS("no iss", BAD, SUB "\"exp\":@+900,\"aud\":\"chat\"}"),
		BYHS("another aud", BAD, SUB "\"exp\":@+900,\"iss\":\"https://i\",\"aud\":\"chats\"}"),
		BYHS("others only", BAD, SUB "\"exp\":@+900,\"iss\":\"https://i\",\"aud\":[\"x\",\"y\"]}"),
		BYHS("an empty list", BAD, SUB "\"exp\":@+900,\"iss\":\"https://i\",\"aud\":[]}"),
		BYHS("a list with a number", BAD, SUB "\"exp\":@+900,\"iss\":\"https://i\",\"aud\":[\"chat\",1]}"),
		BYHS("aud as an object", BAD, SUB "\"exp\":@+900,\"iss\":\"https://i\",\"aud\":{\"chat\":1}}"),
		BYHS("no aud", BAD, SUB "\"exp\":@+900,\"iss\":\"https://i\"}"),
		BYHS("all right but expired", FAIL_TOKEN_EXPIRED, SUB "\"exp\":@-900,\"iss\":\"https://i\",\"aud\":\"chat\"}"),
		BYHS("another iss and expired", BAD, SUB "\"exp\":@-900,\"iss\":\"https://j\",\"aud\":\"chat\"}"),
		/* Better Auth signs its mail links and cookies with its secret too. */
		BYHS("a mail link of the issuer", BAD, "{\"email\":\"ann@example.org\",\"exp\":@+900,\"iat\":@+0}"),
	};

	c->auth_issuer = "https://i";
	c->auth_audience = "chat";
	RUN(bound);
	c->auth_issuer = c->auth_audience = NULL;
}

static void
test_algorithms(struct conf *c)
{
	const char	*file = c->auth_jwks_file;
	const char	*hs = sign(texts, &signers[BY_SECRET], HS, GOOD);
	const char	*ed = sign(texts, &signers[BY_ED], "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", GOOD);
	const char	*empty = sign(texts, &(struct signer){ .secret = "", .digest = "SHA256" }, HS, GOOD);

	c->auth_algorithms = "EdDSA ES256";
	is_fail(gate_token(hs), BAD, "HS256 where the list has only others");
	is_fail(gate_token(ed), FAIL_NONE, "EdDSA where the list has it");
	c->auth_algorithms = "HS256,EdDSA";
	c->auth_secret = NULL;
	is_fail(gate_token(hs), BAD, "HS256 without a secret");
	is_fail(gate_token(empty), BAD, "HS256 with an empty secret where there is none");
	c->auth_secret = "";
	is_fail(gate_token(empty), BAD, "HS256 with an empty secret");
	c->auth_algorithms = NULL;
	c->auth_secret = NULL;
	is_fail(gate_token(hs), BAD, "without a list: no secret, no HS256");
	c->auth_secret = SECRET;
	c->auth_jwks_file = NULL;
	is_fail(gate_token(ed), BAD, "without a list: no keys, no EdDSA");
	is_fail(gate_token(hs), FAIL_NONE, "but HS256");
	c->auth_jwks_file = file;
}

/* The file is replaced, broken, and lost. */
static void
test_file(struct conf *c)
{
	const char	*ed = sign(texts, &signers[BY_ED], "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", GOOD);
	const char	*late = sign(texts, &signers[BY_ED_OTHER], "{\"alg\":\"EdDSA\",\"kid\":\"late\"}", GOOD);
	const char	*none = arena_printf(texts, "%s/none.json", dir);
	const char	*path = c->auth_jwks_file;

	is_fail(gate_token(late), BAD, "a key that is not in the file");
	file_write(path, arena_printf(texts, "{\"keys\":[%s]}", jwk_of(texts, signers[BY_ED_OTHER].key, ",\"kid\":\"late\"")));
	is_fail(gate_token(late), FAIL_NONE, "counts once it is there");
	is_fail(gate_token(ed), BAD, "and the one that has gone is refused");
	file_write(path, "{\"keys\":[");
	is_fail(gate_token(late), FAIL_NONE, "a broken file changes nothing");
	unlink(path);
	is_fail(gate_token(late), FAIL_NONE, "nor does a lost one");
	c->auth_jwks_stale = 0;
	usleep(1000);
	is_fail(gate_token(late), FAIL_OVERLOADED, "until the set is too old");
	c->auth_jwks_stale = 86400000;

	/* Another source, as after a SIGHUP: a new configuration, for the old one never changes. */
	c = memcpy(arena_new(texts, struct conf), c, sizeof *c);
	c->auth_jwks_file = none;
	conf = c;
	is_fail(gate_token(late), FAIL_OVERLOADED, "another file that is not there: nobody knows");
	is_fail(gate_token(sign(texts, &signers[BY_SECRET], HS, GOOD)), FAIL_NONE, "which HS256 does not care about");
}

static void
test_make(struct conf *c)
{
	struct buf	*b = buf_new(texts);

	ok(token_make(c, "ann", 60, b) == 0, "a token for the command line");
	is_fail(gate_token(buf_text(b)), FAIL_NONE, "opens the gate");
	is_text(said_user, "ann", "for its user");

	c->auth_issuer = "https://i";
	c->auth_audience = "chat";
	c->auth_user_claim = "uid sub";
	buf_clear(b);
	ok(token_make(c, "J\xc3\xbcrgen \"x\"", 60, b) == 0 && gate_token(buf_text(b)) == FAIL_NONE, "with issuer, audience and another claim");
	is_text(said_user, "J\xc3\xbcrgen \"x\"", "for a user with a strange name");
	c->auth_algorithms = "HS512 EdDSA";
	buf_clear(b);
	ok(token_make(c, "ann", -60, b) == 0 && gate_token(buf_text(b)) == FAIL_TOKEN_EXPIRED, "HS512 where only that is allowed");
	c->auth_algorithms = "EdDSA";
	ok(token_make(c, "ann", 60, b) < 0, "none where no HS* is allowed");
	c->auth_algorithms = NULL;
	ok(token_make(c, "", 60, b) < 0 && token_make(c, "a\nb", 60, b) < 0, "none for a user that the gate would refuse");
	c->auth_secret = NULL;
	ok(token_make(c, "ann", 60, b) < 0, "none without a secret");
	c->auth_secret = SECRET;
	c->auth_issuer = c->auth_audience = NULL;
	c->auth_user_claim = "sub";
}

static void
test_all(void *arg)
{
	struct conf	*c = arg;

	test_header_field();
	test_segments();
	test_bytes();
	RUN(heads);
	test_ecdsa_forms();
	RUN(times);
	RUN(users);
	test_user_claim(c);
	test_issuer_audience(c);
	test_algorithms(c);
	test_make(c);
	test_file(c);
	loop_stop();
}

int
main(void)
{
	struct conf	*c;

	texts = arena_open();
	if (mkdtemp(dir) == NULL || loop_open() < 0)
		return 1;
	signers_make();
	c = conf_make();
	conf = c;
	fiber_start(test_all, c);
	loop_run();
	loop_close();
	signers_free();
	rmdir(dir);
	arena_close(&texts);
	return done_testing();
}
