#include "io/pgshare.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

struct share {
	struct permit	 of;
	int		 n;
};

/* Those that are in use, in no order: no more than there are connections. */
static struct share	*shares;
static int		 nshares, room;

static struct share *share_find(const struct permit *);
static struct share *share_new(const struct permit *);

void
pgshare_count(const struct permit *p, int n)
{
	struct share	*s;

	if (p->user[0] == '\0')
		return;
	if ((s = share_find(p)) == NULL)
		s = share_new(p);
	if ((s->n += n) == 0)
		*s = shares[--nshares];
}

bool
pgshare_is_used(const struct permit *p, int size)
{
	const struct share	*s = share_find(p);

	return s != NULL && s->n >= (size > 1 ? size / 2 : 1);
}

static struct share *
share_find(const struct permit *p)
{
	for (int i = 0; i < nshares; i++)
		if (shares[i].of.use == p->use && strcmp(shares[i].of.user, p->user) == 0)
			return &shares[i];
	return NULL;
}

static struct share *
share_new(const struct permit *p)
{
	if (nshares == room) {
		int		 more = room > 0 ? 2 * room : 8;
		struct share	*grown = realloc(shares, (size_t)more * sizeof *grown);

		if (grown == NULL)
			arena_exhausted();
		shares = grown;
		room = more;
	}
	shares[nshares] = (struct share){ .of = *p };
	return &shares[nshares++];
}
