#include "config.h"

#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth/claims.h"
#include "auth/token.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/standard.h"
#include "chat/migrate.h"
#include "run/confine.h"

/* A token for trying things out should not outlive the week it was made in; a day serves most. */
#define TTL_DEFAULT	86400
#define TTL_MAX		(366 * 86400L)

#define SCHEMA_DIR	PARLEY_DATADIR "/schema"
#define SCHEMA_BESIDE	"/../share/parley/schema"	/* from the program's directory */

struct command {
	const char	*name;
	const char	*arguments;
	const char	*about;
	int		(*run)(int argc, char **argv);	/* argv[0] is the command; the program's exit status */
};

static int	 cmd_migrate(int, char **);
static int	 cmd_token(int, char **);
static int	 cmd_tools(int, char **);
static int	 cmd_check(int, char **);
static int	 cmd_stats(int, char **);
static int	 cmd_user(int, char **);
static int	 cmd_prune(int, char **);
static int	 cmd_conf(int, char **);
static int	 cmd_work(int, char **);

static const struct command commands[] = {
	{ "migrate", "[--schema DIR] [--single-role]", "bring the database up to date (as database.owner_url)", cmd_migrate },
	{ "token", "[--ttl SECONDS] USER", "print a token for a user, signed with auth.secret (a day)", cmd_token },
	{ "tools", "[call NAME [JSON] --user USER] [--token-file FILE]", "list the model's tools, or try one", cmd_tools },
	{ "check", "[--schema DIR] [--no-model]", "say what is wrong with configuration, keys, database and model", cmd_check },
	{ "stats", "[--since 24h] [--json]", "how it goes, and what it has cost, by day and user", cmd_stats },
	{ "user", "export USER | erase [--yes] USER", "all that there is of a user: print it as JSON, or delete it", cmd_user },
	{ "prune", "--older-than 365d [--dry-run]", "delete conversations without activity for so long", cmd_prune },
	{ "work", "--once [--seconds N]", "take up turns that have no worker, and end (for cron; 50 s at most)", cmd_work },
	{ "conf", "", "print every key of the configuration: key, type, default, environment", cmd_conf },
};

/* Given with -c; NULL: what conf_load() finds. */
static const char	*conf_path;

static void
usage(FILE *to)
{
	fprintf(to, "usage: parleyctl [-c FILE] COMMAND …\n\n");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		fprintf(to, "  %-8s %-31s %s\n", commands[i].name, commands[i].arguments, commands[i].about);
	fprintf(to, "\n"
	    "  -c, --config FILE   the configuration (else PARLEY_CONF, else " PARLEY_SYSCONFDIR "/parley.conf)\n"
	    "  --schema DIR        the SQL files (else " SCHEMA_DIR ")\n"
	    "  --version, --help\n");
}

/* For a command line that makes no sense. */
static int
misused(const struct command *c)
{
	if (c != NULL)
		fprintf(stderr, "usage: parleyctl %s %s\n", c->name, c->arguments);
	return 2;
}

static const struct command *
command_find(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static const struct conf *
conf_read(void)
{
	struct buf		 why = { 0 };
	const struct conf	*conf = conf_load(conf_path, &why);

	if (conf == NULL)
		fputs(buf_text(&why), stderr);
	buf_free(&why);
	return conf;
}

/* Of an installed tree that was moved (DESTDIR, a copy): the files that came with this very program. */
static const char *
schema_default(void)
{
	static char	 path[4096];
	ssize_t		 n = readlink("/proc/self/exe", path, sizeof path - sizeof SCHEMA_BESIDE);
	char		*slash;

	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		memcpy(slash, SCHEMA_BESIDE, sizeof SCHEMA_BESIDE);
		if (access(path, R_OK | X_OK) == 0)
			return path;
	}
	return SCHEMA_DIR;
}

/* The options of migrate; -1: something else was there. */
static int
schema_options(int argc, char **argv, const char **dir, bool *single)
{
	static const struct option	 options[] = {
		{ "schema", required_argument, NULL, 's' },
		{ "single-role", no_argument, NULL, '1' },
		{ 0 }
	};
	int				 c;

	*dir = schema_default();
	optind = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c == 's')
			*dir = optarg;
		else if (c == '1')
			*single = true;
		else
			return -1;
	}
	return optind == argc ? 0 : -1;
}

