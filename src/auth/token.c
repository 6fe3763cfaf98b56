#include "auth/token.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/crypto.h>

#include "auth/base64url.h"
#include "auth/claims.h"
#include "auth/jwks.h"
#include "auth/signature.h"
#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/sha256.h"
#include "io/json.h"
#include "run/job.h"

/* What a log line shows of names that came from outside. */
#define SHOWN		40

struct segment {
	const char	*text;
	size_t		 ntext;
	unsigned char	*bytes;
	size_t		 n;
};

struct token {
	struct arena	*arena;		/* for the reading alone: a turn lives long, a token's text need not */
	struct segment	 header;
	struct segment	 payload;
	struct segment	 signature;
	const struct alg *alg;
	const char	*kid;		/* NULL: none */
};

/* Refuses; the reason is the log's alone. */
#define refuse(job, ...) \
	(job_detail((job), __VA_ARGS__), job_fail((job), FAIL_INVALID_TOKEN, NULL))

/* RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).  Another scheme brings no token. */
static const char *
bearer_text(const char *authorization)
{
	static const char	 scheme[] = "Bearer";
	size_t			 n = sizeof scheme - 1;

	if (authorization == NULL || strncasecmp(authorization, scheme, n) != 0 ||
	    authorization[n] != ' ' || authorization[n + 1] == '\0')
		return NULL;
	return authorization + n + 1;
}

static int
segment_read(struct job *job, struct token *t, struct segment *s, const char *text, size_t n)
{
	ssize_t	 got;

	s->text = text;
	s->ntext = n;
	s->bytes = arena_alloc(t->arena, BASE64URL_BYTES(n));
	got = n == 0 ? -1 : base64url_read(text, n, s->bytes);
	if (got < 0)
		return refuse(job, "a segment is empty or no base64url");
	s->n = (size_t)got;
	return 0;
}

/* RFC 7515 section 3.1: exactly three segments. */
static int
token_split(struct job *job, struct token *t, const char *text)
{
	const char	*first, *second;

	if (strnlen(text, TOKEN_MAX + 1) > TOKEN_MAX)
		return refuse(job, "longer than %d bytes", TOKEN_MAX);
	if ((first = strchr(text, '.')) == NULL || (second = strchr(first + 1, '.')) == NULL ||
	    strchr(second + 1, '.') != NULL)
		return refuse(job, "not three segments");
	if (segment_read(job, t, &t->header, text, (size_t)(first - text)) < 0 ||
	    segment_read(job, t, &t->payload, first + 1, (size_t)(second - first - 1)) < 0)
		return -1;
	return segment_read(job, t, &t->signature, second + 1, strlen(second + 1));
}

static json_object *
segment_object(struct job *job, struct token *t, const struct segment *s, const char *name)
{
	const char	*why = NULL;
	json_object	*o = json_read(t->arena, (const char *)s->bytes, s->n, &why);

	if (o == NULL)
		(void)refuse(job, "the %s is no strict JSON: %s", name, why);
	else if (!json_object_is_type(o, json_type_object)) {
		(void)refuse(job, "the %s is no object", name);
		o = NULL;
	}
	return o;
}

/* RFC 7515 section 4.1.9 (the prefix may be left out), RFC 9068 section 2.1 (at+jwt). */
static bool
typ_is_ours(const char *typ)
{
	static const char	 prefix[] = "application/";

	if (strncasecmp(typ, prefix, sizeof prefix - 1) == 0)
		typ += sizeof prefix - 1;
	return strcasecmp(typ, "JWT") == 0 || strcasecmp(typ, "at+jwt") == 0;
}

bool
token_alg_allowed(const struct conf *conf, const char *name)
{
	const struct alg	*a = alg_find(name);

	if (a == NULL)
		return false;
	if (conf->auth_algorithms != NULL && *conf->auth_algorithms != '\0')
		return conf_list_has(conf->auth_algorithms, name);
	if (a->family == ALG_HS)
		return conf->auth_secret != NULL;
	return conf->auth_jwks_file != NULL || conf->auth_jwks_url != NULL;
}

