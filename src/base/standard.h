/*
 * standard -- the descriptors 0, 1 and 2, which everybody takes for standard input, output and error.
 *
 * A parent may leave them closed (FastCGI 1.0 section 2.2 promises a worker the first alone).  The next socket
 * would get their numbers, and what is logged or printed would be said to a database or a client.
 */
#ifndef PARLEY_BASE_STANDARD_H
#define PARLEY_BASE_STANDARD_H

/* Before anything is opened.  Those that are closed can be read (nothing comes) and not written to.  -1: errno. */
int	 standard_fill(void);

#endif
