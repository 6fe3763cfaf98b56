/*
 * conf_env -- settings from the environment.
 *
 * For the conf files alone.  A secret that was read is taken out of the environment
 * (and out of /proc/PID/environ), so that no child process and no crash dump tool
 * finds it there; a copy is kept for the next reading (SIGHUP).
 */
#ifndef PARLEY_BASE_CONF_ENV_H
#define PARLEY_BASE_CONF_ENV_H

#include <stdbool.h>

struct arena;
struct buf;
struct conf_key;

/* NULL when not set, or empty: `OPENAI_API_KEY=` in a compose file means none. */
const char *conf_env_get(const char *name, bool secret);
/* PARLEY_SECTION_KEY, or PARLEY_MODEL_NAME_KEY (PARLEY_MCP_NAME_KEY) for the one of that name. */
const char *conf_env_name(struct arena *, const struct conf_key *, const char *model);
/*
 * Complains about each PARLEY_SECTION_… variable of a known section that names no key.
 * models, servers: lists of the names of [model.NAME] and [mcp.NAME].
 */
int	 conf_env_check(struct arena *, const char *models, const char *servers, struct buf *why);

#endif
