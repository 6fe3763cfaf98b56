#include "model/calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/uuid.h"
#include "io/json.h"
#include "model/mend.h"
#include "model/message.h"

/* Longer ones are no fragment of anything but their own call, and need not be looked at again and again. */
#define WHOLE_MAX	65536
#define ID_MAX	512	/* longer call ids are replaced: they come back with every request */

struct fragment {
	int64_t		 index;		/* -1: absent */
	const char	*id;		/* NULL: absent, null or empty */
	const char	*name;		/* the same */
	json_object	*arguments;
	json_object	*extra;
	int		 place;		/* in its delta */
	int		 places;	/* fragments of the delta */
};

static void	 fragment_read(json_object *, struct fragment *);
static struct calls_one *place(struct calls *, const struct fragment *);
static struct calls_one *place_unnumbered(struct calls *, const struct fragment *);
static struct calls_one *by_id(const struct calls *, const char *);
static bool	 whole(const struct calls_one *);
static struct calls_one *more(struct calls *, int64_t index);
static void	 name_add(struct calls *, struct calls_one *, const char *);
static void	 arguments_add(struct calls *, struct calls_one *, json_object *, bool mended);
static void	 extra_put(struct calls *, struct calls_one *, const char *);
static const char *id_choose(const struct call *, int, const struct calls_one *, struct arena *);

int
calls_take(struct calls *c, json_object *list, bool mended)
{
	/* One call that is not in an array is meant as an array of one. */
	bool	 array = json_object_is_type(list, json_type_array);
	int	 n = array ? (int)json_object_array_length(list) : 1;

	for (int i = 0; i < n; i++) {
		json_object	*o = array ? json_object_array_get_idx(list, (size_t)i) : list;
		struct fragment	 f = { .index = -1, .place = i, .places = n };
		struct calls_one *one;

		if (!json_object_is_type(o, json_type_object))
			continue;
		fragment_read(o, &f);
		if ((one = place(c, &f)) == NULL)
			return -1;
		if (f.id != NULL && one->id.n == 0) {
			buf_str(&one->id, f.id);
			c->beside += one->id.n;
		}
		if (f.name != NULL)
			name_add(c, one, f.name);
		arguments_add(c, one, f.arguments, mended);
		if (f.extra != NULL)
			extra_put(c, one, json_text(f.extra));
	}
	return 0;
}

void
calls_free(struct calls *c)
{
	for (int i = 0; i < c->n; i++) {
		buf_free(&c->v[i].id);
		buf_free(&c->v[i].name);
		text_free(&c->v[i].arguments);
		free(c->v[i].extra);
	}
	free(c->v);
	memset(c, 0, sizeof *c);
}

struct call *
calls_done(struct calls *c, struct arena *a, bool cut, int *n)
{
	struct call	*done = arena_array(a, struct call, c->n + 1);

	*n = 0;
	for (int i = 0; i < c->n; i++) {
		struct calls_one	*one = &c->v[i];
		struct call		*to = &done[*n];
		const char		*text;
		char			 id[UUID_TEXT];
		enum mend_arguments	 how;

		/* Metadata of a call that never came. */
		if (one->name.n == 0)
			continue;
		text_end(&one->arguments);
		text = buf_text(&one->arguments.b);
		uuid_new(id);
		to->id = arena_strdup(a, id);
		to->call_id = id_choose(done, *n, one, a);
		to->tool_name = arena_strdup(a, buf_text(&one->name));
		how = mend_arguments(a, text, strlen(text), &to->parameters);
		if (how == MEND_GOOD && cut && *text == '\0' && i == c->n - 1)
			how = MEND_BROKEN;
		if (how != MEND_GOOD)
			to->broken = arena_strdup(a, text);
		to->repaired = how == MEND_REPAIRED;
		(*n)++;
	}
	return done;
}

void
calls_raw(const struct calls *c, const struct call *done, struct buf *b)
{
	jw_key(b, "tool_calls");
	jw_open(b, '[');
	for (int i = 0; i < c->n; i++) {
		const struct calls_one	*one = &c->v[i];

		if (one->name.n == 0)
			continue;
		jw_open(b, '{');
		jw_key(b, "id");
		jw_string(b, (done++)->call_id);
		jw_key(b, "type");
		jw_string(b, "function");
		jw_key(b, "function");
		jw_open(b, '{');
		jw_key(b, "name");
		jw_string(b, buf_text(&one->name));
		jw_key(b, "arguments");
		jw_string(b, buf_text(&one->arguments.b));
		jw_close(b, '}');
		if (one->extra != NULL) {
			jw_key(b, "extra_content");
			jw_raw(b, one->extra);
		}
		jw_close(b, '}');
	}
	jw_close(b, ']');
}

static void
fragment_read(json_object *o, struct fragment *f)
{
	json_object	*function = NULL;

	if (json_get_int(o, "index", &f->index) != JSON_GOT || f->index < 0)
		f->index = -1;
	f->id = json_text_or_null(o, "id");
	if (f->id != NULL && *f->id == '\0')
		f->id = NULL;
	(void)json_get_object(o, "function", &function);
	f->name = json_text_or_null(function, "name");
	if (f->name != NULL && *f->name == '\0')
		f->name = NULL;
	if (function != NULL)
		(void)json_object_object_get_ex(function, "arguments", &f->arguments);
	(void)json_get_object(o, "extra_content", &f->extra);
}

