/*
 * chatkit_show -- what the client of a ChatKit stream has been shown, and telling it the rest.
 *
 * Only chatkit_voice.c uses it.  What sends an event yields, and cannot fail.
 */
#ifndef PARLEY_API_CHATKIT_SHOW_H
#define PARLEY_API_CHATKIT_SHOW_H

#include <stdbool.h>
#include <stddef.h>

#include "api/chatkit_voice.h"

/* The turn goes on; and says something now, so that what tools did is over; it has ended. */
enum sync { SYNC_ON, SYNC_TEXT, SYNC_END };

/* Compares what was shown with the turn's messages as they are known now, and tells the difference. */
void	 kit_sync(struct kit *, enum sync);

const char *kit_thread_id(const struct kit *);
/* The messages of the turn, as far as they are whole: as the last look found them, or as this worker makes them. */
const struct message *kit_messages_now(const struct kit *, int *n);
/* The id of the message that is being said. */
void	 kit_message_now(const struct kit *, char id[37]);

/* done: nothing more comes of this item. */
void	 kit_shown_add(struct kit *, const char *id, bool done);
bool	 kit_shown_done(struct kit *, const char *id);

/* The text that is being said: not shown as long as it is blank. */
void	 kit_text_begin(struct kit *, const char *id, const char *text);
void	 kit_text_show(struct kit *);	/* what is known of it now */
void	 kit_text_drop(struct kit *);	/* nothing came of it */

/* An event is written into a buf between these two. */
void	 kit_event_open(struct buf *, const char *type);
void	 kit_event_send(struct kit *, struct buf *);
void	 kit_send_item(struct kit *, const char *type, const struct item *, bool ended);
void	 kit_send_delta(struct kit *, const char *, size_t);

#endif
