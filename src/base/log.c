#include "base/log.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/decimal.h"
#include "base/mac.h"
#include "base/utf8.h"
#include "base/uuid.h"

/* A pipe takes this much in one piece (pipe(7)), so lines of several workers never mix. */
#define LINE_SIZE	PIPE_BUF
/* Kept for the end of a line: ,"cut":true}\n */
#define LINE_TAIL	((size_t)16)
#define VALUE_MAX	((size_t)1024)
#define PIECE_MAX	64	/* bytes of a text that are looked at together */
#define KEY_SIZE	32	/* bytes of a random key: as many as the hash has */
#define CRASH_STACK	((size_t)64 * 1024)
#define CRASH_FRAMES	64

/* Where lines go: of this process, and set again by each SIGHUP. */
static struct {
	int		 fd;
	bool		 may_block;	/* a pipe, socket or terminal */
	bool		 keyed;
	enum log_level	 level;
	char		*path;		/* NULL: stderr */
	struct mac	*mac;		/* hashes users; NULL: not yet needed */
	uint64_t	 dropped;	/* lines, since the last one that got through */
} to = { .fd = STDERR_FILENO, .may_block = true, .level = LOG_INFO };

/* The one line under construction; nothing yields while it is. */
static struct {
	bool		 wanted;
	bool		 cut;
	time_t		 second;	/* that stamp says */
	char		 stamp[sizeof "2026-11-21T03:00:00"];
	size_t		 n;
	char		 text[LINE_SIZE];
} line;

static void	 line_raw(const char *, size_t);
static void	 line_stamp(time_t);
static void	 line_thousandths(int64_t);
static bool	 line_key(const char *);
static void	 line_text(const char *, size_t);
static void	 line_write(void);

int
log_open(const char *path, enum log_level level, const char *key)
{
	char	*copy = NULL;

	if (path != NULL && *path != '\0' && (copy = strdup(path)) == NULL)
		return -1;
	if (copy != NULL || to.path != NULL) {
		char	*old = to.path;

		to.path = copy;
		if (log_reopen() < 0) {
			to.path = old;
			free(copy);
			return -1;
		}
		free(old);
	} else {
		(void)log_reopen();
	}
	to.level = level;

	/* Without a key a random one, which stays while there is none. */
	if (key != NULL && *key != '\0') {
		mac_close(&to.mac);
		to.mac = mac_open("SHA256", key, strlen(key));
		to.keyed = true;
	} else if (to.keyed || to.mac == NULL) {
		unsigned char	 bytes[KEY_SIZE];

		random_bytes(bytes, sizeof bytes);
		mac_close(&to.mac);
		to.mac = mac_open("SHA256", bytes, sizeof bytes);
		to.keyed = false;
	}
	return 0;
}

