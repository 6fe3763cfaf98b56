#include "load.h"

#include <sys/resource.h>

#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const char	 help[] =
"Usage: load --url http://127.0.0.1:PORT/api/chat [options]\n"
"  --tokens FILE        one token a line, each is a user\n"
"  --users N            use the first N of them\n"
"  --concurrency C      requests in flight, default 1\n"
"  --requests R         stop after so many\n"
"  --seconds S          begin nothing new after so long\n"
"  --body TEXT          the body; {n} is the request's number\n"
"  --body-file FILE     the same from a file\n"
"  --conversation new|same   a new one each time, or each client goes on in its first\n"
"  --stream             ask for an event stream, read it to its end\n"
"  --burst              connect all at once\n"
"  --ramp MS            the first request of each client is begun evenly over so long\n"
"  --keepalive          keep connections\n"
"  --timeout S          of one request, default 130\n"
"  --hold-signal FILE   written when all C are in flight\n"
"Prints one JSON object.  Only servers on this machine are asked.\n";

static int	 options_read(struct load *, int, char **);
static int	 option_text(struct load *, int, char *, int *users);
static int	 url_read(struct load *, char *);
static int	 tokens_read(struct load *, const char *);
static char	*file_read(const char *);
static int64_t	 number(const char *, int64_t min, int64_t max);
static int	 compare(const void *, const void *);
static void	 times_report(struct times *, const char *, FILE *);
static void	 counts_report(const struct count *, const char *, FILE *);

int
main(int argc, char **argv)
{
	static struct load	 l = { .concurrency = 1, .timeout = 130 * 1000000LL,
	    .body = "{\"message\":\"bench {n}\"}" };
	struct rlimit		 rl;

	if (options_read(&l, argc, argv) < 0)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
		if (rl.rlim_cur < (rlim_t)l.concurrency + 32) {
			fprintf(stderr, "load: only %llu descriptors for %d connections\n",
			    (unsigned long long)rl.rlim_cur, l.concurrency);
			return 1;
		}
	}
	if (load_run(&l) < 0) {
		perror("load");
		return 1;
	}
	load_report(&l, stdout);
	return 0;
}

static int
options_read(struct load *l, int argc, char **argv)
{
	static const struct option	 options[] = {
		{ "url", 1, NULL, 'u' }, { "tokens", 1, NULL, 't' }, { "users", 1, NULL, 'n' },
		{ "concurrency", 1, NULL, 'c' }, { "requests", 1, NULL, 'r' }, { "seconds", 1, NULL, 's' },
		{ "body", 1, NULL, 'b' }, { "body-file", 1, NULL, 'f' }, { "conversation", 1, NULL, 'v' },
		{ "stream", 0, NULL, 'S' }, { "burst", 0, NULL, 'B' }, { "ramp", 1, NULL, 'R' }, { "keepalive", 0, NULL, 'K' },
		{ "timeout", 1, NULL, 'T' }, { "hold-signal", 1, NULL, 'H' }, { "help", 0, NULL, 'h' },
		{ NULL, 0, NULL, 0 }
	};
	int	 c, users = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			exit(0);
		}
		if (c == '?' || option_text(l, c, optarg, &users) < 0) {
			fputs(help, stderr);
			return -1;
		}
	}
	if (l->path == NULL || (l->requests == 0 && l->seconds == 0) || l->body == NULL) {
		fputs("load: --url and one of --requests and --seconds are needed\n", stderr);
		return -1;
	}
	if (users > l->ntokens) {
		fprintf(stderr, "load: %d users, but %d tokens\n", users, l->ntokens);
		return -1;
	}
	if (users > 0)
		l->ntokens = users;
	return 0;
}

static int
option_text(struct load *l, int c, char *text, int *users)
{
	int64_t	 n = 0;

	switch (c) {
	case 'u':
		return url_read(l, text);
	case 't':
		return tokens_read(l, text);
	case 'n':
		*users = (int)(n = number(text, 1, LOAD_USERS_MAX));
		break;
	case 'c':
		l->concurrency = (int)(n = number(text, 1, LOAD_SLOTS_MAX));
		break;
	case 'r':
		l->requests = n = number(text, 1, LOAD_REQUESTS_MAX);
		break;
	case 's':
		l->seconds = n = number(text, 1, LOAD_SECONDS_MAX);
		break;
	case 'T':
		n = number(text, 1, LOAD_SECONDS_MAX);
		l->timeout = n * 1000000;
		break;
	case 'b':
		l->body = text;
		break;
	case 'f':
		l->body = file_read(text);
		return l->body == NULL ? -1 : 0;
	case 'v':
		l->same = strcmp(text, "same") == 0;
		return l->same || strcmp(text, "new") == 0 ? 0 : -1;
	case 'S':
		l->stream = true;
		break;
	case 'B':
		l->burst = true;
		break;
	case 'R':
		n = number(text, 0, LOAD_SECONDS_MAX * 1000);
		l->ramp = n * 1000;
		break;
	case 'K':
		l->keepalive = true;
		break;
	case 'H':
		l->hold_signal = text;
		break;
	}
	return n < 0 ? -1 : 0;
}

