#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <curl/curl.h>
#include "auth/jwk.h"
#include "auth/token.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "ctl.h"
#include "ctl_check.h"
#include "ctl_mcp.h"

#define FETCH_SECONDS	15L

/* How many FAIL lines there were. */
static int	 failed;

void
check_good(const char *fmt, ...)
{
	va_list	 ap;

	fputs("ok   ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void
check_bad(const char *fmt, ...)
{
	va_list	 ap;

	fputs("FAIL ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	failed++;
}

const char *
check_line(const char *text)
{
	static char	 line[512];
	size_t		 n = 0;

	for (; *text != '\0' && n < sizeof line - 1; text++)
		if (*text != '\n' && *text != '\t')
			line[n++] = *text;
		else if (n > 0 && line[n - 1] != ' ')
			line[n++] = ' ';
	while (n > 0 && line[n - 1] == ' ')
		n--;
	line[n] = '\0';
	return line;
}

/* -- fetching -- */

static size_t
body_add(char *p, size_t size, size_t n, void *arg)
{
	struct check_body	*b = arg;

	if (b->text.n + size * n > b->max)
		return 0;
	buf_add(&b->text, p, size * n);
	return size * n;
}

long
check_fetch(const char *url, const char *key, const char *ca_file, struct check_body *body, char why[CURL_ERROR_SIZE])
{
	CURL			*c = curl_easy_init();
	struct curl_slist	*headers = NULL;
	struct buf		 auth = { 0 };
	long			 status = 0;

	why[0] = '\0';
	if (key != NULL) {
		buf_printf(&auth, "Authorization: Bearer %s", key);
		headers = curl_slist_append(NULL, buf_text(&auth));
	}
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_TIMEOUT, FETCH_SECONDS);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, body_add);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, body);
	if (ca_file != NULL)
		curl_easy_setopt(c, CURLOPT_CAINFO, ca_file);
	if (curl_easy_perform(c) == CURLE_OK)
		curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(c);
	buf_free(&auth);
	return status;
}

/* -- keys -- */

static void
check_secret(const struct conf *conf)
{
	if (conf->auth_secret == NULL)
		return;
	if (!token_alg_allowed(conf, "HS256") && !token_alg_allowed(conf, "HS384") && !token_alg_allowed(conf, "HS512"))
		check_bad("auth: there is a shared secret, but auth.algorithms allows none of HS256, HS384, HS512:"
		    " add one or remove the secret");
	else
		check_good("auth: a shared secret of %zu bytes", strlen(conf->auth_secret));
}

static bool
file_read(const char *path, struct buf *text)
{
	char	 piece[4096];
	size_t	 n;
	FILE	*f = fopen(path, "re");
	bool	 whole;

	if (f == NULL)
		return false;
	while ((n = fread(piece, 1, sizeof piece, f)) > 0 && text->n <= JWK_SET_BYTES)
		buf_add(text, piece, n);
	whole = !ferror(f);
	fclose(f);
	return whole;
}

static void
check_keys(const char *source, const struct buf *text)
{
	struct buf	 why = { 0 };
	struct jwk_set	*set = jwk_set_read(buf_text(text), text->n, &why);

	if (set == NULL)
		check_bad("auth: %s is no JWK set, %s: give the address of the issuer's keys, often …/.well-known/jwks.json",
		    source, buf_text(&why));
	else if (set->n == 0)
		check_bad("auth: %s has no key that can be used (%d left out, see above): RSA of 2048 bits, EC or Ed25519 are",
		    source, set->skipped);
	else
		check_good("auth: %s has %d key%s (%d left out)", source, set->n, set->n == 1 ? "" : "s", set->skipped);
	jwk_set_free(&set);
	buf_free(&why);
}

