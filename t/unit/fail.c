#include "tap.h"

#include "base/fail.h"

int
main(void)
{
	bool	 whole = true, back = true, reasons = true;

	for (int f = FAIL_NONE + 1; f < FAIL_COUNT; f++) {
		const struct fail_kind	*k = fail_kind((enum fail)f);

		whole &= k->code != NULL && k->status >= 400 && k->status < 600 &&
		    k->sentence != NULL && k->sentence[strlen(k->sentence) - 1] == '.';
		back &= k->code != NULL && fail_by_code(k->code) == (enum fail)f;
		reasons &= strlen(http_reason(k->status)) > 3;
		/* These carry Retry-After. */
		if (k->status == 429 || k->status == 503 || f == FAIL_CONVERSATION_BUSY)
			whole &= k->retry_after > 0;
		else
			whole &= k->retry_after == 0;
	}
	ok(whole, "every failure has code, status, sentence and its Retry-After");
	ok(back, "codes lead back");
	ok(reasons, "every status has a reason");
	ok(fail_by_code("nonsense") == FAIL_INTERNAL_ERROR && fail_by_code(NULL) == FAIL_INTERNAL_ERROR &&
	    fail_by_code("") == FAIL_INTERNAL_ERROR, "an unknown code is an internal error");
	ok(fail_kind((enum fail)999)->status == 500, "and so is an unknown number");
	is_text(http_reason(404), "Not Found", "404 by name");
	is_text(http_reason(504), "Gateway Timeout", "504 by name");
	is_text(fail_kind(FAIL_CONVERSATION_NOT_FOUND)->sentence,
	    "There is no conversation with this id.", "its sentence");
	return done_testing();
}