int
log_reopen(void)
{
	struct stat	 st;
	int		 fd = STDERR_FILENO;

	if (to.path != NULL) {
		fd = open(to.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
		if (fd < 0)
			return -1;
	}
	if (to.fd != STDERR_FILENO)
		(void)close(to.fd);
	to.fd = fd;
	to.may_block = fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
	return 0;
}

bool
log_level_parse(const char *s, enum log_level *level)
{
	static const char *const	 names[] = { "debug", "info", "warn", "error" };

	for (int i = 0; i < 4; i++) {
		if (strcmp(s, names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

void
log_user_hash(const char *user, char out[17])
{
	static const char	 hex[] = "0123456789abcdef";
	unsigned char		 mac[MAC_MAX] = { 0 };

	if (to.mac == NULL)
		(void)log_open(NULL, to.level, NULL);
	if (to.mac != NULL)
		(void)mac_sign(to.mac, user, strlen(user), mac);
	for (int i = 0; i < 8; i++) {
		out[2 * i] = hex[mac[i] >> 4];
		out[2 * i + 1] = hex[mac[i] & 15];
	}
	out[16] = '\0';
}

bool
log_begin(enum log_level level, const char *event)
{
	static const char *const	 names[] = { "debug", "info", "warn", "error" };
	struct timespec			 ts;

	line.wanted = level >= to.level;
	if (!line.wanted)
		return false;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	line_stamp(ts.tv_sec);
	line.cut = false;
	line.n = 0;
	line_raw("{\"time\":\"", 9);
	line_raw(line.stamp, strlen(line.stamp));
	line_thousandths(ts.tv_nsec / 1000000);
	line_raw("Z\"", 2);
	log_str("level", names[level]);
	log_int("pid", getpid());
	log_str("event", event);
	return true;
}

void
log_str(const char *key, const char *s)
{
	size_t	 n;

	if (s == NULL || !line_key(key))
		return;
	n = strnlen(s, VALUE_MAX + 1);
	if (n > VALUE_MAX) {
		n = utf8_whole(s, VALUE_MAX);
		line.cut = true;
	}
	line_raw("\"", 1);
	line_text(s, n);
	line_raw("\"", 1);
}

void
log_int(const char *key, int64_t i)
{
	char	 text[DECIMAL_SIZE];
	size_t	 n = decimal_write(text, i);

	if (line_key(key))
		line_raw(text, n);
}

void
log_ms(const char *key, int64_t us)
{
	char	 text[DECIMAL_SIZE];
	size_t	 n = decimal_write(text, us / 1000);

	if (!line_key(key))
		return;
	line_raw(text, n);
	line_thousandths(us < 0 ? 0 : us % 1000);
}

void
log_bool(const char *key, bool b)
{
	if (line_key(key))
		line_raw(b ? "true" : "false", b ? 4 : 5);
}

void
log_end(void)
{
	if (!line.wanted)
		return;
	line.wanted = false;
	if (line.cut)
		line_raw(",\"cut\":true", 11);
	line.text[line.n++] = '}';
	line.text[line.n++] = '\n';
	line_write();
}

void
log_say(enum log_level level, const char *event, const char *fmt, ...)
{
	char	 text[512];	/* a sentence; fiber stacks are small */
	va_list	 ap;

	if (!log_begin(level, event))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_str("message", text);
	log_end();
}

/* A busy worker has thousands of lines in one second. */
static void
line_stamp(time_t second)
{
	struct tm	 tm;

	if (second == line.second && line.stamp[0] != '\0')
		return;
	(void)gmtime_r(&second, &tm);
	(void)strftime(line.stamp, sizeof line.stamp, "%Y-%m-%dT%H:%M:%S", &tm);
	line.second = second;
}

static void
line_raw(const char *s, size_t n)
{
	memcpy(line.text + line.n, s, n);
	line.n += n;
}

/* A point and three digits, whatever zeros are in front. */
static void
line_thousandths(int64_t n)
{
	char	 text[DECIMAL_SIZE];

	(void)decimal_write(text, 1000 + n);
	text[0] = '.';
	line_raw(text, 4);
}

/* Begins a field when there is room for its key and a short value. */
static bool
line_key(const char *key)
{
	size_t	 n = strlen(key);

	if (!line.wanted)
		return false;
	if (line.n + n + 40 + LINE_TAIL > LINE_SIZE) {
		line.cut = true;
		return false;
	}
	line_raw(",\"", 2);
	line_raw(key, n);
	line_raw("\":", 2);
	return true;
}

/* Bytes that stand for themselves, PIECE_MAX at most. */
static size_t
plain(const char *s, size_t n, char *piece)
{
	size_t	 i = 0;

	for (; i < n && i < PIECE_MAX; i++) {
		unsigned char	 c = (unsigned char)s[i];

		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			break;
		piece[i] = s[i];
	}
	return i;
}

/*
 * As the inside of a JSON string (RFC 8259 section 7).  What is no UTF-8
 * becomes U+FFFD: a line is read by machines, whatever was put in.
 */
static void
line_text(const char *s, size_t n)
{
	for (size_t at = 0; at < n;) {
		unsigned char	 c = (unsigned char)s[at];
		size_t		 size = 1, len = 1;
		char		 piece[PIECE_MAX];

		if (c == '"' || c == '\\') {
			len = (size_t)snprintf(piece, sizeof piece, "\\%c", c);
		} else if (c < 0x20 || c == 0x7f) {
			len = (size_t)snprintf(piece, sizeof piece, "\\u%04x", c);
		} else if (c < 0x80) {
			size = len = plain(s + at, n - at, piece);
		} else {
			while (size < 4 && at + size < n && ((unsigned char)s[at + size] & 0xc0) == 0x80)
				size++;
			len = size;
			if (utf8_valid(s + at, size)) {
				memcpy(piece, s + at, size);
			} else {
				size = 1;
				len = (size_t)snprintf(piece, sizeof piece, "\\ufffd");
			}
		}
		if (line.n + len + 1 + LINE_TAIL > LINE_SIZE) {
			line.cut = true;
			return;
		}
		line_raw(piece, len);
		at += size;
	}
}

/*
 * One write(2).  A reader that has stopped reading must not stop the worker, so
 * a line for which there is no room at once is dropped, and counted.
 */
static void
line_write(void)
{
	struct pollfd	 p = { .fd = to.fd, .events = POLLOUT };
	ssize_t		 got = -1;

	if (!to.may_block || poll(&p, 1, 0) == 1)
		got = write(to.fd, line.text, line.n);
	if (got < 0) {
		to.dropped++;
		return;
	}
	if (to.dropped > 0) {
		uint64_t	 n = to.dropped;

		to.dropped = 0;
		log_say(LOG_WARN, "log_dropped", "%llu lines could not be written", (unsigned long long)n);
	}
}

#if defined(__SANITIZE_ADDRESS__)
#define LOG_CRASHES	0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LOG_CRASHES	0
#endif
#endif
#ifndef LOG_CRASHES
#define LOG_CRASHES	1
#endif

static void
crash_handler(int sig)
{
	static const char	 head[] = "{\"level\":\"error\",\"event\":\"crash\",\"signal\":\"00\"}\n";
	void			*frames[CRASH_FRAMES];
	char			 text[sizeof head];

	/* Only what may be called in a signal handler from here on. */
	memcpy(text, head, sizeof head);
	text[sizeof head - 6] = (char)('0' + sig / 10 % 10);
	text[sizeof head - 5] = (char)('0' + sig % 10);
	if (write(to.fd, text, sizeof head - 1) > 0)
		backtrace_symbols_fd(frames, backtrace(frames, CRASH_FRAMES), to.fd);
	(void)raise(sig);	/* SA_RESETHAND: this one ends it, with a core */
}

void
log_crashes(void)
{
	static const int	 signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	struct sigaction	 sa;
	stack_t			 stack = { .ss_size = CRASH_STACK };
	void			*frame[1];

	if (!LOG_CRASHES)
		return;		/* the sanitizer's own report is better */

	/* A stack of its own: the commonest crash of a fiber is the end of its stack. */
	stack.ss_sp = mmap(NULL, CRASH_STACK, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) < 0)
		return;
	/* The first call loads libgcc, which a handler must not do. */
	(void)backtrace(frame, 1);

	memset(&sa, 0, sizeof sa);
	sa.sa_handler = crash_handler;
	sa.sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER;
	(void)sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		(void)sigaction(signals[i], &sa, NULL);
}