static int
cmd_migrate(int argc, char **argv)
{
	const struct conf	*conf;
	const char		*dir, *url;
	bool			 single = false;

	if (schema_options(argc, argv, &dir, &single) < 0)
		return misused(command_find("migrate"));
	if ((conf = conf_read()) == NULL)
		return 1;
	url = conf->database_owner_url != NULL ? conf->database_owner_url : conf->database_url;
	if (url == NULL) {
		fprintf(stderr, "parleyctl: neither database.owner_url nor database.url is set\n");
		return 1;
	}
	return migrate_run(url, dir, single, stdout) < 0 ? 1 : 0;
}

static bool
seconds_read(const char *text, long *seconds)
{
	char	*end;

	errno = 0;
	*seconds = strtol(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *seconds > 0 && *seconds <= TTL_MAX;
}

static int
token_print(const struct conf *conf, const char *user, long seconds)
{
	struct buf	 token = { 0 };

	if (!user_is_sane(user)) {
		fprintf(stderr, "parleyctl: a user is 1 to %d bytes of UTF-8 without control characters\n", USER_MAX);
		return 1;
	}
	if (token_make(conf, user, seconds, &token) < 0) {
		fprintf(stderr, "parleyctl: there is no shared secret to sign with: set auth.secret_file or PARLEY_AUTH_SECRET,"
		    " and let auth.algorithms (if set) hold HS256\n");
		return 1;
	}
	puts(buf_text(&token));
	buf_free(&token);
	return 0;
}

static int
cmd_token(int argc, char **argv)
{
	static const struct option	 options[] = { { "ttl", required_argument, NULL, 't' }, { 0 } };
	const struct command		*me = command_find("token");
	const struct conf		*conf;
	long				 seconds = TTL_DEFAULT;
	int				 c;

	/* Options may stand on either side of USER. */
	optind = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (c != 't' || !seconds_read(optarg, &seconds))
			return misused(me);
	if (optind + 1 != argc)
		return misused(me);
	if ((conf = conf_read()) == NULL)
		return 1;
	return token_print(conf, argv[optind], seconds);
}

static int
cmd_tools(int argc, char **argv)
{
	int	 status = ctl_tools(argc, argv, conf_read);

	return status < 0 ? misused(command_find("tools")) : status;
}

static int
cmd_stats(int argc, char **argv)
{
	int	 status = ctl_stats(argc, argv, conf_read);

	return status < 0 ? misused(command_find("stats")) : status;
}

static int
cmd_user(int argc, char **argv)
{
	int	 status = ctl_user(argc, argv, conf_read);

	return status < 0 ? misused(command_find("user")) : status;
}

static int
cmd_prune(int argc, char **argv)
{
	int	 status = ctl_prune(argc, argv, conf_read);

	return status < 0 ? misused(command_find("prune")) : status;
}

static int
cmd_check(int argc, char **argv)
{
	static const struct option	 options[] = { { "schema", required_argument, NULL, 's' }, { "no-model", no_argument, NULL, 'm' },
					     { 0 } };
	struct ctl_check		 how = { .schema_dir = schema_default(), .ask_model = true };
	struct buf			 why = { 0 };
	const struct conf		*conf;
	int				 c, failed;

	optind = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c == 's')
			how.schema_dir = optarg;
		else if (c == 'm')
			how.ask_model = false;
		else
			return misused(command_find("check"));
	}
	if (optind != argc)
		return misused(command_find("check"));
	conf = conf_load(conf_path, &why);
	failed = ctl_check(conf, buf_text(&why), &how);
	buf_free(&why);
	return failed > 0 ? 1 : 0;
}

static int
cmd_conf(int argc, char **argv)
{
	(void)argv;
	if (argc != 1)
		return misused(command_find("conf"));
	conf_keys(stdout);
	return 0;
}

static int
cmd_work(int argc, char **argv)
{
	int	 status = ctl_work(argc, argv, conf_read);

	return status < 0 ? misused(command_find("work")) : status;
}

/* Whoever pipes the answer into a file on a full disk must hear of it. */
static int
flushed(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "parleyctl: stdout: %s\n", strerror(errno));
	return 1;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 }
	};
	const struct command	*command;
	int			 c;

	if (standard_fill() < 0)
		return 1;
	confine_memory();
	while ((c = getopt_long(argc, argv, "+c:h", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			conf_path = optarg;
			break;
		case 'h':
			usage(stdout);
			return flushed(0);
		case 'V':
			puts("parleyctl " PACKAGE_VERSION);
			return flushed(0);
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind == argc || (command = command_find(argv[optind])) == NULL) {
		usage(stderr);
		return 2;
	}
	if (optind + 1 < argc && strcmp(argv[optind + 1], "--help") == 0) {
		printf("usage: parleyctl %s %s\n", command->name, command->arguments);
		return flushed(0);
	}
	return flushed(command->run(argc - optind, argv + optind));
}
