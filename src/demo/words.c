#include "demo/words.h"

#include <string.h>
#include <wctype.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"

struct quote {
	const char	*open, *close;
};

/* Straight, English, German, French, and the grave of programmers. */
static const struct quote quotes[] = {
	{ "\"", "\"" }, { "“", "”" }, { "„", "“" }, { "«", "»" }, { "»", "«" },
	{ "'", "'" }, { "‘", "’" }, { "`", "`" },
};

static bool	 is_space(uint32_t);
static uint32_t	 plain(uint32_t);
static void	 rune_add(struct buf *, uint32_t);
static void	 space_add(struct buf *);
static char	*spaced_text(struct arena *, struct buf *);
static bool	 is_letter(const char *);

char *
words_fold(struct arena *a, const char *s)
{
	struct buf	*b = buf_new(a);
	const char	*end = s + strlen(s);
	uint32_t	 c;

	while (s < end) {
		c = plain(utf8_next(&s, end));
		if (!is_space(c))
			rune_add(b, c < 0x80 ? (c >= 'A' && c <= 'Z' ? c | 0x20 : c) :
			    (uint32_t)towlower((wint_t)c));
		else
			space_add(b);
	}
	return spaced_text(a, b);
}

char *
words_line(struct arena *a, const char *s)
{
	struct buf	*b = buf_new(a);
	const char	*end = s + strlen(s), *from;
	uint32_t	 c;

	while (s < end) {
		from = s;
		c = utf8_next(&s, end);
		if (!is_space(c))
			buf_add(b, from, (size_t)(s - from));
		else
			space_add(b);
	}
	return spaced_text(a, b);
}

char *
words_bare(struct arena *a, const char *s)
{
	size_t		 n = strlen(s), open;
	const char	*close;

	utf8_trim(&s, &n);
	while (n > 0 && strchr(".!?,;:", s[n - 1]) != NULL)
		n--;
	utf8_trim(&s, &n);
	open = words_quote(s, &close);
	if (open > 0 && n > open + strlen(close) &&
	    memcmp(s + n - strlen(close), close, strlen(close)) == 0) {
		s += open;
		n -= open + strlen(close);
		utf8_trim(&s, &n);
	}
	return arena_memdup(a, s, n);
}

size_t
words_quote(const char *s, const char **close)
{
	for (size_t i = 0; i < sizeof quotes / sizeof quotes[0]; i++)
		if (strncmp(s, quotes[i].open, strlen(quotes[i].open)) == 0) {
			*close = quotes[i].close;
			return strlen(quotes[i].open);
		}
	return 0;
}

bool
words_has(const char *text, const char *word)
{
	size_t	 n = strlen(word);

	for (const char *p = text; (p = strstr(p, word)) != NULL; p++)
		if ((p == text || !is_letter(p - 1)) && !is_letter(p + n))
			return true;
	return false;
}

bool
words_all(struct arena *a, const char *text, const char *words)
{
	char	*copy = arena_strdup(a, words), *save = NULL;
	bool	 any = false;

	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		if (strstr(text, w) == NULL)
			return false;
		any = true;
	}
	return any;
}

bool
words_quoted(const char *text, size_t n)
{
	const char	*close, *until = NULL;
	size_t		 open;

	for (size_t i = 0; i < n; i++) {
		if (until != NULL) {
			if (strncmp(text + i, until, strlen(until)) == 0) {
				i += strlen(until) - 1;
				until = NULL;
			}
		} else if (text[i] != '\'' && (open = words_quote(text + i, &close)) > 0) {
			/* An apostrophe is no quote; and a quote that nothing closes is none either. */
			if (strstr(text + i + open, close) != NULL)
				until = close;
			i += open - 1;
		}
	}
	return until != NULL;
}

static bool
is_space(uint32_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xa0 || c == 0x2028 || c == 0x2029 ||
	    (c >= 0x80 && iswspace((wint_t)c) != 0);
}

/* “ ” „ and ’ become what a keyboard has. */
static uint32_t
plain(uint32_t c)
{
	return c == 0x2018 || c == 0x2019 ? '\'' : c >= 0x201c && c <= 0x201e ? '"' : c;
}

static void
rune_add(struct buf *b, uint32_t c)
{
	char	 bytes[4];

	buf_add(b, bytes, utf8_write(bytes, c));
}

/* However much space there is becomes one blank, and none at the beginning. */
static void
space_add(struct buf *b)
{
	if (b->n > 0 && b->p[b->n - 1] != ' ')
		buf_char(b, ' ');
}

static char *
spaced_text(struct arena *a, struct buf *b)
{
	while (b->n > 0 && b->p[b->n - 1] == ' ')
		b->p[--b->n] = '\0';
	return arena_strdup(a, buf_text(b));
}

/* Any byte of a letter outside ASCII counts as one. */
static bool
is_letter(const char *p)
{
	unsigned char	 c = (unsigned char)*p;

	return c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}
