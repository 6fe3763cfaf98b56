#include "api/key.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/linkhash.h>

#include "api/request.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/sha256.h"
#include "io/fcgi.h"
#include "io/json.h"

#define HEADER	"Idempotency-Key"
#define KEY_MAX	255

static bool
key_is_sane(const char *key)
{
	size_t	 n = strlen(key);

	for (size_t i = 0; i < n; i++)
		if (key[i] < '!' || key[i] > '~')
			return false;
	return n >= 1 && n <= KEY_MAX;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void	 canonical(struct request *, struct buf *, json_object *, const char *without);

/* As deep as a body may be (JSON_DEPTH_MAX), and no deeper. */
static void
canonical_object(struct request *r, struct buf *b, json_object *o, const char *without)
{
	const char	**names = arena_array(r->job.arena, const char *, json_object_object_length(o));
	int		  n = 0;

	json_object_object_foreach(o, name, value) {
		(void)value;
		if (without == NULL || strcmp(name, without) != 0)
			names[n++] = name;
	}
	qsort(names, (size_t)n, sizeof *names, by_name);
	jw_open(b, '{');
	for (int i = 0; i < n; i++) {
		jw_key(b, names[i]);
		canonical(r, b, json_object_object_get(o, names[i]), NULL);
	}
	jw_close(b, '}');
}

static void
canonical(struct request *r, struct buf *b, json_object *o, const char *without)
{
	if (json_object_is_type(o, json_type_object))
		canonical_object(r, b, o, without);
	else if (json_object_is_type(o, json_type_array)) {
		jw_open(b, '[');
		for (size_t i = 0; i < json_object_array_length(o); i++)
			canonical(r, b, json_object_array_get_idx(o, i), NULL);
		jw_close(b, ']');
	} else
		jw_raw(b, o != NULL ? json_text(o) : NULL);
}

int
key_read(struct request *r, const char *kind, const char **key, const char **hash)
{
	const char	*text = fcgi_param(r->fcgi, "HTTP_IDEMPOTENCY_KEY");
	struct buf	 b = { 0 };
	char		*hex;
	bool		 done;

	if (text == NULL)
		return 0;
	if (!key_is_sane(text))
		return job_fail_field(&r->job, HEADER, HEADER " must have 1 to %d visible ASCII characters.", KEY_MAX);
	*key = arena_strdup(r->job.arena, text);

	/* The blank keeps the kind apart from the body, and the writer from seeing a value before it. */
	buf_printf(&b, "%s ", kind);
	if (r->body != NULL)
		canonical(r, &b, r->body, "stream");
	else
		buf_str(&b, "{}");
	*hash = hex = arena_alloc(r->job.arena, SHA256_TEXT);
	done = sha256_hex(b.p, b.n, hex);
	buf_free(&b);
	return done ? 0 : job_fail(&r->job, FAIL_INTERNAL_ERROR, NULL);
}
