/*
 * pgknown -- statements that a connection has been told before, so that the server need not parse and plan them again:
 * a third of what it spends on a turn.
 *
 * A statement is told (PREPARE) when a connection says it for the second time.  Its name is a hash of its
 * text, so whoever has prepared a statement of that name, through the same pooler perhaps, has prepared this very one.
 * That makes it safe to try behind a transaction pooler: where a server does not know a name that was
 * told to another (26000), nothing has been done, the statement is said as it is, and no more are prepared in this
 * process.  database.prepare = no does without from the start.
 *
 * What is told depends on nothing that a session could hold; the server plans it anew where a function has changed.  Where
 * its result has other columns than before (0A000), the connection is given up after the statement was said as it is.
 */
#ifndef PARLEY_IO_PGKNOWN_H
#define PARLEY_IO_PGKNOWN_H

#include <stdbool.h>
#include <stdint.h>

/* Of a connection. */
struct pgknown {
	uint64_t	 said, told;	/* a bit for each statement */
	bool		 stale;		/* what it was told is no longer what it should be: it is not to be used again */
};

enum pgknown_how { PGKNOWN_PLAIN, PGKNOWN_TELL, PGKNOWN_NAMED };

void	 pgknown_start(bool prepare);
/*
 * How a connection is to say this statement now: as it is; after it was told by *name; by *name.
 * name is valid as long as the process.
 */
enum pgknown_how pgknown_ask(struct pgknown *, const char *sql, const char **name);
/* It was told: from now on it can be said by its name. */
void	 pgknown_told(struct pgknown *, const char *name);
/* Did a statement said by its name fail with this because of that alone?  Then it is to be said as it is. */
bool	 pgknown_failed(struct pgknown *, const char *sqlstate);

#endif
