/*
 * http_server -- servers that say just what a test of io/http wants.
 *
 * Each is a child process with blocking sockets on a port of its own, which runs one
 * script from the first connection on; most scripts never end by themselves.
 */
#ifndef PARLEY_UNIT_HTTP_SERVER_H
#define PARLEY_UNIT_HTTP_SERVER_H

#include <sys/types.h>

#define BIG	(8 * 1024 * 1024)	/* more than two sockets hold */

struct server {
	pid_t	 pid;
	char	 url[64];
};

void	 start(struct server *, void (*script)(int listener));
void	 stop(struct server *);
int	 finish(struct server *);	/* 0: the script came to its end and was content */

void	 script_good(int listener);
void	 script_chunked(int listener);
void	 script_empty(int listener);
void	 script_cut(int listener);
void	 script_cut_chunk(int listener);
void	 script_reset(int listener);
void	 script_silent(int listener);
void	 script_head_only(int listener);
void	 script_idle(int listener);
void	 script_drip(int listener);
void	 script_not_http(int listener);
void	 script_bad_chunk(int listener);
void	 script_big_head(int listener);
void	 script_big_body(int listener);
void	 script_sees_close(int listener);
void	 script_dies_kept(int listener);
void	 script_counts(int listener);
void	 script_shows_head(int listener);
void	 script_crowd(int listener);
void	 script_too_large(int listener);

#endif
