/*
 * place -- up to where a client has heard a turn: what stands in the id of an event.
 *
 * "run.index.bytes.calls.hash": the run; which of its messages is being said, from 1; how many bytes of its text were
 * said; how many events of its calls (each has two: it is made, it has its result); and the hash of the said text.
 * After the last result of a message the place is the beginning of the next one.  Index 0, the user's message, is the
 * place before there is a reply; bytes is then the position in the queue, as it was told last.
 *
 * The numbers alone would not do: a step that a worker did not bring to its end is asked again by the next one, and
 * says something else, at times of the same length.  With the hash every worker can see, from nothing but the text
 * that it has, whether that goes on where the client stopped.  It is FNV-1a of 64 bits: it grows with the text, byte
 * by byte, and no trust hangs on it, for whoever makes one up spoils his own stream only.
 *
 * Nothing yields.
 */
#ifndef PARLEY_API_PLACE_H
#define PARLEY_API_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct place {
	int		 run;		/* 0: nowhere, which no turn goes on from */
	int		 index;
	size_t		 bytes;
	int		 calls;
	uint64_t	 hash;
};

#define PLACE_TEXT	80

void	 place_begin(struct place *, int run, int index);	/* before the first word of a message */
void	 place_say(struct place *, const char *, size_t);

/* Does the text begin with what was said? */
bool	 place_fits(const struct place *, const char *text, size_t n);

const char *place_write(const struct place *, char out[PLACE_TEXT]);	/* returns out */
/* Exactly as it was written; false, and nowhere: it was not. */
bool	 place_read(struct place *, const char *);

#endif
