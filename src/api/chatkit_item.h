/*
 * chatkit_item -- messages of turns as ChatKit's items, and their JSON.
 *
 * A message of the user is a user_message and a text of the assistant an assistant_message, each with the
 * message's id.  Tool calls are tasks of a workflow, which goes on over the messages until something else is said; its
 * id is "wf_" and the id of the message that began it.  The calls of a message that the user has to approve are questions
 * of a structured_input ("ask_" and the message's id) and, once all of them are answered, tasks of a workflow that
 * begins behind it ("did_").
 *
 * What is derived from the same messages is the same each time, whether it is streamed or read later, but for
 * calls that still run.  Nothing yields; everything belongs to the arena given.
 */
#ifndef PARLEY_API_CHATKIT_ITEM_H
#define PARLEY_API_CHATKIT_ITEM_H

#include <stdbool.h>

#include "model/message.h"

struct arena;
struct buf;

#define ITEM_ID		48	/* a prefix, a uuid and the NUL */

/* In the order in which they may follow from one message. */
enum item_kind { ITEM_TEXT, ITEM_CALLS, ITEM_ASK, ITEM_ASKED };

struct item {
	char		 id[ITEM_ID];
	enum item_kind	 kind;
	const struct message *m;	/* that it begins with; a text of either role */
	const struct call **calls;	/* of a workflow or a structured_input */
	int		 ncalls;
};

/* The items of messages of one turn or several; how many. */
int	 items_of(struct arena *, const struct message *, int n, struct item **);

/* The two answers to a question, as they are shown and come back. */
#define ITEM_YES	"Approve"
#define ITEM_NO		"Deny"

/* A prefix and an id, or a plain one: its message's id, in lower case, and its kind.  False: never given out here. */
bool	 item_id_read(const char *, char message_id[37], enum item_kind *);

void	 item_id_write(char out[ITEM_ID], const char *message_id, enum item_kind);

bool	 item_is_over(const struct item *);	/* all its calls have their results */

/* ended: the turn has; a call without result will not get one. */
void	 item_put(struct buf *, const struct item *, const char *thread_id, bool ended);
void	 item_put_task(struct buf *, const struct call *, bool ended);
/* An assistant_message that has only begun: no text yet. */
void	 item_put_begun(struct buf *, const char *id, const char *thread_id);
/* One part of an assistant_message. */
void	 item_put_part(struct buf *, const char *text);

bool	 text_is_blank(const char *);	/* such a text is no item */

#endif
