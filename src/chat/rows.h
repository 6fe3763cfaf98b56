/*
 * rows -- what the database answers, as the structs of the program.
 *
 * Both statements that bring messages select ROWS_MESSAGE first, in that order, so columns are found by
 * number: a history has fifty rows, and looking up names costs more than reading them.
 *
 * Texts point into the result, which belongs to the job's arena.  Nothing yields.
 */
#ifndef PARLEY_CHAT_ROWS_H
#define PARLEY_CHAT_ROWS_H

#include "io/pg.h"
#include "model/message.h"

struct buf;
struct job;

enum rows_message {
	ROWS_TURN, ROWS_RUN, ROWS_IDX, ROWS_ID, ROWS_ROLE, ROWS_CONTENT, ROWS_RAW, ROWS_SOURCE, ROWS_TURN_STATE,
	ROWS_ERROR_CODE, ROWS_INTERRUPTED, ROWS_CREATED_AT, ROWS_CALLS,
	ROWS_MORE		/* the first one behind them */
};

#define ROWS_MESSAGE	"turn, run, idx, id, role, content, raw, source, turn_state, error_code, interrupted, created_at, calls"

int	 rows_message(struct job *, const struct pg_rows *, int row, struct message *);	/* -1: internal_error */
/* Copies what points into the rows, which are then not needed any more. */
void	 rows_keep(struct job *, struct message *);

/* JSON as a tool wrote it, without its blanks, which each later prompt would pay for; NULL stays NULL. */
const char *rows_json(struct job *, const char *);

/* The literal of a PostgreSQL array, element by element; NULL is NULL.  NUL bytes, which no text has, are left out. */
void	 rows_array_add(struct buf *, const char *, size_t);
const char *rows_array_end(struct buf *);
/* Reads up to n numbers of an array's literal; what is missing is 0. */
void	 rows_array_ints(const char *, int64_t *, int n);

#endif
