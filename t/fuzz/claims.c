/*
 * What a payload says when its signature holds: a user only if it is right in all that the configuration asks for.
 * Three lines (auth.user_claim, auth.issuer, auth.audience; an empty one: not set), then the payload.
 */
#include "fuzz.h"

#include "auth/claims.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "io/json.h"

#define NOW	1700000000

static const char *
set(const char *text)
{
	return *text != '\0' ? text : NULL;
}

static double
date(json_object *o, const char *name)
{
	json_object	*v = NULL;

	must(json_object_object_get_ex(o, name, &v));
	must(json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double));
	return json_object_get_double(v);
}

static void
check(const struct conf *conf, json_object *o, const struct claims *c)
{
	const char	*text;
	size_t		 n = strlen(c->user);

	must(n >= 1 && n <= USER_MAX && utf8_valid(c->user, n));
	for (size_t i = 0; i < n; i++)
		must((unsigned char)c->user[i] >= 0x20 && c->user[i] != 0x7f);
	must(c->expired == (NOW >= date(o, "exp") + 30));
	if (json_object_object_get_ex(o, "nbf", NULL))
		must(date(o, "nbf") <= NOW + 30);
	if (conf->auth_issuer != NULL)
		must(json_get_string(o, "iss", &text) == JSON_GOT && strcmp(text, conf->auth_issuer) == 0);
	if (conf->auth_audience != NULL)
		must(json_object_object_get_ex(o, "aud", NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct arena	*a = arena_open();
	struct conf	 conf = { .auth_leeway = 30 };
	struct claims	 c = { 0 };
	json_object	*o;

	conf.auth_user_claim = set(fuzz_line(a, &in));
	conf.auth_issuer = set(fuzz_line(a, &in));
	conf.auth_audience = set(fuzz_line(a, &in));
	o = json_read(a, in.p, in.n, NULL);
	if (json_object_is_type(o, json_type_object) && claims_read(&conf, o, NOW, a, &c) == NULL)
		check(&conf, o, &c);
	arena_close(&a);
	return 0;
}
