/*
 * follow -- a turn that somebody else runs, looked at again and again until it is over.
 *
 * Between two looks it waits for the pulse to say that something has changed (watch.h), and costs no database
 * connection; whichever worker runs the turn, and however many do so one after another, makes no difference.
 *
 * A look's rows are in an arena of its own, which goes with the next look: a follower may stay for minutes and
 * holds two looks at most.  A database that is away while somebody follows is waited for.
 */
#ifndef PARLEY_API_FOLLOW_H
#define PARLEY_API_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "chat/store.h"
#include "chat/watch.h"

struct arena;
struct job;

struct follow {
	struct job	*job;
	const char	*conversation_id;
	int		 turn;
	bool		 text;		/* also of what is being said */
	struct store_turn now;		/* as it was at the last look that succeeded; state NULL: none yet */
	struct arena	*arena;		/* of that look */
	struct arena	*failed;	/* of one that did not */
	struct watch	 watch;
	bool		 quit;
};

/* yields.  Reads the turn: f->now.  -1: the job has failed (turn_not_found, database_unavailable, …). */
int	 follow_look(struct follow *);
/* yields.  After a look that failed: 0 when another is worth while, a pause later; -1: the job has failed. */
int	 follow_bear(struct follow *, int64_t until);
/*
 * yields until there is something new, and looks.  0: f->now is fresh; -1: at `until`, or follow_quit(), which do not fail the
 * job, or it has failed.
 */
int	 follow_next(struct follow *, int64_t until);
/* yields until the turn is over (0); -1 as above. */
int	 follow_to_end(struct follow *, int64_t until);
bool	 follow_is_live(const struct follow *);		/* queued or running, as far as is known */

/* For an attendant: whoever waits in follow_next() is done with it. */
void	 follow_quit(struct follow *);
/* Names the failure of a failed turn as that of the job; -1. */
int	 follow_fail(const struct follow *);
void	 follow_close(struct follow *);	/* f->now is gone then; harmless when zeroed */

#endif
