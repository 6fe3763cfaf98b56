/* parley.conf: what is taken is within the bounds of the table, what is refused is refused with a line for each mistake. */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/conf_load.h"
#include "base/conf_table.h"
#include "base/log.h"
#include "base/utf8.h"

static int	 file = -1;
static char	 path[64];

/* Not from the environment, and no words about files that anybody may read. */
static void
begin(void)
{
	static char	*nothing[] = { NULL };

	if (file != -1)
		return;
	environ = nothing;
	(void)log_open("/dev/null", LOG_ERROR, NULL);
	if ((file = memfd_create("parley.conf", 0)) == -1)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
}

static void
key_check(const struct conf_key *k, const void *base)
{
	const char	*field = (const char *)base + k->at;
	int64_t		 n;

	if (k->type == CONF_INT || k->type == CONF_MS || k->type == CONF_SECONDS || k->type == CONF_SIZE) {
		memcpy(&n, field, sizeof n);
		must(n >= k->min && n <= k->max);
	}
}

static void
check(const struct conf *c)
{
	must(c->nmodels >= 1 && c->nmodels <= 9 && c->agent_instructions != NULL);
	must(c->auth_secret == NULL || strlen(c->auth_secret) >= 32);
	for (int i = 0; i < conf_table_size; i++) {
		const struct conf_key	*k = &conf_table[i];

		if (k->at == CONF_NOWHERE)
			continue;
		for (int m = 0; k->model && m < c->nmodels; m++)
			key_check(k, &c->models[m]);
		for (int m = 0; k->mcp && m < c->nmcp; m++)
			key_check(k, &c->mcp[m]);
		if (!k->model && !k->mcp)
			key_check(k, c);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena	*a = arena_open();
	struct buf	*why = buf_new(a);
	struct conf	*c = arena_new(a, struct conf);

	begin();
	if (ftruncate(file, 0) < 0 || pwrite(file, data, n, 0) != (ssize_t)n)
		abort();
	if (conf_read(path, a, c, why) == 0) {
		must(why->n == 0);
		check(c);
	} else
		must(why->n > 1 && why->p[why->n - 1] == '\n');
	arena_close(&a);
	return 0;
}
