/*
 * chatkit -- POST /api/chatkit: conversations for front ends that speak the ChatKit protocol.
 *
 * One address; the member `type` of the body names the operation, `params` is its object.  A thread is a conversation,
 * its items are what its messages show (chatkit_item.h), and a reply is a turn like any other: begun by either
 * protocol, read by both.
 *
 * A ChatKit client sends a streaming request again by itself when it is answered 5xx.  So everything that can be
 * checked is checked first; then the head of the stream goes out, which cannot be taken back; then the message is
 * stored.  What fails from there on is an event of the stream, and nothing is stored twice.
 *
 * chatkit.c takes the request apart; an operation yields, answers and returns 0, or -1 with the job failed.
 */
#ifndef PARLEY_API_CHATKIT_H
#define PARLEY_API_CHATKIT_H

#include <stdbool.h>

#include <json-c/json_object.h>

struct kit_thread;
struct request;
struct buf;

/* -- the operations that are answered with an object (chatkit_read.c) -- */
int	 chatkit_threads_get(struct request *, json_object *params);
int	 chatkit_threads_list(struct request *, json_object *params);
int	 chatkit_threads_update(struct request *, json_object *params);
int	 chatkit_threads_delete(struct request *, json_object *params);
int	 chatkit_items_list(struct request *, json_object *params);
int	 chatkit_items_feedback(struct request *, json_object *params);

/* -- those that are answered with a stream (chatkit_say.c) -- */
int	 chatkit_threads_create(struct request *, json_object *params);
int	 chatkit_threads_add(struct request *, json_object *params);
int	 chatkit_threads_retry(struct request *, json_object *params);
int	 chatkit_threads_answer(struct request *, json_object *params);

/* -- params (chatkit_params.c) -- */

/* 400 bad_request, which names the field; always returns -1. */
int	 chatkit_bad(struct request *, const char *field, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
/* A string that must be there.  -1: bad_request. */
int	 chatkit_string(struct request *, json_object *, const char *field, const char **);
/* thread_id, in lower case, which the log is told; what is no uuid is no thread: conversation_not_found. */
int	 chatkit_thread_id(struct request *, json_object *params, char out[37]);
/* limit, order, after: *after stays NULL when absent. */
struct chatkit_page {
	int		 limit;
	bool		 oldest_first;
	const char	*after;
};
int	 chatkit_page(struct request *, json_object *params, struct chatkit_page *);
/* The text of params.input, as it is stored. */
int	 chatkit_input(struct request *, json_object *params, const char **content);

/* A thread with a page of items (JSON), or with an empty one (NULL). */
void	 chatkit_put_thread(struct buf *, const struct kit_thread *, const char *items);

#endif
