/*
 * route -- which handler serves a path, and with which methods.
 *
 * One table, of which a pool may serve a part (api.serve).  Templates are literal segments and "{name}"; of the first
 * template that fits the path all rows count (405 names their methods in Allow).  HEAD is served as GET; the web
 * server drops the body.
 */
#ifndef PARLEY_API_ROUTE_H
#define PARLEY_API_ROUTE_H

#include <stdbool.h>

struct buf;
struct request;

enum route_body { BODY_NONE, BODY_OPTIONAL, BODY_OBJECT };	/* takes a JSON object, if there is one, or always */

struct route {
	const char	*method;
	const char	*template;
	int		(*handler)(struct request *);	/* -1: the job has failed */
	bool		 open;		/* no token needed */
	enum route_body	 body;		/* of /mcp: its handler reads it */
};

/* Sets r->route; -1: not_found or method_not_allowed. */
int	 route_find(struct request *);
void	 route_allow(const struct request *, struct buf *);	/* "GET, HEAD, PATCH" for r's template */

/* A path segment that is an id in lower case, else `otherwise` (a not_found of its kind). */
int	 route_uuid(struct request *, int part, int otherwise, char out[37]);

#endif
