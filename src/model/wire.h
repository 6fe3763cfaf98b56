/*
 * wire -- an answer put together from what model servers really send.
 *
 * It is driven by content: every field is optional, nullable or of another type, and calls are calls whatever
 * finish_reason says.  An answer is complete when a finish reason came, or [DONE] after
 * content or calls; an error event makes it a failure whatever comes after; neither means
 * that it broke off.
 *
 * Each event is read strictly; one that is not strict JSON is mended (see mend.h) and read once
 * more, so that a raw control character, a split emoji or a doubled key spoils no answer;
 * what then is still no JSON object is a failure.  Text that has been given out is valid
 * UTF-8 and final.  Reasoning goes into the raw message only, REASONING_MAX bytes of it.
 *
 * A wire belongs to one request: wire_open() … wire_close().  Content and arguments together are bounded
 * by `max`.  A failure is said in `fault`.  Nothing yields.
 */
#ifndef PARLEY_MODEL_WIRE_H
#define PARLEY_MODEL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "model/calls.h"
#include "model/fault.h"
#include "model/text.h"

#define REASONING_MAX	262144

struct answer;
struct arena;

struct wire {
	struct text	 content;	/* content.whole bytes may be given out */
	struct text	 reasoning;
	const char	*reasoning_key;	/* the name it came by */
	json_object	*details;	/* reasoning_details, its fragments joined */
	size_t		 ndetails;	/* bytes of it */
	char		*extra;		/* extra_content of the message, as text; NULL: none */
	struct calls	 calls;
	struct buf	 model;		/* what the server says it is */
	char		 finish[24];	/* "" none yet */
	bool		 done;		/* [DONE] came */
	bool		 refusal;
	size_t		 max;
	int64_t		 input_tokens;	/* -1: not reported */
	int64_t		 output_tokens;
	struct fault	 fault;		/* code FAIL_NONE: none */
};

void	 wire_open(struct wire *, size_t max);
void	 wire_close(struct wire *);

/* One event of a stream: its type ("" or "message") and data.  -1: it is, or says, a failure. */
int	 wire_event(struct wire *, const char *type, const char *data, size_t);
/* A whole answer that is no stream. */
int	 wire_body(struct wire *, const char *, size_t);
/* Nothing more comes.  0: the answer is complete and good; -1: it is not. */
int	 wire_end(struct wire *);
/* A finish reason or [DONE] is there: a connection that breaks now breaks nothing. */
bool	 wire_complete(const struct wire *);

/* After wire_end(): content, raw, calls, model_name, refusal, cut and the tokens that were reported (else -1). */
void	 wire_answer(struct wire *, struct arena *, struct answer *);

#endif
