#include "model/piece.h"

#include <string.h>

#include "io/json_walk.h"

/* The members of an object that may say something; all of one name, or none, are of the same kind. */
struct reader {
	const char	*const *silent;	/* names of those that are nothing to us */
	const char	*name;		/* of the one that is read */
	bool		(*read)(const char **, struct buf *);
};

static bool	 object(const char **, const struct reader *, struct buf *);
static bool	 member(const char **, const struct reader *, struct buf *, bool *seen);
static bool	 choices(const char **, struct buf *);
static bool	 delta(const char **, struct buf *);
static bool	 content(const char **, struct buf *);
static bool	 is(const char *, size_t, const char *name);

/* Of a name that comes twice the last would count: such an event is not for us, nor is one with a name that is not here. */
static const char *const	 of_event[] = {
	"id", "object", "created", "model", "system_fingerprint", "service_tier", "provider", "obfuscation", NULL
};
static const char *const	 of_choice[] = { "logprobs", NULL };
static const char *const	 of_delta[] = { "role", NULL };

bool
piece_read(const char *json, struct buf *text)
{
	static const struct reader	 event = { of_event, "choices", choices };

	return json_walk_next(&json) == '{' && object(&json, &event, text);
}

static bool
object(const char **at, const struct reader *r, struct buf *text)
{
	bool	 seen = false;

	++*at;
	while (json_walk_next(at) != '}') {
		if (**at == ',') {
			++*at;
			(void)json_walk_next(at);
		}
		if (!member(at, r, text, &seen))
			return false;
	}
	++*at;
	return true;
}

static bool
member(const char **at, const struct reader *r, struct buf *text, bool *seen)
{
	const char	*name = *at + 1;
	size_t		 n;

	json_walk_past(at);
	n = (size_t)(*at - name - 1);
	(void)json_walk_next(at);
	++*at;			/* the colon */
	/* An escape may spell any name. */
	if (memchr(name, '\\', n) != NULL)
		return false;
	if (is(name, n, r->name)) {
		if (*seen)
			return false;
		*seen = true;
		(void)json_walk_next(at);
		return r->read(at, text);
	}
	/* null says nothing, whatever it is that is null; the first choice is the one that was asked for. */
	if (json_walk_next(at) == 'n' || (**at == '0' && is(name, n, "index"))) {
		json_walk_past(at);
		return true;
	}
	for (const char *const *s = r->silent; *s != NULL; s++)
		if (is(name, n, *s)) {
			json_walk_past(at);
			return true;
		}
	return false;
}

static bool
choices(const char **at, struct buf *text)
{
	static const struct reader	 choice = { of_choice, "delta", delta };

	if (**at != '[')
		return false;
	++*at;
	if (json_walk_next(at) != '{' || !object(at, &choice, text) || json_walk_next(at) != ']')
		return false;
	++*at;
	return true;
}

static bool
delta(const char **at, struct buf *text)
{
	static const struct reader	 words = { of_delta, "content", content };

	return **at == '{' && object(at, &words, text);
}

static bool
content(const char **at, struct buf *text)
{
	if (**at != '"')
		return false;
	json_walk_string(at, text);
	return true;
}

static bool
is(const char *s, size_t n, const char *name)
{
	return strncmp(s, name, n) == 0 && name[n] == '\0';
}
