#include "io/json_check.h"

#include <string.h>

#include "base/utf8.h"
#include "io/json.h"

/* A number costs its reader at most this: jsonb spells 1e131071 out in 131 kB. */
#define DIGITS_MAX	40
#define EXPONENT_MAX	3

/* What json-c makes of each, on a machine of 64 bits: an object begins with a table of 16. */
#define WEIGHT_VALUE	64
#define WEIGHT_MEMBER	64
#define WEIGHT_OBJECT	800
#define WEIGHT_ARRAY	96

static bool	 check_value(struct json_check *, int depth);
static bool	 check_object(struct json_check *, int depth);
static bool	 check_array(struct json_check *, int depth);
static bool	 check_string(struct json_check *);
static bool	 check_escape(struct json_check *);
static bool	 check_unicode(struct json_check *);
static int	 check_hex(struct json_check *);
static bool	 check_number(struct json_check *);
static size_t	 check_digits(struct json_check *);
static bool	 check_word(struct json_check *, const char *);
static void	 skip_space(struct json_check *);
static int	 plain(struct json_check *, bool *ascii);
static int	 peek(const struct json_check *);
static bool	 take(struct json_check *, char);
static bool	 wrong(struct json_check *, const char *);

bool
json_check(struct json_check *c)
{
	skip_space(c);
	if (c->at == c->n)
		return wrong(c, "empty text");
	if (!check_value(c, 0))
		return false;
	skip_space(c);
	return c->at == c->n || wrong(c, "bytes after the end");
}

/* RFC 8259 section 3.  depth: how many arrays and objects are open around it. */
static bool
check_value(struct json_check *c, int depth)
{
	c->weight += WEIGHT_VALUE;
	switch (peek(c)) {
	case '{':
		return check_object(c, depth + 1);
	case '[':
		return check_array(c, depth + 1);
	case '"':
		return check_string(c);
	case 't':
		return check_word(c, "true");
	case 'f':
		return check_word(c, "false");
	case 'n':
		return check_word(c, "null");
	default:
		return check_number(c);
	}
}

/* Section 4. */
static bool
check_object(struct json_check *c, int depth)
{
	if (depth > JSON_DEPTH_MAX)
		return wrong(c, "nested too deeply");
	c->weight += WEIGHT_OBJECT;
	c->at++;
	skip_space(c);
	if (take(c, '}'))
		return true;
	do {
		c->weight += WEIGHT_MEMBER;
		skip_space(c);
		if (peek(c) != '"')
			return wrong(c, "a member's name is missing");
		if (!check_string(c))
			return false;
		skip_space(c);
		if (!take(c, ':'))
			return wrong(c, "':' is missing");
		skip_space(c);
		if (!check_value(c, depth))
			return false;
		skip_space(c);
	} while (take(c, ','));
	return take(c, '}') || wrong(c, "',' or '}' is missing");
}

/* Section 5. */
static bool
check_array(struct json_check *c, int depth)
{
	if (depth > JSON_DEPTH_MAX)
		return wrong(c, "nested too deeply");
	c->weight += WEIGHT_ARRAY;
	c->at++;
	skip_space(c);
	if (take(c, ']'))
		return true;
	do {
		skip_space(c);
		if (!check_value(c, depth))
			return false;
		skip_space(c);
	} while (take(c, ','));
	return take(c, ']') || wrong(c, "',' or ']' is missing");
}

/* Section 7. */
static bool
check_string(struct json_check *c)
{
	size_t	 start = ++c->at;
	bool	 ascii = true;

	for (int ch; (ch = plain(c, &ascii)) != '"'; ) {
		if (ch < 0)
			return wrong(c, "a string does not end");
		if (ch < 0x20)
			return wrong(c, "a raw control character in a string");
		c->at++;
		if (ch == '\\' && !check_escape(c))
			return false;
	}
	if (!ascii && !utf8_valid(c->s + start, c->at - start)) {
		c->at = start;
		return wrong(c, "a string that is not UTF-8");
	}
	c->at++;
	return true;
}