static int
header_check(struct job *job, struct token *t)
{
	json_object	*o = segment_object(job, t, &t->header, "header");
	const char	*alg, *typ;

	if (o == NULL)
		return -1;

	/*
	 * Extensions that must be understood (RFC 7515 section 4.1.11), and the one that changes what is signed
	 * (RFC 7797): none of ours.
	 */
	if (json_object_object_get_ex(o, "crit", NULL) || json_object_object_get_ex(o, "b64", NULL))
		return refuse(job, "crit or b64 in the header");

	switch (json_get_string(o, "typ", &typ)) {
	case JSON_ABSENT:
		break;
	case JSON_GOT:
		if (typ_is_ours(typ))
			break;
		return refuse(job, "typ is \"%.*s\"", SHOWN, typ);
	default:
		return refuse(job, "typ is no text");
	}
	if (json_get_string(o, "alg", &alg) != JSON_GOT)
		return refuse(job, "alg is absent or no text");
	if (!token_alg_allowed(job->conf, alg))
		return refuse(job, "alg \"%.*s\" is not one of auth.algorithms", SHOWN, alg);
	t->alg = alg_find(alg);

	switch (json_get_string(o, "kid", &t->kid)) {
	case JSON_ABSENT:
		t->kid = NULL;
		return 0;
	case JSON_GOT:
		return 0;
	default:
		return refuse(job, "kid is no text");
	}
}

/* yields when keys must be fetched.  The family of the algorithm chooses where the key comes from, never the other way round. */
static int
signature_check(struct job *job, struct token *t)
{
	struct signed_text	 s = {
		.text = t->header.text,
		.nsigned = t->header.ntext + 1 + t->payload.ntext,
		.signature = t->signature.bytes,
		.nsignature = t->signature.n,
	};
	const struct jwk	*key;
	bool			 down = false;

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a token of no known algorithm was refused before */
	if (t->alg->family == ALG_HS)
		return signature_by_secret(t->alg, job->conf->auth_secret, &s) ? 0 :
		    refuse(job, "the %s signature does not hold", t->alg->name);

	key = jwks_find(job, t->alg, t->kid, &down);
	if (key == NULL && job->fail != FAIL_NONE)
		return -1;
	if (key == NULL && down) {
		job_detail(job, "the issuer's keys cannot be had");
		return job_fail(job, FAIL_OVERLOADED,
		    "The keys of the sign-in service cannot be reached. Please try again shortly.");
	}
	if (key == NULL)
		return refuse(job, "no %s key for kid \"%.*s\"", t->alg->name, SHOWN, t->kid != NULL ? t->kid : "");
	return signature_by_key(t->alg, key->key, &s) ? 0 :
	    refuse(job, "the %s signature does not hold", t->alg->name);
}

/* Token times are the world's, whose clock may jump; all waits go by CLOCK_MONOTONIC (deadline.h). */
static int64_t
world_now(void)
{
	struct timespec	 ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}

static int
claims_check(struct job *job, struct token *t)
{
	json_object	*o = segment_object(job, t, &t->payload, "payload");
	struct claims	 c = { 0 };
	const char	*wrong;

	if (o == NULL)
		return -1;
	if ((wrong = claims_read(job->conf, o, world_now(), t->arena, &c)) != NULL)
		return refuse(job, "%s", wrong);
	if (c.expired)
		return job_fail(job, FAIL_TOKEN_EXPIRED, NULL);

	job->user = arena_strdup(job->arena, c.user);
	log_user_hash(job->user, job->user_hash);
	return 0;
}

static void	 token_keep(struct job *, const char *);
static void	 token_wipe(void *);

int
token_check(struct job *job, const char *authorization)
{
	struct token	 t = { 0 };
	const char	*text = bearer_text(authorization);
	int		 r;

	if (text == NULL)
		return job_fail(job, FAIL_MISSING_TOKEN, NULL);
	t.arena = arena_open();
	r = token_split(job, &t, text) < 0 ||
	    header_check(job, &t) < 0 ||
	    signature_check(job, &t) < 0 ||
	    claims_check(job, &t) < 0 ? -1 : 0;
	arena_close(&t.arena);
	if (r == 0)
		token_keep(job, text);
	return r;
}

/* What is compared are hashes: of one length, and nothing that could be guessed at byte by byte. */
int
token_check_own(struct job *job, const char *authorization, const char *own)
{
	const char	*text = bearer_text(authorization);
	char		 given[SHA256_TEXT], right[SHA256_TEXT];

	if (text == NULL)
		return job_fail(job, FAIL_MISSING_TOKEN, NULL);
	if (!sha256_hex(text, strlen(text), given) || !sha256_hex(own, strlen(own), right) ||
	    CRYPTO_memcmp(given, right, sizeof right) != 0)
		return refuse(job, "it is not the one that is configured");
	return 0;
}

/* Only where a server of tools is to be asked with it. */
static void
token_keep(struct job *job, const char *text)
{
	for (int i = 0; i < job->conf->nmcp; i++)
		if (strcmp(job->conf->mcp[i].auth, "caller") == 0) {
			char	*copy = arena_strdup(job->arena, text);

			arena_defer(job->arena, token_wipe, copy);
			job->token = copy;
			return;
		}
}

static void
token_wipe(void *text)
{
	explicit_bzero(text, strlen(text));
}
