#include "base/uuid.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/*
 * Random bytes fetched ahead, so that an id costs no system call of its own.
 * Forgettable: it only ever holds bytes that nobody has seen.  A fork would
 * hand the same bytes to two processes: the child forgets them.
 */
static struct {
	bool		 watched;	/* forks are */
	size_t		 left;
	unsigned char	 bytes[4096];
} pool;

static void	 random_fetch(void *, size_t);
static void	 random_forget(void);

void
random_bytes(void *out, size_t n)
{
	unsigned char	*from;

	if (n > sizeof pool.bytes / 4) {
		random_fetch(out, n);
		return;
	}
	if (pool.left < n) {
		if (!pool.watched && pthread_atfork(NULL, NULL, random_forget) != 0)
			abort();
		pool.watched = true;
		random_fetch(pool.bytes, sizeof pool.bytes);
		pool.left = sizeof pool.bytes;
	}
	pool.left -= n;
	from = pool.bytes + pool.left;
	memcpy(out, from, n);
	/* What was given away must not be found in a core dump. */
	explicit_bzero(from, n);
}

static void
random_forget(void)
{
	pool.left = 0;
}

/* Without randomness ids and keys would repeat: better no worker than that. */
static void
random_fetch(void *out, size_t n)
{
	unsigned char	*p = out;

	while (n > 0) {
		ssize_t	 got = getrandom(p, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			abort();
		p += got;
		n -= (size_t)got;
	}
}

static void
uuid_write(unsigned char b[16], int version, char out[UUID_TEXT])
{
	static const char	 hex[] = "0123456789abcdef";
	char			*p = out;

	b[6] = (unsigned char)((b[6] & 0x0f) | version << 4);	/* RFC 9562, sections 5.4 and 5.8 */
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);		/* variant, section 4.1 */
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[b[i] >> 4];
		*p++ = hex[b[i] & 15];
	}
	*p = '\0';
}

void
uuid_new(char out[UUID_TEXT])
{
	unsigned char	 b[16];

	random_bytes(b, sizeof b);
	uuid_write(b, 4, out);
}

static unsigned char
nibble(char c)
{
	return (unsigned char)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

int
uuid_derive(const char *from, int a, int b, char out[UUID_TEXT])
{
	unsigned char	 bytes[16];
	char		 low[UUID_TEXT];
	const char	*p = low;

	if (!uuid_parse(from, low))
		return -1;
	for (int i = 0; i < 16; i++, p += 2) {
		p += *p == '-';
		bytes[i] = (unsigned char)(nibble(p[0]) << 4 | nibble(p[1]));
	}
	/* Behind the bits that say version and variant, so that nothing of it is lost. */
	for (int i = 0; i < 3; i++) {
		bytes[10 + i] ^= (unsigned char)((unsigned)a >> 8 * i);
		bytes[13 + i] ^= (unsigned char)((unsigned)b >> 8 * i);
	}
	uuid_write(bytes, 8, out);
	return 0;
}

bool
uuid_parse(const char *s, char out[UUID_TEXT])
{
	char	 low[UUID_TEXT];

	if (s == NULL)
		return false;
	for (int i = 0; i < UUID_TEXT - 1; i++) {
		bool	 dash = i == 8 || i == 13 || i == 18 || i == 23;
		char	 c = s[i];

		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		low[i] = c;
	}
	if (s[UUID_TEXT - 1] != '\0')
		return false;
	low[UUID_TEXT - 1] = '\0';
	memcpy(out, low, sizeof low);
	return true;
}
