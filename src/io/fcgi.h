/*
 * fcgi -- requests from the web server: libfcgi, made to wait on the loop.
 *
 * libfcgi does all its I/O through OS_Read, OS_Write and OS_IpcClose; functions of those names
 * in fcgi.c replace its own, and wait on the calling fiber.  They must stay
 * visible (fcgi_check() looks).  One fiber serves one connection, request after
 * request where the web server keeps it open.
 *
 * A client that is slow is waited for (client.read_timeout, client.write_timeout), one that has gone makes writes
 * fail; neither says anything about the turn.  Output is buffered (16 KiB) until fcgi_flush().
 *
 * Requests are read by libfcgi; the records of the answer are written here, as libfcgi's writers hold
 * 9 KiB from the beginning of a request to its end, and a turn may wait for minutes with nothing to write.
 */
#ifndef PARLEY_IO_FCGI_H
#define PARLEY_IO_FCGI_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct buf;
struct conf;
struct fcgi;

/* What requests are served with from now on; before fcgi_listen(), and after a SIGHUP. */
void	 fcgi_conf(const struct conf *);

typedef void fcgi_handler(struct fcgi *, const struct conf *);	/* on a fiber; yields */

/*
 * Takes the listening socket (made non-blocking) and starts a fiber for every connection.  At
 * most max requests are served at a time: past it connections are still accepted and `full` is called instead of
 * `serve`, up to a tenth more (16 at least); then they wait in the backlog.  -1: errno.
 */
int	 fcgi_listen(int fd, int max, fcgi_handler *serve, fcgi_handler *full);
void	 fcgi_max(int);			/* another limit from now on */
void	 fcgi_listen_stop(void);	/* no new connection, and the socket is let go; idle kept ones are closed */
/* Connections with a request that is arriving, being served, or being said goodbye to. */
int	 fcgi_active(void);

/* False when libfcgi would use its own blocking I/O. */
bool	 fcgi_check(void);

/* NULL when absent.  Belongs to the request: also after fcgi_finish(), until the handler returns. */
const char *fcgi_param(struct fcgi *, const char *name);
/*
 * yields.  Reads the body, at most max bytes: 0; 1 when it is larger (the rest is discarded later); -1 when the
 * client broke off.
 */
int	 fcgi_body(struct fcgi *, struct buf *, size_t max);
/* yields.  -1 when the client is gone or too slow; from then on every write returns -1 at once. */
int	 fcgi_write(struct fcgi *, const void *, size_t);
int	 fcgi_flush(struct fcgi *);
bool	 fcgi_gone(const struct fcgi *);
/* Looks whether the web server has closed the connection (its client has gone), or said so; then fcgi_gone() is true. */
bool	 fcgi_hung_up(struct fcgi *);
/* yields.  Ends the request early (the handler goes on without a client); later writes return -1. */
void	 fcgi_finish(struct fcgi *);

#endif
