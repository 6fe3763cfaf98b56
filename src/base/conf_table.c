#include "base/conf_table.h"

#include <string.h>

#include "base/conf.h"

#define AT(field)	.at = offsetof(struct conf, field)
#define AT_MODEL(field)	.model = true, .at = offsetof(struct conf_model, field)
#define AT_MCP(field)	.mcp = true, .at = offsetof(struct conf_mcp, field)

#define SECOND		INT64_C(1000)
#define MINUTE		(60 * SECOND)
#define HOUR		(60 * MINUTE)
#define DAY		(24 * HOUR)
#define KIB		INT64_C(1024)
#define MIB		(1024 * KIB)

#define ALGORITHMS	"HS256 HS384 HS512 RS256 RS384 RS512 ES256 ES384 ES512 EdDSA"

/* A *_file stands before the value it gives, so that the environment's own value wins. */
const struct conf_key	 conf_table[] = {
	{ "worker", "max_turns", CONF_INT, AT(worker_max_turns), "4096", 1, 30000 },
	{ "worker", "drain_timeout", CONF_MS, AT(worker_drain_timeout), "25 s", 0, HOUR },
	/* Two mappings a fiber: more turns than 30000 would meet vm.max_map_count. */
	{ "worker", "stack_size", CONF_SIZE, AT(worker_stack_size), "64 KiB", 32 * KIB, 8 * MIB, .restart = true },
	{ "worker", "confine", CONF_BOOL, AT(worker_confine), "yes", .restart = true },

	{ "database", "url", CONF_PRIVATE, AT(database_url), .env = "DATABASE_URL", .restart = true },
	{ "database", "owner_url", CONF_PRIVATE, AT(database_owner_url), .restart = true },
	{ "database", "ops_url", CONF_PRIVATE, AT(database_ops_url), .restart = true },
	{ "database", "connections", CONF_INT, AT(database_connections), "8", 1, 1000, .restart = true },
	{ "database", "prepare", CONF_BOOL, AT(database_prepare), "yes", .restart = true },
	{ "database", "wait", CONF_MS, AT(database_wait), "5 s", 10, 10 * MINUTE },
	{ "database", "connect_timeout", CONF_MS, AT(database_connect_timeout), "2 s", 10, 10 * MINUTE },
	{ "database", "statement_timeout", CONF_MS, AT(database_statement_timeout), "15 s", 100, HOUR },

	{ "auth", "algorithms", CONF_WORDS, AT(auth_algorithms), .words = ALGORITHMS },
	{ "auth", "secret_file", CONF_SECRET_FILE, AT(auth_secret) },
	{ "auth", "secret", CONF_SECRET, AT(auth_secret), .env = "BETTER_AUTH_SECRET" },
	{ "auth", "jwks_file", CONF_PATH, AT(auth_jwks_file) },
	{ "auth", "jwks_url", CONF_URL, AT(auth_jwks_url) },
	{ "auth", "jwks_ttl", CONF_MS, AT(auth_jwks_ttl), "10 min", SECOND, 7 * DAY },
	{ "auth", "jwks_stale", CONF_MS, AT(auth_jwks_stale), "24 h", 0, 30 * DAY },
	{ "auth", "jwks_min_interval", CONF_MS, AT(auth_jwks_min_interval), "10 s", 10, HOUR },
	{ "auth", "issuer", CONF_TEXT, AT(auth_issuer) },
	{ "auth", "audience", CONF_TEXT, AT(auth_audience) },
	{ "auth", "user_claim", CONF_LIST, AT(auth_user_claim), "sub" },
	/* More would make a token that has expired good for too long. */
	{ "auth", "leeway", CONF_SECONDS, AT(auth_leeway), "30 s", 0, 60 },

	{ "model", "base_url", CONF_URL, AT_MODEL(base_url), "https://api.openai.com/v1", .env = "OPENAI_BASE_URL" },
	{ "model", "key_file", CONF_SECRET_FILE, AT_MODEL(key) },
	{ "model", "key", CONF_SECRET, AT_MODEL(key), .env = "OPENAI_API_KEY" },
	{ "model", "model", CONF_TEXT, AT_MODEL(model), "gpt-4o-mini", .env = "AGENT_MODEL" },
	{ "model", "temperature", CONF_NUMBER, AT_MODEL(temperature), .min = 0, .max = 2 },
	{ "model", "max_tokens", CONF_INT, AT_MODEL(max_tokens), "0", 0, 10000000 },
	{ "model", "max_tokens_field", CONF_WORD, AT_MODEL(max_tokens_field), "max_tokens",
	    .words = "max_tokens max_completion_tokens" },
	{ "model", "headers", CONF_HEADERS, AT_MODEL(headers) },
	{ "model", "extra_body", CONF_JSON, AT_MODEL(extra_body) },
	{ "model", "price_input", CONF_NUMBER, AT_MODEL(price_input), .min = 0, .max = 1000000 },
	{ "model", "price_output", CONF_NUMBER, AT_MODEL(price_output), .min = 0, .max = 1000000 },
	{ "model", "fallbacks", CONF_LIST, .at = CONF_NOWHERE },
	{ "model", "connect_timeout", CONF_MS, AT(model_connect_timeout), "10 s", 10, 10 * MINUTE },
	{ "model", "first_byte_timeout", CONF_MS, AT(model_first_byte_timeout), "30 s", 10, HOUR },
	{ "model", "idle_timeout", CONF_MS, AT(model_idle_timeout), "30 s", 10, HOUR },
	{ "model", "call_timeout", CONF_MS, AT(model_call_timeout), "60 s", 10, HOUR },
	{ "model", "retries", CONF_INT, AT(model_retries), "2", 0, 20 },
	{ "model", "retry_base", CONF_MS, AT(model_retry_base), "500 ms", 1, MINUTE },
	{ "model", "retry_max", CONF_MS, AT(model_retry_max), "20 s", 1, 10 * MINUTE },
	{ "model", "max_answer", CONF_SIZE, AT(model_max_answer), "1 MiB", KIB, 64 * MIB },
	{ "model", "ca_file", CONF_PATH, AT(model_ca_file), .restart = true },
	{ "model", "parallel_tool_calls", CONF_BOOL, AT(model_parallel_tool_calls), "yes" },

	{ "agent", "instructions_file", CONF_TEXT_FILE, AT(agent_instructions) },
	{ "agent", "max_steps", CONF_INT, AT(agent_max_steps), "10", 1, 100 },

	{ "turn", "deadline", CONF_MS, AT(turn_deadline), "100 s", 100, DAY },
	/* The pulse renews once a second: a shorter lease would end by a hiccup. */
	{ "turn", "lease", CONF_MS, AT(turn_lease), "15 s", 3 * SECOND, 10 * MINUTE },
	{ "turn", "max_attempts", CONF_INT, AT(turn_max_attempts), "3", 1, 100 },
	{ "turn", "history_messages", CONF_INT, AT(turn_history_messages), "50", 0, 10000 },
	{ "turn", "history_tokens", CONF_INT, AT(turn_history_tokens), "24000", 0, 10000000 },

	{ "tools", "enabled", CONF_BOOL, AT(tools_enabled), "yes" },
	{ "tools", "sql", CONF_BOOL, AT(tools_sql), "yes" },
	{ "tools", "read_only", CONF_LIST, AT(tools_read_only) },
	{ "tools", "idempotent", CONF_LIST, AT(tools_idempotent) },
	{ "tools", "confirm", CONF_LIST, AT(tools_confirm) },
	{ "tools", "no_confirm", CONF_LIST, AT(tools_no_confirm) },
	{ "tools", "refresh", CONF_MS, AT(tools_refresh), "30 s", 0, DAY },
	{ "tools", "max_result", CONF_SIZE, AT(tools_max_result), "256 KiB", KIB, 16 * MIB },
	{ "tools", "max_to_model", CONF_SIZE, AT(tools_max_to_model), "16 KiB", 256, 16 * MIB },

	{ "mcp", "servers", CONF_LIST, .at = CONF_NOWHERE },
	{ "mcp", "url", CONF_URL, AT_MCP(url) },
	{ "mcp", "plain_http", CONF_BOOL, AT_MCP(plain_http), "no" },
	{ "mcp", "auth", CONF_WORD, AT_MCP(auth), .words = "none key caller" },
	{ "mcp", "key_file", CONF_SECRET_FILE, AT_MCP(key) },
	{ "mcp", "key", CONF_SECRET, AT_MCP(key) },
	{ "mcp", "header", CONF_TEXT, AT_MCP(header) },
	{ "mcp", "tools", CONF_LIST, AT_MCP(tools) },
	{ "mcp", "trust", CONF_BOOL, AT_MCP(trust), "no" },
	{ "mcp", "read_only", CONF_LIST, AT_MCP(read_only) },
	{ "mcp", "idempotent", CONF_LIST, AT_MCP(idempotent) },
	{ "mcp", "confirm", CONF_LIST, AT_MCP(confirm) },
	{ "mcp", "no_confirm", CONF_LIST, AT_MCP(no_confirm) },
	{ "mcp", "timeout", CONF_MS, AT_MCP(timeout), "30 s", 100, 10 * MINUTE },
	{ "mcp", "refresh", CONF_MS, AT_MCP(refresh), "5 min", 100, DAY },
	{ "mcp", "ca_file", CONF_PATH, AT_MCP(ca_file) },

	{ "approvals", "expire", CONF_MS, AT(approvals_expire), "24 h", SECOND, 30 * DAY },
	{ "approvals", "yes", CONF_LIST, AT(approvals_yes) },
	{ "approvals", "no", CONF_LIST, AT(approvals_no) },

	{ "client", "max_wait", CONF_MS, AT(client_max_wait), "110 s", 10, DAY },
	{ "client", "write_timeout", CONF_MS, AT(client_write_timeout), "30 s", 10, HOUR },
	{ "client", "read_timeout", CONF_MS, AT(client_read_timeout), "30 s", 10, HOUR },
	/* Clients are promised a sign every 15 s at least. */
	{ "client", "keepalive", CONF_MS, AT(client_keepalive), "15 s", 10, 15 * SECOND },

	{ "limits", "body", CONF_SIZE, AT(limits_body), "64 KiB", KIB, 16 * MIB },
	{ "limits", "message", CONF_INT, AT(limits_message), "2000", 1, 1000000 },
	{ "limits", "title", CONF_INT, AT(limits_title), "200", 1, 10000 },
	{ "limits", "user_turns", CONF_INT, AT(limits_user_turns), "256", 0, 1000000 },
	{ "limits", "queue", CONF_INT, AT(limits_queue), "128", 0, 10000 },
	/* The times of so many are kept in one row. */
	{ "limits", "user_turns_per_minute", CONF_INT, AT(limits_user_turns_per_minute), "0", 0, 1000 },
	{ "limits", "user_tokens_per_day", CONF_INT, AT(limits_user_tokens_per_day), "0", 0, INT64_C(1000000000000) },
	{ "limits", "turn_tokens_estimate", CONF_INT, AT(limits_turn_tokens_estimate), "1000", 1, 10000000 },

	{ "api", "unknown_conversation", CONF_SWITCH, AT(api_create_unknown), "reject", .words = "reject create" },
	/* Whether turns without a worker are looked for is decided at the start. */
	{ "api", "serve", CONF_WORD, AT(api_serve), "all", .words = "all chat mcp", .restart = true },

	{ "chatkit", "enabled", CONF_BOOL, AT(chatkit_enabled), "yes" },
	{ "chatkit", "cancel_on_disconnect", CONF_BOOL, AT(chatkit_cancel), "yes" },

	{ "mcp", "origins", CONF_LIST, AT(mcp_origins) },
	{ "mcp", "hosts", CONF_LIST, AT(mcp_hosts) },

	{ "metrics", "token_file", CONF_SECRET_FILE, AT(metrics_token) },
	{ "metrics", "token", CONF_SECRET, AT(metrics_token) },

	{ "cors", "origins", CONF_LIST, AT(cors_origins) },

	{ "log", "file", CONF_PATH, AT(log_file) },
	{ "log", "level", CONF_WORD, AT(log_level), "info", .words = "debug info warn error" },
	{ "log", "user_key_file", CONF_SECRET_FILE, AT(log_user_key) },
	{ "log", "user_key", CONF_SECRET, AT(log_user_key) },
};

const int	 conf_table_size = (int)(sizeof conf_table / sizeof *conf_table);

const struct conf_key *
conf_key_find(const char *section, const char *name)
{
	for (int i = 0; i < conf_table_size; i++) {
		const struct conf_key	*k = &conf_table[i];

		if (strcmp(k->section, section) == 0 && strcmp(k->name, name) == 0)
			return k;
	}
	return NULL;
}

bool
conf_section_known(const char *section)
{
	for (int i = 0; i < conf_table_size; i++)
		if (strcmp(conf_table[i].section, section) == 0)
			return true;
	return false;
}

bool
conf_is_text(const struct conf_key *k)
{
	return k->type < CONF_BOOL;
}

bool
conf_is_secret(const struct conf_key *k)
{
	return k->type == CONF_SECRET || k->type == CONF_PRIVATE || k->type == CONF_HEADERS;
}