/* The call a fragment belongs to, made where it is new. */
static struct calls_one *
place(struct calls *c, const struct fragment *f)
{
	if (f->index < 0)
		return place_unnumbered(c, f);
	/* From the end: an index that is used again means its latest call. */
	for (int i = c->n - 1; i >= 0; i--) {
		struct calls_one	*one = &c->v[i];

		if (one->index != f->index)
			continue;
		/*
		 * Some servers number every parallel call 0.  A fragment with a name and an id of its
		 * own, for a call that has all it needs, is another call.
		 */
		if (f->id != NULL && f->name != NULL && one->id.n > 0 &&
		    strcmp(buf_text(&one->id), f->id) != 0 && one->name.n > 0 && whole(one))
			return more(c, f->index);
		return one;
	}
	return more(c, f->index);
}

static struct calls_one *
place_unnumbered(struct calls *c, const struct fragment *f)
{
	struct calls_one	*one;

	if (f->id != NULL) {
		one = by_id(c, f->id);
		/* An id used for two whole calls of one delta; later it would be a repetition. */
		if (one != NULL && f->places > 1 && one->arguments.b.n > 0 && whole(one) &&
		    one != &c->v[f->place < c->n ? f->place : 0])
			one = NULL;
		return one != NULL ? one : more(c, -1);
	}
	one = f->places > 1 ? (f->place < c->n ? &c->v[f->place] : NULL) :
	    c->n > 0 ? &c->v[c->n - 1] : NULL;
	/* A name for a call that is whole is the next call's. */
	if (one == NULL || (f->name != NULL && one->name.n > 0 && whole(one)))
		return more(c, -1);
	return one;
}

static struct calls_one *
by_id(const struct calls *c, const char *id)
{
	for (int i = c->n - 1; i >= 0; i--)
		if (strcmp(buf_text(&c->v[i].id), id) == 0)
			return &c->v[i];
	return NULL;
}

/* Has it arguments that could stand as they are? */
static bool
whole(const struct calls_one *one)
{
	return one->arguments.b.n == 0 || (one->arguments.b.n <= WHOLE_MAX &&
	    json_valid(one->arguments.b.p, one->arguments.b.n, NULL));
}

static struct calls_one *
more(struct calls *c, int64_t index)
{
	if (c->n == CALLS_MAX)
		return NULL;
	if (c->n == c->cap) {
		c->cap = c->cap > 0 ? c->cap * 2 : 2;
		c->v = realloc(c->v, sizeof *c->v * (size_t)c->cap);
		if (c->v == NULL)
			abort();
	}
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): as long as there is no v, n is cap */
	memset(&c->v[c->n], 0, sizeof *c->v);
	c->v[c->n].index = index;
	return &c->v[c->n++];
}

/* A name comes whole, in pieces, again and again, or growing. */
static void
name_add(struct calls *c, struct calls_one *one, const char *name)
{
	const char	*had = buf_text(&one->name);

	if (strcmp(had, name) == 0)
		return;
	c->size += strlen(name);
	if (*had != '\0' && strncmp(had, name, strlen(had)) == 0)
		buf_clear(&one->name);
	buf_str(&one->name, name);
}

static void
arguments_add(struct calls *c, struct calls_one *one, json_object *o, bool mended)
{
	const char	*s;
	size_t		 n;

	if (o == NULL)
		return;
	if (json_object_is_type(o, json_type_string)) {
		s = json_object_get_string(o);
		n = (size_t)json_object_get_string_len(o);
	} else {
		/* An object instead of a string is never a fragment; the last one counts. */
		s = json_text(o);
		n = strlen(s);
		text_free(&one->arguments);
	}
	/* The same arguments whole again at the end. */
	if (n > 1 && n == one->arguments.b.n && memcmp(s, one->arguments.b.p, n) == 0 &&
	    json_valid(s, n, NULL))
		return;
	c->size += n;
	if (mended)
		text_add_mended(&one->arguments, s, n);
	else
		text_add(&one->arguments, s, n);
}

/* As text: a tree would be many times as large. */
static void
extra_put(struct calls *c, struct calls_one *one, const char *text)
{
	free(one->extra);
	c->beside += strlen(text);
	if ((one->extra = strdup(text)) == NULL)
		abort();
}

/* The server's id where it can serve as one, else ours. */
static const char *
id_choose(const struct call *done, int n, const struct calls_one *one, struct arena *a)
{
	const char	*id = buf_text(&one->id);
	bool		 good = one->id.n > 0 && one->id.n <= ID_MAX;
	unsigned char	 r[12];
	struct buf	 b = { 0 };

	for (int i = 0; i < n && good; i++)
		good = strcmp(done[i].call_id, id) != 0;
	if (good)
		return arena_strdup(a, id);
	random_bytes(r, sizeof r);
	buf_str(&b, "call_");
	for (size_t i = 0; i < sizeof r; i++)
		buf_printf(&b, "%02x", r[i]);
	id = arena_strdup(a, b.p);
	buf_free(&b);
	return id;
}
