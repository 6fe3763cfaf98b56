#include "model/mend.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/utf8.h"
#include "io/json.h"

static size_t	 mend_escape(const char *, size_t, enum mend_how, struct buf *);
static int	 unit(const char *, size_t);
static const char *object_text(struct arena *, json_object *);

void
mend_json(const char *s, size_t n, enum mend_how how, struct buf *out)
{
	bool	 inside = false;

	for (size_t i = 0; i < n;) {
		unsigned char	 c = (unsigned char)s[i];
		size_t		 whole;

		if (!inside || c == '"') {
			inside ^= c == '"';
			buf_char(out, s[i++]);
		} else if (c == '\\') {
			i += mend_escape(s + i, n - i, how, out);
		} else if (c < 0x20) {
			if (c != 0)
				buf_printf(out, "\\u%04x", c);
			i++;
		} else if (c < 0x80) {
			buf_char(out, s[i++]);
		} else {
			for (whole = 2; whole <= 4 && whole <= n - i; whole++)
				if (utf8_valid(s + i, whole))
					break;
			if (whole <= 4 && whole <= n - i) {
				buf_add(out, s + i, whole);
				i += whole;
			} else {
				buf_printf(out, "\\u%04x", how == MEND_KEEP ? MEND_BYTE + c : 0xfffd);
				i++;
			}
		}
	}
}

json_object *
mend_read(const char *s, size_t n, bool *mended)
{
	struct buf	 b = { 0 };
	json_object	*got;

	*mended = false;
	if ((got = json_read_any(s, n)) != NULL)
		return got;
	mend_json(s, n, MEND_KEEP, &b);
	got = json_read_any(buf_text(&b), b.n);
	*mended = got != NULL;
	buf_free(&b);
	return got;
}

enum mend_arguments
mend_arguments(struct arena *out, const char *s, size_t n, const char **parameters)
{
	struct arena	*a = arena_open();
	enum mend_arguments got = MEND_GOOD;
	struct buf	*b = buf_new(a);
	const char	*blank = s, *text = NULL, *inner;
	size_t		 nblank = n;
	json_object	*o;

	utf8_trim(&blank, &nblank);
	if (nblank == 0 || (nblank == 4 && memcmp(blank, "null", 4) == 0)) {
		text = "{}";
	} else if ((o = json_read(a, blank, nblank, NULL)) != NULL) {
		text = object_text(out, o);
		/* Encoded twice: a string that holds the object. */
		if (text == NULL && json_object_is_type(o, json_type_string)) {
			inner = json_object_get_string(o);
			text = object_text(out, json_read(a, inner, strlen(inner), NULL));
			got = MEND_REPAIRED;
		}
	} else {
		mend_json(blank, nblank, MEND_REPLACE, b);
		/* Of two values for one key the last is a guess, hence no json_read(). */
		if ((o = json_read_any(buf_text(b), b->n)) != NULL) {
			text = object_text(out, o);
			json_object_put(o);
		}
		got = MEND_REPAIRED;
	}
	arena_close(&a);
	*parameters = text != NULL ? text : "{}";
	return text != NULL ? got : MEND_BROKEN;
}

/* Copies one escape, unless it stands for NUL or half a character: bytes used. */
static size_t
mend_escape(const char *s, size_t n, enum mend_how how, struct buf *out)
{
	int	 c = unit(s, n), low;

	if (c < 0) {
		/* Any other escape is the strict reader's to judge; one cut off by the end as well. */
		buf_add(out, s, n < 2 ? n : 2);
		return n < 2 ? n : 2;
	}
	low = unit(s + 6, n - 6);
	if (c >= 0xd800 && c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
		buf_add(out, s, 12);
		return 12;
	}
	if (c >= 0xd800 && c < 0xe000)
		buf_printf(out, "\\u%04x", (unsigned)(how == MEND_KEEP ? c - 0xd800 + MEND_SURROGATE : 0xfffd));
	else if (c != 0)
		buf_add(out, s, 6);
	return 6;
}

/* The UTF-16 unit of an escape \uNNNN, -1 when there is none. */
static int
unit(const char *s, size_t n)
{
	int	 c = 0;

	if (n < 6 || s[0] != '\\' || s[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		static const char	 digits[] = "0123456789abcdef";
		const char	*d = s[i] == 0 ? NULL : strchr(digits, s[i] | 0x20);

		if (d == NULL)
			return -1;
		c = c << 4 | (int)(d - digits);
	}
	return c;
}

static const char *
object_text(struct arena *a, json_object *o)
{
	return json_object_is_type(o, json_type_object) ? arena_strdup(a, json_text(o)) : NULL;
}
