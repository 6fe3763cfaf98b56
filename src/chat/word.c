#include "chat/word.h"

#include <stdbool.h>
#include <string.h>

#include "base/conf.h"

#define WORD_MAX	64	/* bytes; the longest below has a third of that */

/*
 * Only what cannot mean anything else beside a question: "ok" can hardly be a no, "na" may be one
 * in Urdu and is none in German.
 */
static const char *const	 yes[] = {
	"yes", "y", "yeah", "yep", "yup", "yes please", "ok", "okay", "sure", "go ahead", "do it", "please do",
	"ja", "j", "jawohl", "ja bitte", "ja gerne", "ja klar", "klar", "gerne", "mach das", "mach es", "einverstanden",
	"haan", "han", "ji", "jee", "ji haan", "ji han", "jee haan", "haan ji", "theek hai", "bilkul",
	"ہاں", "جی", "جی ہاں", "ہاں جی", "ٹھیک ہے", "بالکل",
	NULL
};
static const char *const	 no[] = {
	"no", "n", "nope", "nah", "no thanks", "no thank you", "don't", "do not", "cancel",
	"nein", "nee", "nö", "nein danke", "bitte nicht", "lieber nicht",
	"nahi", "nahin", "nahi ji", "ji nahi", "ji nahin", "jee nahi", "mat karo", "rehne do",
	"نہیں", "جی نہیں", "نہیں جی", "نہ", "مت کرو", "رہنے دو",
	NULL
};

/* Punctuation and space beyond ASCII that stands around words, as people type them and keyboards set them. */
static const char *const	 marks[] = {
	"\u00a0", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\ufeff",		/* spaces and what has no width */
	"\u2026", "\u2013", "\u2014", "\u2018", "\u2019", "\u201a", "\u201c", "\u201d", "\u201e", "\u00ab", "\u00bb",
	"\u00a1", "\u00bf", "\u060c", "\u061b", "\u06d4",					/* Urdu: , ; . */
	NULL
};

/* Letters that Arabic keyboards have in the place of Urdu's own: heh, yeh, kaf; and ' as it is set. */
static const char *const	 letters[][2] = {
	{ "\u0647", "\u06c1" },
	{ "\u064a", "\u06cc" },
	{ "\u0643", "\u06a9" },
	{ "\u2019", "'" },
};

static size_t	 mark_at(const char *);
static size_t	 gap_at(const char *);
static bool	 text_trim(const char **, size_t *);
static void	 text_fold(const char *, size_t, char *);
static bool	 list_has(const char *const *, const char *);
static bool	 conf_has(const char *, const char *);

enum word
word_of(const struct conf *conf, const char *text)
{
	char	 word[WORD_MAX];
	size_t	 n;

	if (!text_trim(&text, &n) || n >= sizeof word)
		return WORD_NONE;
	text_fold(text, n, word);
	/* What the configuration says of a word comes first. */
	if (conf_has(conf->approvals_no, word))
		return WORD_NO;
	if (conf_has(conf->approvals_yes, word))
		return WORD_YES;
	return list_has(no, word) ? WORD_NO : list_has(yes, word) ? WORD_YES : WORD_NONE;
}

/* Bytes of the punctuation mark or the space that stands here; 0: it is neither. */
static size_t
mark_at(const char *p)
{
	unsigned char	 c = (unsigned char)*p;

	if (c == '\0')
		return 0;
	if (c <= ' ' || (c < 0x7f && strchr("!\"'(),-.:;[]_*`", c) != NULL))
		return 1;
	for (int i = 0; c >= 0x80 && marks[i] != NULL; i++)
		if (strncmp(p, marks[i], strlen(marks[i])) == 0)
			return strlen(marks[i]);
	return 0;
}

/* Bytes of the white space or the comma between two words; 0: it is neither. */
static size_t
gap_at(const char *p)
{
	if (((unsigned char)*p <= ' ' && *p != '\0') || *p == ',')
		return 1;
	return strncmp(p, "\u060c", strlen("\u060c")) == 0 ? strlen("\u060c") : 0;
}

/* Without the marks around it; false: nothing is left. */
static bool
text_trim(const char **text, size_t *n)
{
	const char	*p = *text, *end;
	size_t		 mark;

	while ((mark = mark_at(p)) > 0)
		p += mark;
	*text = end = p;
	while (*p != '\0') {
		if ((mark = mark_at(p)) > 0) {
			p += mark;
			continue;
		}
		end = ++p;
		/* Not in the middle of a character, where a byte could look like a mark. */
		while (((unsigned char)*p & 0xc0) == 0x80)
			end = ++p;
		if (end - *text >= WORD_MAX)
			return false;
	}
	*n = (size_t)(end - *text);
	return *n > 0;
}

/* ASCII in lower case, one blank for any white space and comma, letters as the lists have them.  Never longer. */
static void
text_fold(const char *text, size_t n, char *out)
{
	const char	*end = text + n;

	while (text < end) {
		size_t	 i = 0, most = sizeof letters / sizeof *letters, gap = gap_at(text);

		if (gap > 0) {
			do
				text += gap;
			while (text < end && (gap = gap_at(text)) > 0);
			*out++ = ' ';
			continue;
		}
		while (i < most && strncmp(text, letters[i][0], strlen(letters[i][0])) != 0)
			i++;
		if (i < most) {
			text += strlen(letters[i][0]);
			out = stpcpy(out, letters[i][1]);
			continue;
		}
		*out++ = *text >= 'A' && *text <= 'Z' ? (char)(*text + 'a' - 'A') : *text;
		text++;
	}
	*out = '\0';
}

static bool
list_has(const char *const *list, const char *word)
{
	for (; *list != NULL; list++)
		if (strcmp(*list, word) == 0)
			return true;
	return false;
}

/* The configuration's words may be written in any case, too. */
static bool
conf_has(const char *list, const char *word)
{
	char	 one[WORD_MAX], folded[WORD_MAX];

	while (list != NULL && conf_list_next(&list, one, sizeof one)) {
		text_fold(one, strlen(one), folded);
		if (strcmp(folded, word) == 0)
			return true;
	}
	return false;
}
