/*
 * server -- the process: options, listening socket, connections, signals.
 *
 * One thread on one libevent loop.  Everything hangs on a struct server that
 * main() owns and passes along; the program has no writable globals.  Each
 * connection (conn.c) is a small struct with three events embedded, so that
 * 12,000 open streams cost a few kilobytes each.
 */
#ifndef PARLEY_DEMO_SERVER_H
#define PARLEY_DEMO_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "demo/request.h"

#define SERVER_SCRATCH	(64 * 1024)	/* one recv(); a prompt mostly fits */

struct brain;
struct conn;
struct event;
struct event_base;
struct journal;
struct reply;
struct scripts;

struct server {
	/* The options. */
	const char	*listen;
	const char	*port_file;	/* NULL: none */
	const char	*script_dir;	/* NULL: no scripts, no journal */
	int		 delay;		/* ms over which an answer is spread */
	int		 pieces;

	struct event_base *base;
	struct brain	*brain;
	struct journal	*journal;
	struct scripts	*scripts;
	struct conn	*conns;		/* all of them, a double list */
	int		 nconns;
	int		 fd;		/* listening */
	struct event	*ready;		/* on fd */
	struct event	*rest;		/* ends a pause after EMFILE */
	uint64_t	 answers;	/* counts ids of answers */
	char		 scratch[SERVER_SCRATCH];
};

/* Listens, serves until SIGTERM or SIGINT, closes all.  -1: could not start; a line on stderr says why. */
int	 server_run(struct server *);

/* conn.c: takes over an accepted socket. */
void	 conn_open(struct server *, int fd);
void	 conn_close(struct conn *);

/*
 * service.c: what to say to one request.  The body's bytes are not needed
 * after it.  *entry is the request's number in the journal, 0 when none is kept.
 */
struct reply *service_answer(struct server *, const struct request *, struct slice body, uint64_t *entry);

#endif