/* Loads are for one's own machine: any other address is refused. */
static int
url_read(struct load *l, char *text)
{
	static const char	 here[] = "http://127.0.0.1:";
	char			*end;
	long			 port;

	if (strncmp(text, here, sizeof here - 1) != 0) {
		fprintf(stderr, "load: only %sPORT/… is asked\n", here);
		return -1;
	}
	port = strtol(text + sizeof here - 1, &end, 10);
	if (port < 1 || port > 65535 || (*end != '/' && *end != '\0'))
		return -1;
	l->path = *end == '/' ? end : "/";
	l->to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	return 0;
}

static int
tokens_read(struct load *l, const char *path)
{
	char	*text = file_read(path), *save = NULL;

	if (text == NULL)
		return -1;
	for (char *t = strtok_r(text, " \t\r\n", &save); t != NULL && l->ntokens < LOAD_USERS_MAX;
	    t = strtok_r(NULL, " \t\r\n", &save))
		l->tokens[l->ntokens++] = t;
	return 0;
}

/* Kept for the life of the process. */
static char *
file_read(const char *path)
{
	FILE		*f = fopen(path, "re");
	struct buf	 b = { 0 };
	char		 part[4096];
	size_t		 n;

	if (f == NULL) {
		perror(path);
		return NULL;
	}
	buf_reserve(&b, sizeof part);
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		buf_add(&b, part, n);
	(void)fclose(f);
	if (b.n == 0)
		b.p[0] = '\0';
	return b.p;
}

static int64_t
number(const char *text, int64_t min, int64_t max)
{
	char		*end;
	long long	 n = strtoll(text, &end, 10);

	return end == text || *end != '\0' || n < min || n > max ? -1 : n;
}

/* Counts a name; when the table is full the last row stands for all others. */
void
load_count(struct count *counts, const char *name)
{
	int	 i = 0;

	while (i < LOAD_KINDS - 1 && counts[i].n > 0 && strcmp(counts[i].name, name) != 0)
		i++;
	if (counts[i].n++ == 0)
		(void)snprintf(counts[i].name, sizeof counts[i].name, "%s",
		    i == LOAD_KINDS - 1 ? "other" : name);
}

void
times_add(struct times *t, int64_t us)
{
	if (t->n == t->cap) {
		t->cap = t->cap == 0 ? 4096 : t->cap * 2;
		if ((t->v = realloc(t->v, t->cap * sizeof *t->v)) == NULL)
			abort();
	}
	t->v[t->n++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int
compare(const void *a, const void *b)
{
	uint32_t	 x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void
load_report(struct load *l, FILE *f)
{
	static const char *const names[ERROR_COUNT] = { "connect", "closed", "protocol", "timeout", "stream" };
	double	 seconds = (double)l->last / 1e6;

	fprintf(f, "{\"count\":%lld,\"ok\":%lld", (long long)l->ended, (long long)l->ok);
	counts_report(l->statuses, "status", f);
	counts_report(l->codes, "codes", f);
	fputs(",\"errors\":{", f);
	for (int i = 0; i < ERROR_COUNT; i++)
		fprintf(f, "%s\"%s\":%lld", i > 0 ? "," : "", names[i], (long long)l->errors[i]);
	fprintf(f, "},\"seconds\":%.3f,\"rps\":%.1f", seconds, seconds > 0 ? (double)l->ok / seconds : 0);
	times_report(&l->latency, "latency_ms", f);
	times_report(&l->first, "first_byte_ms", f);
	times_report(&l->delta, "first_delta_ms", f);
	fprintf(f, ",\"peak\":%d,\"all_open_ms\":", l->peak);
	if (l->all_open < 0)
		fputs("null}\n", f);
	else
		fprintf(f, "%.3f}\n", (double)l->all_open / 1e3);
}

static void
times_report(struct times *t, const char *name, FILE *f)
{
	static const struct { const char *name; double at; } marks[] = {
		{ "p50", 0.50 }, { "p95", 0.95 }, { "p99", 0.99 }, { "max", 1 }
	};
	double	 sum = 0;

	if (t->n == 0) {
		fprintf(f, ",\"%s\":null", name);
		return;
	}
	qsort(t->v, t->n, sizeof *t->v, compare);
	for (size_t i = 0; i < t->n; i++)
		sum += t->v[i];
	fprintf(f, ",\"%s\":{\"mean\":%.3f", name, sum / (double)t->n / 1e3);
	for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
		/* The smallest time that so many of all are not above. */
		size_t	 rank = (size_t)(marks[i].at * (double)t->n + 0.999999);

		fprintf(f, ",\"%s\":%.3f", marks[i].name, t->v[rank > t->n ? t->n - 1 : rank - 1] / 1e3);
	}
	fputc('}', f);
}

static void
counts_report(const struct count *counts, const char *name, FILE *f)
{
	fprintf(f, ",\"%s\":{", name);
	for (int i = 0; i < LOAD_KINDS && counts[i].n > 0; i++)
		fprintf(f, "%s\"%s\":%lld", i > 0 ? "," : "", counts[i].name, (long long)counts[i].n);
	fputc('}', f);
}