static void
check_jwks(const struct conf *conf)
{
	struct check_body	 body = { .max = JWK_SET_BYTES };
	char		 why[CURL_ERROR_SIZE];
	long		 status;

	if (conf->auth_jwks_file != NULL) {
		if (file_read(conf->auth_jwks_file, &body.text))
			check_keys(conf->auth_jwks_file, &body.text);
		else
			check_bad("auth: %s: %m: correct auth.jwks_file or its permissions", conf->auth_jwks_file);
	} else if (conf->auth_jwks_url != NULL) {
		status = check_fetch(conf->auth_jwks_url, NULL, NULL, &body, why);
		if (status == 200)
			check_keys(conf->auth_jwks_url, &body.text);
		else if (status != 0)
			check_bad("auth: %s answered %ld, not 200: correct auth.jwks_url (redirects are not followed)",
			    conf->auth_jwks_url, status);
		else
			check_bad("auth: %s cannot be fetched (%s): correct auth.jwks_url or start the issuer",
			    conf->auth_jwks_url, check_line(why));
	}
	buf_free(&body.text);
}

static void
check_auth(const struct conf *conf)
{
	if (conf->auth_secret == NULL && conf->auth_jwks_file == NULL && conf->auth_jwks_url == NULL)
		check_bad("auth: no token can be checked: set auth.secret_file, auth.jwks_url or auth.jwks_file");
	check_secret(conf);
	check_jwks(conf);
	if (conf->auth_issuer != NULL && conf->auth_audience != NULL)
		check_good("auth: tokens must be from %s and for %s", conf->auth_issuer, conf->auth_audience);
	else
		check_good("auth: %s not set: what else the same keys sign is taken as well, so set it if you can",
		    conf->auth_issuer == NULL ? "auth.issuer is" : "auth.audience is");
}

/* -- servers of tools -- */

static void
check_mcp(const struct conf *conf)
{
	struct arena	*a = arena_open();
	struct ctl_mcp	*answers = arena_array(a, struct ctl_mcp, conf->nmcp + 1);

	if (ctl_mcp_ask(conf, a, NULL, answers) < 0) {
		check_bad("mcp: the servers of tools cannot be asked: mend the database first");
		arena_close(&a);
		return;
	}
	for (int i = 0; i < conf->nmcp; i++) {
		const struct ctl_mcp	*m = &answers[i];

		if (m->why != NULL)
			check_bad("mcp: [%s] %s %s: %s", m->server->name, m->server->url, m->why, m->mend);
		else if (m->wants_token)
			check_good("mcp: [%s] %s is there, and wants the token of a user", m->server->name, m->server->url);
		else
			check_good("mcp: [%s] %s speaks %s, %d tools (%d left out)", m->server->name, m->server->url, m->version,
			    m->ntools, m->left_out);
	}
	arena_close(&a);
}

/* One line for each mistake. */
static void
check_reading(const char *why)
{
	while (*why != '\0') {
		size_t	 n = strcspn(why, "\n");

		if (n > 0)
			check_bad("configuration: %.*s", (int)n, why);
		why += n + (why[n] == '\n');
	}
}

/* -- this machine -- */

/* What a worker started from here would have; one of systemd or a web server has what that says. */
static void
check_files(const struct conf *conf)
{
	/* Two for a turn, those to the database, and some for the rest. */
	int64_t		 wanted = 2 * conf->worker_max_turns + conf->database_connections + 64;
	struct rlimit	 r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return;
	if (r.rlim_max != RLIM_INFINITY && (int64_t)r.rlim_max < wanted)
		check_bad("limits: %lld open files are allowed here, and worker.max_turns = %lld may need %lld: raise it (ulimit -Hn,"
		    " LimitNOFILE= of systemd) or lower worker.max_turns", (long long)r.rlim_max, (long long)conf->worker_max_turns,
		    (long long)wanted);
	else
		check_good("limits: open files are enough for worker.max_turns = %lld", (long long)conf->worker_max_turns);
}

int
ctl_check(const struct conf *conf, const char *conf_why, const struct ctl_check *how)
{
	if (conf == NULL) {
		check_reading(conf_why);
		return failed;
	}
	check_good("configuration: read");
	curl_global_init(CURL_GLOBAL_DEFAULT);
	check_auth(conf);
	check_files(conf);
	check_database(conf, how->schema_dir);
	if (conf->nmodels == 0)
		check_bad("model: there is none: set model.base_url and model.model");
	for (int i = 0; i < conf->nmodels; i++)
		check_model(conf, &conf->models[i], how->ask_model);
	check_mcp(conf);
	curl_global_cleanup();
	return failed;
}
