-- What the person who runs Parley asks: how it goes, what it has cost, what is old, and all that there is of one user.
--
-- Two kinds of functions.  Those of parley_ops look across users, and see what that role has been granted: states, times, codes,
-- models, tokens.  Those of parley_owner work for one user, whom they name as every function does, so row level
-- security binds them to that user; they cross nothing, but they are for parley_ops alone.
SET LOCAL ROLE parley_owner;
SET LOCAL client_min_messages = warning;

-- They change hands below, so they are made anew.
DROP FUNCTION IF EXISTS parley.live_count, parley.metrics_rows, parley.metrics, parley.stats, parley.prune_find, parley.prune_users;

-- Tables of users that later files have brought are found by prune as well: whose rows they are, and how old, and no more.
DO $$
DECLARE
	v_table regclass;
	v_columns text;
BEGIN
	FOR v_table, v_columns IN
		SELECT c.oid::regclass, string_agg(quote_ident(a.attname), ', ')
		  FROM pg_catalog.pg_class c
		  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		   AND (a.attname IN ('user_id', 'conversation_id') OR a.atttypid IN ('date'::regtype, 'timestamptz'::regtype, 'timestamptz[]'::regtype))
		 WHERE c.relnamespace = 'parley'::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity
		 GROUP BY c.oid HAVING bool_or(a.attname = 'user_id')
	LOOP
		EXECUTE format('DROP POLICY IF EXISTS ops_reads ON %s', v_table);
		EXECUTE format('CREATE POLICY ops_reads ON %s FOR SELECT TO parley_ops USING (true)', v_table);
		EXECUTE format('GRANT SELECT (%s) ON %s TO parley_ops', v_columns, v_table);
	END LOOP;
END
$$;

-- -- how it goes --

