#include "tool/mcp_peer.h"

#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/pg.h"
#include "run/job.h"
#include "tool/mcp_era.h"

static int	 link_open(struct job *, struct mcp_link *, struct mcp_reply *);
static void	 known_read(struct job *, struct mcp_link *);
static int	 session_open(struct job *, struct mcp_link *, struct mcp_reply *);
static int	 era_open(struct job *, struct mcp_link *, struct mcp_reply *);
static void	 link_agreed(struct job *, struct mcp_link *);
static void	 session_store(struct job *, const struct mcp_link *);
static bool	 session_lost(const struct mcp_link *, const struct mcp_reply *);
static bool	 era_wrong(const struct mcp_link *, const struct mcp_reply *);
static void	 shrug(struct job *);

void
mcp_link_make(struct mcp_link *l, const struct conf_mcp *conf, const char *user, const char *token)
{
	*l = (struct mcp_link){ .user = user };
	l->peer.conf = conf;
	l->peer.token = strcmp(conf->auth, "caller") == 0 ? token : NULL;
}

int
mcp_link_ask(struct job *job, struct mcp_link *l, const struct mcp_ask *ask, struct mcp_reply *r)
{
	if (!l->open && link_open(job, l, r) < 0)
		return -1;
	mcp_send(job, &l->peer, ask, r);

	/* Refused, so not done: said once more when the reason can be mended. */
	if (session_lost(l, r)) {
		mcp_reply_close(r);
		if (session_open(job, l, r) < 0)
			return -1;
		mcp_send(job, &l->peer, ask, r);
	} else if (era_wrong(l, r)) {
		mcp_reply_close(r);
		if (era_open(job, l, r) < 0)
			return -1;
		mcp_send(job, &l->peer, ask, r);
	}
	return r->fate == MCP_ANSWERED ? 0 : -1;
}

void
mcp_link_close(struct job *job, struct mcp_link *l)
{
	if (l->user == NULL && l->peer.session != NULL && job->fail == FAIL_NONE)
		mcp_hang_up(job, &l->peer);
	l->open = false;
}

static int
link_open(struct job *job, struct mcp_link *l, struct mcp_reply *r)
{
	known_read(job, l);
	if (l->peer.modern || l->open) {
		l->open = true;
		return 0;
	}
	return l->peer.version != NULL ? session_open(job, l, r) : era_open(job, l, r);
}

/* yields.  What the database knows: the era, and this user's session. */
static void
known_read(struct job *job, struct mcp_link *l)
{
	struct mcp_peer	*p = &l->peer;
	struct pg_rows	 rows;
	const char	*era;

	if (pg_query(job, PG_TURN, &rows,
	    "SELECT era, version, session FROM parley.mcp_known($1::text, $2::text, $3::text, $4::text)",
	    l->user, p->conf->name, p->conf->url, mcp_era_key(job, p->conf)) < 0) {
		shrug(job);
		return;
	}
	era = rows.n > 0 ? pg_text(&rows, 0, "era") : NULL;
	if (era == NULL)
		return;
	p->modern = strcmp(era, MCP_MODERN) == 0;
	p->version = p->modern ? MCP_MODERN : arena_strdup(job->arena, era);
	if (!p->modern && pg_text(&rows, 0, "version") != NULL) {
		p->version = pg_text(&rows, 0, "version");
		p->session = pg_text(&rows, 0, "session");
		l->open = true;
	}
}

/* yields.  In the old eras; a server that does not know initialize any more may have become one of the new. */
static int
session_open(struct job *job, struct mcp_link *l, struct mcp_reply *r)
{
	if (mcp_initialize(job, &l->peer, r) == 0) {
		link_agreed(job, l);
		return 0;
	}
	if (r->fate != MCP_REFUSED)
		return -1;
	mcp_reply_close(r);
	return era_open(job, l, r);
}

/* yields.  Finds out which era the server lives in. */
static int
era_open(struct job *job, struct mcp_link *l, struct mcp_reply *r)
{
	if (mcp_era_find(job, &l->peer, r) < 0)
		return -1;
	link_agreed(job, l);
	return 0;
}

/* yields.  An old era's session serves the calls to come as well. */
static void
link_agreed(struct job *job, struct mcp_link *l)
{
	if (!l->peer.modern)
		session_store(job, l);
	l->open = true;
}

static void
session_store(struct job *job, const struct mcp_link *l)
{
	struct pg_rows	 rows;

	/* Without the row the next call opens another. */
	if (l->user != NULL && pg_query(job, PG_TURN, &rows,
	    "SELECT parley.mcp_session_set($1::text, $2::text, $3::text, $4::text, $5::text)",
	    l->user, l->peer.conf->name, l->peer.conf->url, l->peer.version, l->peer.session) < 0)
		shrug(job);
}

/*
 * 404 says so (Streamable HTTP, "Session Management"); some servers say 400, 401 or 503 instead, and some that want a
 * session only now answer like that to those who have none.
 */
static bool
session_lost(const struct mcp_link *l, const struct mcp_reply *r)
{
	return !l->peer.modern && r->fate == MCP_REFUSED && (r->status == 404 ||
	    ((r->status == 400 || r->status == 401 || r->status == 503) && r->of_session));
}

/* What a server of the other era says to us. */
static bool
era_wrong(const struct mcp_link *l, const struct mcp_reply *r)
{
	if (r->fate != MCP_REFUSED)
		return false;
	if (!l->peer.modern)
		return r->status == 400 && (r->code == MCP_ERROR_VERSION || r->code == MCP_ERROR_HEADERS ||
		    r->code == MCP_ERROR_PARAMS);
	return (r->status == 400 || r->status == 404 || r->status == 405 || r->status == 406 || r->status == 415) &&
	    r->code != MCP_ERROR_HEADERS && r->code != MCP_ERROR_CAPABILITY && r->code != MCP_ERROR_PARAMS;
}

/* The database is away: that is for the turn's own writes to tell. */
static void
shrug(struct job *job)
{
	if (job->stop == JOB_RUNS || job->masked)
		job_forgive(job);
}
