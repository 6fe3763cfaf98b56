#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/conf_table.h"
#include "base/log.h"
#include "base/utf8.h"

/* No secret is this long; whoever names a larger file has named the wrong one. */
#define SECRET_FILE_MAX	((size_t)8 * 1024)
#define TEXT_FILE_MAX	((size_t)256 * 1024)

struct unit {
	const char	*name;
	int64_t		 factor;
};

static const struct unit	 durations[] = {	/* in ms */
	{ "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { NULL, 0 }
};
static const struct unit	 sizes[] = {		/* in bytes */
	{ "B", 1 }, { "KiB", 1024 }, { "MiB", 1048576 }, { NULL, 0 }
};

static int	 set_bool(const struct conf_key *, bool *, const char *, struct buf *);
static int	 set_int(const struct conf_key *, int64_t *, const char *, struct buf *);
static int	 set_text(const struct conf_key *, const char **, const char *, struct arena *, struct buf *);
static int	 number_read(const char *, const char **end, int64_t *);
static int	 unit_apply(const struct unit *, const char *, int64_t *);
static void	 range_say(const struct conf_key *, struct buf *);
static void	 amount_say(const struct conf_key *, int64_t, struct buf *);
static int	 words_check(const char *list, const char *words, struct buf *);
static int	 number_check(const struct conf_key *, const char *, struct buf *);
static int	 headers_check(const char *, struct buf *);
static const char *url_clean(const char *, struct arena *, struct buf *);
static const char *file_text(const char *path, bool secret, struct arena *, struct buf *);
static int	 file_read(int fd, struct buf *, size_t max);
static void	 mode_check(int fd, const char *path);

int
conf_value_set(const struct conf_key *k, void *base, const char *text, struct arena *a, struct buf *why)
{
	void	*field = (char *)base + k->at;

	switch (k->type) {
	case CONF_BOOL:
	case CONF_SWITCH:
		return set_bool(k, field, text, why);
	case CONF_INT:
	case CONF_MS:
	case CONF_SECONDS:
	case CONF_SIZE:
		return set_int(k, field, text, why);
	default:
		return set_text(k, field, text, a, why);
	}
}

static int
set_bool(const struct conf_key *k, bool *field, const char *text, struct buf *why)
{
	const char	*no = k->type == CONF_SWITCH ? k->words : "no false off 0";
	const char	*yes = k->type == CONF_SWITCH ? strchr(k->words, ' ') + 1 : "yes true on 1";
	char		 first[32];

	if (k->type == CONF_SWITCH) {
		(void)conf_list_next(&no, first, (int)sizeof first);
		no = first;
	}
	*field = conf_list_has(yes, text);
	if (*field || conf_list_has(no, text))
		return 0;
	buf_printf(why, "write one of: %s", k->type == CONF_SWITCH ? k->words : "yes no");
	return -1;
}

static int
set_int(const struct conf_key *k, int64_t *field, const char *text, struct buf *why)
{
	const char	*end;
	int64_t		 n;

	if (number_read(text, &end, &n) < 0 ||
	    (k->type == CONF_INT && *end != '\0') ||
	    ((k->type == CONF_MS || k->type == CONF_SECONDS) && unit_apply(durations, end, &n) < 0) ||
	    (k->type == CONF_SIZE && unit_apply(sizes, end, &n) < 0) ||
	    (k->type == CONF_SECONDS && n % 1000 != 0)) {
		buf_str(why, k->type == CONF_INT ? "write a whole number" :
		    k->type == CONF_SIZE ? "write a whole number and a unit: B, KiB, MiB" :
		    k->type == CONF_SECONDS ? "write whole seconds, such as 30 s" :
		    "write a whole number and a unit: ms, s, min, h, d");
		range_say(k, why);
		return -1;
	}
	if (k->type == CONF_SECONDS)
		n /= 1000;
	if (n < k->min || n > k->max) {
		buf_str(why, "out of range");
		range_say(k, why);
		return -1;
	}
	*field = n;
	return 0;
}

static int
number_read(const char *text, const char **end, int64_t *n)
{
	char	*stop;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	*n = strtoll(text, &stop, 10);
	while (*stop == ' ')
		stop++;
	*end = stop;
	return errno == 0 ? 0 : -1;
}

/* 0 is nothing in any unit; everything else has to say which it means. */
static int
unit_apply(const struct unit *u, const char *name, int64_t *n)
{
	if (*n == 0 && *name == '\0')
		return 0;
	for (; u->name != NULL; u++)
		if (strcmp(u->name, name) == 0)
			return __builtin_mul_overflow(*n, u->factor, n) ? -1 : 0;
	return -1;
}

static void
range_say(const struct conf_key *k, struct buf *why)
{
	buf_str(why, " (from ");
	amount_say(k, k->min, why);
	buf_str(why, " to ");
	amount_say(k, k->max, why);
	buf_str(why, ")");
}

static void
amount_say(const struct conf_key *k, int64_t n, struct buf *why)
{
	const struct unit	*units = k->type == CONF_SIZE ? sizes : durations, *best = NULL;

	if (k->type == CONF_SECONDS)
		n *= 1000;
	/* The largest unit that divides it. */
	for (const struct unit *u = units; u->name != NULL; u++)
		if (n % u->factor == 0)
			best = u;
	if (k->type == CONF_INT || k->type == CONF_NUMBER || n == 0 || best == NULL)
		buf_printf(why, "%" PRId64, n);
	else
		buf_printf(why, "%" PRId64 " %s", n / best->factor, best->name);
}

static int
set_text(const struct conf_key *k, const char **field, const char *text, struct arena *a, struct buf *why)
{
	if (!utf8_valid(text, strlen(text))) {
		buf_str(why, "is not valid UTF-8");
		return -1;
	}
	switch (k->type) {
	case CONF_URL:
		text = url_clean(text, a, why);
		break;
	case CONF_SECRET_FILE:
	case CONF_TEXT_FILE:
		text = file_text(text, k->type == CONF_SECRET_FILE, a, why);
		break;
	case CONF_WORD:
		if (conf_list_has(k->words, text))
			break;
		buf_printf(why, "write one of: %s", k->words);
		return -1;
	case CONF_WORDS:
		if (words_check(text, k->words, why) < 0)
			return -1;
		break;
	case CONF_NUMBER:
		if (number_check(k, text, why) < 0)
			return -1;
		break;
	case CONF_HEADERS:
		if (headers_check(text, why) < 0)
			return -1;
		break;
	case CONF_JSON:
		if (text[0] == '{' && text[strlen(text) - 1] == '}')
			break;
		buf_str(why, "write a JSON object, such as {\"top_p\": 0.9}");
		return -1;
	default:
		break;
	}
	if (text == NULL)
		return -1;
	*field = arena_strdup(a, text);
	return 0;
}

static int
words_check(const char *list, const char *words, struct buf *why)
{
	char	 word[64];

	while (conf_list_next(&list, word, (int)sizeof word)) {
		if (conf_list_has(words, word))
			continue;
		buf_printf(why, "\"%s\" is none of: %s", word, words);
		return -1;
	}
	return 0;
}

/* The text goes into JSON as it is, so it must be a number there as well (RFC 8259 section 6). */
static int
number_check(const struct conf_key *k, const char *text, struct buf *why)
{
	size_t	 whole = strspn(text, "0123456789"), part = 0;
	bool	 point = text[whole] == '.';
	double	 n = strtod(text, NULL);

	if (point)
		part = strspn(text + whole + 1, "0123456789");
	if (whole == 0 || (whole > 1 && text[0] == '0') || (point && part == 0) ||
	    text[whole + (point ? 1 : 0) + part] != '\0' ||
	    n < (double)k->min || n > (double)k->max) {
		buf_str(why, "write a number such as 0.7");
		range_say(k, why);
		return -1;
	}
	return 0;
}

/* Each "Name: value", the name a token of RFC 9110 section 5.6.2. */
static int
headers_check(const char *text, struct buf *why)
{
	while (*text != '\0') {
		size_t	 space = strspn(text, " |"), name, value;

		text += space;
		if (*text == '\0')
			break;
		name = strspn(text, "!#$%&'*+-.^_`~0123456789"
		    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
		value = strcspn(text + name, "|");
		if (name == 0 || text[name] != ':' || value < 2) {
			buf_str(why, "write Name: value, and | between two of them");
			return -1;
		}
		text += name + value;
	}
	return 0;
}

static const char *
url_clean(const char *text, struct arena *a, struct buf *why)
{
	size_t	 scheme = strncasecmp(text, "https://", 8) == 0 ? 8 :
	    strncasecmp(text, "http://", 7) == 0 ? 7 : 0;
	size_t	 n = strlen(text);

	while (n > scheme && text[n - 1] == '/')
		n--;
	if (scheme == 0 || n == scheme || text[scheme] == '/' || text[scheme] == ':' ||
	    strcspn(text, " \t\"<>\\^`{|}#") != strlen(text)) {
		buf_str(why, "write an address that begins with https:// (or http://)");
		return NULL;
	}
	return arena_memdup(a, text, n);
}

static const char *
file_text(const char *path, bool secret, struct arena *a, struct buf *why)
{
	size_t		 max = secret ? SECRET_FILE_MAX : TEXT_FILE_MAX;
	int		 fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char	*text = NULL;
	struct buf	 b = { 0 };

	if (fd < 0 || file_read(fd, &b, max) < 0)
		buf_printf(why, "%s cannot be read: %s", path, strerror(errno));
	else if (b.n == 0)
		buf_printf(why, "%s is empty", path);
	else if (b.n > max)
		buf_printf(why, "%s is too large (more than %zu bytes)", path, max);
	else if (strlen(b.p) != b.n || !utf8_valid(b.p, b.n))
		buf_printf(why, "%s is not text in UTF-8", path);
	else
		text = arena_memdup(a, b.p, b.n);

	if (text != NULL && secret)
		mode_check(fd, path);
	if (b.p != NULL)
		explicit_bzero(b.p, b.cap);
	buf_free(&b);
	if (fd >= 0)
		(void)close(fd);
	return text;
}

/* At most one byte too many, without the newlines at the end: editors add one that nobody means. */
static int
file_read(int fd, struct buf *b, size_t max)
{
	ssize_t	 got;

	buf_reserve(b, max + 1);
	while (b->n <= max && (got = read(fd, b->p + b->n, max + 1 - b->n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		b->n += (size_t)got;
	}
	while (b->n > 0 && (b->p[b->n - 1] == '\n' || b->p[b->n - 1] == '\r'))
		b->n--;
	b->p[b->n] = '\0';
	return 0;
}

static void
mode_check(int fd, const char *path)
{
	struct stat	 st;

	if (fstat(fd, &st) == 0 && (st.st_mode & S_IROTH) != 0)
		log_say(LOG_WARN, "conf", "everybody on this machine can read %s: chmod o-r it", path);
}
