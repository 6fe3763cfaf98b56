#include "auth/base64url.h"

#include <stdint.h>

#include "base/buf.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int
digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

ssize_t
base64url_read(const char *s, size_t n, unsigned char *out)
{
	unsigned char	*o = out;
	uint32_t	 bits = 0;
	int		 have = 0;

	/* A single left-over character holds six bits: less than a byte. */
	if (n % 4 == 1)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int	 v = digit_value(s[i]);

		if (v < 0)
			return -1;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			*o++ = (unsigned char)(bits >> have);
			bits &= (1u << have) - 1;
		}
	}
	return bits == 0 ? o - out : -1;
}

void
base64url_add(struct buf *b, const void *data, size_t n)
{
	const unsigned char	*p = data;
	uint32_t		 bits = 0;
	int			 have = 0;

	for (size_t i = 0; i < n; i++) {
		bits = bits << 8 | p[i];
		for (have += 8; have >= 6; have -= 6)
			buf_char(b, alphabet[bits >> (have - 6) & 63]);
		bits &= (1u << have) - 1;
	}
	if (have > 0)
		buf_char(b, alphabet[bits << (6 - have) & 63]);
}
