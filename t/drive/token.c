/*
 * The gate, for t/differential-token.t:
 *
 *	token PARLEY.CONF <TEXTS
 *
 * judges each token on stdin (texts.h) as [auth] says: a line "ok USER", "token_expired -", or "invalid_token WHY".
 */
#include "auth/token.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"
#include "texts.h"

static void
judge(void *arg)
{
	const struct conf	*conf = arg;
	char			*text;
	size_t			 n;

	while ((text = text_next(&n)) != NULL) {
		struct job	 job;

		job_open(&job, conf);
		if (token_check(&job, arena_printf(job.arena, "Bearer %s", text)) == 0)
			printf("ok %s\n", job.user);
		else
			printf("%s %s\n", fail_kind(job.fail)->code, job.detail != NULL ? job.detail : "-");
		job_close(&job);
		free(text);
	}
	loop_stop();
}

int
main(int argc, char **argv)
{
	struct buf	 why = { 0 };
	struct conf	*conf;

	if (argc != 2 || (conf = (struct conf *)(uintptr_t)conf_load(argv[1], &why)) == NULL || loop_open() < 0) {
		fprintf(stderr, "%s\n", buf_text(&why));
		return 1;
	}
	if (fiber_start(judge, conf) == NULL)
		return 1;
	loop_run();
	loop_close();
	return 0;
}
