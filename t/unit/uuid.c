#include "tap.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/uuid.h"

#define MANY	20000

static char	 ids[MANY][UUID_TEXT];

static int
by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static bool
fork_differs(void)
{
	char	 mine[UUID_TEXT], his[UUID_TEXT] = "";
	int	 pipes[2], status;
	pid_t	 pid;

	if (pipe(pipes) < 0 || (pid = fork()) < 0)
		return false;
	if (pid == 0) {
		uuid_new(his);
		_exit(write(pipes[1], his, sizeof his) != sizeof his);
	}
	uuid_new(mine);
	(void)waitpid(pid, &status, 0);
	if (read(pipes[0], his, sizeof his) != sizeof his)
		return false;
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	return strcmp(mine, his) != 0;
}

int
main(void)
{
	char	 out[UUID_TEXT] = "kept", big[9000] = { 0 };
	bool	 form = true, unique = true;

	for (int i = 0; i < MANY; i++) {
		uuid_new(ids[i]);
		form &= uuid_parse(ids[i], out) && strcmp(ids[i], out) == 0 &&
		    ids[i][14] == '4' && strchr("89ab", ids[i][19]) != NULL;
	}
	ok(form, "ids are version 4 in lower case");
	qsort(ids, MANY, UUID_TEXT, by_text);
	for (int i = 1; i < MANY; i++)
		unique &= strcmp(ids[i - 1], ids[i]) != 0;
	ok(unique, "and differ");
	ok(fork_differs(), "parent and child do not make the same");

	ok(uuid_parse("0C9FA1B2-0000-4000-8000-00000000000F", out), "upper case is taken");
	is_text(out, "0c9fa1b2-0000-4000-8000-00000000000f", "and made lower");
	ok(!uuid_parse(NULL, out) && !uuid_parse("", out) &&
	    !uuid_parse("0c9fa1b2-0000-4000-8000-00000000000", out) &&
	    !uuid_parse("0c9fa1b2-0000-4000-8000-00000000000ff", out) &&
	    !uuid_parse("0c9fa1b200004000800000000000000f", out) &&
	    !uuid_parse("{c9fa1b2-0000-4000-8000-00000000000}", out) &&
	    !uuid_parse("0c9fa1b2-0000-4000-8000-00000000000g", out), "other forms are not");
	is_text(out, "0c9fa1b2-0000-4000-8000-00000000000f", "and leave the result alone");

	ok(uuid_derive("0C9FA1B2-0000-4000-8000-00000000000F", 1, 2, out) == 0, "an id that follows from another");
	is_text(out, "0c9fa1b2-0000-8000-8000-01000002000f", "is of version 8 and says from which, and where");
	ok(uuid_derive("0c9fa1b2-0000-4000-8000-00000000000f", 1, 0x1234567, out) == 0 &&
	    strcmp(out, "0c9fa1b2-0000-8000-8000-01000067452c") == 0, "up to 24 bits of it");
	ok(uuid_derive("x", 1, 2, out) < 0, "nothing follows from what is no id");

	random_bytes(big, sizeof big);
	ok(memcmp(big, big + 4500, 4500) != 0, "many random bytes");
	return done_testing();
}
