/*
 * parley-demo-model: an OpenAI-compatible chat-completions server for people
 * without a key, for tests and for benches.
 */
#include "config.h"

#include <getopt.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

#include "demo/brain.h"
#include "demo/journal.h"
#include "demo/script.h"
#include "demo/server.h"

#define PIECES_MAX	10000

static const char	 help[] =
"Usage: parley-demo-model [--listen 127.0.0.1:PORT] [options]\n"
"An OpenAI-compatible model that knows a few commands about tasks, for people\n"
"without a key, for tests and for benches.\n"
"\n"
"  --listen ADDRESS  address and port, default 127.0.0.1:8090; port 0: any free one\n"
"  --port-file FILE  the port is written there once the socket listens\n"
"  --delay MS        an answer's pieces are spread over this time, default 0\n"
"  --pieces N        pieces of an answer, default 4\n"
"  --scripts DIR     answer from DIR/NAME.script when the model is \"script:NAME\" or\n"
"                    the user's message begins with that; keep the requests for\n"
"                    GET /_requests, forget them with DELETE /_requests\n"
"  --help, --version\n"
"\n"
"Verbs of a script: status N, header Name: value, data JSON, done, raw TEXT,\n"
"drip MS TEXT, repeat N data JSON, wait MS, end, cut, reset, hang, garbage TEXT;\n"
"a line --- separates replies to the first, second, ... request.\n";

static int	 options_read(struct server *, int, char **);
static int	 number_read(const char *, int, int, const char *);

int
main(int argc, char **argv)
{
	static const struct server	 start = { .listen = "127.0.0.1:8090", .pieces = 4 };
	struct server			*s = malloc(sizeof *s);
	int				 status;

	if (s == NULL)
		return EXIT_FAILURE;
	*s = start;
	/* Titles are compared without regard to case in any script, see words.c. */
	if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
		(void)setlocale(LC_CTYPE, "");
	status = options_read(s, argc, argv);
	if (status >= 0) {
		free(s);
		return status;
	}

	s->brain = brain_open();
	if (s->script_dir != NULL) {
		s->scripts = scripts_open(s->script_dir);
		s->journal = journal_open();
	}
	status = s->brain == NULL ? -1 : server_run(s);
	brain_close(&s->brain);
	scripts_close(&s->scripts);
	journal_close(&s->journal);
	free(s);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* -1: go on; else the status to leave with. */
static int
options_read(struct server *s, int argc, char **argv)
{
	static const struct option	 options[] = {
		{ "listen",	required_argument, NULL, 'l' },
		{ "port-file",	required_argument, NULL, 'f' },
		{ "delay",	required_argument, NULL, 'd' },
		{ "pieces",	required_argument, NULL, 'p' },
		{ "scripts",	required_argument, NULL, 's' },
		{ "help",	no_argument, NULL, 'h' },
		{ "version",	no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 }
	};
	int	 c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'l':
			s->listen = optarg;
			break;
		case 'f':
			s->port_file = optarg;
			break;
		case 'd':
			if ((s->delay = number_read(optarg, 0, INT_MAX / 1000, "--delay")) < 0)
				return 2;
			break;
		case 'p':
			if ((s->pieces = number_read(optarg, 1, PIECES_MAX, "--pieces")) < 0)
				return 2;
			break;
		case 's':
			s->script_dir = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		case 'v':
			puts("parley-demo-model " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		default:
			fputs(help, stderr);
			return 2;
		}
	if (optind == argc)
		return -1;
	fprintf(stderr, "parley-demo-model: what is \"%s\"?\n", argv[optind]);
	return 2;
}

static int
number_read(const char *text, int min, int max, const char *name)
{
	char	*end;
	long	 n = strtol(text, &end, 10);

	if (end != text && *end == '\0' && n >= min && n <= max)
		return (int)n;
	fprintf(stderr, "parley-demo-model: %s takes a number from %d to %d\n", name, min, max);
	return -1;
}
