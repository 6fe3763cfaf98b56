/*
 * journal -- the last requests, for tests: GET and DELETE /_requests.
 *
 * Kept only when the program serves scripts.  Bounded to JOURNAL_MAX entries
 * and JOURNAL_BYTES; the oldest go first.  Entries are numbered from 1.
 */
#ifndef PARLEY_DEMO_JOURNAL_H
#define PARLEY_DEMO_JOURNAL_H

#include <stdint.h>

#include "demo/request.h"

#define JOURNAL_MAX	2000
#define JOURNAL_BYTES	(256 * 1024 * 1024)

struct buf;
struct journal;

struct journal *journal_open(void);
void	 journal_close(struct journal **);	/* NULL is fine */

uint64_t journal_add(struct journal *, const struct request *, struct slice body);
void	 journal_script(struct journal *, uint64_t entry, const char *name);
void	 journal_left(struct journal *, uint64_t entry);	/* the client went before the end */
void	 journal_clear(struct journal *);
void	 journal_write(const struct journal *, struct buf *);	/* a JSON array, oldest first */

#endif
