/*
 * http_multi -- curl's multi handle on the loop, for http.c alone.
 *
 * Connections, the DNS cache and the CA store are the multi's, so all exchanges of a
 * worker share them.  Easy handles come from a small pool; whoever takes one gives it
 * back when it is out of the multi.  Nothing yields; curl's callbacks must not either.
 */
#ifndef PARLEY_IO_HTTP_MULTI_H
#define PARLEY_IO_HTTP_MULTI_H

#include <curl/curl.h>

struct http;

CURL	*http_multi_take(void);		/* options at curl's defaults; NULL: no memory */
void	 http_multi_give(CURL *);
/* The exchange's CURLOPT_PRIVATE is its struct http. */
CURLMcode http_multi_add(CURL *);
void	 http_multi_remove(CURL *);	/* not in a callback of curl; cuts what is under way */

/* In http.c, called on the loop's stack: the transfer is over. */
void	 http_done(struct http *, CURLcode);

#endif