CREATE FUNCTION parley.live_count()
RETURNS TABLE (state text, turns bigint, oldest double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
	-- Each half by its own small index.
	RETURN QUERY
	SELECT s.state, coalesce(n.turns, 0), n.oldest
	  FROM (VALUES (1, 'queued'), (2, 'running'), (3, 'approval_required')) s (place, state)
	  LEFT JOIN (SELECT t.state, count(*) AS turns,
	                    extract(epoch FROM clock_timestamp() - min(coalesce(t.asked_at, t.started_at)))::double precision AS oldest
	               FROM parley.turns t WHERE t.state IN ('running', 'approval_required') GROUP BY t.state
	              UNION ALL
	             SELECT 'queued', count(*), extract(epoch FROM clock_timestamp() - min(t.started_at))::double precision
	               FROM parley.turns t WHERE t.state = 'queued') n ON n.state = s.state
	 ORDER BY s.place;
END
$$;
COMMENT ON FUNCTION parley.live_count IS 'For each state that is no end: how many turns are in it, and for how many seconds the oldest has been; NULL: there is none.';

CREATE FUNCTION parley.metrics_rows(p_window interval)
RETURNS TABLE (name text, labels json, amount double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	v_from timestamptz := clock_timestamp() - p_window;
	v_tools name[] := ARRAY(SELECT p.proname FROM pg_catalog.pg_proc p
	    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'tools');
BEGIN
	RETURN QUERY
	SELECT m.name, json_build_object('state', c.state), m.amount
	  FROM parley.live_count() c
	 CROSS JOIN LATERAL (VALUES ('parley_turns', c.turns::double precision),
	     ('parley_oldest_turn_seconds', coalesce(greatest(c.oldest, 0), 0))) m (name, amount);
	RETURN QUERY
	SELECT 'parley_turns_without_worker', NULL::json, count(*)::double precision
	  FROM parley.live l WHERE l.lease_until < clock_timestamp()
	   AND EXISTS (SELECT FROM parley.turns t WHERE t.user_id = l.user_id AND t.conversation_id = l.conversation_id
	                AND t.turn = l.turn AND t.state = 'running');
	RETURN QUERY
	WITH ended AS MATERIALIZED (
		SELECT t.user_id, t.conversation_id, t.turn, t.run, t.steps, t.state, t.error_code, left(t.model, 100) AS model,
		       t.input_tokens, t.output_tokens,
		       extract(epoch FROM t.ended_at - t.started_at)::double precision AS seconds,
		       (t.timings ->> 'first_byte_ms')::double precision / 1000 AS first
		  FROM parley.turns t WHERE t.ended_at > v_from
	), called AS MATERIALIZED (
		-- A name that the model made up is a text, and has no place among these.
		SELECT CASE WHEN c.started_at IS NOT NULL OR c.tool_name = ANY (v_tools) THEN c.tool_name ELSE 'unknown' END AS tool,
		       c.is_error, c.duration_ms::double precision / 1000 AS seconds
		  FROM ended e
		 CROSS JOIN LATERAL (SELECT c.tool_name, c.is_error, c.duration_ms, c.started_at
		                       FROM parley.tool_calls c
		                      WHERE c.user_id = e.user_id AND c.conversation_id = e.conversation_id
		                        AND c.turn = e.turn AND c.run = e.run AND c.executed_at IS NOT NULL OFFSET 0) c
		 WHERE e.steps > 0
	), percent (at, name) AS (VALUES (1, '50'), (2, '95'), (3, '99'))
	SELECT 'parley_turns_ended', json_build_object('state', s.state),
	       (SELECT count(*)::double precision FROM ended e WHERE e.state = s.state)
	  FROM (VALUES ('done'), ('failed'), ('cancelled')) s (state)
	UNION ALL
	SELECT 'parley_turn_seconds', json_build_object('percentile', p.name), q.all[p.at]
	  FROM percent p, (SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY e.seconds) AS all
	                     FROM ended e WHERE e.state = 'done') q
	UNION ALL
	SELECT 'parley_first_text_seconds', json_build_object('percentile', p.name), q.all[p.at]
	  FROM percent p, (SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY e.first) AS all
	                     FROM ended e WHERE e.state = 'done') q
	UNION ALL
	SELECT 'parley_turn_errors', json_build_object('code', e.error_code), count(*)
	  FROM ended e WHERE e.error_code IS NOT NULL GROUP BY e.error_code
	UNION ALL
	SELECT 'parley_tokens', json_build_object('model', coalesce(u.model, ''), 'direction', d.direction),
	       CASE d.direction WHEN 'input' THEN u.input ELSE u.output END
	  FROM (SELECT e.model, sum(e.input_tokens)::double precision AS input, sum(e.output_tokens)::double precision AS output
	          FROM ended e GROUP BY e.model ORDER BY 2 DESC LIMIT 50) u,
	       (VALUES ('input'), ('output')) d (direction)
	 WHERE u.input + u.output > 0
	UNION ALL
	SELECT 'parley_tool_calls', json_build_object('tool', c.tool, 'outcome', CASE WHEN c.is_error THEN 'error' ELSE 'ok' END), count(*)
	  FROM called c GROUP BY c.tool, c.is_error
	UNION ALL
	SELECT 'parley_tool_seconds', json_build_object('tool', q.tool, 'percentile', p.name), q.all[p.at]
	  FROM percent p, (SELECT c.tool, percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY c.seconds) AS all
	                     FROM called c GROUP BY c.tool) q;
END
$$;
COMMENT ON FUNCTION parley.metrics_rows IS
    'What GET /api/metrics tells: what is live now, and what has ended within the window. No user, no text. An amount is NULL where nothing was there to measure.';

