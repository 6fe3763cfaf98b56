/*
 * fcgi_conn -- a connection of the web server, between fcgi.c (one request, and what libfcgi
 * calls) and fcgi_listen.c (all connections, and their course).
 *
 * It lives on the stack of its fiber; libfcgi knows it by its descriptor alone.
 */
#ifndef PARLEY_IO_FCGI_CONN_H
#define PARLEY_IO_FCGI_CONN_H

#include <fcgiapp.h>

#include "base/buf.h"
#include "io/fcgi.h"
#include "io/record.h"

/* A peer that does not read to our end, or sends on and on after its answer, is waited for up to here. */
#define DRAIN_MAX	(1024 * 1024)
#define DRAIN_MS	2000

struct fcgi {
	FCGX_Request	 rq;
	int		 fd;		/* -1: closed, or given to another fiber */
	struct record	 record;
	struct buf	 out;		/* a record of the answer, its header at the front; NULL while there is nothing */
	const struct conf *conf;	/* of the present request */
	int64_t		 read_by;	/* the request must have arrived */
	bool		 begun;		/* its first byte has */
	bool		 kept;		/* has served a request before */
	bool		 idle;		/* waits for the next one */
	bool		 late;		/* nothing more is read from it */
	bool		 broken;	/* nothing is written either */
	bool		 refused;	/* nothing more is read, and an answer has been given */
	bool		 finished;
	struct fcgi	*next, **link;
};

/* -- fcgi_listen.c -- */

struct fcgi *fcgi_of(int fd);		/* NULL: none of ours */
void	 fcgi_forget(struct fcgi *);	/* the descriptor is somebody else's from here on */
void	 fcgi_begin(struct fcgi *);	/* the first byte of a request is there */
int	 fcgi_idle(struct fcgi *);	/* yields until there is one: as loop_wait_fd() */
void	 fcgi_hand_on(struct fcgi *, bool keep);	/* to a fiber of its own: its next request, or its end */
bool	 fcgi_takes_more(void);		/* false: the listener has stopped */

/* -- fcgi.c -- */

/* yields.  Sends the rest of the answer, and its end; true: the connection can serve another. */
bool	 fcgi_end(struct fcgi *);
void	 fcgi_linger(int fd);		/* yields.  Closes without losing what is under way */

#endif
