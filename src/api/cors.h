/*
 * cors -- other origins' pages (Fetch standard, CORS protocol).
 *
 * Only origins that stand in cors.origins, compared byte for byte, are answered; others get no CORS header at
 * all and their browser refuses.  No credentials: tokens travel in Authorization.
 */
#ifndef PARLEY_API_CORS_H
#define PARLEY_API_CORS_H

#include <stdbool.h>

struct buf;
struct request;

bool	 cors_preflight(const struct request *);	/* an OPTIONS that a listed origin's browser sends ahead */
void	 cors_head(const struct request *, struct buf *);	/* header lines, none for other origins */
void	 cors_preflight_head(const struct request *, struct buf *);

#endif
