/* UTF-8: taken is exactly what a decoder by the book (RFC 3629) takes, and every helper stays on whole characters. */
#include "fuzz.h"

#include "base/utf8.h"

/* The code point at p by its bits alone; 0: none, for the shortest form is the only one. */
static size_t
by_the_book(const unsigned char *p, size_t n)
{
	static const uint32_t	 least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t			 size = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 :
				     (p[0] & 0xf8) == 0xf0 ? 4 : 0;
	uint32_t		 c;

	if (size == 0 || size > n)
		return 0;
	c = size == 1 ? p[0] : p[0] & (0x7fu >> size);
	for (size_t i = 1; i < size; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c < least[size] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : size;
}

static bool
valid(const char *p, size_t n)
{
	for (size_t size; n > 0; p += size, n -= size)
		if ((size = by_the_book((const unsigned char *)p, n)) == 0)
			return false;
	return true;
}

static void
characters(const char *p, size_t n)
{
	const char	*at = p, *end = p + n;
	size_t		 count = 0;

	while (at < end) {
		const char	*from = at;
		char		 bytes[4];
		uint32_t	 c = utf8_next(&at, end);
		size_t		 size = utf8_write(bytes, c);

		must(size == (size_t)(at - from) && memcmp(bytes, from, size) == 0);
		count++;
	}
	must(at == end && count == utf8_length(p, n));
	for (size_t cut = 0; cut <= n; cut++) {
		size_t	 whole = utf8_whole(p, cut);

		must(whole <= cut && cut - whole < 4 && utf8_valid(p, whole));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char		*p = fuzz_copy((const char *)data, n);
	const char	*inner = p;
	size_t		 ninner = n;

	must(utf8_valid(p, n) == valid(p, n));
	must(utf8_whole(p, n) <= n);
	utf8_trim(&inner, &ninner);
	must(inner >= p && inner + ninner <= p + n);
	if (utf8_valid(p, n)) {
		const char	*again = inner;
		size_t		 nagain = ninner;

		characters(p, n);
		must(utf8_valid(inner, ninner));
		utf8_trim(&again, &nagain);
		must(again == inner && nagain == ninner);
	}
	free(p);
	return 0;
}
