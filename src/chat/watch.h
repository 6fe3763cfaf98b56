/*
 * watch -- to learn that a turn has changed, whichever worker runs it.
 *
 * The pulse asks for all watched turns of this worker in its one statement, five times a second
 * while there are any.  It compares digests: the text that store_turn() gave with the rows is changed
 * whenever a follower of the turn has something to learn; how much was said of the present step counts only for those
 * who watch the text.
 */
#ifndef PARLEY_CHAT_WATCH_H
#define PARLEY_CHAT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct job;

struct watch {				/* belongs to the follower; on its stack */
	struct job	*job;
	const char	*conversation_id;
	int		 turn;
	bool		 text;
	const char	*digest;	/* as store_turn() gave it; "" before */
	bool		 changed;
	int		 place;		/* in the statement under way, from 1; 0: not in it */
	struct watch	*next, **link;
};

/* job, conversation_id, turn, text are set; they must live until watch_leave(). */
void	 watch_join(struct watch *);
void	 watch_leave(struct watch *);	/* harmless when not joined */
/*
 * yields until the turn has changed against digest, or the time.  0 changed, -1 at `until`, which does not
 * fail the job; a deadline or a stop does.  Forgets the change: read the turn and set digest before the next wait.
 */
int	 watch_wait(struct watch *, int64_t until);

/* The drain's last word: everyone who watches has to go (their jobs are stopped as JOB_DRAINED). */
void	 watch_stop_all(void);

/* -- for the pulse -- */
struct buf;
struct watch_beat {			/* in the arena of the pulse's job */
	struct buf	*users, *conversations, *turns, *texts, *seen;
	int		 n;
	bool		*changed;	/* by place, from 1 */
};
int	 watch_count(void);
void	 watch_ask(struct job *, struct watch_beat *);
void	 watch_tell(const struct watch_beat *);	/* wakes those whose turn has changed */

#endif
