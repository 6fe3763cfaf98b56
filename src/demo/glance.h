/*
 * glance -- the few things of a request that decide who answers it, without
 * building a tree.
 *
 * A bench sends thousands of prompts a second to this program on the machine
 * that it measures; a glance over the text is some twenty times cheaper than parsing it.  It
 * looks at well-formed texts only: what it cannot follow is left to the real
 * parser and its error.  Slices point into the body.
 */
#ifndef PARLEY_DEMO_GLANCE_H
#define PARLEY_DEMO_GLANCE_H

#include <stdbool.h>

#include "demo/request.h"

struct glance {
	struct slice	 model;		/* without quotes, escapes as they came */
	struct slice	 messages;	/* the array's text */
	struct slice	 tools;		/* the array's text, n is 0 when absent */
	struct slice	 user;		/* content of the last user message, like model; n is 0 when it is no string */
	bool		 behind_tool;	/* the message that was read last is a tool's */
	bool		 answered;	/* messages follow it: a tool has answered */
	bool		 stream;
	bool		 include_usage;
};

int	 glance_at(struct slice body, struct glance *);	/* -1: not an object of this kind */

/* Takes the next whole element of an array; *at starts behind its bracket.  False at the end, or where it makes no sense. */
bool	 glance_element(const char **at, const char *end, struct slice *);

#endif
