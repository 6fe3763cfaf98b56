/*
 * request -- one HTTP request: its job, what it asks, and how it is answered.
 *
 * A request is answered exactly once: by request_reply(), by an event stream
 * (stream.h) or, when the job has failed, by request_fail(), the only place
 * where a failure turns into bytes.  After that later answers are dropped, so that a
 * turn can go on without its client.
 */
#ifndef PARLEY_API_REQUEST_H
#define PARLEY_API_REQUEST_H

#include <stdbool.h>

#include <json-c/json_object.h>

#include "run/job.h"

struct buf;
struct fcgi;
struct route;

#define REQUEST_PARTS_MAX	8	/* path segments; no route has more than six */

struct request {
	struct job	 job;
	struct fcgi	*fcgi;
	const struct route *route;
	const char	*method;
	const char	*parts[REQUEST_PARTS_MAX];	/* the path's segments, percent-decoded */
	int		 nparts;
	const char	*query;			/* raw, "" when there is none */
	json_object	*body;			/* an object, where the route takes one */
	const char	*location;		/* header of the answer, NULL: none */
	bool		 streaming;		/* the head of an event stream is out */
	bool		 answered;
	int		 status;		/* as answered */
	int64_t		 auth_us;		/* for the log */
	struct request	*next, **link;		/* all that are being served (api.c) */
	struct request	*peer, **peer_link;	/* those of users with the same hash; NULL: not among them */
};

/* Takes method, path and request id from the web server's parameters. -1: the path is malformed (not_found). */
int	 request_open(struct request *);

/*
 * yields.  Reads and checks size, media type and JSON, in this order (413, 415, 400).  optional: no body at all is
 * fine, and r->body stays NULL, which has no members.  request_read_text() leaves the JSON to the caller.
 */
int	 request_read_text(struct request *, struct buf *, bool optional);
int	 request_read_body(struct request *, bool optional);

/* A query parameter, percent-decoded, in the job's arena; *value stays when absent.  -1: validation_error. */
int	 request_query(struct request *, const char *name, const char **value);
int	 request_query_int(struct request *, const char *name, int min, int max, int *value);

/* Members of the body: 0 also when absent or null (then *value stays); -1: validation_error. */
int	 request_string(struct request *, const char *field, const char **value);
int	 request_flag(struct request *, const char *field, bool *value);
/* One of a few words, by its number; the first is the default. */
int	 request_word(struct request *, const char *field, const char *const *words, int *which);

/* A trimmed text of 1 to max characters, neither more nor less. */
int	 request_text(struct request *, const char *field, int64_t max, const char **value);

/* yields.  json NULL: no body. */
void	 request_reply(struct request *, int status, const char *json);
/* The same with text of another media type. */
void	 request_reply_text(struct request *, int status, const char *type, const char *text);
/* yields.  Answers with the job's failure; a client that has gone is no matter. */
void	 request_fail(struct request *);

/* The Error of openapi.yaml for the job's failure. */
void	 request_error_json(const struct request *, struct buf *);
/* The headers that every answer has; the caller adds the empty line. */
void	 request_head(struct request *, int status, const char *content_type, struct buf *);

#endif
