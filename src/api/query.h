/*
 * query -- percent-encoding (RFC 3986, section 2.1) of paths and query strings.  Nothing yields.
 */
#ifndef PARLEY_API_QUERY_H
#define PARLEY_API_QUERY_H

#include <stdbool.h>
#include <stddef.h>

struct arena;

/* NULL: a broken escape, a NUL, or invalid UTF-8.  plus: '+' is a space, as forms write it. */
char	*query_decode(struct arena *, const char *, size_t, bool plus);
/* The first parameter of that name, decoded; *value stays when it is absent.  -1: malformed. */
int	 query_find(struct arena *, const char *query, const char *name, const char **value);

#endif
