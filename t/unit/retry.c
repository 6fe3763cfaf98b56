/*
 * retry and fault -- when a server may be asked again, and what helps.
 */
#include "base/conf.h"
#include "model/fault.h"
#include "model/retry.h"
#include "tap.h"

static void
check_header(void)
{
	time_t	 now = 1790000000;	/* Mon, 21 Sep 2026 14:13:20 GMT */

	ok(retry_header(NULL, NULL, NULL, now) == -1, "nothing said");
	ok(retry_header("350", "7", NULL, now) == 350, "retry-after-ms comes first");
	ok(retry_header("x", "7", NULL, now) == 7000, "nonsense in it is ignored");
	ok(retry_header(NULL, "1.5", NULL, now) == 1500, "seconds may have a fraction");
	ok(retry_header(NULL, "0", NULL, now) == 0, "none at all");
	ok(retry_header(NULL, "Mon, 21 Sep 2026 14:13:25 GMT", NULL, now) == 5000, "a date against our clock");
	ok(retry_header(NULL, "Mon, 21 Sep 2026 14:13:25 GMT", "Mon, 21 Sep 2026 14:13:23 GMT", now) == 2000, "a date against the server's clock");
	ok(retry_header(NULL, "Mon, 21 Sep 2026 14:13:00 GMT", NULL, now) == 0, "a date that is over");
	ok(retry_header(NULL, "soon", NULL, now) == -1, "a word");
	ok(retry_header(NULL, "1e9", NULL, now) == -1, "no exponents");
	ok(retry_header(NULL, "99999999999999", NULL, now) == 86400000, "never more than a day");
}

static void
check_sentence(void)
{
	ok(retry_sentence("Please try again in 20s.") == 20000, "20s");
	ok(retry_sentence("Please try again in 1m30.5s. Visit …") == 90500, "1m30.5s");
	ok(retry_sentence("try again in 350ms") == 350, "350ms");
	ok(retry_sentence("Rate limited, try again after 1 seconds") == 1000, "1 seconds");
	ok(retry_sentence("Please retry in 36.52s.") == 36520, "36.52s");
	ok(retry_sentence("Retry after 2 minutes") == 120000, "2 minutes");
	ok(retry_sentence("retry after 5") == 5000, "a bare number is seconds");
	ok(retry_sentence("try again in a while") == -1, "a while");
	ok(retry_sentence("") == -1, "nothing");
}

static void
check_backoff(void)
{
	struct conf	 conf = { .model_retry_base = 100, .model_retry_max = 1000 };
	bool		 good = true;

	for (int i = 0; i < 200; i++) {
		int64_t	 a = retry_backoff(&conf, 1), b = retry_backoff(&conf, 3), c = retry_backoff(&conf, 60);
		int64_t	 j = retry_jitter(1000);

		good = good && a >= 50 && a <= 100 && b >= 200 && b <= 400 && c >= 500 && c <= 1000 &&
		    j >= 1000 && j <= 1100;
	}
	ok(good, "the wait doubles, is bounded, and has jitter");
}

static void
check_one(const char *name, int status, const char *body, enum fail code, enum fault_remedy remedy, const char *words)
{
	struct fault	 f;

	fault_status(&f, status, NULL, body, strlen(body));
	ok(f.code == code && f.remedy == remedy, "%s", name);
	if (words != NULL)
		is_text(f.words, words, "… and what the log gets");
}

static void
check_fault(void)
{
	static const char info[] = "{\"error\":{\"details\":[{\"@type\":\"x.RetryInfo\",\"retryDelay\":\"3.5s\"}]}}";
	struct fault	 f;

	check_one("a wrong key", 401, "{\"error\":{\"message\":\"Incorrect API key sk-123\",\"type\":\"invalid_request_error\",\"code\":\"invalid_api_key\"}}",
	    FAIL_MODEL_ERROR, FAULT_NEXT, "invalid_request_error/invalid_api_key");
	check_one("an error as text", 404, "{\"error\":\"model not found\"}", FAIL_MODEL_ERROR, FAULT_NEXT, "");
	check_one("an error in an array", 429, "[{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\"}}]",
	    FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, "RESOURCE_EXHAUSTED/429");
	check_one("a proxy's page", 502, "<html>Bad Gateway</html>", FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, "");
	check_one("nothing at all", 503, "", FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, "");
	check_one("overflow of OpenAI", 400, "{\"error\":{\"message\":\"This model's maximum context length is 8192 tokens\",\"code\":\"context_length_exceeded\"}}",
	    FAIL_CONTEXT_TOO_LONG, FAULT_CUT, "context_length_exceeded");
	check_one("overflow of llama.cpp", 400, "{\"error\":{\"code\":400,\"type\":\"exceed_context_size_error\",\"n_ctx\":4096}}",
	    FAIL_CONTEXT_TOO_LONG, FAULT_CUT, "exceed_context_size_error/400");
	check_one("overflow in other words", 400, "{\"message\":\"prompt is too long: 210000 tokens > 200000 maximum\"}",
	    FAIL_CONTEXT_TOO_LONG, FAULT_CUT, NULL);
	check_one("too large for a proxy", 413, "<html>", FAIL_CONTEXT_TOO_LONG, FAULT_CUT, NULL);
	check_one("too many tokens a minute are no overflow", 429, "{\"error\":{\"message\":\"too many tokens per minute\"}}",
	    FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, NULL);
	check_one("no tools (Ollama)", 400, "{\"error\":{\"message\":\"registry.ollama.ai/library/x does not support tools\"}}",
	    FAIL_MODEL_ERROR, FAULT_NEXT, NULL);
	check_one("no tools (OpenRouter)", 404, "{\"error\":{\"message\":\"No endpoints found that support tool use.\",\"code\":404}}",
	    FAIL_MODEL_ERROR, FAULT_NEXT, NULL);
	check_one("no tools (llama.cpp)", 500, "{\"error\":{\"message\":\"tools param requires --jinja flag\",\"code\":500}}",
	    FAIL_MODEL_ERROR, FAULT_NEXT, NULL);
	check_one("a locked conversation", 400, "{\"error\":{\"code\":\"conversation_locked\"}}", FAIL_MODEL_UNAVAILABLE, FAULT_AGAIN, NULL);
	check_one("no money", 429, "{\"error\":{\"code\":\"insufficient_quota\"}}", FAIL_MODEL_UNAVAILABLE, FAULT_NEXT, NULL);

	fault_status(&f, 400, "true", "{}", 2);
	ok(f.remedy == FAULT_AGAIN, "x-should-retry: true");
	fault_status(&f, 500, "false", "{}", 2);
	ok(f.remedy == FAULT_NEXT, "x-should-retry: false");
	fault_status(&f, 429, NULL, info, strlen(info));
	ok(f.wait_ms == 3500, "RetryInfo in the body");
	fault_http(&f, HTTP_BROKEN, false);
	ok(f.code == FAIL_MODEL_UNAVAILABLE && f.remedy == FAULT_AGAIN, "broken off before the head");
	fault_http(&f, HTTP_LATE_IDLE, true);
	ok(f.code == FAIL_MODEL_TIMEOUT, "silence is a timeout");
}

int
main(void)
{
	check_header();
	check_sentence();
	check_backoff();
	check_fault();
	return done_testing();
}
