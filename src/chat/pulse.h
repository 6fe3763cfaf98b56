/*
 * pulse -- the heartbeat of this worker's turns.
 *
 * Once a second, while there are turns that have run for a second or more, ONE statement renews the leases of all
 * of them, stores the partial text of those that stream, and learns which must stop (asked to, taken over, or their rows are gone).
 * It has a connection of its own.  Nothing here is needed for correctness: fences are checked by every write.
 * A turn that is storing its end (job->masked) is not stopped any more.
 *
 * The same statement asks for those who watch turns (watch.h); while there are any the heart beats
 * five times a second, and each second's first beat is for the leases.  While the database does not answer it beats
 * once a second, and says so in the log every ten.
 */
#ifndef PARLEY_CHAT_PULSE_H
#define PARLEY_CHAT_PULSE_H

#include "chat/store.h"
#include "run/job.h"

struct conf;

struct pulse_turn {			/* belongs to the turn that joined */
	const struct turn_key *key;
	struct job	*job;		/* job_stop()ped when the turn must stop */
	const struct buf *partial;	/* text of the present step so far; NULL: none */
	int		 index;		/* of the message that this is */
	int64_t		 since;
	int		 place;		/* in the statement under way, from 1; 0: not in it */
	struct pulse_turn *next, **link;
};

int	 pulse_start(const struct conf *);	/* starts its fiber */
void	 pulse_conf(const struct conf *);	/* after SIGHUP: from the next beat on */
void	 pulse_stop(void);
void	 pulse_join(struct pulse_turn *, const struct turn_key *, struct job *);
void	 pulse_leave(struct pulse_turn *);	/* harmless when not joined */
int	 pulse_turns(void);			/* how many have joined */
void	 pulse_wake(void);			/* somebody watches (watch.h) */
/* Stops a turn that runs here, at once; one that runs elsewhere learns of it by its own pulse. */
void	 pulse_cancel(const char *user, const char *conversation_id, int turn);
/* The same for those of a conversation that a later turn has interrupted. */
void	 pulse_cancel_before(const char *user, const char *conversation_id, int turn);
void	 pulse_stop_turns(enum job_stop);	/* the drain's last word */

#endif
