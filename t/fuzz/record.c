/* The records of FastCGI on their way to libfcgi: the same verdict however they are cut, and never more than is allowed. */
#include "fuzz.h"

#include "io/record.h"

static bool
same(const struct record *a, const struct record *b)
{
	return a->nhead == b->nhead && a->content == b->content && a->padding == b->padding && a->begun == b->begun &&
	    a->ended == b->ended && a->beyond == b->beyond && a->id == b->id && a->more == b->more && a->named == b->named &&
	    a->skip == b->skip && a->bytes == b->bytes && a->pairs == b->pairs &&
	    record_is_over(a) == record_is_over(b) && record_rest(a) == record_rest(b);
}

/* In pieces of so many bytes; 0: as record_rest() says, which is how what is left of a request is read. */
static bool
pass(struct record *r, const uint8_t *p, size_t n, size_t piece)
{
	memset(r, 0, sizeof *r);
	while (n > 0) {
		size_t	 step = piece > 0 ? piece : record_rest(r);
		char	*copy;
		bool	 good;

		must(step > 0);
		if (step > n)
			step = n;
		copy = fuzz_copy((const char *)p, step);
		good = record_pass(r, copy, step);
		free(copy);
		if (!good)
			return false;
		must(r->pairs <= RECORD_PARAMS_MAX && r->bytes <= RECORD_PARAMS_BYTES);
		p += step;
		n -= step;
	}
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input	 in = { (const char *)data, n };
	struct record	 whole, cut;
	bool		 good = pass(&whole, data, n, n);

	must(pass(&cut, data, n, 1) == good && (!good || same(&whole, &cut)));
	must(pass(&cut, data, n, 0) == good && (!good || same(&whole, &cut)));
	must(pass(&cut, data, n, 1 + fuzz_pick(&in, n)) == good && (!good || same(&whole, &cut)));
	must(!good || !record_is_over(&whole) || whole.ended);
	return 0;
}
