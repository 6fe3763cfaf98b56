#include "model/piece.h"

#include <string.h>

#include "io/json_walk.h"

#define DIGITS_MAX	15	/* no number of tokens has more */

struct member {
	const char	*name;		/* NULL: all others, in the last one */
	size_t		 n;
	bool		(*read)(const char **, struct piece *);
};

#define MEMBER(name, read)	{ (name), sizeof(name) - 1, (read) }

static bool	 event(const char **, struct piece *);
static bool	 choices(const char **, struct piece *);
static bool	 choice(const char **, struct piece *);
static bool	 first(const char **, struct piece *);
static bool	 delta(const char **, struct piece *);
static bool	 content(const char **, struct piece *);
static bool	 finish(const char **, struct piece *);
static bool	 model(const char **, struct piece *);
static bool	 usage(const char **, struct piece *);
static bool	 input(const char **, struct piece *);
static bool	 output(const char **, struct piece *);
static bool	 kind(const char **, struct piece *);
static bool	 nothing(const char **, struct piece *);
static bool	 object(const char **, const struct member *, struct piece *);
static const struct member *find(const struct member *, struct span);
static bool	 string(const char **, struct span *);
static bool	 count(const char **, int64_t *);

bool
piece_read(struct piece *p, const char *json)
{
	*p = (struct piece){ .input_tokens = -1, .output_tokens = -1 };
	(void)json_walk_next(&json);
	return event(&json, p);
}

void
piece_free(struct piece *p)
{
	buf_free(&p->spelled);
}

/* -- what an event may hold to be for us: nothing but this -- */

static bool
event(const char **at, struct piece *p)
{
	static const struct member	 members[] = {
		MEMBER("id", nothing), MEMBER("object", kind), MEMBER("created", nothing), MEMBER("model", model),
		MEMBER("choices", choices), MEMBER("usage", usage), MEMBER("system_fingerprint", nothing),
		MEMBER("service_tier", nothing), MEMBER("provider", nothing), MEMBER("obfuscation", nothing),
		{ NULL, 0, NULL }
	};

	return object(at, members, p);
}

/* One, or none in the event that says what it has cost. */
static bool
choices(const char **at, struct piece *p)
{
	if (**at != '[')
		return false;
	++*at;
	if (json_walk_next(at) != ']' && (!choice(at, p) || json_walk_next(at) != ']'))
		return false;
	++*at;
	return true;
}

static bool
choice(const char **at, struct piece *p)
{
	static const struct member	 members[] = {
		MEMBER("index", first), MEMBER("delta", delta), MEMBER("finish_reason", finish),
		MEMBER("logprobs", nothing), { NULL, 0, NULL }
	};

	return object(at, members, p);
}

/* The one that was asked for. */
static bool
first(const char **at, struct piece *p)
{
	return **at == '0' && nothing(at, p);
}

static bool
delta(const char **at, struct piece *p)
{
	static const struct member	 members[] = {
		MEMBER("content", content), MEMBER("role", nothing), { NULL, 0, NULL }
	};

	return object(at, members, p);
}

static bool
content(const char **at, struct piece *p)
{
	if (string(at, &p->text))
		return true;
	if (**at != '"')
		return false;
	json_walk_string(at, &p->spelled);
	p->text = (struct span){ buf_text(&p->spelled), p->spelled.n };
	return true;
}

static bool
finish(const char **at, struct piece *p)
{
	return string(at, &p->finish);
}

static bool
model(const char **at, struct piece *p)
{
	return string(at, &p->model);
}

static bool
usage(const char **at, struct piece *p)
{
	static const struct member	 members[] = {
		MEMBER("prompt_tokens", input), MEMBER("completion_tokens", output), { NULL, 0, nothing }
	};

	return object(at, members, p);
}

static bool
input(const char **at, struct piece *p)
{
	return count(at, &p->input_tokens);
}

static bool
output(const char **at, struct piece *p)
{
	return count(at, &p->output_tokens);
}

/* Whatever it calls itself, but a failure (fault.c). */
static bool
kind(const char **at, struct piece *p)
{
	struct span	 s;

	(void)p;
	return string(at, &s) && (s.n != 5 || memcmp(s.p, "error", 5) != 0);
}

static bool
nothing(const char **at, struct piece *p)
{
	(void)p;
	json_walk_past(at);
	return true;
}

/* -- how it is read -- */

static bool
object(const char **at, const struct member *members, struct piece *p)
{
	const struct member	*m;
	struct span		 name;
	unsigned		 seen = 0;

	if (**at != '{')
		return false;
	++*at;
	while (json_walk_next(at) != '}') {
		if (**at == ',') {
			++*at;
			(void)json_walk_next(at);
		}
		if (!string(at, &name))
			return false;
		m = find(members, name);
		(void)json_walk_next(at);
		++*at;			/* the colon */
		/* Of a name that comes twice the last would count. */
		if (m->name != NULL && (seen & 1u << (m - members)) != 0)
			return false;
		seen |= 1u << (m - members);
		/* null says nothing, whatever it is that is null. */
		if (json_walk_next(at) == 'n')
			json_walk_past(at);
		else if (m->read == NULL || !m->read(at, p))
			return false;
	}
	++*at;
	return true;
}

static const struct member *
find(const struct member *m, struct span name)
{
	while (m->name != NULL && (m->n != name.n || memcmp(m->name, name.p, name.n) != 0))
		m++;
	return m;
}

/* Without escapes, which may spell any name. */
static bool
string(const char **at, struct span *s)
{
	size_t	 n;

	if (**at != '"' || (n = strcspn(*at + 1, "\"\\"), (*at)[1 + n] != '"'))
		return false;
	*s = (struct span){ *at + 1, n };
	*at += n + 2;
	return true;
}

static bool
count(const char **at, int64_t *n)
{
	size_t	 digits = strspn(*at, "0123456789");

	if (digits == 0 || digits > DIGITS_MAX || strchr(",} \t\r\n", (*at)[digits]) == NULL)
		return false;
	*n = 0;
	while (digits-- > 0)
		*n = *n * 10 + *(*at)++ - '0';
	return true;
}
