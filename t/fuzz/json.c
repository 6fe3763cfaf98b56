/* The door for JSON: what it takes json-c takes, as the same tree; what our writer writes it takes, as it was. */
#include "fuzz.h"

#include <json-c/json_tokener.h>

#include "base/utf8.h"
#include "io/json.h"

/* json-c loses what is beyond 64 bits: where a number may be that long the trees are not compared. */
static bool
long_number(const char *p, size_t n)
{
	size_t	 digits = 0;

	for (size_t i = 0; i < n; i++) {
		digits = p[i] >= '0' && p[i] <= '9' ? digits + 1 : 0;
		if (digits > 18)
			return true;
	}
	return false;
}

static void
like_json_c(const char *p, size_t n, json_object *tree)
{
	json_tokener	*tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	json_object	*other;

	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	other = json_tokener_parse_ex(tok, p, (int)n);
	/* A number at the end might go on. */
	if (json_tokener_get_error(tok) == json_tokener_continue)
		other = json_tokener_parse_ex(tok, " ", 1);
	must(json_tokener_get_error(tok) == json_tokener_success);
	must(long_number(p, n) || json_object_equal(tree, other));
	json_object_put(other);
	json_tokener_free(tok);
}

static void
round_trip(struct arena *a, json_object *tree)
{
	const char	*text = json_text(tree);
	struct buf	*b = buf_new(a);
	json_object	*again = json_read(a, text, strlen(text), NULL);

	must(again != NULL && json_object_equal(tree, again));
	must(strcmp(json_text(again), text) == 0);
	jw_open(b, '[');
	jw_raw(b, text);
	jw_raw(b, text);
	jw_close(b, ']');
	again = json_read(a, buf_text(b), b->n, NULL);
	/* One level more may be one too many. */
	must(again != NULL || json_valid(text, strlen(text), NULL));
	if (again == NULL)
		return;
	must(json_object_array_length(again) == 2);
	must(json_object_equal(json_object_array_get_idx(again, 1), tree));
}

/* Any bytes at all can be written as a string. */
static void
written(struct arena *a, const char *p, size_t n)
{
	struct buf	*b = buf_new(a);
	json_object	*o;
	const char	*text = NULL;
	int64_t		 number = 0, back = 1;

	memcpy(&number, p, n < sizeof number ? n : sizeof number);
	jw_open(b, '{');
	jw_key(b, "k"), jw_string_n(b, p, n);
	jw_key(b, "n"), jw_int(b, number);
	jw_close(b, '}');
	o = json_read(a, buf_text(b), b->n, NULL);
	must(json_get_string(o, "k", &text) == JSON_GOT);
	must(json_get_int(o, "n", &back) == JSON_GOT && back == number);
	must(!utf8_valid(p, n) || memchr(p, 0, n) != NULL || (strlen(text) == n && memcmp(text, p, n) == 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena	*a = arena_open();
	char		*p = fuzz_copy((const char *)data, n);
	const char	*why = NULL;
	json_object	*tree = json_read(a, p, n, &why), *any = json_read_any(p, n);
	bool		 valid = json_valid(p, n, NULL);

	must((tree == NULL) == (why != NULL));
	must(tree == NULL || (valid && any != NULL));
	must(valid || any == NULL);
	must(!valid || (memchr(p, 0, n) == NULL && utf8_valid(p, n)));
	if (tree != NULL) {
		must(json_object_equal(tree, any));
		like_json_c(p, n, tree);
		round_trip(a, tree);
	}
	json_object_put(any);
	written(a, p, n);
	free(p);
	arena_close(&a);
	return 0;
}
