/*
 * http_memory -- what curl allocates with: malloc(), but its receive buffers lie apart from the heap.
 *
 * Over TLS each exchange has a buffer of 16 KiB (http_exchange.c says why), and a model that speaks in small
 * pieces writes to its first page alone.  In the heap the other pages have belonged to somebody before and count; in slots of their own
 * they have never been there: 12 KiB for each turn in flight.
 *
 * The slots are address space until they are used, and are used again, the last one first.  Where all are taken malloc()
 * serves.  Nothing yields.
 */
#ifndef PARLEY_IO_HTTP_MEMORY_H
#define PARLEY_IO_HTTP_MEMORY_H

#include <curl/curl.h>

CURLcode http_memory_init(void);	/* in the place of curl_global_init() */
void	 http_memory_end(void);		/* and of curl_global_cleanup() */

#endif
