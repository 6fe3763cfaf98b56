/*
 * handlers -- what the routes lead to; one file for each resource.
 *
 * Each reads like its operation in openapi.yaml, yields, and returns 0 once it has answered or -1 with the job failed.
 */
#ifndef PARLEY_API_HANDLERS_H
#define PARLEY_API_HANDLERS_H

#define PAGE_MESSAGES	50	/* of a conversation, when nobody says how many */

struct request;

int	 chat_post(struct request *);
int	 conversations_get(struct request *);
int	 conversation_get(struct request *);
int	 conversation_patch(struct request *);
int	 conversation_delete(struct request *);
int	 turn_get(struct request *);
int	 turn_events_get(struct request *);
int	 turn_cancel_post(struct request *);
int	 turn_retry_post(struct request *);
int	 chatkit_post(struct request *);
int	 health_get(struct request *);
int	 metrics_get(struct request *);
int	 mcp_post(struct request *);

#endif
