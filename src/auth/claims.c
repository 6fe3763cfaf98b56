#include "auth/claims.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/utf8.h"
#include "io/json.h"

/* The last second of the year 9999: what is later is no date but milliseconds or a trick. */
#define DATE_MAX	253402300799.0
#define CLAIM_NAME_MAX	128

/* A NumericDate (RFC 7519 section 2) may be a fraction; no text, no boolean, nothing that has to be bent to fit. */
static enum json_got
date_get(json_object *o, const char *name, double *at)
{
	json_object	*v;

	if (!json_object_object_get_ex(o, name, &v))
		return JSON_ABSENT;
	if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
		return JSON_WRONG;
	*at = json_object_get_double(v);
	return isfinite(*at) && *at >= 0 && *at <= DATE_MAX ? JSON_GOT : JSON_WRONG;
}

static const char *
times_check(const struct conf *conf, json_object *o, double now, bool *expired)
{
	double	 leeway = (double)conf->auth_leeway, exp = 0, nbf = 0, iat = 0;

	switch (date_get(o, "exp", &exp)) {
	case JSON_GOT:
		break;
	case JSON_ABSENT:
		return "there is no exp";
	default:
		return "exp is no date";
	}
	if (date_get(o, "nbf", &nbf) == JSON_WRONG)
		return "nbf is no date";
	if (date_get(o, "iat", &iat) == JSON_WRONG)
		return "iat is no date";
	if (nbf > now + leeway)
		return "nbf lies in the future";
	if (iat > now + leeway)
		return "iat lies in the future";
	*expired = now >= exp + leeway;
	return NULL;
}

static const char *
issuer_check(const struct conf *conf, json_object *o)
{
	const char	*iss;

	if (conf->auth_issuer == NULL)
		return NULL;
	if (json_get_string(o, "iss", &iss) != JSON_GOT)
		return "iss is absent or no text";
	return strcmp(iss, conf->auth_issuer) == 0 ? NULL : "iss is not auth.issuer";
}

/* A string, or a list of strings that may name others besides (RFC 7519 section 4.1.3). */
static const char *
audience_check(const struct conf *conf, json_object *o)
{
	json_object	*list;
	const char	*aud;
	bool		 found = false;

	if (conf->auth_audience == NULL)
		return NULL;
	if (json_get_string(o, "aud", &aud) == JSON_GOT)
		return strcmp(aud, conf->auth_audience) == 0 ? NULL : "aud is not auth.audience";
	if (json_get_array(o, "aud", &list) != JSON_GOT)
		return "aud is absent or neither text nor list";
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object	*one = json_object_array_get_idx(list, i);

		if (!json_object_is_type(one, json_type_string))
			return "aud holds something else than text";
		found = found || strcmp(json_object_get_string(one), conf->auth_audience) == 0;
	}
	return found ? NULL : "aud does not hold auth.audience";
}

bool
user_is_sane(const char *user)
{
	size_t		 n = strlen(user);
	const char	*end = user + n;

	if (n == 0 || n > USER_MAX || !utf8_valid(user, n))
		return false;
	while (user < end) {
		uint32_t	 c = utf8_next(&user, end);

		if (c < 0x20 || (c >= 0x7f && c < 0xa0))
			return false;
	}
	return true;
}

/* The first claim of auth.user_claim that is there decides, whatever it holds: a broken one is no reason to take the next. */
static const char *
user_read(const struct conf *conf, json_object *o, struct arena *a, const char **user)
{
	const char	*list = conf->auth_user_claim != NULL ? conf->auth_user_claim : "sub";
	char		 name[CLAIM_NAME_MAX];
	const char	*text;
	int64_t		 number;

	while (conf_list_next(&list, name, (int)sizeof name)) {
		if (!json_object_object_get_ex(o, name, NULL))
			continue;
		if (json_get_int(o, name, &number) == JSON_GOT)
			text = arena_printf(a, "%" PRId64, number);
		else if (json_get_string(o, name, &text) != JSON_GOT)
			return "the user's claim is neither text nor an integer";
		if (!user_is_sane(text))
			return "the user's claim is empty, longer than 255 bytes or holds control characters";
		*user = arena_strdup(a, text);
		return NULL;
	}
	return "the user's claim is absent";
}

const char *
claims_read(const struct conf *conf, json_object *o, int64_t now, struct arena *a, struct claims *c)
{
	const char	*wrong;

	if ((wrong = user_read(conf, o, a, &c->user)) != NULL ||
	    (wrong = issuer_check(conf, o)) != NULL ||
	    (wrong = audience_check(conf, o)) != NULL)
		return wrong;
	return times_check(conf, o, (double)now, &c->expired);
}
