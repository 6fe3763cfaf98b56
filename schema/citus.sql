-- Optional, for those who run Citus: every table of users is distributed by user_id, every function that
-- works for one user by that user, its first argument; what all may know (facts) is on every node.
--
-- parleyctl migrate passes this file over.  It is run by hand, by a superuser, after each migrate, with Citus in the
-- database; what is distributed already stays as it is:
--
--	psql -v ON_ERROR_STOP=1 -1 -d parley -f citus.sql
--
-- It is not covered by the test suite, which has no Citus: what is tested is only that it names every table and the right
-- functions.  Nodes need the roles and their settings (Citus makes roles everywhere itself, but not what
-- ALTER ROLE … IN DATABASE has set), and where a function is not run on the node of its user,
-- citus.propagate_set_commands = 'local' takes parley.user_id there, without which no row is seen.
-- The pulse and the statistics look at all users: they ask all nodes.
DO $$
DECLARE
	v record;
BEGIN
	FOR v IN
		SELECT c.oid::regclass AS name FROM pg_catalog.pg_class c
		  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped
		 WHERE n.nspname IN ('parley', 'tasks') AND c.relkind = 'r'
		   AND NOT EXISTS (SELECT FROM pg_dist_partition d WHERE d.logicalrelid = c.oid)
		 -- The first of them is what the others lie beside.
		 ORDER BY c.oid <> 'parley.conversations'::regclass, c.oid
	LOOP
		PERFORM create_distributed_table(v.name, 'user_id',
		    colocate_with => CASE v.name WHEN 'parley.conversations'::regclass THEN 'none' ELSE 'parley.conversations' END);
	END LOOP;

	IF NOT EXISTS (SELECT FROM pg_dist_partition d WHERE d.logicalrelid = 'parley.facts'::regclass) THEN
		PERFORM create_reference_table('parley.facts');
	END IF;

	-- Functions of one user run where his rows are.  The others, tools among them, only have to be there.
	FOR v IN
		SELECT p.oid::regprocedure AS name,
		       CASE WHEN p.proargnames[1] = 'p_user' AND p.proargtypes[0] = 'text'::regtype AND NOT p.prosecdef
		            THEN 'p_user' END AS argument
		  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		 WHERE n.nspname IN ('parley', 'tasks', 'tools') AND p.prokind = 'f'
		 ORDER BY p.oid
	LOOP
		IF v.argument IS NULL THEN
			PERFORM create_distributed_function(v.name);
		ELSE
			PERFORM create_distributed_function(v.name, v.argument, colocate_with => 'parley.conversations');
		END IF;
	END LOOP;
END
$$;
