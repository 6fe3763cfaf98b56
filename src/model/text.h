/*
 * text -- words that arrive in pieces cut anywhere.
 *
 * Model servers cut between tokens, and a token may end inside a character: the rest of
 * it comes with the next piece, as raw bytes or as the second half of a
 * surrogate pair.  A text keeps such an end back until it is whole; what can never become
 * a character is replaced by U+FFFD, and NUL is dropped, so that the part up to
 * `whole` is valid UTF-8 without NUL at any time and never changes again.
 *
 * A zeroed struct is an empty text; text_free() gives its memory back.  Nothing yields.
 */
#ifndef PARLEY_MODEL_TEXT_H
#define PARLEY_MODEL_TEXT_H

#include <stddef.h>

#include "base/buf.h"

struct text {
	struct buf	 b;
	size_t		 whole;		/* bytes that are final */
};

/* Bytes of UTF-8; surrogates may stand in it as three bytes each (as CESU-8 has them). */
void	 text_add(struct text *, const char *, size_t);
/* The same for a string of a mended JSON text: what mend.h put in for odd bytes becomes those bytes again. */
void	 text_add_mended(struct text *, const char *, size_t);
void	 text_end(struct text *);	/* nothing more comes: a kept end becomes U+FFFD */
void	 text_free(struct text *);	/* empty again */

#endif
