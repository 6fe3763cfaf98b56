/*
 * conf -- the configuration: parley.conf (INI), then the environment.
 *
 * One table in conf_table.c says key, type, range, default and whether SIGHUP changes it; the sample file and the man
 * page are checked against it by a test.  PARLEY_SECTION_KEY in the
 * environment overrides the file; a few names that everybody uses
 * (DATABASE_URL, OPENAI_API_KEY, …) are taken where neither says anything.
 * An empty value counts as none.  Secrets come from a *_file or from the environment,
 * never from argv or the file itself; what was read is taken out of the environment.
 * Relative paths in the file are meant from its own directory.
 *
 * A loaded configuration is never changed.  conf_load() makes a new one; jobs
 * that run keep the one they started with, so old ones are kept for the life of
 * the process (a SIGHUP is rare and a configuration small).
 */
#ifndef PARLEY_BASE_CONF_H
#define PARLEY_BASE_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct buf;

/* One place to ask a model: [model] itself, or a fallback [model.NAME]. */
struct conf_model {
	const char	*name;		/* "" for the first, else NAME */
	const char	*base_url;	/* without the trailing slash */
	const char	*key;		/* NULL: no Authorization header */
	const char	*model;
	const char	*temperature;	/* number as text, NULL: not sent */
	int64_t		 max_tokens;	/* 0: not sent */
	const char	*max_tokens_field;	/* "max_tokens" or "max_completion_tokens" */
	const char	*headers;	/* "Name: value" separated by '|' , NULL: none */
	const char	*extra_body;	/* JSON object whose members are added to each request, NULL: none */
	const char	*price_input;	/* for a million tokens, a number as text; NULL: not known */
	const char	*price_output;
};

/* A server of tools: [mcp.NAME]. */
struct conf_mcp {
	const char	*name;		/* [a-z0-9-], what its tools' names begin with */
	const char	*url;		/* https, or http to this machine, unless plain_http */
	bool		 plain_http;
	const char	*auth;		/* "none", "key", "caller" */
	const char	*key;		/* NULL: none */
	const char	*header;	/* where the key goes; NULL: Authorization: Bearer */
	const char	*tools;		/* list of those that are offered, by the server's names; NULL: all */
	bool		 trust;		/* what it says of its tools' risk is believed */
	const char	*read_only;	/* lists of tools, whatever the server says; or "all" */
	const char	*idempotent;
	const char	*confirm;
	const char	*no_confirm;
	int64_t		 timeout;	/* ms for one call, 30 s */
	int64_t		 refresh;	/* ms a list is used where the server does not say, 5 min */
	const char	*ca_file;	/* NULL: the system's */
};

struct conf {
	/* [worker] */
	int64_t		 worker_max_turns;	/* 4096 */
	int64_t		 worker_drain_timeout;	/* ms, 25 s */
	int64_t		 worker_stack_size;	/* bytes, 64 KiB */
	bool		 worker_confine;	/* true */

	/* [database] */
	const char	*database_url;		/* libpq connection string of the worker role */
	const char	*database_owner_url;	/* the owner's, for parleyctl migrate; falls back to url */
	const char	*database_ops_url;	/* for parleyctl stats, prune, user; falls back to owner_url */
	int64_t		 database_connections;	/* 8 */
	bool		 database_prepare;	/* true */
	int64_t		 database_wait;		/* ms for a connection, 5 s */
	int64_t		 database_connect_timeout;	/* ms, 2 s */
	int64_t		 database_statement_timeout;	/* ms our side waits for an answer, 15 s */

	/* [auth] */
	const char	*auth_algorithms;	/* list; default: what the keys given below allow */
	const char	*auth_secret;		/* HS*: from secret_file or the environment; NULL: none */
	const char	*auth_jwks_file;
	const char	*auth_jwks_url;
	int64_t		 auth_jwks_ttl;		/* ms, 10 min */
	int64_t		 auth_jwks_stale;	/* ms an old set is used while the issuer is down, 24 h */
	int64_t		 auth_jwks_min_interval;	/* ms between two fetches, 10 s */
	const char	*auth_issuer;		/* NULL: not checked */
	const char	*auth_audience;		/* NULL: not checked */
	const char	*auth_user_claim;	/* list, default "sub" */
	int64_t		 auth_leeway;		/* seconds, 30, at most 60 */

