#include "base/utf8.h"

static size_t	 char_valid(const unsigned char *, size_t);
static size_t	 char_size(unsigned char lead);
static size_t	 space_first(const char *, size_t);
static size_t	 space_last(const char *, size_t);
static bool	 is_space(uint32_t);

bool
utf8_valid(const char *s, size_t n)
{
	const unsigned char	*p = (const unsigned char *)s;

	while (n > 0) {
		size_t	 size = *p < 0x80 ? 1 : char_valid(p, n);

		if (size == 0)
			return false;
		p += size;
		n -= size;
	}
	return true;
}

/* Bytes of the character at p, 0 when it is none: the table of RFC 3629 section 4. */
static size_t
char_valid(const unsigned char *p, size_t n)
{
	size_t		 size = char_size(p[0]);
	unsigned char	 low = 0x80, high = 0xbf;

	if (size == 1)
		return p[0] < 0x80 ? 1 : 0;
	if (p[0] < 0xc2 || p[0] > 0xf4 || size > n)
		return 0;
	switch (p[0]) {
	case 0xe0: low = 0xa0; break;	/* overlong */
	case 0xed: high = 0x9f; break;	/* surrogates */
	case 0xf0: low = 0x90; break;	/* overlong */
	case 0xf4: high = 0x8f; break;	/* above U+10FFFF */
	}
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < size; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return size;
}

/* What the first byte promises; 1 for a byte that cannot be a first one. */
static size_t
char_size(unsigned char lead)
{
	if (lead < 0xc0)
		return 1;
	return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf8 ? 4 : 1;
}

size_t
utf8_length(const char *s, size_t n)
{
	size_t	 count = 0;

	for (size_t i = 0; i < n; i++)
		count += ((unsigned char)s[i] & 0xc0) != 0x80;
	return count;
}

size_t
utf8_whole(const char *s, size_t n)
{
	/* Only the last three bytes can begin a character that is cut. */
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned char	 c = (unsigned char)s[n - back];

		if ((c & 0xc0) == 0x80)
			continue;
		return char_size(c) > back ? n - back : n;
	}
	return n;
}

void
utf8_trim(const char **s, size_t *n)
{
	size_t	 size;

	while ((size = space_first(*s, *n)) > 0) {
		*s += size;
		*n -= size;
	}
	while ((size = space_last(*s, *n)) > 0)
		*n -= size;
}

static size_t
space_first(const char *s, size_t n)
{
	size_t		 size = n > 0 ? char_valid((const unsigned char *)s, n) : 0;
	const char	*at = s;

	return size > 0 && is_space(utf8_next(&at, s + size)) ? size : 0;
}

static size_t
space_last(const char *s, size_t n)
{
	size_t	 start = n;

	/* Back to the byte that may begin the last character. */
	while (start > 0 && n - start < 4)
		if (((unsigned char)s[--start] & 0xc0) != 0x80)
			break;
	return start < n && space_first(s + start, n - start) == n - start ? n - start : 0;
}

/* White_Space=yes of the Unicode Character Database (PropList.txt). */
static bool
is_space(uint32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 ||
	    c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
	    c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

uint32_t
utf8_next(const char **s, const char *end)
{
	static const unsigned char	 mask[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	const unsigned char		*p = (const unsigned char *)*s;
	size_t				 size = char_size(p[0]);
	uint32_t			 c = p[0] & mask[size];

	if (size > (size_t)(end - *s))
		size = (size_t)(end - *s);
	for (size_t i = 1; i < size; i++)
		c = c << 6 | (p[i] & 0x3f);
	*s += size;
	return c;
}

size_t
utf8_write(char out[4], uint32_t c)
{
	size_t	 size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (size == 1) {
		out[0] = (char)c;
		return 1;
	}
	/* As many leading ones as bytes; the others bring six bits each. */
	out[0] = (char)((0xf00 >> size & 0xff) | c >> 6 * (size - 1));
	for (size_t i = 1; i < size; i++)
		out[i] = (char)(0x80 | (c >> 6 * (size - 1 - i) & 0x3f));
	return size;
}
