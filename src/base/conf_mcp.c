#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/conf_env.h"
#include "base/conf_file.h"
#include "base/conf_load.h"
#include "base/conf_table.h"

#define SERVERS_MAX	16
/* A model takes 64 bytes of a tool's name, and the tool's own part is what it should read. */
#define NAME_MAX_BYTES	24

static const char *names_find(struct conf_load *);
static bool	 name_good(struct conf_load *, const char *);
static void	 server_load(struct conf_load *, struct conf_mcp *);
static bool	 url_safe(const struct conf_mcp *);
static bool	 is_loopback(const char *host, size_t);
static bool	 is_token(const char *);
static int	 by_name(const void *, const void *);

void
conf_mcp_load(struct conf_load *l)
{
	const char	*at;
	char		 name[64];

	l->servers = at = names_find(l);
	l->conf->mcp = arena_array(l->arena, struct conf_mcp, SERVERS_MAX);
	while (conf_list_next(&at, name, (int)sizeof name)) {
		if (!name_good(l, name))
			continue;
		l->conf->mcp[l->conf->nmcp] = (struct conf_mcp){ .name = arena_strdup(l->arena, name) };
		server_load(l, &l->conf->mcp[l->conf->nmcp++]);
	}
	qsort(l->conf->mcp, (size_t)l->conf->nmcp, sizeof *l->conf->mcp, by_name);
}

/* mcp.servers, else the sections of the file as they come. */
static const char *
names_find(struct conf_load *l)
{
	const struct conf_key	*k = conf_key_find("mcp", "servers");
	const char		*env = conf_env_get(conf_env_name(l->arena, k, ""), false);
	const struct conf_entry	*e = conf_entry_of(l, k, "");
	struct buf		*names;

	if (env != NULL || e != NULL)
		return env != NULL ? env : e->value;
	names = buf_new(l->arena);
	for (e = l->entries; e != NULL; e = e->next)
		if (strncmp(e->section, "mcp.", 4) == 0 && !conf_list_has(buf_text(names), e->section + 4)) {
			buf_str(names, names->n > 0 ? " " : "");
			buf_str(names, e->section + 4);
		}
	return buf_text(names);
}

static bool
name_good(struct conf_load *l, const char *name)
{
	size_t	 n = strlen(name);

	/* Without an underscore, so that NAME_tool of two servers can never be the same. */
	if (n > NAME_MAX_BYTES || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != n) {
		conf_complain(l, "mcp.%s: a server's name is made of at most %d small letters, digits and -", name, NAME_MAX_BYTES);
		return false;
	}
	for (int i = 0; i < l->conf->nmcp; i++)
		if (strcmp(l->conf->mcp[i].name, name) == 0) {
			conf_complain(l, "mcp.servers: %s is named twice", name);
			return false;
		}
	if (l->conf->nmcp == SERVERS_MAX) {
		conf_complain(l, "mcp.%s: more than %d servers; no model could tell their tools apart", name, SERVERS_MAX);
		return false;
	}
	return true;
}

static void
server_load(struct conf_load *l, struct conf_mcp *m)
{
	for (int i = 0; i < conf_table_size; i++)
		if (conf_table[i].mcp)
			conf_key_load(l, &conf_table[i], m, m->name);
	if (m->auth == NULL)
		m->auth = m->key != NULL ? "key" : "none";
	if (m->url == NULL)
		conf_complain(l, "mcp.%s.url: say where the server is, such as https://example.org/mcp", m->name);
	else if (memchr(m->url + 7, '@', strcspn(m->url + 8, "/?") + 1) != NULL)
		conf_complain(l, "mcp.%s.url: an address is no place for a password; use key_file and header", m->name);
	else if (!url_safe(m))
		conf_complain(l, "mcp.%s.url: http:// to another machine: whoever is between could read what is sent and answer"
		    " what he likes; use https://, or write plain_http = yes if the network is your own", m->name);
	if (strcmp(m->auth, "key") == 0 && m->key == NULL)
		conf_complain(l, "mcp.%s.auth = key: there is no key; name its file: key_file = PATH", m->name);
	if (m->header != NULL && !is_token(m->header))
		conf_complain(l, "mcp.%s.header: write the name of a header, such as X-API-Key", m->name);
	if (m->key != NULL && strcspn(m->key, "\r\n") != strlen(m->key))
		conf_complain(l, "mcp.%s.key: more than one line", m->name);
}

static bool
url_safe(const struct conf_mcp *m)
{
	const char	*host = m->url + 7;

	if (m->plain_http || strncasecmp(m->url, "http://", 7) != 0)
		return true;
	return is_loopback(host, *host == '[' ? strcspn(host, "]/?") + 1 : strcspn(host, ":/?"));
}

/* This machine by its name or number, so that no name server is asked what it is. */
static bool
is_loopback(const char *host, size_t n)
{
	return (n == 9 && (strncasecmp(host, "localhost", n) == 0 || memcmp(host, "127.0.0.1", n) == 0)) ||
	    (n == 5 && memcmp(host, "[::1]", n) == 0);
}

/* RFC 9110 section 5.6.2 */
static bool
is_token(const char *s)
{
	return *s != '\0' && s[strspn(s, "!#$%&'*+-.^_`|~0123456789"
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct conf_mcp *)a)->name, ((const struct conf_mcp *)b)->name);
}
