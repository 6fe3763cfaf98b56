/* base64url: each byte string has exactly one text, and each text that is taken is that one. */
#include "fuzz.h"

#include "auth/base64url.h"
#include "base/buf.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char		*text = fuzz_copy((const char *)data, n);
	unsigned char	*bytes = malloc(BASE64URL_BYTES(n)), *back;
	struct buf	 b = { 0 };
	ssize_t		 got = base64url_read(text, n, bytes);

	if (got >= 0) {
		must((size_t)got <= BASE64URL_BYTES(n));
		base64url_add(&b, bytes, (size_t)got);
		must(b.n == n && memcmp(buf_text(&b), text, n) == 0);
		buf_clear(&b);
	}
	base64url_add(&b, text, n);
	back = malloc(BASE64URL_BYTES(b.n));
	must(base64url_read(buf_text(&b), b.n, back) == (ssize_t)n && memcmp(back, text, n) == 0);
	free(back);
	free(bytes);
	free(text);
	buf_free(&b);
	return 0;
}
