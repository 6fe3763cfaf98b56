#include "chat/budget.h"

#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "io/pg.h"
#include "run/job.h"

#define BYTES	4	/* to a token */

static int64_t
answer_tokens(const struct conf *conf)
{
	return conf->models[0].max_tokens > 0 ? conf->models[0].max_tokens : conf->limits_turn_tokens_estimate;
}

static int64_t
text_tokens(const char *s)
{
	return s == NULL ? 0 : (int64_t)strlen(s) / BYTES;
}

int64_t
budget_call(const struct conf *conf, const char *tools)
{
	if (conf->limits_user_tokens_per_day == 0)
		return 0;
	return text_tokens(conf->agent_instructions) + text_tokens(tools) + answer_tokens(conf);
}

int64_t
budget_next(const struct conf *conf, int64_t input, int64_t output)
{
	return conf->limits_user_tokens_per_day == 0 ? 0 : input + output + answer_tokens(conf);
}

int
budget_refuse(struct job *job, const char *outcome, int64_t ms)
{
	/* Whole seconds, and not a moment too early. */
	int	 seconds = (int)((ms + 999) / 1000);

	if (strcmp(outcome, "rate_limited") == 0)
		(void)job_fail(job, FAIL_RATE_LIMITED, NULL);
	else if (strcmp(outcome, "budget_reserved") == 0)
		(void)job_fail(job, FAIL_BUDGET_EXCEEDED,
		    "The rest of today's allowance is set aside for messages that are being answered. Try again when they are.");
	else
		(void)job_fail(job, FAIL_BUDGET_EXCEEDED, NULL);
	job->retry_after = seconds;
	return -1;
}

int
budget_refused(struct job *job, const struct pg_rows *rows)
{
	const char	*outcome, *ms;

	if (strcmp(rows->sqlstate, "PF004") != 0)
		return 0;
	outcome = pg_error(rows, PG_DIAG_MESSAGE_PRIMARY);
	ms = pg_error(rows, PG_DIAG_MESSAGE_DETAIL);
	job_forgive(job);
	(void)budget_refuse(job, outcome != NULL ? outcome : "", ms != NULL ? strtoll(ms, NULL, 10) : 0);
	return 1;
}
