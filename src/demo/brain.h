/*
 * brain -- what the demo model answers to people.
 *
 * It is no language model: it knows some hundred ways to say six commands.  It has no memory
 * either; everything is worked out anew from the messages of
 * one request, so any process can go on with any conversation.
 */
#ifndef PARLEY_DEMO_BRAIN_H
#define PARLEY_DEMO_BRAIN_H

#include <json-c/json_object.h>

struct answer;
struct arena;
struct brain;

struct brain *brain_open(void);		/* compiles the patterns; NULL: one is wrong */
void	 brain_close(struct brain **);	/* NULL is fine */

/* Fills the answer from the arena.  NULL, or a sentence on what is wrong with the request. */
const char *brain_answer(const struct brain *, struct arena *, json_object *asked, struct answer *);

#endif
