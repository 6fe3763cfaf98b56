#include "tap.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/trace.h"

#define ID	"4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN	"00f067aa0ba902b7"
#define GOOD	"00-" ID "-" SPAN "-01"

static struct arena	*arena;

static void
parent_is(const char *header, bool good, bool sampled, const char *what)
{
	const struct trace	*t = trace_read(arena, header, NULL);

	ok(good ? t != NULL && strcmp(t->id, ID) == 0 && strcmp(t->parent, SPAN) == 0 && t->sampled == sampled : t == NULL,
	    "%s", what);
}

static void
state_is(const char *header, const char *want, const char *what)
{
	const struct trace	*t = trace_read(arena, GOOD, header);

	is_text(t == NULL ? "no trace" : t->state, want, what);
}

static void
parents(void)
{
	parent_is(GOOD, true, true, "a good one");
	parent_is("00-" ID "-" SPAN "-00", true, false, "not sampled");
	parent_is("00-" ID "-" SPAN "-03", true, true, "flags we do not know, and the one we do");
	parent_is("00-" ID "-" SPAN "-fe", true, false, "flags we do not know alone");
	parent_is("01-" ID "-" SPAN "-01", true, true, "a later version of the same length");
	parent_is("cc-" ID "-" SPAN "-01-what-the-future-will-be-like", true, true, "a later version with more");

	parent_is(NULL, false, false, "none");
	parent_is("", false, false, "empty");
	parent_is("00-" ID "-" SPAN "-0", false, false, "too short");
	parent_is(GOOD "-extra", false, false, "version 00 with more");
	parent_is("01-" ID "-" SPAN "-01.extra", false, false, "a later version with more, without a dash");
	parent_is("01-" ID "-" SPAN "-011", false, false, "... with a third digit");
	parent_is("ff-" ID "-" SPAN "-01", false, false, "version ff");
	parent_is("0-" ID "-" SPAN "-01x", false, false, "a version of one digit");
	parent_is("00-00000000000000000000000000000000-" SPAN "-01", false, false, "a trace-id of zeros");
	parent_is("00-" ID "-0000000000000000-01", false, false, "a parent-id of zeros");
	parent_is("00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", false, false, "upper case");
	parent_is("00-4bf92f3577b34da6a3ce929d0e0e473g-" SPAN "-01", false, false, "no hex");
	parent_is("00_" ID "_" SPAN "_01", false, false, "no dashes");
	parent_is(" " GOOD, false, false, "a blank in front");
	parent_is(GOOD ", " GOOD, false, false, "twice");
	parent_is("00-" ID "-" SPAN "-0\n", false, false, "a line break");
}

static void
states(void)
{
	char	 many[400] = "", longer[1024] = "";

	state_is(NULL, NULL, "no tracestate");
	state_is("", NULL, "an empty one");
	state_is(" , ,", NULL, "one of nothing");
	state_is("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "as it came");
	state_is("a=1 ,\tb@v-1/*_=x y", "a=1 ,\tb@v-1/*_=x y", "with blanks and all that keys may have");
	state_is("a=1,,b=2", "a=1,,b=2", "an empty member between");
	state_is("a", NULL, "no value");
	state_is("a=", NULL, "an empty value");
	state_is("=1", NULL, "no key");
	state_is("A=1", NULL, "upper case in a key");
	state_is("a=1=2", NULL, "a = in a value");
	state_is("a=1\r\nX-Evil: 1", NULL, "a line break");
	state_is("a=\xc3\xa4", NULL, "bytes beyond ASCII");
	for (int i = 0; i < 32; i++)
		(void)snprintf(many + strlen(many), sizeof many - strlen(many), "%sk%d=v", i > 0 ? "," : "", i);
	state_is(many, many, "32 members");
	(void)strcat(many, ",one=more");
	state_is(many, NULL, "33");

	/* One of 200 bytes, ten of 60: the long one goes, and of the others those that do not fit. */
	(void)snprintf(longer, sizeof longer, "long=%0195d", 0);
	for (int i = 0; i < 10; i++)
		(void)snprintf(longer + strlen(longer), sizeof longer - strlen(longer), ",k%d=%057d", i, i);
	{
		const struct trace	*t = trace_read(arena, GOOD, longer);
		const char		*s = t == NULL || t->state == NULL ? "" : t->state;

		ok(strncmp(s, "k0=", 3) == 0 && strlen(s) <= TRACE_STATE_MAX && strlen(s) > 400 && s[strlen(s) - 1] == '7',
		    "a long one loses whole members");
	}
}

int
main(void)
{
	const struct trace	*t, *back;
	char			 a[TRACE_PARENT], b[TRACE_PARENT];

	arena = arena_open();
	parents();
	states();

	t = trace_read(arena, "01-" ID "-" SPAN "-01-more", "a=1, b=2");
	is_text(trace_text(arena, t), GOOD " a=1, b=2", "kept as one text");
	back = trace_of_text(arena, trace_text(arena, t));
	ok(back != NULL && strcmp(back->id, ID) == 0 && strcmp(back->parent, SPAN) == 0 && back->sampled, "and read back");
	is_text(back == NULL ? NULL : back->state, "a=1, b=2", "... with its state");
	back = trace_of_text(arena, GOOD);
	ok(back != NULL && back->state == NULL, "... or without one");
	ok(trace_of_text(arena, NULL) == NULL && trace_text(arena, NULL) == NULL, "none stays none");

	trace_next(t, a);
	trace_next(t, b);
	ok(strncmp(a, "00-" ID "-", 36) == 0 && strcmp(a + 52, "-01") == 0 && strlen(a) == 55, "what is sent is of the same trace");
	ok(trace_read(arena, a, NULL) != NULL, "... and good");
	ok(strncmp(a + 36, SPAN, 16) != 0 && strcmp(a, b) != 0, "... from a span of our own, each from another");
	arena_close(&arena);
	return done_testing();
}
