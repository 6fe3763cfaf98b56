/*
 * chatkit_voice -- a turn as a stream of ChatKit's events: what tell.c hears and attach.c sees, told in that protocol.
 *
 * Deltas are passed on; everything else is found by looking at the turn's messages as they are known now
 * and telling what the client has not been shown yet.  At the end what it was shown is what is stored: what did
 * not come to be is removed.
 *
 * A client that has gone is noticed while the turn runs.  A ChatKit client has no other way to say stop,
 * so the turn is cancelled then (chatkit.cancel_on_disconnect).
 */
#ifndef PARLEY_API_CHATKIT_VOICE_H
#define PARLEY_API_CHATKIT_VOICE_H

#include <stdbool.h>

#include "api/chatkit_item.h"
#include "api/tell.h"
#include "base/buf.h"

struct request;

struct kit_shown {
	char		 id[ITEM_ID];
	bool		 done;
};

struct kit {				/* on the stack of its request */
	struct request	*req;
	struct tell	 tell;
	bool		 creates;	/* the thread is new */
	bool		 echoes;	/* the client is told of its message */
	bool		 answers;	/* a turn goes on that the client knows the beginning of */
	bool		 begun;		/* the turn is known */
	bool		 over;		/* the end was told */
	bool		 gone;		/* the client has gone */

	struct kit_shown *shown;	/* items of this turn, in the job's arena */
	int		 nshown, room;
	char		 text_id[37];	/* the text that is being said; "" none */
	bool		 text_shown;
	struct buf	 text;
	const char	**tasks;	/* the open workflow's, as they were told */
	int		 ntasks, tasks_room;
};

void	 kit_open(struct kit *, struct request *);	/* sets up kit->tell; nothing is sent yet */
/*
 * yields.  After turn_begin() or turn_retry(), with what it returned: the turn to its end, told; and should the client have
 * gone, stopped.  -1: the job has failed, which the client was told.
 */
int	 kit_run(struct kit *, int rc);

#endif
