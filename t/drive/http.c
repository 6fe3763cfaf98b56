/*
 * Fetches one URL on many fibers at once, for t/http2.t:
 *
 *	http URL CA_FILE COUNT BYTES SLOW_MS KEEP
 *
 * sends bodies of BYTES x (0: GET), lets the first fiber wait until the others are done, SLOW_MS at most, before it
 * reads, and closes each exchange after KEEP bytes (0: reads all).  Prints a line for each ("id status error bytes ms"), and how often the CA file was opened.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "io/http.h"
#include "run/deadline.h"
#include "run/fiber.h"
#include "run/job.h"
#include "run/loop.h"

static struct http_ask	 ask;
static int		 left;
static int64_t		 slow_ms;
static size_t		 keep;

static void
fetch(void *arg)
{
	static char	 piece[16384];
	int		 id = *(int *)arg, status;
	struct job	 job;
	struct http	*h;
	ssize_t		 n;
	size_t		 got = 0;

	job_open(&job, NULL);
	h = http_open(&job, &ask);
	status = http_status(h);
	while (id == 0 && left > 1 && now_us() < job.started + slow_ms * 1000)
		loop_sleep(deadline_ms(10));
	while ((keep == 0 || got < keep) && (n = http_read(h, piece, sizeof piece)) > 0)
		got += (size_t)n;
	printf("%d %d %d %zu %" PRId64 " %s\n", id, status, (int)http_error(h), got,
	    (now_us() - job.started) / 1000, http_detail(h));
	job_close(&job);
	if (--left == 0)
		loop_stop();
}

/* Each event is a header alone: the file itself is watched. */
static int
opened(int watch)
{
	struct inotify_event	 event[64];
	ssize_t			 n = read(watch, event, sizeof event);

	return n > 0 ? (int)(n / (ssize_t)sizeof *event) : 0;
}

int
main(int argc, char **argv)
{
	char		*body;
	int		*ids, watch;

	if (argc != 7)
		return 2;
	ask = (struct http_ask){ .method = "GET", .url = argv[1], .ca_file = argv[2], .connect_ms = 10000,
	    .first_byte_ms = 20000, .idle_ms = 2000, .max_body = 64 * 1024 * 1024 };
	left = atoi(argv[3]);
	ask.nbody = (size_t)atol(argv[4]);
	ask.body = body = malloc(ask.nbody + 1);
	memset(body, 'x', ask.nbody);
	slow_ms = atoi(argv[5]);
	keep = (size_t)atol(argv[6]);
	if (ask.nbody > 0)
		ask.method = "POST";
	watch = inotify_init1(IN_NONBLOCK);
	inotify_add_watch(watch, ask.ca_file, IN_OPEN);
	signal(SIGPIPE, SIG_IGN);
	if (loop_open() < 0 || http_start() < 0)
		return 1;
	ids = malloc(sizeof *ids * (size_t)left);
	for (int i = 0, n = left; i < n; i++) {
		ids[i] = i;
		fiber_start(fetch, &ids[i]);
	}
	loop_run();
	http_stop();
	loop_close();
	printf("opened %d\n", opened(watch));
	free(body);
	free(ids);
	return 0;
}
