#include "api/query.h"

#include <string.h>

#include "base/arena.h"
#include "base/utf8.h"

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *
query_decode(struct arena *a, const char *text, size_t n, bool plus)
{
	char	*out = arena_alloc(a, n + 1), *to = out;

	for (const char *end = text + n; text < end; text++) {
		if (*text == '%') {
			int	 hi = end - text > 2 ? hex(text[1]) : -1;
			int	 lo = end - text > 2 ? hex(text[2]) : -1;

			if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
				return NULL;
			*to++ = (char)(hi << 4 | lo);
			text += 2;
		} else
			*to++ = plus && *text == '+' ? ' ' : *text;
	}
	return utf8_valid(out, (size_t)(to - out)) ? out : NULL;
}

int
query_find(struct arena *a, const char *query, const char *name, const char **value)
{
	size_t	 want = strlen(name);

	while (*query != '\0') {
		size_t	 n = strcspn(query, "&");

		if (n > want && query[want] == '=' && memcmp(query, name, want) == 0) {
			*value = query_decode(a, query + want + 1, n - want - 1, true);
			return *value != NULL ? 0 : -1;
		}
		query += n + (query[n] == '&');
	}
	return 0;
}