CREATE FUNCTION parley.metrics(p_keep_ms int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_now timestamptz := clock_timestamp();
	v_fact parley.facts;
	v_value text;
BEGIN
	SELECT f.* INTO v_fact FROM parley.facts f WHERE f.key = 'ops:metrics';
	IF v_fact.expires_at > v_now THEN
		RETURN v_fact.value;
	END IF;
	-- One counts anew; who comes meanwhile is told what was so a moment ago.
	PERFORM FROM parley.facts f WHERE f.key = 'ops:metrics' FOR UPDATE SKIP LOCKED;
	IF NOT FOUND AND v_fact.stored_at > v_now - interval '1 minute' THEN
		RETURN v_fact.value;
	END IF;
	v_value := (SELECT coalesce(json_agg(json_build_array(m.name, m.labels, m.amount) ORDER BY m.name, m.labels::text), '[]')
	              FROM parley.metrics_rows(interval '5 minutes') m WHERE m.amount IS NOT NULL);
	INSERT INTO parley.facts AS f (key, value, expires_at, stored_at)
	VALUES ('ops:metrics', v_value, v_now + p_keep_ms * interval '1 millisecond', v_now)
	ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at, stored_at = excluded.stored_at;
	RETURN v_value;
END
$$;
COMMENT ON FUNCTION parley.metrics IS 'A JSON array of [name, labels, amount]; counted once in p_keep_ms, however many ask.';

CREATE FUNCTION parley.stats(p_from timestamptz) RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	v_all json;
BEGIN
	WITH ended AS MATERIALIZED (
		SELECT t.user_id, t.conversation_id, t.turn, t.run, t.steps, t.state, t.error_code, t.model, t.input_tokens,
		       t.output_tokens, (t.ended_at AT TIME ZONE 'UTC')::date AS day,
		       (extract(epoch FROM t.ended_at - t.started_at) * 1000)::double precision AS ms,
		       (t.timings ->> 'first_byte_ms')::double precision AS first_ms
		  FROM parley.turns t WHERE t.ended_at > p_from
	), called AS MATERIALIZED (
		SELECT c.tool_name, c.is_error, c.duration_ms
		  FROM ended e
		 CROSS JOIN LATERAL (SELECT c.tool_name, c.is_error, c.duration_ms
		                       FROM parley.tool_calls c
		                      WHERE c.user_id = e.user_id AND c.conversation_id = e.conversation_id
		                        AND c.turn = e.turn AND c.run = e.run AND c.executed_at IS NOT NULL OFFSET 0) c
		 WHERE e.steps > 0
	)
	SELECT json_build_object(
	    'from', parley.utc(p_from), 'until', parley.utc(clock_timestamp()),
	    'live', (SELECT json_agg(json_build_object('state', c.state, 'turns', c.turns,
	                 'oldest_seconds', round(c.oldest::numeric, 1))) FROM parley.live_count() c),
	    'ended', (SELECT json_agg(json_build_object('state', s.state,
	                  'turns', (SELECT count(*) FROM ended e WHERE e.state = s.state)))
	                FROM (VALUES ('done'), ('failed'), ('cancelled')) s (state)),
	    'turn_ms', (SELECT parley.percentiles(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY e.ms))
	                  FROM ended e WHERE e.state = 'done'),
	    'first_text_ms', (SELECT parley.percentiles(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY e.first_ms))
	                        FROM ended e WHERE e.state = 'done'),
	    'errors', (SELECT coalesce(json_agg(x ORDER BY x.turns DESC, x.code), '[]')
	                 FROM (SELECT e.error_code AS code, count(*) AS turns FROM ended e
	                        WHERE e.error_code IS NOT NULL GROUP BY e.error_code) x),
	    'usage', (SELECT coalesce(json_agg(x ORDER BY x.day DESC, x.input_tokens + x.output_tokens DESC, x.user, x.model), '[]')
	                FROM (SELECT e.day, e.user_id AS user, e.model, count(*) AS turns,
	                             sum(e.input_tokens)::bigint AS input_tokens, sum(e.output_tokens)::bigint AS output_tokens
	                        FROM ended e GROUP BY e.day, e.user_id, e.model) x),
	    'tools', (SELECT coalesce(json_agg(x ORDER BY x.calls DESC, x.tool), '[]')
	                FROM (SELECT c.tool_name AS tool, count(*) AS calls, count(*) FILTER (WHERE c.is_error) AS errors,
	                             parley.percentiles(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY c.duration_ms)) AS ms
	                        FROM called c GROUP BY c.tool_name) x))
	  INTO v_all;
	RETURN v_all;
END
$$;
COMMENT ON FUNCTION parley.stats IS
    'What is live, and what has ended since p_from: states, latencies, errors, tokens by day (UTC), user and model, tools. A turn that was asked anew counts with its newest run.';

CREATE OR REPLACE FUNCTION parley.percentiles(p double precision[]) RETURNS json
LANGUAGE sql IMMUTABLE
RETURN json_build_object('p50', round(p[1]::numeric, 1), 'p95', round(p[2]::numeric, 1), 'p99', round(p[3]::numeric, 1));
COMMENT ON FUNCTION parley.percentiles IS 'Three of them by their names.';

-- -- what is old --

