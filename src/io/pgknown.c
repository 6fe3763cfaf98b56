#include "io/pgknown.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/sha256.h"

/* There are about forty; what comes after these is said as it is. */
#define STATEMENTS_MAX	64
/* "parley_", and half of the hash. */
#define NAME_SIZE	(7 + 32 + 1)

struct statement {
	char	*sql;
	char	 name[NAME_SIZE];
};

/* Texts and their names, the same in every process; which connection knows them is with the connection. */
static struct {
	bool			 off;
	int			 n;
	struct statement	 v[STATEMENTS_MAX];
} known;

static int	 statement_find(const char *sql);
static int	 statement_add(const char *sql);
static uint64_t	 bit_of(const char *name);

void
pgknown_start(bool prepare)
{
	known.off = !prepare;
}

enum pgknown_how
pgknown_ask(struct pgknown *k, const char *sql, const char **name)
{
	int		 i = known.off ? -1 : statement_find(sql);
	uint64_t	 bit = i < 0 ? 0 : UINT64_C(1) << i;

	if (bit == 0)
		return PGKNOWN_PLAIN;
	*name = known.v[i].name;
	if ((k->told & bit) != 0)
		return PGKNOWN_NAMED;
	/* What is said once is not worth a round trip of its own. */
	if ((k->said & bit) == 0) {
		k->said |= bit;
		return PGKNOWN_PLAIN;
	}
	return PGKNOWN_TELL;
}

void
pgknown_told(struct pgknown *k, const char *name)
{
	k->told |= bit_of(name);
}

bool
pgknown_failed(struct pgknown *k, const char *sqlstate)
{
	if (strcmp(sqlstate, "26000") == 0) {
		if (!known.off)
			log_say(LOG_INFO, "database", "a pooler mixes up sessions: statements are not prepared any more");
		known.off = true;
		return true;
	}
	/* Most things that are not supported have been done by no function before, but all of them are undone. */
	k->stale = k->stale || strcmp(sqlstate, "0A000") == 0;
	return k->stale;
}

/* -1: there is no room for it. */
static int
statement_find(const char *sql)
{
	/* The same text is nearly always the same literal; but only the text counts. */
	for (int i = 0; i < known.n; i++)
		if (strcmp(known.v[i].sql, sql) == 0)
			return i;
	return known.n < STATEMENTS_MAX ? statement_add(sql) : -1;
}

static int
statement_add(const char *sql)
{
	struct statement	*s = &known.v[known.n];
	char			 hash[SHA256_TEXT];

	if (!sha256_hex(sql, strlen(sql), hash))
		return -1;
	if ((s->sql = strdup(sql)) == NULL)
		arena_exhausted();
	memcpy(s->name, "parley_", 7);
	memcpy(s->name + 7, hash, 32);
	s->name[NAME_SIZE - 1] = '\0';
	return known.n++;
}

static uint64_t
bit_of(const char *name)
{
	for (int i = 0; i < known.n; i++)
		if (known.v[i].name == name)
			return UINT64_C(1) << i;
	return 0;
}
