/* parleyctl user erase: everything of a user goes, and it is looked whether it has. */
#include "ctl_user.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl_ops.h"

/* Whose turns still run may write once more while they are being erased. */
#define PASSES_MAX	6
/* A worker hears from its pulse within a second that its turn was cancelled; then it has this time to end it. */
#define STOP_TRIES	25
#define STOP_WAIT_MS	200
/* And as long after that what it has not heard of by then is looked for once more. */
#define LATE_MS		2500

static bool	 erase_agreed(const PGresult *tables, const char *user);
static int	 turns_stop(PGconn *, const char *user);
static int	 pass(PGconn *, const char *user, const PGresult *tables);
static int64_t	 number(PGconn *, const char *sql, const char *user, const char *table);
static int	 verdict(const PGresult *tables, const char *user);
static void	 sleep_ms(long);

int
user_erase(PGconn *pg, const char *user, bool yes)
{
	PGresult	*tables = ops_ask(pg, USER_TABLES, user), *first = tables;
	int64_t		 total = tables != NULL ? user_total(tables) : -1, more = 0;
	int		 ran = 0, status = 1;

	if (total == 0)
		fprintf(stderr, "parleyctl: nothing is known of a user %s\n", user);
	if (total <= 0 || user_closed(tables) || (!yes && !erase_agreed(tables, user)) || (ran = turns_stop(pg, user)) < 0) {
		PQclear(tables);
		return 1;
	}
	for (int i = 0; i < PASSES_MAX && tables != NULL; i++) {
		if (pass(pg, user, tables) < 0)
			break;
		if (ran > 0)
			sleep_ms(LATE_MS);
		if (tables != first)
			PQclear(tables);
		if ((tables = ops_ask(pg, USER_TABLES, user)) == NULL || user_total(tables) == 0)
			break;
		more += user_total(tables);
		if ((ran = turns_stop(pg, user)) < 0)
			break;
	}
	for (int i = 0; i < PQntuples(first); i++)
		if (*PQgetvalue(first, i, 1) == 't' && strcmp(PQgetvalue(first, i, 2), "0") != 0)
			printf("%-32s %10s\n", PQgetvalue(first, i, 0), PQgetvalue(first, i, 2));
	if (more > 0)
		printf("%-32s %10" PRId64 "\n", "what came meanwhile", more);
	if (tables != NULL && tables != first)
		status = verdict(tables, user);
	if (tables != first)
		PQclear(tables);
	PQclear(first);
	return status;
}

static bool
erase_agreed(const PGresult *tables, const char *user)
{
	char	 answer[16];

	if (!isatty(STDIN_FILENO)) {
		fprintf(stderr, "parleyctl: nobody is here to be asked: say --yes\n");
		return false;
	}
	for (int i = 0; i < PQntuples(tables); i++)
		if (*PQgetvalue(tables, i, 1) == 't')
			fprintf(stderr, "%-32s %10s\n", PQgetvalue(tables, i, 0), PQgetvalue(tables, i, 2));
	fprintf(stderr, "Erase all of %s, for ever? (yes/no) ", user);
	return fgets(answer, sizeof answer, stdin) != NULL && strcmp(answer, "yes\n") == 0;
}

/* How many turns had a worker: they have been asked to stop, and most have. */
static int
turns_stop(PGconn *pg, const char *user)
{
	int64_t	 running = 0, ran = 0;

	for (int i = 0; i < STOP_TRIES; i++) {
		if ((running = number(pg, "SELECT parley.user_stop($1::text)", user, NULL)) <= 0)
			break;
		ran = running > ran ? running : ran;
		sleep_ms(STOP_WAIT_MS);
	}
	return running < 0 ? -1 : (int)ran;
}

static int
pass(PGconn *pg, const char *user, const PGresult *tables)
{
	int64_t	 n;

	/* First what turns write to: once it is gone no worker can. */
	while ((n = number(pg, "SELECT parley.user_erase_conversations($1::text, 20)", user, NULL)) > 0)
		;
	for (int i = 0; i < PQntuples(tables) && n == 0; i++)
		if (*PQgetvalue(tables, i, 1) == 't')
			while ((n = number(pg, "SELECT parley.user_erase_rows($1::text, $2::text, 5000)", user,
			    PQgetvalue(tables, i, 0))) > 0)
				;
	return n < 0 ? -1 : 0;
}

static int64_t
number(PGconn *pg, const char *sql, const char *user, const char *table)
{
	const char *const	 params[] = { user, table };
	PGresult		*res = ops_ask_n(pg, sql, params, table != NULL ? 2 : 1);
	int64_t			 n = res != NULL ? strtoll(PQgetvalue(res, 0, 0), NULL, 10) : -1;

	PQclear(res);
	return n;
}

/* What is left after all.  The exit status. */
static int
verdict(const PGresult *tables, const char *user)
{
	int	 status = 0;

	for (int i = 0; i < PQntuples(tables); i++) {
		bool	 ours = *PQgetvalue(tables, i, 1) == 't';

		if (PQgetisnull(tables, i, 2) || strcmp(PQgetvalue(tables, i, 2), "0") == 0)
			continue;
		fprintf(stderr, ours ? "parleyctl: there are %s rows in %s again: take away the user's tokens and say it again\n" :
		    "parleyctl: %s rows in %s were not touched: its row level security does not know parley.user_id,"
		    " so it may be another application's\n", PQgetvalue(tables, i, 2), PQgetvalue(tables, i, 0));
		status = 1;
	}
	if (status == 0)
		printf("nothing of %s is left in %d tables\n", user, PQntuples(tables));
	return status;
}

static void
sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}
