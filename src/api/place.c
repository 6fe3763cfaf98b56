#include "api/place.h"

#include <stdio.h>
#include <string.h>

/* The offset basis and the prime of FNV-1a with 64 bits. */
#define HASH_EMPTY	UINT64_C(0xcbf29ce484222325)
#define HASH_PRIME	UINT64_C(0x100000001b3)

#define DIGITS_MAX	9	/* of a number: it fits an int */
#define HASH_DIGITS	16

static uint64_t
hash_add(uint64_t hash, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (unsigned char)text[i]) * HASH_PRIME;
	return hash;
}

void
place_begin(struct place *p, int run, int index)
{
	*p = (struct place){ .run = run, .index = index, .hash = HASH_EMPTY };
}

void
place_say(struct place *p, const char *text, size_t n)
{
	p->hash = hash_add(p->hash, text, n);
	p->bytes += n;
}

bool
place_fits(const struct place *p, const char *text, size_t n)
{
	return n >= p->bytes && hash_add(HASH_EMPTY, text, p->bytes) == p->hash;
}

const char *
place_write(const struct place *p, char out[PLACE_TEXT])
{
	(void)snprintf(out, PLACE_TEXT, "%d.%d.%zu.%d.%016llx", p->run, p->index, p->bytes, p->calls,
	    (unsigned long long)p->hash);
	return out;
}

/* A number and the dot behind it. */
static bool
number_read(const char **text, int *n)
{
	size_t	 digits = strspn(*text, "0123456789");

	if (digits == 0 || digits > DIGITS_MAX || (**text == '0' && digits > 1) || (*text)[digits] != '.')
		return false;
	*n = 0;
	for (; **text != '.'; ++*text)
		*n = *n * 10 + (**text - '0');
	++*text;
	return true;
}

static bool
hash_read(const char *text, uint64_t *hash)
{
	static const char	 hex[] = "0123456789abcdef";

	if (strspn(text, hex) != HASH_DIGITS || text[HASH_DIGITS] != '\0')
		return false;
	*hash = 0;
	for (; *text != '\0'; text++)
		*hash = *hash << 4 | (uint64_t)(strchr(hex, *text) - hex);
	return true;
}

bool
place_read(struct place *p, const char *text)
{
	int	 bytes = 0;

	if (number_read(&text, &p->run) && number_read(&text, &p->index) && number_read(&text, &bytes) &&
	    number_read(&text, &p->calls) && hash_read(text, &p->hash) && p->run > 0) {
		p->bytes = (size_t)bytes;
		return true;
	}
	place_begin(p, 0, 0);
	return false;
}
