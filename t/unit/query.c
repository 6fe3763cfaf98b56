/* Percent-encoding and the names of time zones. */
#include "tap.h"

#include "api/query.h"
#include "api/zone.h"
#include "base/arena.h"

static char *
decode(struct arena *a, const char *text, bool plus)
{
	return query_decode(a, text, strlen(text), plus);
}

static void
decoding(struct arena *a)
{
	is_text(decode(a, "", false), "", "nothing is nothing");
	is_text(decode(a, "a%20b", false), "a b", "an escape");
	is_text(decode(a, "%c3%A9", false), "\xc3\xa9", "hex digits in either case");
	is_text(decode(a, "a+b", false), "a+b", "'+' is itself in a path");
	is_text(decode(a, "a+b", true), "a b", "... and a space in a query");
	is_text(decode(a, "a%2Fb", false), "a/b", "an escaped slash");
	is_text(decode(a, "%", false), NULL, "a lone per cent sign is refused");
	is_text(decode(a, "a%4", false), NULL, "... half an escape too");
	is_text(decode(a, "%zz", false), NULL, "... and no hex");
	is_text(decode(a, "a%00b", false), NULL, "a NUL is refused");
	is_text(decode(a, "%ff", false), NULL, "invalid UTF-8 is refused");
}

static void
finding(struct arena *a)
{
	const char	*v = "as it was";

	ok(query_find(a, "", "q", &v) == 0, "an empty query");
	is_text(v, "as it was", "... leaves the value alone");
	ok(query_find(a, "qq=1&q=2&q=3", "q", &v) == 0, "the whole name counts");
	is_text(v, "2", "... and the first of two");
	ok(query_find(a, "limit=&q", "limit", &v) == 0, "an empty value");
	is_text(v, "", "... is there");
	ok(query_find(a, "q=%f", "q", &v) == -1, "a malformed value is an error");
}

static void
zones(void)
{
	ok(zone_valid("UTC"), "UTC");
	ok(zone_valid("Europe/Berlin"), "Europe/Berlin");
	ok(zone_valid("America/Argentina/Buenos_Aires"), "three parts");
	ok(zone_valid("Etc/GMT+3"), "a sign");
	ok(!zone_valid(""), "nothing is no zone");
	ok(!zone_valid("foo3"), "a POSIX rule is no name");
	ok(!zone_valid("Europe"), "a folder is none");
	ok(!zone_valid("../../../etc/passwd"), "no way out of the folder");
	ok(!zone_valid("/etc/passwd"), "... nor by the root");
	ok(!zone_valid("Europe//Berlin"), "an empty part");
	ok(!zone_valid("posix/UTC"), "a second copy");
	ok(!zone_valid("Europe/Berlin\n"), "a line end");
	ok(!zone_valid("Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "too long");
}

int
main(void)
{
	struct arena	*a = arena_open();

	decoding(a);
	finding(a);
	zones();
	arena_close(&a);
	return done_testing();
}
