#include "chat/role.h"

#include <unistd.h>

#include "base/log.h"
#include "io/pg.h"

/*
 * A superuser, a role with BYPASSRLS, and the owner of a table whose security is not forced
 * see everybody's rows.  Schema and tables may not be there yet.
 */
static const char	role_sql[] =
    "SELECT CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolbypassrls THEN 'has BYPASSRLS'"
    "            WHEN EXISTS (SELECT FROM pg_catalog.pg_class c"
    "                WHERE c.relnamespace = n.oid AND c.relrowsecurity"
    "                  AND NOT pg_catalog.row_security_active(c.oid))"
    "            THEN 'owns tables without FORCE ROW LEVEL SECURITY' ELSE '' END AS unbound,"
    "       coalesce(n.nspowner = r.oid, false) AS owner,"
    "       r.rolname AS role"
    "  FROM pg_catalog.pg_roles r"
    "  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'parley'"
    " WHERE r.rolname = current_user";

/* The exit status of a program whose role is refused: said once, at the start. */
static int	 refusal;

static void	 role_look(const PGresult *);

void
role_guard(int status)
{
	refusal = status;
	pg_on_first_connect(role_sql, role_look);
}

static void
role_look(const PGresult *res)
{
	const char	*why = PQntuples(res) == 1 ? PQgetvalue(res, 0, 0) : "is unknown";

	if (*why == '\0') {
		if (PQgetvalue(res, 0, 1)[0] == 't')
			log_say(LOG_WARN, "role", "the database role owns the schema parley: row level security binds it, "
			    "but it could switch it off; a role of its own would be safer (parley_worker)");
		return;
	}
	log_say(LOG_ERROR, "role", "the database role \"%s\" is not bound by row level security, as it %s: "
	    "set database.url to a role that is (parley_worker, which parleyctl migrate makes)",
	    PQntuples(res) == 1 ? PQgetvalue(res, 0, 2) : "?", why);
	/* Not exit(): this is a fiber's stack, and nothing is half done. */
	_exit(refusal);
}
