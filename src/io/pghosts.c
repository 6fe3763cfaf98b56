#include "io/pghosts.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"

/* libpq's options, and ours around them. */
#define PARAMS_MAX	96

/* One host of the list; NULL or "": not said, libpq has a default. */
struct host {
	const char	*host;
	const char	*hostaddr;
	const char	*port;
};

/* The configuration's, taken apart; and which host was the right one: forgotten, they are asked in their order. */
static struct {
	PQconninfoOption *options;
	struct host	*hosts;		/* NULL: left to libpq */
	int		 n;
	int		 worked;
} list = { .n = 1 };

struct params {
	const char	*keys[PARAMS_MAX + 1];
	const char	*values[PARAMS_MAX + 1];
	int		 n;
};

static void	 home_check(void);
static PQconninfoOption *options_read(const char *);
static const char *option(const char *);
static bool	 option_is_split(const char *);
static bool	 option_is_of_hosts(const char *);
static int	 items_count(const char *);
static const char *item(const char *, int);
static void	 param_add(struct params *, const char *, const char *);

int
pghosts_start(const char *url)
{
	const char	*host, *addr, *port;
	int		 n;

	home_check();
	if ((list.options = options_read(url)) == NULL)
		return -1;
	host = option("host");
	addr = option("hostaddr");
	port = option("port");
	n = items_count(addr != NULL ? addr : host);
	if (n < 2 || (host != NULL && items_count(host) != n) || (items_count(port) > 1 && items_count(port) != n))
		return 0;
	list.hosts = calloc((size_t)n, sizeof *list.hosts);
	if (list.hosts == NULL)
		arena_exhausted();
	for (int i = 0; i < n; i++)
		list.hosts[i] = (struct host){ item(host, i), item(addr, i), item(port, i) };
	list.n = n;
	return 0;
}

int
pghosts_count(void)
{
	return list.n;
}

int
pghosts_nth(int i)
{
	return (list.worked + i) % list.n;
}

void
pghosts_worked(int host)
{
	list.worked = host;
}

/* What stands first may be changed by the connection string, what comes after it may not; later words win. */
PGconn *
pghosts_connect(int host, int64_t patience)
{
	struct params	 p = { .n = 0 };
	char		 ms[24];

	(void)snprintf(ms, sizeof ms, "%lld", (long long)patience);
	param_add(&p, "fallback_application_name", "parley");
	param_add(&p, "gssencmode", "disable");
	param_add(&p, "tcp_user_timeout", ms);
	if (list.hosts != NULL)
		param_add(&p, "target_session_attrs", "read-write");
	for (const PQconninfoOption *o = list.options; o->keyword != NULL; o++)
		if (list.hosts == NULL || !option_is_split(o->keyword))
			param_add(&p, o->keyword, o->val);
	if (list.hosts != NULL) {
		param_add(&p, "host", list.hosts[host].host);
		param_add(&p, "hostaddr", list.hosts[host].hostaddr);
		param_add(&p, "port", list.hosts[host].port);
	}
	/* A start-up parameter that PgBouncer knows; "options" it would refuse. */
	param_add(&p, "client_encoding", "UTF8");
	return PQconnectStartParams(p.keys, p.values, 0);
}

/*
 * Who started us as another user may have left us his home (spawn-fcgi does).  libpq looks for a client's certificate
 * there, and what it may not even look for is an error to it; without HOME it asks for our own.
 */
static void
home_check(void)
{
	const char	*home = getenv("HOME");

	if (home != NULL && access(home, X_OK) != 0)
		(void)unsetenv("HOME");
}

/* What the string says; where it says nothing of the hosts, what the environment says of them. */
static PQconninfoOption *
options_read(const char *url)
{
	PQconninfoOption	*said;
	char			*why = NULL;
	const char		*env;

	said = PQconninfoParse(url != NULL ? url : "", &why);
	/* libpq quotes what it cannot read, and that may be the password. */
	PQfreemem(why);
	if (said == NULL)
		return NULL;
	for (PQconninfoOption *o = said; o->keyword != NULL; o++)
		if (o->val == NULL && o->envvar != NULL && option_is_of_hosts(o->keyword) &&
		    (env = getenv(o->envvar)) != NULL && (o->val = strdup(env)) == NULL)
			arena_exhausted();
	return said;
}

/* NULL: not said. */
static const char *
option(const char *keyword)
{
	for (const PQconninfoOption *o = list.options; o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o->val != NULL && o->val[0] != '\0' ? o->val : NULL;
	return NULL;
}

static bool
option_is_split(const char *keyword)
{
	return strcmp(keyword, "host") == 0 || strcmp(keyword, "hostaddr") == 0 || strcmp(keyword, "port") == 0;
}

static bool
option_is_of_hosts(const char *keyword)
{
	return option_is_split(keyword) || strcmp(keyword, "target_session_attrs") == 0;
}

/* As libpq does it: commas, without quotes; what is between two of them may be empty. */
static int
items_count(const char *text)
{
	int	 n = text != NULL;

	for (; text != NULL && *text != '\0'; text++)
		n += *text == ',';
	return n;
}

/* One item is everybody's: only of ports there may be fewer than hosts. */
static const char *
item(const char *text, int i)
{
	char	*copy;

	if (text == NULL || strchr(text, ',') == NULL)
		return text;
	while (i-- > 0)
		text = strchr(text, ',') + 1;
	if ((copy = strndup(text, strcspn(text, ","))) == NULL)
		arena_exhausted();
	return copy;
}

/* libpq takes an empty value for none at all. */
static void
param_add(struct params *p, const char *key, const char *value)
{
	if (value == NULL || value[0] == '\0' || p->n == PARAMS_MAX)
		return;
	p->keys[p->n] = key;
	p->values[p->n] = value;
	p->n++;
}
