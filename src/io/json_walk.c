#include "io/json_walk.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static void	 past_string(const char **);
static void	 escape(const char **, struct buf *);
static uint32_t	 unit(const char **);

char
json_walk_next(const char **at)
{
	while (**at == ' ' || **at == '\t' || **at == '\n' || **at == '\r')
		++*at;
	return **at;
}

void
json_walk_string(const char **at, struct buf *b)
{
	++*at;
	for (;;) {
		size_t	 n = strcspn(*at, "\"\\");

		buf_add(b, *at, n);
		*at += n + 1;
		if ((*at)[-1] == '"')
			return;
		escape(at, b);
	}
}

void
json_walk_past(const char **at)
{
	int	 depth = 0;

	/* Brackets inside strings are none; between values any byte will do. */
	do {
		switch (json_walk_next(at)) {
		case '"':
			past_string(at);
			break;
		case '{':
		case '[':
			depth++;
			++*at;
			break;
		case '}':
		case ']':
			depth--;
			++*at;
			break;
		case ',':
		case ':':
			++*at;
			break;
		default:
			*at += strcspn(*at, ",:]} \t\r\n");
		}
	} while (depth > 0);
}

static void
past_string(const char **at)
{
	++*at;
	for (;;) {
		*at += strcspn(*at, "\"\\");
		if (**at == '"')
			break;
		*at += 2;
	}
	++*at;
}

/* RFC 8259 section 7, after the backslash. */
static void
escape(const char **at, struct buf *b)
{
	static const char	 from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char			 c = *(*at)++, bytes[4];
	uint32_t		 u;

	if (c != 'u') {
		buf_char(b, to[strchr(from, c) - from]);
		return;
	}
	u = unit(at);
	if (u >= 0xd800 && u < 0xdc00) {
		*at += 2;		/* the other half's \u */
		u = 0x10000 + ((u - 0xd800) << 10) + (unit(at) - 0xdc00);
	}
	buf_add(b, bytes, utf8_write(bytes, u));
}

static uint32_t
unit(const char **at)
{
	char	 hex[5] = { (*at)[0], (*at)[1], (*at)[2], (*at)[3], '\0' };

	*at += 4;
	return (uint32_t)strtoul(hex, NULL, 16);
}
