/*
 * claims -- what a token says about its user and its time (RFC 7519 section 4), read without any mercy.
 *
 * Called only on a payload whose signature holds.  Pure functions on a tree; nothing yields.
 */
#ifndef PARLEY_AUTH_CLAIMS_H
#define PARLEY_AUTH_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json_object.h>

struct arena;
struct conf;

#define USER_MAX	255	/* bytes of a user's id */

struct claims {
	const char	*user;		/* in the arena given */
	bool		 expired;	/* and nothing else is wrong */
};

/*
 * now: seconds of the world's clock.  NULL: all is right but perhaps the expiry; else the reason for the log,
 * which holds nothing of the payload.
 */
const char *claims_read(const struct conf *, json_object *payload, int64_t now, struct arena *, struct claims *);

/* 1 to USER_MAX bytes of UTF-8 without control characters. */
bool	 user_is_sane(const char *);

#endif
