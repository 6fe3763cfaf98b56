/* A message that is nothing but a yes or a no. */
#include "tap.h"

#include "base/conf.h"
#include "chat/word.h"

static const struct conf	 plain;

static void
each(const struct conf *conf, enum word want, const char *const *texts)
{
	for (; *texts != NULL; texts++)
		ok(word_of(conf, *texts) == want, "%s", *texts);
}

int
main(void)
{
	static const char *const	 yes[] = {
		"yes", "Yes", "YES", "y", " yes ", "yes.", "Yes!", "\"yes\"", "(yes)", "yes!!!", "Yes, please.", "yes\tplease",
		"ok", "Okay", "go ahead", "Do it!", "sure",
		"ja", "Ja!", "JA, BITTE", "ja gerne", "klar",
		"haan", "Ji haan", "theek hai", "ہاں", "جی ہاں", "جی، ہاں", "ہاں۔", "جی", "\u200fہاں\u200f", "هاں", "جي هاں",
		"“yes”", "yes…", "\u00a0yes\u00a0", "— yes", NULL
	};
	static const char *const	 no[] = {
		"no", "No.", "NO!", "n", "nope", "no, thanks", "don't", "Don\u2019t!", "cancel",
		"nein", "Nein, danke!", "nö", "bitte nicht",
		"nahi", "ji nahin", "نہیں", "جی نہیں۔", "نهيں", "نہ", NULL
	};
	static const char *const	 none[] = {
		"", " ", "!", "?", "yes?", "ja?", "ہاں؟", "yes no", "yes and no", "yes, but not that one", "yesterday", "no 3", "nothing",
		"ja und", "add task: yes", "yes\tno", "delete it", "ye", "\xd9", "y e s", "okk", "1", "true", "👍",
		"yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes", NULL
	};
	static const struct conf	 more = { .approvals_yes = "oui, SI tak", .approvals_no = "non,ok" };
	static const char *const	 more_yes[] = { "oui", "Oui!", "si", "Si.", "tak", "yes", NULL };
	static const char *const	 more_no[] = { "non", "no", "ok", NULL };

	each(&plain, WORD_YES, yes);
	each(&plain, WORD_NO, no);
	each(&plain, WORD_NONE, none);
	each(&more, WORD_YES, more_yes);
	each(&more, WORD_NO, more_no);
	ok(word_of(&plain, "oui") == WORD_NONE, "other languages only where they are configured");
	return done_testing();
}
