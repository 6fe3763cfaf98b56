/* Words in pieces: cut anywhere they become the same text, valid at any time, and what is whole never changes again. */
#include "fuzz.h"

#include "base/utf8.h"
#include "model/mend.h"
#include "model/text.h"

static void
add(struct text *t, const char *p, size_t n)
{
	char	*piece = fuzz_copy(p, n), *had = fuzz_copy(buf_text(&t->b), t->whole);
	size_t	 whole = t->whole;

	text_add(t, piece, n);
	must(t->whole >= whole && (whole == 0 || memcmp(t->b.p, had, whole) == 0));
	must(utf8_valid(buf_text(&t->b), t->whole) && memchr(buf_text(&t->b), 0, t->whole) == NULL);
	free(piece);
	free(had);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct text	 whole = { 0 }, cut = { 0 }, bytes = { 0 };
	struct buf	 mended = { 0 };
	size_t		 at = fuzz_pick(&in, n + 1);

	add(&whole, in.p, n);
	add(&cut, in.p, at);
	add(&cut, in.p + at, n - at);
	for (size_t i = 0; i < n && n < 256; i++)
		add(&bytes, in.p + i, 1);
	text_end(&whole);
	text_end(&cut);
	text_end(&bytes);
	must(whole.whole == whole.b.n);
	must(cut.b.n == whole.b.n && memcmp(buf_text(&cut.b), buf_text(&whole.b), cut.b.n) == 0);
	must(n >= 256 || (bytes.b.n == whole.b.n && memcmp(buf_text(&bytes.b), buf_text(&whole.b), bytes.b.n) == 0));
	must(!utf8_valid(in.p, n) || memchr(data, 0, n) != NULL ||
	    (whole.b.n == n && memcmp(buf_text(&whole.b), in.p, n) == 0));

	/* The way through a mended JSON text: valid UTF-8 goes in, whatever it stands for. */
	text_free(&cut);
	mend_json(in.p, n, MEND_KEEP, &mended);
	if (utf8_valid(buf_text(&mended), mended.n)) {
		text_add_mended(&cut, buf_text(&mended), mended.n);
		text_end(&cut);
		must(utf8_valid(buf_text(&cut.b), cut.b.n));
	}
	buf_free(&mended);
	text_free(&whole);
	text_free(&cut);
	text_free(&bytes);
	return 0;
}
