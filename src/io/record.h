/*
 * record -- watches the records of a FastCGI request go by, before libfcgi
 * reads them (FastCGI 1.0, section 3).
 *
 * libfcgi bounds neither the number nor the size of the parameters, believes a
 * length before it has seen the bytes, and answers FCGI_GET_VALUES through a buffer of 64
 * bytes.  So what it may see is decided here.  Pure state, nothing yields.
 */
#ifndef PARLEY_IO_RECORD_H
#define PARLEY_IO_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* nginx sends about 25 parameters; its own request line and headers end at 32 KiB. */
#define RECORD_PARAMS_MAX	256
#define RECORD_PARAMS_BYTES	65536

/* Records that are nothing to us (of another kind or id, or out of place): libfcgi skips them for ever. */
#define RECORD_STRAY_BYTES	65536

struct record {				/* zeroed: before a request */
	unsigned char	 head[8];
	unsigned	 nhead;		/* bytes of the header so far */
	unsigned	 content;	/* bytes left of the present record */
	unsigned	 padding;
	bool		 begun;
	bool		 ended;		/* the empty FCGI_STDIN has been seen */
	bool		 beyond;	/* more came after it; libfcgi loses such bytes */
	unsigned	 id;		/* of the request */
	bool		 known;		/* the empty FCGI_PARAMS has been seen */
	bool		 much;		/* there are more parameters than that */
	size_t		 stray;		/* bytes of records that are nothing to us */

	uint32_t	 length;	/* name-value pairs: the length being read */
	int		 more;		/* bytes it still needs */
	bool		 named;		/* the name's length is known: */
	uint32_t	 name;
	uint64_t	 skip;		/* bytes of name and value left */
	uint64_t	 bytes;		/* of all names and values */
	int		 pairs;
};

/* The next bytes; false: libfcgi must not see them, the connection is to be dropped. */
bool	 record_pass(struct record *, const void *, size_t);

/* Is the request complete, and the connection exactly between two requests? */
bool	 record_is_over(const struct record *);

/* How many bytes can be read without reading into the next record. */
size_t	 record_rest(const struct record *);

#endif
