/* A yes or a no is one whatever white space and marks stand around it, and a question is neither. */
#include "fuzz.h"

#include "base/conf.h"
#include "chat/word.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct arena	*a = arena_open();
	struct conf	 conf = { .approvals_yes = fuzz_line(a, &in), .approvals_no = fuzz_line(a, &in) };
	const char	*text = fuzz_rest(a, &in);
	enum word	 got = word_of(&conf, text);

	must(got == WORD_NONE || got == WORD_YES || got == WORD_NO);
	must(word_of(&conf, arena_printf(a, " \"%s!\" \n", text)) == got);
	must(word_of(&conf, arena_printf(a, "%s x%s", text, text)) == WORD_NONE || got != WORD_YES || *conf.approvals_yes != '\0');
	/* No list of the configuration can hold a question, for its words have no blanks and no marks around them. */
	must(strchr(conf.approvals_yes, '?') != NULL || strchr(conf.approvals_no, '?') != NULL ||
	    word_of(&conf, arena_printf(a, "%s?", text)) == WORD_NONE);
	arena_close(&a);
	return 0;
}
