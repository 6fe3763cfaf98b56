#include "config.h"

#include "tool/mcp_era.h"

#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "io/json.h"
#include "io/pg.h"
#include "run/job.h"

#define PROBE_MS	5000
#define ANSWER_MAX	((size_t)256 * 1024)	/* a server may tell much about itself */
#define KEPT_MS		(24 * 3600 * INT64_C(1000))

enum verdict { ERA_NEW, ERA_OLD, ERA_EITHER, ERA_NONE };

static void	 modern_set(struct mcp_peer *);
static enum verdict probe(struct job *, struct mcp_peer *, struct mcp_reply *);
static enum verdict verdict_of(const struct mcp_reply *);
static enum verdict verdict_of_list(json_object *, const char *, enum verdict);
static void	 era_store(struct job *, const struct mcp_peer *);
static const char *version_known(const char *);
static int64_t	 patience(const struct mcp_peer *);

int
mcp_era_find(struct job *job, struct mcp_peer *p, struct mcp_reply *r)
{
	switch (probe(job, p, r)) {
	case ERA_NEW:
		mcp_reply_close(r);
		break;
	case ERA_OLD:
		mcp_reply_close(r);
		if (mcp_initialize(job, p, r) < 0)
			return -1;
		break;
	case ERA_EITHER:
		mcp_reply_close(r);
		if (mcp_initialize(job, p, r) == 0)
			break;
		if (r->fate != MCP_REFUSED)
			return -1;
		mcp_reply_close(r);
		modern_set(p);
		break;
	default:
		return -1;
	}
	era_store(job, p);
	return 0;
}

static void
modern_set(struct mcp_peer *p)
{
	p->modern = true;
	p->version = MCP_MODERN;
	p->session = NULL;
}

static enum verdict
probe(struct job *job, struct mcp_peer *p, struct mcp_reply *r)
{
	modern_set(p);
	mcp_send(job, p, &(struct mcp_ask){
		.method = "server/discover",
		.params = "{}",
		.timeout_ms = patience(p),
		.max = ANSWER_MAX,
	}, r);
	return verdict_of(r);
}

static enum verdict
verdict_of(const struct mcp_reply *r)
{
	switch (r->fate) {
	case MCP_ANSWERED:
	case MCP_REFUSED:
		if (r->result != NULL)
			return verdict_of_list(r->result, "supportedVersions", ERA_EITHER);
		if (r->code == MCP_ERROR_VERSION)
			return verdict_of_list(r->data, "supported", ERA_NEW);
		if (r->code == MCP_ERROR_HEADERS || r->code == MCP_ERROR_CAPABILITY)
			return ERA_NEW;
		/* Who does not know us, or has no time, would not say anything else to initialize. */
		return r->status == 401 || r->status == 403 || r->status == 429 || r->status == 503 ||
		    (r->status >= 300 && r->status < 400) ? ERA_NONE : ERA_OLD;
	case MCP_LATE:
		/* Some servers of old open a stream for whatever they do not know, and are silent. */
		return ERA_OLD;
	case MCP_LOST:
		return r->status >= 500 && r->status != 502 && r->status != 504 ? ERA_OLD :
		    r->status == 200 || r->status == 202 ? ERA_OLD : ERA_NONE;
	default:
		return ERA_NONE;
	}
}

/*
 * The list of revisions that a server names.  It must be there; who has answered server/discover with something else may
 * answer whatever it does not know.
 */
static enum verdict
verdict_of_list(json_object *o, const char *key, enum verdict without)
{
	json_object	*list;
	enum verdict	 v = ERA_NONE;

	if (json_get_array(o, key, &list) != JSON_GOT)
		return without;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object	*item = json_object_array_get_idx(list, i);
		const char	*s = json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";

		if (strcmp(s, MCP_MODERN) == 0)
			return ERA_NEW;
		if (version_known(s) != NULL)
			v = ERA_OLD;
	}
	return v;
}

int
mcp_initialize(struct job *job, struct mcp_peer *p, struct mcp_reply *r)
{
	static const struct mcp_ask	 hello = { .method = "notifications/initialized", .params = "{}", .notify = true,
					     .timeout_ms = PROBE_MS, .max = ANSWER_MAX };
	struct mcp_reply		 noted;
	const char			*version;

	p->modern = false;
	p->version = p->session = NULL;
	mcp_send(job, p, &(struct mcp_ask){
		.method = "initialize",
		.params = "{\"protocolVersion\":\"" MCP_LEGACY "\",\"capabilities\":{},"
		    "\"clientInfo\":{\"name\":\"parley\",\"version\":\"" PACKAGE_VERSION "\"}}",
		.timeout_ms = patience(p),
		.max = ANSWER_MAX,
	}, r);
	if (r->fate == MCP_ANSWERED && r->result == NULL) {
		r->fate = MCP_REFUSED;
		r->detail = "it refuses initialize";
	}
	if (r->fate != MCP_ANSWERED)
		return -1;

	/* It may offer another revision than ours; one that we do not speak is the end of it. */
	version = version_known(json_text_or_null(r->result, "protocolVersion"));
	if (version == NULL) {
		r->fate = MCP_LOST;
		r->detail = "it speaks no revision that is known here";
		return -1;
	}
	p->version = version;
	p->session = arena_strdup(job->arena, r->session);
	mcp_reply_close(r);
	mcp_send(job, p, &hello, &noted);
	/* Who has lost the job by this has nothing more to ask; all others will find out. */
	if (noted.fate == MCP_STOPPED) {
		*r = noted;
		return -1;
	}
	mcp_reply_close(&noted);
	return 0;
}

/* The constant of a revision of the old eras; NULL: none that is known. */
static const char *
version_known(const char *s)
{
	static const char *const	 known[] = { "2025-03-26", "2025-06-18", MCP_LEGACY };

	for (size_t i = 0; s != NULL && i < sizeof known / sizeof *known; i++)
		if (strcmp(s, known[i]) == 0)
			return known[i];
	return NULL;
}

static int64_t
patience(const struct mcp_peer *p)
{
	return p->conf->timeout < PROBE_MS ? p->conf->timeout : PROBE_MS;
}

const char *
mcp_era_key(struct job *job, const struct conf_mcp *conf)
{
	return arena_printf(job->arena, "mcp:era:%s|%s", conf->name, conf->url);
}

static void
era_store(struct job *job, const struct mcp_peer *p)
{
	struct pg_rows	 rows;

	if (pg_query(job, PG_TURN, &rows, "SELECT parley.fact_set($1, $2, $3::bigint)",
	    mcp_era_key(job, p->conf), p->version, pg_num(job, KEPT_MS)) < 0 && job->stop == JOB_RUNS)
		job_forgive(job);
}
