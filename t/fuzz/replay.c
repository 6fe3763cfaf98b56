/*
 * A target without libFuzzer: each file of its corpus, and changes of them with a fixed seed, in TAP.
 *
 *	t/fuzz/NAME [FILE...]	those files alone: a crash again
 *
 * The corpus of NAME lies in t/fuzz/corpus/NAME of the source tree ($srcdir).
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "../unit/tap.h"
#include "fuzz.h"

#define FILES_MAX	512
#define BYTES_MAX	8192	/* of one input; what is kept is smaller */
#define CHANGES		3000	/* in all: a second or two */

struct sample {
	char	*name;
	uint8_t	*p;
	size_t	 n;
};

static struct sample	 samples[FILES_MAX];
static int		 nsamples;
static uint64_t		 random_state = 0x9e3779b97f4a7c15;	/* the same numbers each time */

/* What is being looked at, for whoever wants to look at it again. */
static struct sample	 present;

static void
on_abort(int sig)
{
	char	 path[64];
	FILE	*f;

	snprintf(path, sizeof path, "fuzz-crash-%s", program_invocation_short_name);
	f = fopen(path, "w");
	if (f != NULL) {
		(void)fwrite(present.p, 1, present.n, f);
		(void)fclose(f);
	}
	printf("not ok - %s: the input is in ./%s\n", present.name, path);
	fflush(stdout);
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

/* xorshift64 */
static size_t
below(size_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return n > 0 ? (size_t)(random_state >> 11) % n : 0;
}

static void
sample_read(const char *path)
{
	FILE		*f = fopen(path, "r");
	struct sample	*s = &samples[nsamples];

	if (f == NULL) {
		printf("Bail out! %s: %s\n", path, strerror(errno));
		exit(1);
	}
	s->name = strdup(path);
	s->p = malloc(BYTES_MAX);
	if (s->name == NULL || s->p == NULL)
		abort();
	s->n = fread(s->p, 1, BYTES_MAX, f);
	(void)fclose(f);
	nsamples++;
}

static int
visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* In the order of their names, so that the numbers meet the same files. */
static void
corpus_read(const char *dir)
{
	struct dirent	**all;
	int		 n = scandir(dir, &all, visible, alphasort);
	char		 path[1024];

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, all[i]->d_name);
		if (nsamples < FILES_MAX)
			sample_read(path);
		free(all[i]);
	}
	if (n >= 0)
		free(all);
}

/* In a block of its own size, as libFuzzer does it. */
static void
look(const char *name, const uint8_t *p, size_t n)
{
	uint8_t	*copy = malloc(n > 0 ? n : 1);

	if (copy == NULL)
		abort();
	if (n > 0)
		memcpy(copy, p, n);
	present.name = strdup(name);
	present.p = copy;
	present.n = n;
	(void)LLVMFuzzerTestOneInput(copy, n);
	free(present.name);
	free(copy);
}

static size_t
drop(uint8_t *p, size_t n)
{
	size_t	 at = below(n), count = 1 + below(n - at < 16 ? n - at : 16);

	if (n == 0)
		return 0;
	count = count < n - at ? count : n - at;
	memmove(p + at, p + at + count, n - at - count);
	return n - count;
}

/* A piece of any sample, its own included, is put in. */
static size_t
put_in(uint8_t *p, size_t n)
{
	const struct sample	*from = &samples[below((size_t)nsamples)];
	size_t			 start = below(from->n), count = below(from->n - start < 64 ? from->n - start + 1 : 64);
	size_t			 at = below(n + 1);

	if (n + count > BYTES_MAX)
		return n;
	memmove(p + at + count, p + at, n - at);
	if (count > 0)
		memcpy(p + at, from->p + start, count);
	return n + count;
}

static size_t
change(uint8_t *p, size_t n)
{
	static const uint8_t	 odd[] = { 0, '\n', '\r', '"', '\\', '{', '}', '[', ']', ':', ',', '0', '9', '-', '.', '%', 0x7f,
	    0x80, 0xbf, 0xc0, 0xe2, 0xed, 0xf4, 0xff };
	size_t			 at = below(n);

	switch (below(6)) {
	case 0:
		if (n > 0)
			p[at] ^= (uint8_t)(1u << below(8));
		return n;
	case 1:
		if (n > 0)
			p[at] = odd[below(sizeof odd)];
		return n;
	case 2:
		if (n > 0)
			p[at] = (uint8_t)below(256);
		return n;
	case 3:
		return n > 0 ? drop(p, n) : n;
	case 4:
		return below(n + 1);
	default:
		return put_in(p, n);
	}
}

static void
changes_look(void)
{
	static uint8_t	 p[BYTES_MAX];
	char		 name[64];

	for (int i = 0; i < CHANGES; i++) {
		const struct sample	*s = &samples[below((size_t)nsamples)];
		size_t			 n = s->n, times = 1 + below(4);

		memcpy(p, s->p, n);
		for (size_t t = 0; t < times; t++)
			n = change(p, n);
		snprintf(name, sizeof name, "change %d", i);
		look(name, p, n);
	}
	ok(true, "%d changes of them", CHANGES);
}

int
main(int argc, char **argv)
{
	const char	*src = getenv("srcdir");
	char		 dir[512];

	(void)signal(SIGABRT, on_abort);
	(void)signal(SIGSEGV, on_abort);
	for (int i = 1; i < argc; i++)
		sample_read(argv[i]);
	snprintf(dir, sizeof dir, "%s/t/fuzz/corpus/%s", src != NULL ? src : ".", program_invocation_short_name);
	if (argc == 1)
		corpus_read(dir);
	ok(nsamples > 0, "%d samples", nsamples);
	for (int i = 0; i < nsamples; i++) {
		look(samples[i].name, samples[i].p, samples[i].n);
		if (argc > 1)
			ok(true, "%s", samples[i].name);
	}
	ok(true, "each of them");
	if (argc == 1 && nsamples > 0)
		changes_look();
	for (int i = 0; i < nsamples; i++) {
		free(samples[i].name);
		free(samples[i].p);
	}
	return done_testing();
}
