/* parleyctl stats: how it goes, and what it has cost. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json_object.h>

#include "base/arena.h"
#include "base/conf.h"
#include "ctl.h"
#include "ctl_ops.h"
#include "io/json.h"

#define SINCE_DEFAULT	86400
#define USAGE_MAX	200	/* lines for a person; --json has them all */
#define MILLION		1e6

struct sum {
	int64_t	 turns, input, output;
	double	 cost;
	bool	 part;		/* of some turns the price is not known */
};

static json_object *stats_read(const struct conf *, struct arena *, int64_t seconds);
static void	 costs_add(const struct conf *, json_object *usage);
static const struct conf_model *price_of(const struct conf *, const char *model);
static void	 stats_print(const struct conf *, json_object *);
static void	 states_print(json_object *);
static void	 time_print(const char *name, json_object *);
static void	 errors_print(json_object *);
static void	 usage_print(json_object *, bool priced);
static void	 usage_line(const char *day, const char *user, const char *model, const struct sum *, bool priced);
static void	 tools_print(json_object *);

int
ctl_stats(int argc, char **argv, const struct conf *(*conf_read)(void))
{
	static const struct option	 options[] = { { "since", required_argument, NULL, 's' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	int64_t				 seconds = SINCE_DEFAULT;
	bool				 json = false;
	const struct conf		*conf;
	struct arena			*a;
	json_object			*stats;
	int				 c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c == '?' || (c == 's' && !ops_seconds(optarg, 1, &seconds)))
			return -1;
		json |= c == 'j';
	}
	if (optind != argc)
		return -1;
	if ((conf = conf_read()) == NULL)
		return 1;
	a = arena_open();
	if ((stats = stats_read(conf, a, seconds)) != NULL) {
		if (json)
			puts(json_text(stats));
		else
			stats_print(conf, stats);
	}
	arena_close(&a);
	return stats != NULL ? 0 : 1;
}

static json_object *
stats_read(const struct conf *conf, struct arena *a, int64_t seconds)
{
	PGconn		*pg = ops_open(conf);
	PGresult	*res = NULL;
	json_object	*stats = NULL, *usage;
	char		 text[24];

	snprintf(text, sizeof text, "%" PRId64, seconds);
	if (pg != NULL)
		res = ops_ask(pg, "SELECT parley.stats(clock_timestamp() - $1::bigint * interval '1 second')", text);
	if (res != NULL)
		stats = json_read(a, PQgetvalue(res, 0, 0), strlen(PQgetvalue(res, 0, 0)), NULL);
	if (stats != NULL && json_get_array(stats, "usage", &usage) == JSON_GOT)
		costs_add(conf, usage);
	PQclear(res);
	PQfinish(pg);
	return stats;
}

/* -- what it has cost -- */

static void
costs_add(const struct conf *conf, json_object *usage)
{
	for (size_t i = 0; i < json_object_array_length(usage); i++) {
		json_object			*row = json_object_array_get_idx(usage, i);
		const struct conf_model		*m = price_of(conf, json_text_or_null(row, "model"));
		int64_t				 input = 0, output = 0;
		double				 cost;
		char				 text[40];

		if (m == NULL)
			continue;
		(void)json_get_int(row, "input_tokens", &input);
		(void)json_get_int(row, "output_tokens", &output);
		cost = ((double)input * (m->price_input != NULL ? strtod(m->price_input, NULL) : 0) +
		    (double)output * (m->price_output != NULL ? strtod(m->price_output, NULL) : 0)) / MILLION;
		snprintf(text, sizeof text, "%.6f", cost);
		json_object_object_add(row, "cost", json_object_new_double_s(cost, text));
	}
}

/*
 * Servers say more than they were asked for ("gpt-4o-mini" answers as "gpt-4o-mini-2024-07-18"): the configured name counts,
 * or else the longest one that the answer's begins with, up to a mark.
 */
static const struct conf_model *
price_of(const struct conf *conf, const char *model)
{
	const struct conf_model	*best = NULL;
	size_t			 longest = 0;

	for (int i = 0; i < conf->nmodels && model != NULL; i++) {
		const struct conf_model	*m = &conf->models[i];
		size_t			 n = m->model != NULL ? strlen(m->model) : 0;

		if (n <= longest || (m->price_input == NULL && m->price_output == NULL) || strncmp(model, m->model, n) != 0 ||
		    (model[n] != '\0' && strchr("-:@.", model[n]) == NULL))
			continue;
		best = m;
		longest = n;
	}
	return best;
}

/* -- for a person -- */

