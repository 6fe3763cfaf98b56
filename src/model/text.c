#include "model/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "model/mend.h"

#define REPLACEMENT	0xfffd

static void	 settle(struct text *, bool last);
static size_t	 settle_one(struct buf *, const unsigned char *, size_t, bool last);
static int	 sequence(const unsigned char *, size_t, uint32_t *);
static void	 put(struct buf *, uint32_t);

void
text_add(struct text *t, const char *s, size_t n)
{
	if (n == 0)
		return;
	buf_add(&t->b, s, n);
	settle(t, false);
}

void
text_add_mended(struct text *t, const char *s, size_t n)
{
	const char	*end = s + n;

	while (s < end) {
		uint32_t	 c = utf8_next(&s, end);

		if (c >= MEND_SURROGATE && c < MEND_SURROGATE + 0x800)
			put(&t->b, c - MEND_SURROGATE + 0xd800);
		else if (c >= MEND_BYTE + 0x80 && c <= MEND_BYTE + 0xff)
			buf_char(&t->b, (char)(c - MEND_BYTE));
		else
			put(&t->b, c);
	}
	settle(t, false);
}

void
text_end(struct text *t)
{
	settle(t, true);
}

void
text_free(struct text *t)
{
	buf_free(&t->b);
	t->whole = 0;
}

/* Moves `whole` as far as the bytes allow. */
static void
settle(struct text *t, bool last)
{
	size_t		 n = t->b.n - t->whole, at = 0;
	struct buf	 tail = { 0 };

	if (n == 0)
		return;
	if (utf8_valid(t->b.p + t->whole, n) && memchr(t->b.p + t->whole, 0, n) == NULL) {
		t->whole = t->b.n;
		return;
	}

	/* A replacement is longer than what it replaces, so the tail is written anew. */
	buf_add(&tail, t->b.p + t->whole, n);
	t->b.n = t->whole;
	while (at < n) {
		size_t	 used = settle_one(&t->b, (const unsigned char *)tail.p + at, n - at, last);

		if (used == 0)
			break;
		at += used;
	}
	t->whole = t->b.n;
	buf_add(&t->b, tail.p + at, n - at);
	buf_free(&tail);
}

/* Writes the first character of s: bytes used, 0 when it may still be completed. */
static size_t
settle_one(struct buf *b, const unsigned char *s, size_t n, bool last)
{
	uint32_t	 c, low;
	int		 k = sequence(s, n, &c), l;

	if (k == 0 && !last)
		return 0;
	if (k <= 0) {
		put(b, REPLACEMENT);
		return k == 0 ? n : 1;
	}
	if (c >= 0xd800 && c < 0xdc00) {
		l = n > (size_t)k ? sequence(s + k, n - (size_t)k, &low) : 0;
		if (l == 0 && !last)
			return 0;
		if (l == 3 && low >= 0xdc00 && low < 0xe000) {
			put(b, 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00));
			return 6;
		}
	}
	if (c >= 0xd800 && c < 0xe000)
		c = REPLACEMENT;
	if (c != 0)
		put(b, c);
	return (size_t)k;
}

/*
 * Reads one sequence: its bytes, 0 when it is the beginning of one, -1 when its first byte can be
 * none.  Surrogates are let through here: they come in halves.
 */
static int
sequence(const unsigned char *s, size_t n, uint32_t *c)
{
	int	 need = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? -1 : s[0] < 0xe0 ? 2 :
		     s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : -1;

	if (need < 0)
		return -1;
	*c = need == 1 ? s[0] : s[0] & (0x7fU >> need);
	for (int i = 1; i < need; i++) {
		unsigned	 least = 0x80, most = 0xbf;

		if ((size_t)i >= n)
			return 0;
		/* RFC 3629, section 4: no overlong forms, nothing above U+10FFFF. */
		if (i == 1 && s[0] == 0xe0)
			least = 0xa0;
		if (i == 1 && s[0] == 0xf0)
			least = 0x90;
		if (i == 1 && s[0] == 0xf4)
			most = 0x8f;
		if (s[i] < least || s[i] > most)
			return -1;
		*c = *c << 6 | (s[i] & 0x3f);
	}
	return need;
}

static void
put(struct buf *b, uint32_t c)
{
	char	 bytes[4];

	buf_add(b, bytes, utf8_write(bytes, c));
}
