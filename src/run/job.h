/*
 * job -- one piece of work on a fiber: a request, or what a worker does unasked.
 *
 * It owns the arena, knows the deadline by which every wait of it ends, and
 * keeps the one failure.  The first function that knows why something failed
 * says so with job_fail(), and -1 travels up from there; callers add nothing.
 * What the client may know is the sentence; what only the log may know
 * (SQLSTATE, curl code) is the detail.
 *
 * A job may have an attendant: a function that is called from inside its waits
 * at a time it asks for (attend_at) -- to send a keep-alive, to tell a client
 * who waited too long that the turn goes on -- so that straight-line code need not
 * think of it.  It may yield; it is never called while it runs.  Called, it finds attend_at
 * at NEVER and sets it anew if it wants to come again.  A failure that it leaves on the job ends the wait.
 *
 * A deadline that has passed ends every later wait as well: who still has to store how
 * the job ended gives it a new one first.
 *
 * A job that is stopped (job_stop, from the pulse or the drain) fails at its
 * next wait, unless it masks stops (while it stores how it ended).
 */
#ifndef PARLEY_RUN_JOB_H
#define PARLEY_RUN_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"
#include "base/log.h"

struct arena;
struct conf;
struct fiber;
struct trace;

enum job_stop {
	JOB_RUNS,
	JOB_CANCELLED,		/* a user asked for it, or its rows are gone */
	JOB_FENCED,		/* somebody else has taken the turn over */
	JOB_DRAINED		/* the worker ends */
};

struct job {
	struct arena	*arena;
	const struct conf *conf;
	struct fiber	*fiber;
	int64_t		 started;
	int64_t		 deadline;	/* NEVER: none */
	enum fail	 late;		/* what passing the deadline is called */

	char		 request_id[129];
	char		 user_hash[17];		/* "" before the token is known */
	const char	*route;			/* template, for the log */
	const char	*user;			/* NULL before the token is known */
	const char	*token;			/* the user's own, for servers that are asked with it; NULL: nobody is here */
	char		 conversation_id[37];	/* "" when not known */
	int		 turn;			/* 0 when not known */
	const struct trace *trace;		/* what is asked for this job belongs to it; NULL: none */

	int64_t		 attend_at;		/* NEVER: nobody */
	void		(*attend)(void *);
	void		*attend_arg;
	bool		 attending;

	enum job_stop	 stop;
	bool		 masked;		/* a stop does not end waits now */

	enum fail	 fail;			/* FAIL_NONE: all is well */
	const char	*sentence;		/* for the client */
	const char	*field;			/* of a validation_error */
	int		 retry_after;		/* seconds, 0: the table's */
	const char	*detail;		/* for the log only */
	const char	*where;			/* file:line */
};

void	 job_open(struct job *, const struct conf *);	/* on the fiber it will run on; a new request id */
void	 job_close(struct job *);

/*
 * Names the failure, unless one is named already; fmt NULL takes the table's sentence.  Always returns -1.
 * Text from outside (a field's name) may be in the sentence; nothing private may.
 */
#define job_fail(job, code, ...)	\
	job_fail_((job), (code), __FILE__, __LINE__, __VA_ARGS__)
int	 job_fail_(struct job *, enum fail, const char *file, int line, const char *fmt, ...)
	    __attribute__((format(printf, 5, 6)));
/* The same for one field of a request: 422 validation_error. */
#define job_fail_field(job, field, ...)	\
	job_fail_field_((job), (field), __FILE__, __LINE__, __VA_ARGS__)
int	 job_fail_field_(struct job *, const char *field, const char *file, int line, const char *fmt, ...)
	    __attribute__((format(printf, 5, 6)));
void	 job_detail(struct job *, const char *fmt, ...)	/* before job_fail(); the last one said is kept */
	    __attribute__((format(printf, 2, 3)));
void	 job_forgive(struct job *);			/* forgets failure and detail: it was expected */

/* Sets a failure aside while its consequences are stored, and names it again (-1). */
struct job_failure {
	enum fail	 fail;
	const char	*sentence, *field, *detail, *where;
	int		 retry_after;
};
struct job_failure job_failure_take(struct job *);
int	 job_failure_put(struct job *, const struct job_failure *);

/*
 * yields until woken (0; maybe for nothing), until the time or the deadline, or until stopped.
 * -1 at `until` does NOT fail the job; when the deadline or a stop ended the
 * wait the job has failed (job->late; turn_abandoned for a stop) and -1 is returned as well:
 * look at job->fail.
 */
int	 job_wait(struct job *, int64_t until);
/* The same for a descriptor: its ready events, 0 at `until`, -1 failed. */
int	 job_wait_fd(struct job *, int fd, uint32_t events, int64_t until);
void	 job_stop(struct job *, enum job_stop);		/* wakes it */

/* log_begin() with the job's ids in front. */
bool	 job_log(const struct job *, enum log_level, const char *event);

#endif
