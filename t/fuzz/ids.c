/*
 * Ids that clients send back: of conversations, of ChatKit's items, of events.  Whatever is taken is what we would
 * have written ourselves, but for the case of an id's letters.
 */
#include "fuzz.h"

#include <strings.h>

#include "api/chatkit_item.h"
#include "api/place.h"
#include "base/uuid.h"

static void
uuid(const char *text)
{
	char	 id[UUID_TEXT] = "untouched", again[UUID_TEXT], other[UUID_TEXT];

	if (!uuid_parse(text, id)) {
		must(strcmp(id, "untouched") == 0);
		must(uuid_derive(text, 1, 2, other) < 0);
		return;
	}
	must(strcasecmp(id, text) == 0 && strlen(id) == 36);
	must(uuid_parse(id, again) && strcmp(id, again) == 0);
	must(uuid_derive(id, 1, 2, other) == 0 && uuid_parse(other, again) && strcmp(other, again) == 0);
}

static void
item(const char *text)
{
	char		 id[UUID_TEXT], back[ITEM_ID], again[UUID_TEXT];
	enum item_kind	 kind, same;

	if (!item_id_read(text, id, &kind))
		return;
	item_id_write(back, id, kind);
	must(strcasecmp(back, text) == 0);
	must(item_id_read(back, again, &same) && same == kind && strcmp(id, again) == 0);
}

static void
place(const char *text, size_t n)
{
	struct place	 p, q;
	char		 back[PLACE_TEXT];

	if (!place_read(&p, text)) {
		must(p.run == 0 && p.bytes == 0);
		return;
	}
	must(p.run > 0 && p.index >= 0 && p.calls >= 0);
	must(strcmp(place_write(&p, back), text) == 0);
	(void)place_fits(&p, text, n);

	/* It goes on from any text that begins with what was said, and is at home in no shorter one. */
	place_begin(&q, p.run, p.index);
	place_say(&q, text, n);
	must(place_fits(&q, text, n) && (n == 0 || !place_fits(&q, text, n - 1)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char	*text = malloc(n + 1);

	memcpy(text, data, n);
	text[n] = '\0';
	uuid(text);
	item(text);
	place(text, strlen(text));
	free(text);
	return 0;
}
