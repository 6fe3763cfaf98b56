#include "tap.h"

#include "base/arena.h"
#include "base/buf.h"

int
main(void)
{
	struct arena	*a = arena_open();
	struct buf	 b = { 0 }, *own;

	is_text(buf_text(&b), "", "an empty buffer is a string");
	buf_drop(&b, 3);
	buf_clear(&b);
	ok(b.p == NULL && b.n == 0, "nothing done to nothing");

	buf_str(&b, "hello");
	buf_char(&b, ' ');
	buf_printf(&b, "%s %d", "world", 42);
	is_text(buf_text(&b), "hello world 42", "text is added");
	ok(b.n == 14, "and counted");
	buf_drop(&b, 6);
	is_text(b.p, "world 42", "drop takes from the front");
	buf_drop(&b, 100);
	is_text(b.p, "", "drop of more than there is empties it");

	for (int i = 0; i < 100000; i++)
		buf_add(&b, "0123456789", 10);
	ok(b.n == 1000000 && b.p[999999] == '9' && b.p[1000000] == '\0', "it grows");
	buf_clear(&b);
	buf_printf(&b, "%3000d", 5);
	ok(b.n == 3000, "a long printf");
	buf_add(&b, "a\0b", 3);
	ok(b.n == 3003 && memcmp(b.p + 3000, "a\0b", 4) == 0, "bytes may hold a NUL");
	buf_free(&b);
	ok(b.p == NULL && b.cap == 0, "freed is empty");
	buf_str(&b, "again");
	is_text(b.p, "again", "and may be used on");
	buf_free(&b);

	own = buf_new(a);
	buf_str(own, "of the arena");
	is_text(own->p, "of the arena", "a buffer of the arena");
	arena_close(&a);
	return done_testing();
}