	/* [model], [model.NAME]: models[0] is the first asked */
	struct conf_model *models;
	int		 nmodels;
	int64_t		 model_connect_timeout;	/* ms, 10 s */
	int64_t		 model_first_byte_timeout;	/* ms, 30 s */
	int64_t		 model_idle_timeout;	/* ms, 30 s */
	int64_t		 model_call_timeout;	/* ms, 60 s */
	int64_t		 model_retries;		/* per model and step, 2 */
	int64_t		 model_retry_base;	/* ms, 500: first backoff */
	int64_t		 model_retry_max;	/* ms, 20 s: a longer Retry-After is not waited for */
	int64_t		 model_max_answer;	/* bytes, 1 MiB */
	const char	*model_ca_file;		/* NULL: the system's */
	bool		 model_parallel_tool_calls;	/* true: not sent; false: parallel_tool_calls:false */

	/* [agent] */
	const char	*agent_instructions;	/* text, read from instructions_file */
	int64_t		 agent_max_steps;	/* 10 */

	/* [turn] */
	int64_t		 turn_deadline;		/* ms, 100 s */
	int64_t		 turn_lease;		/* ms, 15 s */
	int64_t		 turn_max_attempts;	/* workers that a run may outlive, 3 */
	int64_t		 turn_history_messages;	/* 50, 0: no limit */
	int64_t		 turn_history_tokens;	/* 24000, 0: no limit */

	/* [tools] */
	bool		 tools_enabled;		/* true */
	bool		 tools_sql;		/* true: those of the database are among them */
	const char	*tools_read_only;	/* lists of these, NULL: what their comments say counts */
	const char	*tools_idempotent;
	const char	*tools_confirm;
	const char	*tools_no_confirm;
	int64_t		 tools_refresh;		/* ms a tool list is used, 30 s */
	int64_t		 tools_max_result;	/* bytes stored, 256 KiB */
	int64_t		 tools_max_to_model;	/* bytes shown to the model, 16 KiB */

	/* [mcp.NAME] */
	struct conf_mcp	*mcp;		/* by name */
	int		 nmcp;

	/* [approvals] */
	int64_t		 approvals_expire;	/* ms that a question waits for the user, 24 h */
	const char	*approvals_yes;		/* list of words, beside those built in */
	const char	*approvals_no;

	/* [client] */
	int64_t		 client_max_wait;	/* ms, 110 s */
	int64_t		 client_write_timeout;	/* ms, 30 s */
	int64_t		 client_read_timeout;	/* ms for the request to arrive, 30 s */
	int64_t		 client_keepalive;	/* ms between comments of a silent stream, 15 s */

	/* [limits] */
	int64_t		 limits_body;		/* bytes, 64 KiB */
	int64_t		 limits_message;	/* code points, 2000 */
	int64_t		 limits_title;		/* code points, 200 */
	int64_t		 limits_user_turns;	/* in flight, 256, 0: no limit */
	int64_t		 limits_queue;		/* waiting in a conversation, 128 */
	int64_t		 limits_user_turns_per_minute;	/* 0: no limit */
	int64_t		 limits_user_tokens_per_day;	/* 0: no limit */
	int64_t		 limits_turn_tokens_estimate;	/* of an answer, where model.max_tokens does not say; 1000 */

	/* [api] */
	bool		 api_create_unknown;	/* unknown_conversation = create */
	const char	*api_serve;		/* "all", "chat", "mcp" */

	/* [chatkit] */
	bool		 chatkit_enabled;	/* true */
	bool		 chatkit_cancel;	/* true: a client that goes away stops its turn */

	/* [mcp] */
	const char	*mcp_origins;		/* list of exact origins */
	const char	*mcp_hosts;		/* list of names, NULL: not checked */

	/* [metrics] */
	const char	*metrics_token;		/* from token_file or the environment; NULL: for this machine alone */

	/* [cors] */
	const char	*cors_origins;		/* list of exact origins */

	/* [log] */
	const char	*log_file;		/* NULL: stderr */
	const char	*log_level;		/* "info" */
	const char	*log_user_key;		/* from user_key_file or the environment */
};

/*
 * Reads path (NULL: the file that PARLEY_CONF names, else the installed one if it exists,
 * else none) and the environment.  On failure returns NULL and writes one line for each
 * mistake, with file, line and remedy, to why.
 */
const struct conf *conf_load(const char *path, struct buf *why);

/* Does the comma- or space-separated list hold the word?  Exact, case-sensitive. */
bool	 conf_list_has(const char *list, const char *word);
/* Takes the next word of a list; false at its end.  *at starts as the list. */
bool	 conf_list_next(const char **at, char *word, int size);

/*
 * Every key of the table, for parleyctl conf and the documentation test:
 * "section.key<TAB>type<TAB>default<TAB>environment<TAB>well-known name<TAB>reload|restart".
 */
void	 conf_keys(FILE *);

#endif
