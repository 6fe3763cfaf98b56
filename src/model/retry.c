#include "model/retry.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/conf.h"
#include "base/uuid.h"
#include "io/json.h"

/* Longer waits are as good as "not today": one day. */
#define WAIT_MAX_MS	86400000

static int64_t	 span(double seconds);
static bool	 number(const char **, double *);
static bool	 duration(const char *, int64_t *);
static int64_t	 random_below(int64_t);

bool
retry_status(int status)
{
	return status == 408 || status == 409 || status == 429 || (status >= 500 && status <= 599);
}

int64_t
retry_header(const char *ms, const char *after, const char *date, time_t now)
{
	double	 got;
	time_t	 at, from;

	if (ms != NULL && number(&ms, &got) && *ms == '\0')
		return span(got / 1000);
	if (after == NULL)
		return -1;
	if (isdigit((unsigned char)*after) || *after == '.') {
		if (number(&after, &got) && *after == '\0')
			return span(got);
		return -1;
	}
	/* The server's own clock, where it tells it, is the one its date was written by. */
	if ((at = curl_getdate(after, NULL)) == -1)
		return -1;
	from = date != NULL ? curl_getdate(date, NULL) : -1;
	return span(difftime(at, from != -1 ? from : now));
}

int64_t
retry_body(json_object *error)
{
	json_object	*list, *metadata;
	const char	*text;
	int64_t		 ms;

	if (json_get_array(error, "details", &list) == JSON_GOT)
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			text = json_text_or_null(json_object_array_get_idx(list, i), "retryDelay");
			if (text != NULL && duration(text, &ms))
				return ms;
		}
	if (json_get_object(error, "metadata", &metadata) == JSON_GOT &&
	    json_get_int(metadata, "retry_after", &ms) == JSON_GOT && ms >= 0)
		return span((double)ms);
	if (json_get_int(error, "retry_after", &ms) == JSON_GOT && ms >= 0)
		return span((double)ms);
	text = json_text_or_null(error, "message");
	return text != NULL ? retry_sentence(text) : -1;
}

int64_t
retry_sentence(const char *s)
{
	static const char *const lead[] = {
		"try again in ", "try again after ", "retry in ", "retry after ", "retry-after: ", "wait ",
	};
	int64_t	 ms;

	for (; *s != '\0'; s++)
		for (size_t i = 0; i < sizeof lead / sizeof *lead; i++)
			if (strncasecmp(s, lead[i], strlen(lead[i])) == 0 &&
			    duration(s + strlen(lead[i]), &ms))
				return ms;
	return -1;
}

int64_t
retry_backoff(const struct conf *conf, int attempt)
{
	int64_t	 ms = conf->model_retry_base;

	for (int i = 1; i < attempt && ms < conf->model_retry_max; i++)
		ms *= 2;
	if (ms > conf->model_retry_max)
		ms = conf->model_retry_max;
	return ms - random_below(ms / 2 + 1);
}

int64_t
retry_jitter(int64_t ms)
{
	return ms + random_below(ms / 10 + 1);
}

static int64_t
span(double seconds)
{
	if (seconds < 0)
		return 0;
	if (seconds > (double)WAIT_MAX_MS / 1000)
		return WAIT_MAX_MS;
	/* Up, but not because .35 has no end in binary. */
	return (int64_t)(seconds * 1000 + .999999);
}

/* Digits with at most one point: strtod() would take hexadecimal, inf and the locale's comma. */
static bool
number(const char **s, double *got)
{
	const char	*p = *s;
	double		 part = 1;

	*got = 0;
	while (*p == ' ')
		p++;
	if (!isdigit((unsigned char)*p) && !(*p == '.' && isdigit((unsigned char)p[1])))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		*got = *got * 10 + (*p - '0');
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p); p++)
			*got += (part /= 10) * (*p - '0');
	while (*p == ' ')
		p++;
	*s = p;
	return true;
}

/* "17s", "1m30.5s", "350ms", "2 seconds", "1 minute"; a number alone is seconds. */
static bool
duration(const char *s, int64_t *ms)
{
	double	 sum = 0, n;
	bool	 any = false;

	while (number(&s, &n)) {
		static const struct { const char *unit; double seconds; } units[] = {
			{ "milliseconds", .001 }, { "ms", .001 }, { "seconds", 1 }, { "second", 1 }, { "secs", 1 },
			{ "sec", 1 }, { "minutes", 60 }, { "minute", 60 }, { "mins", 60 }, { "min", 60 },
			{ "hours", 3600 }, { "hour", 3600 }, { "s", 1 }, { "m", 60 }, { "h", 3600 },
		};
		size_t	 i = 0, count = sizeof units / sizeof *units;

		while (i < count && (strncasecmp(s, units[i].unit, strlen(units[i].unit)) != 0 ||
		    isalpha((unsigned char)s[strlen(units[i].unit)])))
			i++;
		if (i < count) {
			sum += n * units[i].seconds;
			s += strlen(units[i].unit);
			any = true;
			continue;
		}
		if (any || isalpha((unsigned char)*s))
			break;
		sum = n;
		any = true;
		break;
	}
	*ms = span(sum);
	return any && *ms >= 0;
}

static int64_t
random_below(int64_t n)
{
	uint32_t	 r;

	random_bytes(&r, sizeof r);
	return n > 0 ? (int64_t)(r % (uint64_t)n) : 0;
}
