#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jwt.h>

#include "auth/claims.h"
#include "auth/token.h"
#include "base/buf.h"
#include "base/conf.h"

/* The first HMAC algorithm that the gate itself would take; NULL: none. */
static const char *
mint_alg(const struct conf *conf)
{
	static const char *const names[] = { "HS256", "HS384", "HS512" };

	if (conf->auth_secret == NULL || *conf->auth_secret == '\0')
		return NULL;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (token_alg_allowed(conf, names[i]))
			return names[i];
	return NULL;
}

/* The gate reads the user from the first claim of auth.user_claim, so that one has to be there beside sub. */
static int
user_add(jwt_t *jwt, const struct conf *conf, const char *user)
{
	const char	*list = conf->auth_user_claim != NULL ? conf->auth_user_claim : "sub";
	char		 name[128];

	if (jwt_add_grant(jwt, "sub", user) != 0)
		return -1;
	if (!conf_list_next(&list, name, (int)sizeof name) || strcmp(name, "sub") == 0)
		return 0;
	return jwt_add_grant(jwt, name, user) == 0 ? 0 : -1;
}

static int
mint_fill(jwt_t *jwt, const struct conf *conf, const char *alg, const char *user, long seconds)
{
	time_t	 now = time(NULL);

	if (user_add(jwt, conf, user) < 0 ||
	    jwt_add_grant_int(jwt, "iat", now) != 0 ||
	    jwt_add_grant_int(jwt, "exp", now + seconds) != 0)
		return -1;
	if (conf->auth_issuer != NULL && jwt_add_grant(jwt, "iss", conf->auth_issuer) != 0)
		return -1;
	if (conf->auth_audience != NULL && jwt_add_grant(jwt, "aud", conf->auth_audience) != 0)
		return -1;
	return jwt_set_alg(jwt, jwt_str_alg(alg),
	    (const unsigned char *)conf->auth_secret, (int)strlen(conf->auth_secret)) == 0 ? 0 : -1;
}

int
token_make(const struct conf *conf, const char *user, long seconds, struct buf *out)
{
	const char	*alg = mint_alg(conf);
	jwt_t		*jwt = NULL;
	char		*text = NULL;

	if (alg == NULL || !user_is_sane(user) || jwt_new(&jwt) != 0)
		return -1;
	if (mint_fill(jwt, conf, alg, user, seconds) == 0)
		text = jwt_encode_str(jwt);
	if (text != NULL)
		buf_str(out, text);
	free(text);
	jwt_free(jwt);
	return text != NULL ? 0 : -1;
}
