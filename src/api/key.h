/*
 * key -- the Idempotency-Key of a request.
 *
 * The key stands for what was asked, not for how it is to be answered: with it goes a hash (SHA-256) of the kind of
 * request and of its body without `stream`.  The hash is of a canonical text (members in the order of their names,
 * no blanks, one way to escape), so a client may build the same object anew.  Nothing yields.
 */
#ifndef PARLEY_API_KEY_H
#define PARLEY_API_KEY_H

struct request;

/*
 * Sets *key and *hash, in the job's arena; they stay when there is no such header.  kind says what the body does not.
 * -1: validation_error.
 */
int	 key_read(struct request *, const char *kind, const char **key, const char **hash);

#endif
