/* The place of a stream: what stands in an event's id. */
#include "tap.h"

#include "api/place.h"

static void
growing(void)
{
	struct place	 p, q;
	char		 text[PLACE_TEXT];

	place_begin(&p, 1, 1);
	is_text(place_write(&p, text), "1.1.0.0.cbf29ce484222325", "before the first word");
	ok(place_fits(&p, "", 0) && place_fits(&p, "any", 3), "... every text goes on from there");
	place_say(&p, "foo", 3);
	place_say(&p, "bar", 3);
	/* The vector of FNV-1a's authors for "foobar". */
	is_text(place_write(&p, text), "1.1.6.0.85944171f73967e8", "piece by piece");
	ok(place_fits(&p, "foobar", 6), "the text itself goes on");
	ok(place_fits(&p, "foobarbaz", 9), "... and a longer one");
	ok(!place_fits(&p, "fooba", 5), "a shorter one does not");
	ok(!place_fits(&p, "foobazbar", 9), "another does not");
	p.calls = 3;
	ok(place_read(&q, place_write(&p, text)), "what was written can be read");
	ok(q.run == 1 && q.index == 1 && q.bytes == 6 && q.calls == 3 && q.hash == p.hash, "... as it was");
}

static void
reading(void)
{
	static const char *const bad[] = {
		"", "1", "1.1.0.0", "1.1.0.0.", "1.1.0.0.cbf29ce48422232", "1.1.0.0.cbf29ce4842223255",
		"1.1.0.0.CBF29CE484222325", "1.1.0.0.cbf29ce484222325 ", " 1.1.0.0.cbf29ce484222325",
		"0.1.0.0.cbf29ce484222325", "01.1.0.0.cbf29ce484222325",
		"-1.1.0.0.cbf29ce484222325", "+1.1.0.0.cbf29ce484222325", "1.1.1234567890.0.cbf29ce484222325",
		"1..0.0.cbf29ce484222325", "1.1.0.0.0.cbf29ce484222325", "1,1,0,0,cbf29ce484222325",
		"1.1.0x1.0.cbf29ce484222325", "1.1.0.0.cbf29ce48422232g",
	};
	struct place	 p;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ok(!place_read(&p, bad[i]), "\"%s\" is refused", bad[i]);
		ok(p.run == 0, "... and leads nowhere");
	}
	ok(place_read(&p, "1.0.3.0.cbf29ce484222325") && p.index == 0, "a place in the queue");
	ok(place_read(&p, "999999999.7.999999999.2.0000000000000000"), "as large as they get");
}

int
main(void)
{
	growing();
	reading();
	return done_testing();
}
