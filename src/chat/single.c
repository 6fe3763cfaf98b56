#include "chat/single.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/buf.h"

#define PREFIX	"parley_"
/* The end of the search_path of functions that cross users.  No schema of this name can be made. */
#define MARK	"pg_parley"

/* The word before a role's name says what may stand in its place. */
enum place { PLAIN, AFTER_ROLE, AFTER_FROM, AFTER_GRANT };

static size_t	 role_length(const char *, const char *);
static enum place place_of(const char *, const char *);
static const char *crossing(const char *, const char *, size_t);
static const char *word_before(const char *, const char **);
static bool	 word_is(const char *, const char *, const char *);
static bool	 is_word(char);

void
single_text(struct buf *out, const char *text, const char *role)
{
	/* Where REVOKE takes a right from one of five, the one that is all of them keeps it. */
	const char *const	 instead[] = { "CURRENT_USER", "NONE", "PUBLIC", role };
	const char		*from = text;
	enum place		 place = PLAIN;

	for (const char *p = strstr(text, PREFIX); p != NULL; p = strstr(p, PREFIX)) {
		size_t		 n = role_length(text, p), quotes = 0;
		const char	*owner;

		if (n == 0) {
			p += strlen(PREFIX);
			continue;
		}
		if ((owner = crossing(text, p, n)) != NULL) {
			buf_add(out, from, (size_t)(owner - from));
			buf_str(out, "SET search_path = pg_catalog, pg_temp, " MARK);
			p = from = p + n;
			continue;
		}
		/* 'parley_tool', or within a string ''parley_tool'': a value. */
		while (quotes < 2 && p - quotes > text && p[-1 - (ptrdiff_t)quotes] == '\'' && p[n + quotes] == '\'')
			quotes++;
		/* The next name of a list stands where the first does. */
		if (from == text || strspn(from, ", \t\n") != (size_t)(p - from))
			place = place_of(text, p);
		buf_add(out, from, (size_t)(p - from) - quotes);
		buf_str(out, quotes > 0 ? "current_user" : instead[place]);
		p = from = p + n + quotes;
	}
	buf_str(out, from);
}

/* 0: it is none, but a part of another word, or a word of its own. */
static size_t
role_length(const char *text, const char *p)
{
	static const char *const	 roles[] = { "owner", "worker", "tool", "pulse", "ops" };
	const char			*name = p + strlen(PREFIX);

	if (p > text && (is_word(p[-1]) || p[-1] == '.'))
		return 0;
	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
		size_t	 n = strlen(roles[i]);

		if (strncmp(name, roles[i], n) == 0 && !is_word(name[n]) && name[n] != '.')
			return strlen(PREFIX) + n;
	}
	return 0;
}

/* ALTER FUNCTION … OWNER TO one of those who see the rows of all: where OWNER stands. */
static const char *
crossing(const char *text, const char *p, size_t n)
{
	const char	*to, *owner, *line = p;

	if (strncmp(p, PREFIX "pulse", n) != 0 && strncmp(p, PREFIX "ops", n) != 0)
		return NULL;
	to = word_before(text, &p);
	if (!word_is(to, p, "TO"))
		return NULL;
	p = to;
	owner = word_before(text, &p);
	if (!word_is(owner, p, "OWNER"))
		return NULL;
	while (line > text && line[-1] != '\n')
		line--;
	return strncmp(line, "ALTER FUNCTION ", 15) == 0 ? owner : NULL;
}

static enum place
place_of(const char *text, const char *p)
{
	const char	*begin = word_before(text, &p);

	if (word_is(begin, p, "FROM"))
		return AFTER_FROM;
	if (word_is(begin, p, "GRANT"))
		return AFTER_GRANT;
	if (!word_is(begin, p, "ROLE"))
		return PLAIN;
	/* SET ROLE, SET LOCAL ROLE; but not ALTER ROLE, nor FOR ROLE. */
	p = begin;
	begin = word_before(text, &p);
	return word_is(begin, p, "SET") || word_is(begin, p, "LOCAL") ? AFTER_ROLE : PLAIN;
}

/* Where the word before begins; *end is moved to where it ends. */
static const char *
word_before(const char *text, const char **end)
{
	const char	*begin;

	while (*end > text && isspace((unsigned char)(*end)[-1]))
		(*end)--;
	for (begin = *end; begin > text && is_word(begin[-1]); begin--)
		;
	return begin;
}

static bool
word_is(const char *begin, const char *end, const char *word)
{
	return (size_t)(end - begin) == strlen(word) && strncmp(begin, word, strlen(word)) == 0;
}

static bool
is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

PGresult *
single_begin(PGconn *pg)
{
	return PQexec(pg,
	    "DO $$ DECLARE v_schema text; BEGIN"
	    "	FOR v_schema IN SELECT n.nspname FROM pg_catalog.pg_namespace n"
	    "	    WHERE n.nspname IN ('parley', 'tools', 'tasks') LOOP"
	    "		EXECUTE format('GRANT ALL ON SCHEMA %I TO CURRENT_USER', v_schema);"
	    "	END LOOP;"
	    "END $$");
}

PGresult *
single_guard(PGconn *pg)
{
	/*
	 * A setting of our own would say it more plainly than a place in search_path, but only a superuser may give
	 * a function one that the server does not know.
	 * A policy for the rows of parley.user_id gives nobody more than own_rows does.
	 */
	return PQexec(pg,
	    "DO $$ DECLARE v record;"
	    "	v_gate text := '(current_setting(''search_path'') LIKE ''%" MARK "'') AND ';"
	    "	v_own text := '(user_id = NULLIF(current_setting(''parley.user_id''::text, true), ''''::text))';"
	    "BEGIN"
	    "	FOR v IN SELECT p.polname, p.polrelid::regclass AS rel,"
	    "	        pg_get_expr(p.polqual, p.polrelid) AS qual, pg_get_expr(p.polwithcheck, p.polrelid) AS fresh"
	    "	    FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid"
	    "	    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	    "	    WHERE n.nspname IN ('parley', 'tools', 'tasks') AND p.polroles <> '{0}' LOOP"
	    "		EXECUTE format('ALTER POLICY %I ON %s TO PUBLIC', v.polname, v.rel)"
	    "		    || coalesce(' USING (' || CASE v.qual WHEN v_own THEN '' ELSE v_gate END || '(' || v.qual || '))', '')"
	    "		    || coalesce(' WITH CHECK (' || CASE v.fresh WHEN v_own THEN '' ELSE v_gate END || '(' || v.fresh || '))', '');"
	    "	END LOOP;"
	    "	FOR v IN SELECT c.oid::regclass AS rel FROM pg_catalog.pg_class c"
	    "	    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	    "	    WHERE n.nspname IN ('parley', 'tools', 'tasks') AND c.relrowsecurity AND NOT EXISTS ("
	    "	        SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'backup_reads') LOOP"
	    "		EXECUTE format('CREATE POLICY backup_reads ON %s FOR SELECT USING (%s)', v.rel,"
	    "		    'current_setting(''parley.backup'', true) = ''on''');"
	    "	END LOOP;"
	    "END $$");
}