CREATE OR REPLACE FUNCTION parley.prune_tables(p_before timestamptz)
RETURNS TABLE (name text, before timestamptz, age text, alone boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT format('parley.%I', c.relname),
	       -- A key, a lease and a pace are of no use after a day.
	       CASE WHEN c.relname IN ('idempotency_keys', 'live', 'pace') THEN greatest(p_before, clock_timestamp() - interval '1 day')
	            ELSE p_before END,
	       format('greatest(%s)', string_agg(format(CASE a.atttypid WHEN 'timestamptz[]'::regtype
	           THEN '(SELECT max(x) FROM unnest(t.%I) x)' ELSE 't.%I::timestamptz' END, a.attname), ', ')
	           FILTER (WHERE a.atttypid IN ('date'::regtype, 'timestamptz'::regtype, 'timestamptz[]'::regtype))),
	       bool_or(a.attname = 'conversation_id') AND c.relname <> 'idempotency_keys'
	  FROM pg_class c
	  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'parley'
	  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relrowsecurity AND c.relname <> 'conversations'
	 GROUP BY c.relname
	HAVING bool_or(a.attname = 'user_id')
	   AND bool_or(a.atttypid IN ('date'::regtype, 'timestamptz'::regtype, 'timestamptz[]'::regtype))
	 ORDER BY c.relname
$$;
COMMENT ON FUNCTION parley.prune_tables IS
    'The tables of users beside the conversations, how old a row may be, and how old it is: the newest of its times. alone: the row goes with its conversation, so only one that has none is old.';

CREATE OR REPLACE FUNCTION parley.prune_where(p_age text, p_alone boolean) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format('%s < $1', p_age) || CASE WHEN p_alone THEN ' AND NOT EXISTS (SELECT FROM parley.conversations o'
    ' WHERE o.user_id = t.user_id AND o.id = t.conversation_id)' ELSE '' END;
COMMENT ON FUNCTION parley.prune_where IS 'Which rows of such a table are old: a condition on t, with the time as $1.';

CREATE FUNCTION parley.prune_find(p_before timestamptz, p_user text, p_id uuid, p_max int)
RETURNS TABLE (user_id text, id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT c.user_id, c.id FROM parley.conversations c
	 WHERE (c.user_id, c.id) > (p_user, p_id) AND c.updated_at < p_before
	 ORDER BY c.user_id, c.id LIMIT p_max;
END
$$;
COMMENT ON FUNCTION parley.prune_find IS 'Conversations without activity since p_before, those after (p_user, p_id), in this order.';

CREATE FUNCTION parley.prune_users(p_table text, p_before timestamptz, p_user text, p_max int) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	v_table record;
BEGIN
	SELECT t.* INTO STRICT v_table FROM parley.prune_tables(p_before) t WHERE t.name = p_table;
	RETURN QUERY EXECUTE format('SELECT DISTINCT t.user_id COLLATE "C" FROM %s t WHERE t.user_id COLLATE "C" > $2 AND %s ORDER BY 1 LIMIT $3',
	    v_table.name, parley.prune_where(v_table.age, v_table.alone)) USING v_table.before, p_user, p_max;
END
$$;
COMMENT ON FUNCTION parley.prune_users IS 'Users after p_user who have old rows in a table of prune_tables, in order.';

CREATE OR REPLACE FUNCTION parley.prune_conversation(p_user text, p_id uuid, p_before timestamptz, p_do boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	-- Whoever holds it is doing something in it just now.  Under the lock nothing can begin.
	PERFORM FROM parley.conversations c
	  WHERE c.user_id = p_user AND c.id = p_id AND c.updated_at < p_before FOR UPDATE SKIP LOCKED;
	IF NOT FOUND OR EXISTS (SELECT FROM parley.turns t
	    WHERE t.user_id = p_user AND t.conversation_id = p_id AND t.state IN ('queued', 'running', 'approval_required')) THEN
		RETURN false;
	END IF;
	RETURN NOT p_do OR parley.conversation_delete(p_user, p_id);
END
$$;
COMMENT ON FUNCTION parley.prune_conversation IS 'Deletes a conversation that has been silent since p_before and has no live turn; with p_do false only says whether it would.';

CREATE OR REPLACE FUNCTION parley.prune_rows(p_table text, p_before timestamptz, p_user text, p_do boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_table record;
	v_where text;
	v_n bigint;
BEGIN
	SELECT t.* INTO STRICT v_table FROM parley.prune_tables(p_before) t WHERE t.name = p_table;
	v_where := format('WHERE t.user_id = $2 AND %s', parley.prune_where(v_table.age, v_table.alone));
	IF p_do THEN
		EXECUTE format('DELETE FROM %s t %s', v_table.name, v_where) USING v_table.before, p_user;
		GET DIAGNOSTICS v_n = ROW_COUNT;
	ELSE
		EXECUTE format('SELECT count(*) FROM %s t %s', v_table.name, v_where) INTO v_n USING v_table.before, p_user;
	END IF;
	RETURN v_n;
END
$$;
COMMENT ON FUNCTION parley.prune_rows IS 'Deletes a user''s old rows of a table of prune_tables, or with p_do false counts them.';

-- -- all of one user --

CREATE OR REPLACE FUNCTION parley.tables_of_users()
RETURNS TABLE (id regclass, ours boolean, by_user text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT c.oid::regclass,
	       c.relrowsecurity AND EXISTS (
	           SELECT FROM pg_policy p WHERE p.polrelid = c.oid
	              AND (pg_get_expr(p.polqual, c.oid) LIKE '%parley.user_id%'
	                OR EXISTS (SELECT FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid AND f.prokind = 'f'
	                            WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
	                              AND d.refclassid = 'pg_proc'::regclass
	                              AND pg_get_functiondef(f.oid) LIKE '%parley.user_id%'))),
	       CASE WHEN a.atttypid IN ('text'::regtype, 'varchar'::regtype) THEN 't.user_id = $1' ELSE 't.user_id::text = $1' END
	  FROM pg_class c
	  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped
	 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
	 ORDER BY c.oid::regclass::text
$$;
COMMENT ON FUNCTION parley.tables_of_users IS
    'Every table of the database with a column user_id. ours: its row level security knows parley.user_id, so what is in it is our users''; others may be another application''s.';

CREATE OR REPLACE FUNCTION parley.user_tables(p_user text)
RETURNS TABLE (name text, ours boolean, amount bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_table record;
BEGIN
	FOR v_table IN SELECT * FROM parley.tables_of_users() LOOP
		name := v_table.id::text;
		ours := v_table.ours;
		amount := NULL;
		IF has_table_privilege(v_table.id, 'SELECT') AND has_schema_privilege((SELECT c.relnamespace FROM pg_class c
		    WHERE c.oid = v_table.id), 'USAGE') THEN
			EXECUTE format('SELECT count(*) FROM %s t WHERE %s', v_table.id, v_table.by_user) INTO amount USING p_user;
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION parley.user_tables IS 'How many rows of a user each table has; amount NULL: parley_owner may not look.';

CREATE OR REPLACE FUNCTION parley.user_rows(p_user text, p_table text) RETURNS SETOF json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_table record;
	v_columns text;
	v_order text;
BEGIN
	SELECT t.* INTO STRICT v_table FROM parley.tables_of_users() t WHERE t.id::text = p_table AND t.ours;
	SELECT string_agg(CASE WHEN col_description(a.attrelid, a.attnum) ~ '@secret\M'
	           THEN format('CASE WHEN t.%1$I IS NOT NULL THEN ''present'' END AS %1$I', a.attname)
	           ELSE format('t.%I', a.attname) END, ', ' ORDER BY a.attnum)
	  INTO v_columns
	  FROM pg_attribute a WHERE a.attrelid = v_table.id AND a.attnum > 0 AND NOT a.attisdropped;
	SELECT ' ORDER BY ' || string_agg(format('t.%I', a.attname), ', ' ORDER BY k.place) INTO v_order
	  FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY k (attnum, place)
	  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
	 WHERE i.indrelid = v_table.id AND i.indisprimary;
	RETURN QUERY EXECUTE format('SELECT row_to_json(r) FROM (SELECT %s FROM %s t WHERE %s%s) r',
	    v_columns, v_table.id, v_table.by_user, coalesce(v_order, '')) USING p_user;
END
$$;
COMMENT ON FUNCTION parley.user_rows IS 'A user''s rows of a table, in the order of its key; of a column whose comment has the word @secret only whether it is there.';

CREATE OR REPLACE FUNCTION parley.user_stop(p_user text) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	-- The last first, so that the end of one begins no other.
	PERFORM parley.turn_cancel(p_user, t.conversation_id, t.turn, false, 1000)
	   FROM (SELECT t.conversation_id, t.turn FROM parley.turns t
	          WHERE t.user_id = p_user AND t.state IN ('queued', 'running', 'approval_required')
	          ORDER BY t.conversation_id, t.turn DESC) t;
	RETURN (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'running');
END
$$;
COMMENT ON FUNCTION parley.user_stop IS 'Cancels all live turns of a user, and says how many still have a worker, which will be told by its pulse.';

CREATE OR REPLACE FUNCTION parley.user_erase_conversations(p_user text, p_max int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	-- One that somebody else deletes meanwhile is counted as well: 0 says that there are no more.
	RETURN (SELECT count(parley.conversation_delete(p_user, c.id))
	          FROM (SELECT c.id FROM parley.conversations c WHERE c.user_id = p_user ORDER BY c.id LIMIT p_max) c);
END
$$;
COMMENT ON FUNCTION parley.user_erase_conversations IS 'Deletes so many conversations of a user, live or not; a worker that still runs a turn of one meets its fence.';

CREATE OR REPLACE FUNCTION parley.user_erase_rows(p_user text, p_table text, p_max int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_table record;
	v_n bigint;
BEGIN
	SELECT t.*, c.relkind, EXISTS (SELECT FROM parley.prune_tables(clock_timestamp()) p
	                                WHERE p.name::regclass = t.id AND p.alone) AS alone
	  INTO STRICT v_table
	  FROM parley.tables_of_users() t JOIN pg_class c ON c.oid = t.id WHERE t.id::text = p_table AND t.ours;
	-- Conversations, and what is in one, go by the function above, in the order of its locks.
	IF v_table.id = 'parley.conversations'::regclass THEN
		RETURN 0;
	END IF;
	IF v_table.alone THEN
		v_table.by_user := v_table.by_user || ' AND NOT EXISTS (SELECT FROM parley.conversations o'
		    ' WHERE o.user_id = $1 AND o.id = t.conversation_id)';
	END IF;
	-- The rows of a partitioned table have no place of their own.
	EXECUTE CASE v_table.relkind WHEN 'p' THEN format('DELETE FROM %s t WHERE %s', v_table.id, v_table.by_user)
	    ELSE format('DELETE FROM %1$s WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM %1$s t WHERE %2$s LIMIT $2))',
	        v_table.id, v_table.by_user) END USING p_user, p_max;
	GET DIAGNOSTICS v_n = ROW_COUNT;
	RETURN v_n;
EXCEPTION WHEN foreign_key_violation THEN
	RETURN 0;
END
$$;
COMMENT ON FUNCTION parley.user_erase_rows IS 'Deletes so many rows of a user from a table, those that belong to no conversation; says how many. 0 also while rows of another table refer to them.';

-- What crosses users belongs to the role that may, and is for it; metrics, which tell of nobody, for the workers as well.
REVOKE EXECUTE ON FUNCTION parley.live_count, parley.metrics_rows, parley.stats, parley.prune_tables, parley.prune_find,
    parley.prune_users, parley.prune_conversation, parley.prune_rows, parley.tables_of_users, parley.user_tables, parley.user_rows,
    parley.user_stop, parley.user_erase_conversations, parley.user_erase_rows FROM parley_worker;
GRANT EXECUTE ON FUNCTION parley.utc, parley.percentiles, parley.prune_tables, parley.prune_where, parley.prune_conversation,
    parley.prune_rows, parley.tables_of_users, parley.user_tables, parley.user_rows, parley.user_stop,
    parley.user_erase_conversations, parley.user_erase_rows TO parley_ops;
GRANT CREATE ON SCHEMA parley TO parley_ops;
RESET ROLE;
ALTER FUNCTION parley.live_count OWNER TO parley_ops;
ALTER FUNCTION parley.metrics_rows OWNER TO parley_ops;
ALTER FUNCTION parley.metrics OWNER TO parley_ops;
ALTER FUNCTION parley.stats OWNER TO parley_ops;
ALTER FUNCTION parley.prune_find OWNER TO parley_ops;
ALTER FUNCTION parley.prune_users OWNER TO parley_ops;
SET LOCAL ROLE parley_owner;
REVOKE CREATE ON SCHEMA parley FROM parley_ops;
RESET ROLE;
