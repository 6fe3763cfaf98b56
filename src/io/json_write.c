#include <string.h>

#include "base/utf8.h"
#include "io/json.h"

static void	 string_put(struct buf *, const char *, size_t);
static int	 unit(const char *);
static void	 comma(struct buf *);
static void	 quote(struct buf *, const char *, size_t);
static size_t	 plain(const char *, size_t);
static size_t	 character(struct buf *, const char *, size_t);

void
jw_open(struct buf *b, char bracket)
{
	comma(b);
	buf_char(b, bracket);
}

void
jw_close(struct buf *b, char bracket)
{
	buf_char(b, bracket);
}

void
jw_key(struct buf *b, const char *key)
{
	comma(b);
	quote(b, key, strlen(key));
	buf_char(b, ':');
}

void
jw_string(struct buf *b, const char *s)
{
	if (s == NULL)
		jw_null(b);
	else
		jw_string_n(b, s, strlen(s));
}

void
jw_string_n(struct buf *b, const char *s, size_t n)
{
	comma(b);
	quote(b, s, n);
}

void
jw_int(struct buf *b, int64_t n)
{
	comma(b);
	buf_int(b, n);
}

void
jw_bool(struct buf *b, bool yes)
{
	comma(b);
	buf_str(b, yes ? "true" : "false");
}

void
jw_null(struct buf *b)
{
	comma(b);
	buf_str(b, "null");
}

/* A string with its quotes, or what stands before the next blank or string. */
static size_t
run_length(const char *json)
{
	size_t	 n = 1;

	if (*json != '"')
		return n + strcspn(json + n, " \t\r\n\"");
	while (json[n] != '"' && json[n] != '\0')
		n += json[n] == '\\' && json[n + 1] != '\0' ? 2 : 1;
	return n + (json[n] == '"');
}

void
jw_raw(struct buf *b, const char *json)
{
	if (json == NULL) {
		jw_null(b);
		return;
	}
	comma(b);
	while (*(json += strspn(json, " \t\r\n")) != '\0') {
		size_t	 n = run_length(json);

		if (*json == '"')
			string_put(b, json, n);
		else
			buf_add(b, json, n);
		json += n;
	}
}

/*
 * PostgreSQL's json takes half of a surrogate pair, strict readers refuse all that it stands
 * in (RFC 8259, section 8.2): it becomes U+FFFD.
 */
static void
string_put(struct buf *b, const char *from, size_t n)
{
	const char	*end = from + n, *p = from;

	while ((p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
		int	 u = unit(p);

		if ((u & ~0x7ff) != 0xd800) {
			p += p + 2 <= end ? 2 : 1;
		} else if (u < 0xdc00 && (unit(p + 6) & ~0x3ff) == 0xdc00) {
			p += 12;
		} else {
			buf_add(b, from, (size_t)(p - from));
			buf_str(b, "\\ufffd");
			from = p += 6;
		}
	}
	buf_add(b, from, (size_t)(end - from));
}

/* What \uXXXX stands for; -1: it is something else. */
static int
unit(const char *p)
{
	static const char	 digits[] = "0123456789abcdef0123456789ABCDEF";
	int			 u = 0;

	if (p[0] != '\\' || p[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		const char	*d = memchr(digits, p[i], sizeof digits - 1);

		if (d == NULL)
			return -1;
		u = u << 4 | (int)((d - digits) & 15);
	}
	return u;
}

/*
 * A comma belongs after what ends a value: a bracket, a quote, a digit, the
 * last letter of true, false or null.  After anything else (an opening bracket, a
 * colon, the blank of "data: ") a first value begins.
 */
static void
comma(struct buf *b)
{
	switch (b->n > 0 ? b->p[b->n - 1] : '\0') {
	case '}': case ']': case '"': case 'e': case 'l':
	case '0' ... '9':
		buf_char(b, ',');
		break;
	}
}

/* RFC 8259 section 7. */
static void
quote(struct buf *b, const char *s, size_t n)
{
	buf_reserve(b, n + 2);
	buf_char(b, '"');
	while (n > 0) {
		size_t	 step = plain(s, n);

		if (step > 0)
			buf_add(b, s, step);
		else
			step = character(b, s, n);
		s += step;
		n -= step;
	}
	buf_char(b, '"');
}

/* Bytes that need no look: most of every text. */
static size_t
plain(const char *s, size_t n)
{
	static const bool	 special[256] = {
		[0x00 ... 0x1f] = true, ['"'] = true, ['\\'] = true, [0x7f ... 0xff] = true
	};
	const char		*p = s, *end = s + n;

	while (p < end && !special[(unsigned char)*p])
		p++;
	return (size_t)(p - s);
}

/* Writes one character that is not plain and says how many bytes it had. */
static size_t
character(struct buf *b, const char *s, size_t n)
{
	static const char	 from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	unsigned char		 c = (unsigned char)*s;
	const char		*at;
	size_t			 size = 1;

	if (c < 0x80) {
		if (c != 0 && (at = strchr(from, c)) != NULL) {
			buf_char(b, '\\');
			buf_char(b, to[at - from]);
		} else if (c != 0 && c < 0x20)
			buf_printf(b, "\\u%04x", c);
		else if (c != 0)
			buf_char(b, (char)c);
		return 1;
	}
	while (size < n && size < 4 && ((unsigned char)s[size] & 0xc0) == 0x80)
		size++;
	/* What follows a good character may be a stray byte. */
	for (size_t good = size; good > 1; good--)
		if (utf8_valid(s, good)) {
			buf_add(b, s, good);
			return good;
		}
	buf_str(b, "\xef\xbf\xbd");
	return size;
}
