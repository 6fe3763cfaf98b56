#include "tap.h"

#include <stdint.h>

#include "base/arena.h"

static char	 order[8];

static void
note(void *arg)
{
	strcat(order, arg);
}

static void
note_deferring(void *arg)
{
	static char	 x[] = "x";

	strcat(order, "d");
	arena_defer(arg, note, x);
}

int
main(void)
{
	struct arena	*a = arena_open();
	char		 one[] = "1", two[] = "2";
	bool		 zeroed = true, aligned = true;
	char		*big, *s;

	for (size_t n = 0; n < 3000; n++) {
		unsigned char	*p = arena_alloc(a, n);

		aligned &= (uintptr_t)p % _Alignof(max_align_t) == 0;
		for (size_t i = 0; i < n; i++)
			zeroed &= p[i] == 0;
		memset(p, 0xa5, n);
	}
	ok(zeroed, "memory comes zeroed");
	ok(aligned, "and aligned");

	big = arena_alloc(a, 1 << 20);
	big[(1 << 20) - 1] = 1;
	ok(arena_alloc(a, 8) != NULL, "a large piece and a small one after it");

	ok(arena_strdup(a, NULL) == NULL, "NULL stays NULL");
	is_text(arena_strdup(a, "text"), "text", "strdup");
	s = arena_memdup(a, "abc", 2);
	is_text(s, "ab", "memdup adds a NUL");
	is_text(arena_printf(a, "%d-%s", 7, "x"), "7-x", "printf");
	ok(strlen(arena_printf(a, "%5000d", 1)) == 5000, "a long printf");

	arena_defer(a, note, one);
	arena_defer(a, note, two);
	arena_defer(a, note_deferring, a);
	arena_close(&a);
	is_text(order, "dx21", "defers run last-in first-out, and may defer");
	ok(a == NULL, "closing clears the pointer");
	arena_close(&a);
	ok(true, "closing NULL is fine");
	return done_testing();
}
