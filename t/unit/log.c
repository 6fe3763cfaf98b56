#include "tap.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN
#endif
#endif

static char	 dir[] = "/tmp/parley-log-XXXXXX", path[64], moved[64];

/* The last line of the file, parsed; NULL when it is no JSON. */
static json_object *
last_line(const char *file)
{
	static char	 text[65536];
	FILE		*f = fopen(file, "r");
	size_t		 n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
	char		*start;

	if (f != NULL)
		(void)fclose(f);
	if (n == 0 || text[n - 1] != '\n')
		return NULL;
	text[n - 1] = '\0';
	start = strrchr(text, '\n');
	return json_tokener_parse(start != NULL ? start + 1 : text);
}

static const char *
field(json_object *o, const char *key)
{
	return json_object_get_string(json_object_object_get(o, key));
}

static void
test_line(void)
{
	json_object	*o;

	ok(log_begin(LOG_INFO, "turn"), "an info line is wanted");
	log_str("model", "a\"b\\c\n\x01é");
	log_str("broken", "x\xff\xc3y");
	log_str("absent", NULL);
	log_int("turn", -7);
	log_ms("took", 12345);
	log_bool("streamed", true);
	log_end();

	o = last_line(path);
	ok(o != NULL, "a line is JSON");
	is_text(field(o, "level"), "info", "level");
	is_text(field(o, "event"), "turn", "event");
	is_text(field(o, "model"), "a\"b\\c\n\x01é", "text is escaped");
	is_text(field(o, "broken"), "x\xef\xbf\xbd\xef\xbf\xbdy", "broken text is mended");
	ok(json_object_object_get(o, "absent") == NULL, "NULL is left out");
	is_text(field(o, "turn"), "-7", "a number");
	is_text(field(o, "took"), "12.345", "milliseconds");
	is_text(field(o, "streamed"), "true", "a boolean");
	ok(strlen(field(o, "time")) == 24 && field(o, "time")[19] == '.' && field(o, "time")[23] == 'Z',
	    "the time is RFC 3339 with milliseconds");
	json_object_put(o);
}

static void
test_bounds(void)
{
	static char	 huge[100000];
	json_object	*o;

	memset(huge, 'x', sizeof huge - 1);
	memcpy(huge + 1023, "é", 2);
	log_begin(LOG_WARN, "big");
	for (int i = 0; i < 20; i++)
		log_str("value", huge);
	log_end();
	o = last_line(path);
	ok(o != NULL, "a line that is too long is still JSON");
	is_text(field(o, "cut"), "true", "and says that it was cut");
	json_object_put(o);

	log_begin(LOG_WARN, "big");
	log_str("value", huge);
	log_end();
	o = last_line(path);
	ok(strlen(field(o, "value")) == 1023, "a value is cut between characters");
	json_object_put(o);

	memset(huge, '\x02', sizeof huge - 1);
	log_begin(LOG_WARN, "big");
	log_str("value", huge);
	log_str("next", huge);
	log_int("n", 1);
	log_end();
	o = last_line(path);
	ok(o != NULL && field(o, "cut") != NULL, "escapes count as well");
	json_object_put(o);
}

static void
test_levels(void)
{
	enum log_level	 l = LOG_ERROR;
	json_object	*o;

	ok(!log_begin(LOG_DEBUG, "debug"), "a debug line is not wanted");
	log_str("a", "b");
	log_end();
	log_say(LOG_ERROR, "said", "%d of %s", 3, "them");
	o = last_line(path);
	is_text(field(o, "message"), "3 of them", "a sentence");
	json_object_put(o);
	ok(log_level_parse("warn", &l) && l == LOG_WARN, "levels have names");
	ok(!log_level_parse("loud", &l) && l == LOG_WARN, "and no others");
}

static void
test_files(void)
{
	char		 a[17], b[17];
	json_object	*o;

	log_user_hash("alice", a);
	log_user_hash("alice", b);
	ok(strlen(a) == 16 && strcmp(a, b) == 0, "a user is a hash");
	log_user_hash("bob", b);
	ok(strcmp(a, b) != 0, "of his own");
	(void)log_open(path, LOG_INFO, "other key");
	log_user_hash("alice", b);
	ok(strcmp(a, b) != 0, "under the key");

	(void)rename(path, moved);
	log_say(LOG_INFO, "old", "x");
	ok(access(path, F_OK) < 0, "a moved file is written on");
	ok(log_reopen() == 0, "reopened");
	log_say(LOG_INFO, "new", "x");
	o = last_line(path);
	is_text(field(o, "event"), "new", "then the new one is");
	json_object_put(o);

	ok(log_open("/nonexistent/dir/file", LOG_INFO, "k") < 0, "a file that cannot be opened is an error");
	log_say(LOG_INFO, "kept", "x");
	o = last_line(path);
	is_text(field(o, "event"), "kept", "and the old one is kept");
	json_object_put(o);
}

static void
test_full_pipe(void)
{
	int	 pipes[2], out = dup(STDERR_FILENO);
	char	 text[PIPE_BUF * 2];
	ssize_t	 n = 0, got;

	if (pipe(pipes) < 0)
		return;
	(void)fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	(void)dup2(pipes[1], STDERR_FILENO);
	(void)log_open(NULL, LOG_INFO, "k");
	for (int i = 0; i < 5000; i++)
		log_say(LOG_INFO, "fill", "nobody reads this line, number %d", i);
	ok(true, "a full pipe does not hold us up");
	while (read(pipes[0], text, sizeof text) > 0)
		;
	log_say(LOG_INFO, "after", "x");
	while ((got = read(pipes[0], text + n, sizeof text - 1 - (size_t)n)) > 0)
		n += got;
	text[n] = '\0';
	ok(strstr(text, "log_dropped") != NULL, "and is told of when it drains");
	(void)dup2(out, STDERR_FILENO);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	(void)close(out);
}

static void
test_crash(void)
{
	static char	 text[65536];
	struct rlimit	 no_core = { 0, 0 };
	int		 pipes[2], status = 0;
	ssize_t		 n = 0, got;
	pid_t		 pid;

	if (pipe(pipes) < 0 || (pid = fork()) < 0)
		return;
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)dup2(pipes[1], STDERR_FILENO);
		(void)log_open(NULL, LOG_INFO, "k");
		log_crashes();
		abort();
	}
	(void)close(pipes[1]);
	while ((got = read(pipes[0], text + n, sizeof text - 1 - (size_t)n)) > 0)
		n += got;
	(void)waitpid(pid, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "a crash is still a crash");
#ifndef UNDER_ASAN	/* the sanitizer has a report of its own */
	ok(strstr(text, "\"crash\",\"signal\":\"06\"") != NULL, "it is logged");
#endif
	(void)close(pipes[0]);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	(void)snprintf(path, sizeof path, "%s/log", dir);
	(void)snprintf(moved, sizeof moved, "%s/log.1", dir);
	ok(log_open(path, LOG_INFO, "key") == 0, "a file is opened");

	test_line();
	test_bounds();
	test_levels();
	test_files();
	test_full_pipe();
	test_crash();

	(void)unlink(path);
	(void)unlink(moved);
	(void)rmdir(dir);
	return done_testing();
}
