#include "tool/mcp_result.h"

#include <stdarg.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "io/json.h"

#define URI_MAX		1024	/* of an address so much is shown */
#define BLOCKS_MAX	256

static void	 block_add(struct buf *, json_object *);
static void	 media_add(struct buf *, const char *what, const char *mime, const char *base64);
static void	 resource_add(struct buf *, json_object *);
static void	 link_add(struct buf *, json_object *);
static void	 word_add(struct buf *, const char *before, const char *, const char *after);
static void	 text_make(struct arena *, const char *, size_t max, struct mcp_result *);
static void	 error_make(struct arena *, const char *, size_t, struct mcp_result *);

void
mcp_result_make(struct arena *a, json_object *result, size_t max, struct mcp_result *out)
{
	struct buf	 text = { 0 };
	json_object	*content, *structured;
	const char	*type = json_text_or_null(result, "resultType");
	size_t		 n = json_get_array(result, "content", &content) == JSON_GOT ? json_object_array_length(content) : 0;

	out->is_error = false;
	(void)json_get_bool(result, "isError", &out->is_error);
	/* 2026-07-28: a server that wants to ask the user first; we have declared no way to do so. */
	if (type != NULL && strcmp(type, "complete") != 0) {
		mcp_result_error(a, out, "The server asked for more input, which it cannot be given. Nothing is known to have been done.");
		return;
	}
	for (size_t i = 0; i < n && i < BLOCKS_MAX && text.n <= max; i++) {
		if (text.n > 0)
			buf_char(&text, '\n');
		block_add(&text, json_object_array_get_idx(content, i));
	}
	if (text.n == 0 && json_object_object_get_ex(result, "structuredContent", &structured) && structured != NULL)
		buf_str(&text, json_text(structured));
	if (out->is_error)
		error_make(a, text.n > 0 ? text.p : "The tool failed and did not say why.", max, out);
	else
		text_make(a, buf_text(&text), max, out);
	buf_free(&text);
}

static void
block_add(struct buf *b, json_object *block)
{
	const char	*type = json_text_or_null(block, "type");
	const char	*mime = json_text_or_null(block, "mimeType"), *text = json_text_or_null(block, "text");
	json_object	*resource;

	if (type == NULL)
		buf_str(b, "[something of no known kind]");
	else if (strcmp(type, "text") == 0)
		buf_str(b, text != NULL ? text : "");
	else if (strcmp(type, "image") == 0 || strcmp(type, "audio") == 0)
		media_add(b, type, mime, json_text_or_null(block, "data"));
	else if (strcmp(type, "resource") == 0 && json_get_object(block, "resource", &resource) == JSON_GOT)
		resource_add(b, resource);
	else if (strcmp(type, "resource_link") == 0)
		link_add(b, block);
	else
		word_add(b, "[content of the kind ", type, ", which is not shown]");
}

/* The model reads text: of anything else it learns that it is there. */
static void
media_add(struct buf *b, const char *what, const char *mime, const char *base64)
{
	size_t	 n = base64 != NULL ? strlen(base64) : 0;

	while (n > 0 && base64[n - 1] == '=')
		n--;
	word_add(b, "[", what, "");
	if (mime != NULL)
		word_add(b, ", ", mime, "");
	buf_printf(b, ", %zu bytes, not shown]", n / 4 * 3 + n % 4 * 3 / 4);
}

static void
resource_add(struct buf *b, json_object *r)
{
	const char	*uri = json_text_or_null(r, "uri"), *text = json_text_or_null(r, "text");

	word_add(b, "[resource ", uri != NULL ? uri : "without an address", "]\n");
	if (text != NULL)
		buf_str(b, text);
	else
		media_add(b, "its content", json_text_or_null(r, "mimeType"), json_text_or_null(r, "blob"));
}

static void
link_add(struct buf *b, json_object *block)
{
	const char	*uri = json_text_or_null(block, "uri"), *name = json_text_or_null(block, "title");
	const char	*about = json_text_or_null(block, "description"), *mime = json_text_or_null(block, "mimeType");

	if (name == NULL)
		name = json_text_or_null(block, "name");
	word_add(b, "[link to ", uri != NULL ? uri : "nowhere", "");
	if (name != NULL)
		word_add(b, ": ", name, "");
	if (mime != NULL)
		word_add(b, " (", mime, ")");
	if (about != NULL)
		word_add(b, ": ", about, "");
	buf_char(b, ']');
}

static void
word_add(struct buf *b, const char *before, const char *word, const char *after)
{
	size_t	 n = strlen(word);

	buf_str(b, before);
	buf_add(b, word, n <= URI_MAX ? n : utf8_whole(word, URI_MAX));
	buf_str(b, after);
}

static void
text_make(struct arena *a, const char *text, size_t max, struct mcp_result *out)
{
	struct buf	*b = buf_new(a), shown = { 0 };
	struct arena	*mine = arena_open();
	size_t		 n = strlen(text), skip = strspn(text, " \t\r\n");

	/* JSON stays what it is, without being wrapped in a string. */
	if (n <= max && (text[skip] == '{' || text[skip] == '[') && json_read(mine, text, n, NULL) != NULL) {
		jw_raw(b, text);
	} else if (n <= max) {
		jw_string(b, n > 0 ? text : "The tool returned nothing.");
	} else {
		buf_add(&shown, text, utf8_whole(text, max));
		buf_printf(&shown, " … [cut: this is the first part of %zu bytes]", n);
		jw_string(b, shown.p);
	}
	buf_free(&shown);
	arena_close(&mine);
	out->json = b->p;
}

static void
error_make(struct arena *a, const char *text, size_t max, struct mcp_result *out)
{
	struct buf	*b = buf_new(a);
	size_t		 n = strlen(text);

	jw_open(b, '{');
	jw_key(b, "error");
	jw_string_n(b, text, n <= max ? n : utf8_whole(text, max));
	jw_close(b, '}');
	out->json = b->p;
	out->is_error = true;
}

void
mcp_result_error(struct arena *a, struct mcp_result *out, const char *fmt, ...)
{
	va_list		 ap;
	const char	*text;

	va_start(ap, fmt);
	text = arena_vprintf(a, fmt, ap);
	va_end(ap);
	error_make(a, text, strlen(text), out);
}
