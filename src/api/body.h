/*
 * body -- how turns and messages look to a client: Turn and Message of openapi.yaml.  Nothing yields.
 */
#ifndef PARLEY_API_BODY_H
#define PARLEY_API_BODY_H

#include <stdint.h>

struct buf;
struct call;
struct message;
struct store_turn;

struct body {
	const char	*status;	/* success, approval_required, cancelled, running, queued */
	const char	*conversation_id;
	int		 turn;
	const struct message *messages;	/* the turn's own, oldest first */
	int		 nmessages;
	const char	*page;		/* JSON array to show as messages instead, NULL: the turn's */
	int64_t		 input_tokens;
	int64_t		 output_tokens;
	const char	*model;		/* NULL: not known */
};

/* A turn as it was read; its texts stay the reader's. */
struct body body_of_turn(const char *conversation_id, int turn, const struct store_turn *);
void	 body_put(struct buf *, const struct body *);		/* the whole body of section 2 */
void	 body_put_response(struct buf *, const struct body *);	/* what its response says, as it is */
void	 body_put_message(struct buf *, const struct message *);	/* M */
void	 body_put_call(struct buf *, const struct call *);	/* one of tool_calls */
void	 body_put_approval(struct buf *, const struct call *);	/* one of approvals_required */
/* The nth call of the turn that waits for a yes or no, from 0; NULL: there are no more. */
const struct call *body_question(const struct body *, int nth);

void	 body_put_now(struct buf *);				/* the time, as a string */

/* What a client is told as the status of a turn in that state. */
const char *body_status(const char *state);

#endif
