/*
 * budget -- what a turn is taken to cost before it is known, and how a refusal is told.
 *
 * The accounts are the database's (schema/budgets.sql); here is only what it cannot know: how much of a model call is
 * instructions, tools and answer.  All numbers are tokens, four bytes to one where nobody has counted.
 */
#ifndef PARLEY_CHAT_BUDGET_H
#define PARLEY_CHAT_BUDGET_H

#include <stdint.h>

struct conf;
struct job;
struct pg_rows;

/* Of a model call beside history and message; 0 where there is no budget.  tools: the JSON of them, NULL: none. */
int64_t	 budget_call(const struct conf *, const char *tools);
/* Of the call after one that has read and written so much. */
int64_t	 budget_next(const struct conf *, int64_t input, int64_t output);

/* Fails the job as the outcome of limits_look() says: rate_limited or budget_exceeded; ms is for Retry-After.  -1. */
int	 budget_refuse(struct job *, const char *outcome, int64_t ms);
/* The same for a statement that has failed as PF004, which it tells (1), or otherwise, which is left alone (0). */
int	 budget_refused(struct job *, const struct pg_rows *);

#endif