static void
stats_print(const struct conf *conf, json_object *stats)
{
	bool	 priced = false;

	for (int i = 0; i < conf->nmodels; i++)
		priced |= conf->models[i].price_input != NULL || conf->models[i].price_output != NULL;
	printf("%s to %s\n\n", json_text_or_null(stats, "from"), json_text_or_null(stats, "until"));
	states_print(stats);
	printf("\n%-18s %10s %10s %10s\n", "MILLISECONDS", "p50", "p95", "p99");
	time_print("turn", json_object_object_get(stats, "turn_ms"));
	time_print("first text", json_object_object_get(stats, "first_text_ms"));
	errors_print(json_object_object_get(stats, "errors"));
	usage_print(json_object_object_get(stats, "usage"), priced);
	tools_print(json_object_object_get(stats, "tools"));
}

static void
states_print(json_object *stats)
{
	static const char *const	 both[] = { "live", "ended" };

	printf("%-18s %10s %12s\n", "STATE", "TURNS", "OLDEST");
	for (int i = 0; i < 2; i++) {
		json_object	*list = json_object_object_get(stats, both[i]);

		for (size_t j = 0; j < json_object_array_length(list); j++) {
			json_object	*row = json_object_array_get_idx(list, j);
			json_object	*oldest = json_object_object_get(row, "oldest_seconds");

			printf("%-18s %10s", json_text_or_null(row, "state"), json_object_get_string(json_object_object_get(row, "turns")));
			if (oldest != NULL)
				printf(" %10s s", json_object_get_string(oldest));
			putchar('\n');
		}
	}
}

static const char *
number(json_object *o, const char *key)
{
	json_object	*value = json_object_object_get(o, key);

	return value != NULL ? json_object_get_string(value) : "-";
}

static void
time_print(const char *name, json_object *all)
{
	printf("%-18s %10s", name, number(all, "p50"));
	printf(" %10s", number(all, "p95"));
	printf(" %10s\n", number(all, "p99"));
}

static void
errors_print(json_object *list)
{
	if (json_object_array_length(list) > 0)
		printf("\n%-28s %10s\n", "ERROR", "TURNS");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object	*row = json_object_array_get_idx(list, i);

		printf("%-28s %10s\n", ops_plain(json_text_or_null(row, "code")), number(row, "turns"));
	}
}

static void
sum_add(struct sum *s, json_object *row)
{
	json_object	*cost = json_object_object_get(row, "cost");
	int64_t		 n = 0;

	s->turns += json_get_int(row, "turns", &n) == JSON_GOT ? n : 0;
	s->input += json_get_int(row, "input_tokens", &n) == JSON_GOT ? n : 0;
	s->output += json_get_int(row, "output_tokens", &n) == JSON_GOT ? n : 0;
	s->cost += cost != NULL ? json_object_get_double(cost) : 0;
	s->part |= cost == NULL;
}

/* Of each day all users, and then each of them; the days come together, the newest first. */
static void
usage_print(json_object *list, bool priced)
{
	size_t	 n = json_object_array_length(list), left = USAGE_MAX;

	if (n > 0)
		printf("\n%-10s  %-24s %-28s %9s %12s %12s%s\n", "DAY", "USER", "MODEL", "TURNS", "INPUT", "OUTPUT",
		    priced ? "          COST" : "");
	for (size_t i = 0, end; i < n; i = end) {
		const char	*day = json_text_or_null(json_object_array_get_idx(list, i), "day");
		struct sum	 all = { 0 };

		for (end = i; end < n && strcmp(json_text_or_null(json_object_array_get_idx(list, end), "day"), day) == 0; end++)
			sum_add(&all, json_object_array_get_idx(list, end));
		usage_line(day, "all users", "", &all, priced);
		for (; i < end && left > 0; i++, left--) {
			json_object	*row = json_object_array_get_idx(list, i);
			struct sum	 one = { 0 };

			sum_add(&one, row);
			usage_line(day, json_text_or_null(row, "user"), json_text_or_null(row, "model"), &one, priced);
		}
	}
	if (n > USAGE_MAX)
		printf("… and %zu lines more: --json has them\n", n - USAGE_MAX);
}

static void
usage_line(const char *day, const char *user, const char *model, const struct sum *s, bool priced)
{
	printf("%-10s  %-24s %-28s %9" PRId64 " %12" PRId64 " %12" PRId64, day, ops_plain(user), ops_plain(model), s->turns, s->input,
	    s->output);
	/* A plus: and what models without a price have cost. */
	if (priced && s->part && s->cost == 0)
		printf("%14s", "-");
	else if (priced)
		printf(" %12.4f%s", s->cost, s->part ? "+" : " ");
	putchar('\n');
}

static void
tools_print(json_object *list)
{
	if (json_object_array_length(list) > 0)
		printf("\n%-32s %9s %9s %10s %10s %10s\n", "TOOL", "CALLS", "ERRORS", "p50 ms", "p95 ms", "p99 ms");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object	*row = json_object_array_get_idx(list, i), *ms = json_object_object_get(row, "ms");

		printf("%-32s %9s", ops_plain(json_text_or_null(row, "tool")), number(row, "calls"));
		printf(" %9s %10s", number(row, "errors"), number(ms, "p50"));
		printf(" %10s %10s\n", number(ms, "p95"), number(ms, "p99"));
	}
}