static bool
check_escape(struct json_check *c)
{
	int	 ch = peek(c);

	if (ch <= 0 || strchr("\"\\/bfnrtu", ch) == NULL)
		return wrong(c, "an unknown escape");
	c->at++;
	return ch != 'u' || check_unicode(c);
}

/*
 * \uXXXX, after the u.  A lone surrogate is grammar (section 8.2) but no
 * character, and NUL would cut the text short in C and in PostgreSQL.
 */
static bool
check_unicode(struct json_check *c)
{
	int	 unit = check_hex(c);

	if (unit < 0)
		return wrong(c, "four hex digits are missing");
	if (unit == 0)
		return wrong(c, "an escaped NUL");
	if (unit < 0xd800 || unit > 0xdfff)
		return true;
	if (unit > 0xdbff || !take(c, '\\') || !take(c, 'u'))
		return wrong(c, "a lone surrogate");
	unit = check_hex(c);
	return (unit >= 0xdc00 && unit <= 0xdfff) || wrong(c, "a lone surrogate");
}

static int
check_hex(struct json_check *c)
{
	int	 unit = 0;

	for (int i = 0; i < 4; i++, c->at++) {
		int	 ch = peek(c);

		if (ch >= '0' && ch <= '9')
			unit = unit << 4 | (ch - '0');
		else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f')
			unit = unit << 4 | ((ch | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return unit;
}

/* Section 6. */
static bool
check_number(struct json_check *c)
{
	size_t	 digits, exponent = 0;

	take(c, '-');
	if (take(c, '0'))
		digits = 1;
	else if ((digits = check_digits(c)) == 0)
		return wrong(c, "not a value");
	if (take(c, '.')) {
		size_t	 fraction = check_digits(c);

		if (fraction == 0)
			return wrong(c, "digits are missing");
		digits += fraction;
	}
	if ((peek(c) | 0x20) == 'e') {
		c->at++;
		if (!take(c, '+'))
			take(c, '-');
		if ((exponent = check_digits(c)) == 0)
			return wrong(c, "digits are missing");
	}
	return (digits <= DIGITS_MAX && exponent <= EXPONENT_MAX) || wrong(c, "a number out of bounds");
}

static size_t
check_digits(struct json_check *c)
{
	size_t	 start = c->at;

	while (peek(c) >= '0' && peek(c) <= '9')
		c->at++;
	return c->at - start;
}

static bool
check_word(struct json_check *c, const char *word)
{
	size_t	 n = strlen(word);

	if (c->n - c->at < n || memcmp(c->s + c->at, word, n) != 0)
		return wrong(c, "not a value");
	c->at += n;
	return true;
}

static void
skip_space(struct json_check *c)
{
	for (; c->at < c->n; c->at++)
		if (c->s[c->at] != ' ' && c->s[c->at] != '\t' && c->s[c->at] != '\n' && c->s[c->at] != '\r')
			return;
}

/* Goes to the next byte of a string that needs a look, which is returned; -1 at the end. */
static int
plain(struct json_check *c, bool *ascii)
{
	static const bool	 special[256] = {
		[0x00 ... 0x1f] = true, ['"'] = true, ['\\'] = true, [0x80 ... 0xff] = true
	};
	const char		*s = c->s + c->at, *end = c->s + c->n;

	for (; s < end; s++) {
		if (!special[(unsigned char)*s])
			continue;
		if ((unsigned char)*s < 0x80)
			break;
		*ascii = false;
	}
	c->at = (size_t)(s - c->s);
	return peek(c);
}

/* The next byte or -1 at the end. */
static int
peek(const struct json_check *c)
{
	return c->at < c->n ? (unsigned char)c->s[c->at] : -1;
}

static bool
take(struct json_check *c, char ch)
{
	if (peek(c) != (unsigned char)ch)
		return false;
	c->at++;
	return true;
}

static bool
wrong(struct json_check *c, const char *why)
{
	c->why = why;
	return false;
}
