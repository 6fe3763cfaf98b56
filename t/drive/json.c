/*
 * The door for JSON, for t/differential-json.t: a line for each text on stdin (texts.h), which is
 *
 *	+TEXT	it is one strict JSON text, and this is what our writer makes of the tree
 *	-WHY	it is none
 */
#include <string.h>

#include "base/arena.h"
#include "io/json.h"
#include "texts.h"

int
main(void)
{
	char	*text;
	size_t	 n;

	while ((text = text_next(&n)) != NULL) {
		struct arena	*a = arena_open();
		const char	*why = NULL;
		json_object	*o = json_read(a, text, n, &why);

		/* json-c has no object for null. */
		if (o == NULL && strcmp(why, "no value") == 0)
			puts("+null");
		else
			printf("%c%s\n", o != NULL ? '+' : '-', o != NULL ? json_text(o) : why);
		arena_close(&a);
		free(text);
	}
	return 0;
}
