/*
 * log -- one JSON object a line, on stderr or in log.file.
 *
 * A line is built field by field and written with one write(2), so lines of
 * several workers never mix:
 *
 *	log_begin(LOG_INFO, "turn");
 *	log_str("model", name);
 *	log_end();
 *
 * Between log_begin() and log_end() nothing may yield: there is one line under
 * construction in a process.  Lines below the configured level cost nothing.
 * Nothing private goes in: no token, key, message text or provider body; users
 * only through log_user_hash().  Long values are cut at 1 KiB and a line at PIPE_BUF (4 KiB); it then has "cut":true.
 * A line that could not be written at once (a full pipe) is dropped and counted: the log never holds up the worker.
 */
#ifndef PARLEY_BASE_LOG_H
#define PARLEY_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/*
 * path NULL or "": stderr.  key is what users are hashed with (HMAC-SHA-256,
 * 16 hex digits are kept); an empty one is replaced by random bytes, so hashes
 * then differ between workers.  -1: the file cannot be opened (errno).
 */
int	 log_open(const char *path, enum log_level, const char *key);
int	 log_reopen(void);		/* after SIGHUP; keeps the old file on failure */
bool	 log_level_parse(const char *, enum log_level *);
void	 log_user_hash(const char *user, char out[17]);

bool	 log_begin(enum log_level, const char *event);	/* false: not wanted, fields are ignored */
void	 log_str(const char *key, const char *);	/* NULL: field left out */
void	 log_int(const char *key, int64_t);
void	 log_ms(const char *key, int64_t us);		/* microseconds in, "12.345" ms out */
void	 log_bool(const char *key, bool);
void	 log_end(void);

/* A whole line of an event and one sentence. */
void	 log_say(enum log_level, const char *event, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

/* Makes SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT write a backtrace (no data) before dying. */
void	 log_crashes(void);

#endif
