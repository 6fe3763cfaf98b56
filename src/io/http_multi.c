#include "io/http_multi.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "io/http.h"
#include "io/http_exchange.h"
#include "io/http_memory.h"
#include "run/deadline.h"
#include "run/loop.h"

/* An easy handle at rest is 5 KB; more than this are only needed for a burst. */
#define SPARE_MAX	64
/*
 * Connections, those in use counted as well: one for each turn of a full worker over HTTP/1.1 (worker.max_turns).
 * Past this number curl closes one for each that comes back, and looks through all of them to find the oldest.
 */
#define CONNECTIONS_MAX	4096
/*
 * Exchanges on one HTTP/2 connection, if the server allows no less: what RFC 9113 section 6.5.2 asks
 * of servers.  curl believes in this number until the server's own has arrived;
 * an exchange over the server's would wait until another one ends.
 */
#define STREAMS_MAX	100L

static int	 on_socket(CURL *, curl_socket_t, int what, void *, void *);
static void	 on_ready(void *, uint32_t);
static int	 on_timer(CURLM *, long ms, void *);
static void	 on_time(void *);
static void	 act(curl_socket_t, int flags);

/* What a worker may forget: open connections, handles at rest, when curl wants to be called. */
static struct {
	CURLM		*multi;
	struct timer	 timer;
	CURL		*spare[SPARE_MAX];
	int		 nspare;
} net;

int
http_start(void)
{
	assert(net.multi == NULL);
	if (http_memory_init() != CURLE_OK ||
	    (net.multi = curl_multi_init()) == NULL)
		return -1;
	net.timer.fn = on_time;
	curl_multi_setopt(net.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(net.multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(net.multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_MAX);
	curl_multi_setopt(net.multi, CURLMOPT_MAX_CONCURRENT_STREAMS, STREAMS_MAX);
	return 0;
}

void
http_stop(void)
{
	if (net.multi == NULL)
		return;
	while (net.nspare > 0)
		curl_easy_cleanup(net.spare[--net.nspare]);
	curl_multi_cleanup(net.multi);
	timer_clear(&net.timer);
	memset(&net, 0, sizeof net);
	http_memory_end();
}

CURL *
http_multi_take(void)
{
	return net.nspare > 0 ? net.spare[--net.nspare] : curl_easy_init();
}

/*
 * A handle that never came to a connection keeps its buffer, and then lets
 * nobody set the size any more: such a one is of no further use.
 */
void
http_multi_give(CURL *easy)
{
	curl_easy_reset(easy);
	if (net.nspare < SPARE_MAX &&
	    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)CURL_MAX_WRITE_SIZE) == CURLE_OK)
		net.spare[net.nspare++] = easy;
	else
		curl_easy_cleanup(easy);
}

CURLMcode
http_multi_add(CURL *easy)
{
	assert(net.multi != NULL);
	/* Only asks for a timer: the connecting is done on the loop's stack. */
	return curl_multi_add_handle(net.multi, easy);
}

void
http_multi_remove(CURL *easy)
{
	curl_multi_remove_handle(net.multi, easy);
}

/* curl tells which socket it waits for, and for what. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *per_socket)
{
	uint32_t	 events = 0;

	(void)arg;
	(void)per_socket;
	if (what == CURL_POLL_REMOVE) {
		loop_unwatch(fd);
		return 0;
	}
	if (what == CURL_POLL_IN)
		exchange_sent(easy);
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	/* -1 would make curl end all transfers; this one alone runs into its timeout. */
	if (loop_watch(fd, events, on_ready, (void *)(intptr_t)fd) < 0)
		log_say(LOG_ERROR, "http", "a socket cannot be watched");
	return 0;
}

static void
on_ready(void *arg, uint32_t events)
{
	int	 flags = 0;

	if (events & EPOLLIN)
		flags |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		flags |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		flags |= CURL_CSELECT_ERR;
	act((curl_socket_t)(intptr_t)arg, flags);
}

static int
on_timer(CURLM *multi, long ms, void *arg)
{
	(void)multi;
	(void)arg;
	if (ms < 0)
		timer_clear(&net.timer);
	else
		timer_set(&net.timer, deadline_ms(ms));
	return 0;
}

static void
on_time(void *arg)
{
	(void)arg;
	act(CURL_SOCKET_TIMEOUT, 0);
}

/* Lets curl work, then tells the exchanges that are over. */
static void
act(curl_socket_t fd, int flags)
{
	CURLMsg		*msg;
	int		 left;

	curl_multi_socket_action(net.multi, fd, flags, &left);
	while ((msg = curl_multi_info_read(net.multi, &left)) != NULL) {
		struct http	*h = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &h);
		http_done(h, msg->data.result);		/* removes the handle, and msg with it */
	}
}
