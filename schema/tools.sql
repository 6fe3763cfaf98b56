-- SQL tools: every function in schema `tools` that parley_tool may execute.
--
-- What a tool is, is read from the catalog: its name, its comment, its arguments with their types and defaults.
-- The comment's first lines are the description for the model; further lines may say
--
--	@param name what it is
--	@param name (one|two|three) what it is: an enumeration
--	@read_only, @idempotent, @confirm; @confirm schema.function: see approvals.sql
--	@returns {JSON schema} of the result, on this line and those that follow up to the next @; needed only where the
--		type that the function returns does not say it
--
-- Nothing that a model or a client sends becomes SQL text: the statement that calls a tool is
-- built from the catalog alone, and the arguments are its one parameter.
SET LOCAL ROLE parley_owner;

CREATE OR REPLACE FUNCTION parley.tool_functions(p_name text) RETURNS TABLE (id oid, name text, comment text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY
	SELECT p.oid, p.proname::text, coalesce(obj_description(p.oid, 'pg_proc'), '')
	  FROM pg_catalog.pg_proc p
	 WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'tools')
	   AND (p_name IS NULL OR p.proname::text = p_name)
	   -- What model servers take as a name, and only one function of that name.
	   AND p.proname::text ~ '^[A-Za-z0-9_-]{1,64}$'
	   AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc o
	                    WHERE o.pronamespace = p.pronamespace AND o.proname = p.proname AND o.oid <> p.oid)
	   AND p.prokind = 'f' AND p.provariadic = 0
	   AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
	   AND (p.pronargs = 0 OR p.proargnames IS NOT NULL AND NOT '' = ANY (p.proargnames[1:p.pronargs]))
	   AND has_function_privilege('parley_tool', p.oid, 'EXECUTE')
	 ORDER BY 2;
END
$$;
COMMENT ON FUNCTION parley.tool_functions IS 'The functions that are tools; p_name NULL: all of them.';

CREATE OR REPLACE FUNCTION parley.tool_args(p_id oid)
RETURNS TABLE (place int, name text, type text, kind text, format text, item text, required boolean,
    choices text[], about text, value json)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
	v_comment text := coalesce(obj_description(p_id, 'pg_proc'), '');
BEGIN
	RETURN QUERY
	WITH args AS (
		SELECT u.name, u.type, u.place, row_number() OVER (ORDER BY u.place) AS nth,
		       p.pronargs - p.pronargdefaults AS needed
		  FROM pg_catalog.pg_proc p,
		       unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
		           WITH ORDINALITY u (type, name, mode, place)
		 WHERE p.oid = p_id AND u.type IS NOT NULL AND coalesce(u.mode, 'i') IN ('i', 'b')
	)
	SELECT a.nth::int, a.name, format_type(a.type, NULL), parley.json_kind(b.oid),
	       CASE b.oid WHEN 'date'::regtype THEN 'date' WHEN 'timestamptz'::regtype THEN 'date-time'
	                  WHEN 'uuid'::regtype THEN 'uuid' END,
	       CASE WHEN b.typcategory = 'A' THEN format_type(b.typelem, NULL) END,
	       a.nth <= a.needed,
	       coalesce((SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
	                   FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid),
	                string_to_array(m.words[2], '|')),
	       nullif(btrim(m.words[3]), ''),
	       parley.literal_json(pg_get_function_arg_default(p_id, a.place::int))
	  FROM args a
	  JOIN pg_catalog.pg_type t ON t.oid = a.type
	  -- A domain is what it is made of.
	  JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
	  LEFT JOIN LATERAL regexp_match(v_comment,
	           '(?n)^\s*@param\s+' || a.name || '(?!\w)[ \t]*(?:\(([^()]*\|[^()]*)\))?()(.*)$') m0 ON true
	  LEFT JOIN LATERAL (SELECT ARRAY[NULL, m0[1], m0[3]] AS words) m ON true
	 ORDER BY a.nth;
END
$$;
COMMENT ON FUNCTION parley.tool_args IS 'The arguments of a tool: what they are called, what JSON they take, and what its comment says of them.';

CREATE OR REPLACE FUNCTION parley.json_kind(p_type oid) RETURNS text
LANGUAGE sql STABLE
RETURN CASE
	WHEN p_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN 'integer'
	WHEN p_type IN ('numeric'::regtype, 'float4'::regtype, 'float8'::regtype) THEN 'number'
	WHEN p_type = 'bool'::regtype THEN 'boolean'
	WHEN p_type IN ('json'::regtype, 'jsonb'::regtype) THEN 'object'
	WHEN (SELECT t.typcategory FROM pg_catalog.pg_type t WHERE t.oid = p_type) = 'A' THEN 'array'
	ELSE 'string' END;
COMMENT ON FUNCTION parley.json_kind IS 'The JSON type of an SQL type.';

CREATE OR REPLACE FUNCTION parley.literal_json(p_sql text) RETURNS json
LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN p_sql ~ '^-?[0-9]+(\.[0-9]+)?$' OR p_sql IN ('true', 'false') THEN p_sql::json
	WHEN p_sql ~ '^''[][{}]{2}''::jsonb?$' THEN substr(p_sql, 2, 2)::json
	WHEN p_sql ~ '^''([^'']|'''')*''::[a-z ]+$'
	THEN to_json(replace(substring(p_sql, '^''(.*)''::[a-z ]+$'), '''''', '''')) END;
COMMENT ON FUNCTION parley.literal_json IS 'A default as JSON where it is a plain literal, else NULL.';

CREATE OR REPLACE FUNCTION parley.json_or_null(p_text text) RETURNS json
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN p_text::json;
EXCEPTION WHEN invalid_text_representation THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION parley.json_or_null IS 'A text as JSON, NULL where it is none: a slip in one comment must not cost the whole list.';

CREATE OR REPLACE FUNCTION parley.result_schema(p_type oid) RETURNS json
LANGUAGE sql STABLE
RETURN (SELECT CASE
	-- to_json() writes whatever such a type wants to be.
	WHEN b.oid IN ('json'::regtype, 'jsonb'::regtype)
	  OR EXISTS (SELECT FROM pg_catalog.pg_cast c WHERE c.castsource = b.oid AND c.casttarget = 'json'::regtype)
	THEN json_build_object()
	WHEN b.typtype = 'e' THEN json_build_object('enum', (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder)
	    FROM (SELECT enumlabel, enumsortorder FROM pg_catalog.pg_enum WHERE enumtypid = b.oid
	          UNION ALL SELECT NULL, NULL) e))
	ELSE json_build_object('type', json_build_array(
	    CASE WHEN b.typtype = 'c' THEN 'object' ELSE parley.json_kind(b.oid) END, 'null')) END
	  FROM pg_catalog.pg_type t
	  JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
	 WHERE t.oid = p_type);
COMMENT ON FUNCTION parley.result_schema IS 'What JSON a value of this type becomes; any value may be NULL.';

CREATE OR REPLACE FUNCTION parley.tool_output(p_id oid) RETURNS json
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_proc pg_catalog.pg_proc;
	v_schema json := parley.json_or_null(regexp_replace(substring(obj_description(p_id, 'pg_proc')
	    FROM '(?:^|\n)\s*@returns\s+(.*)$'), '\n\s*@.*$', ''));
	v_names text[];
	v_types oid[];
BEGIN
	IF json_typeof(v_schema) = 'object' THEN
		RETURN v_schema;
	END IF;
	v_schema := NULL;
	SELECT p.* INTO v_proc FROM pg_catalog.pg_proc p WHERE p.oid = p_id;
	IF v_proc.prorettype = 'void'::regtype THEN
		RETURN '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}';
	ELSIF v_proc.prorettype = 'record'::regtype THEN
		SELECT array_agg(u.name ORDER BY u.place), array_agg(u.type ORDER BY u.place) INTO v_names, v_types
		  FROM unnest(v_proc.proallargtypes, v_proc.proargnames, v_proc.proargmodes)
		      WITH ORDINALITY u (type, name, mode, place)
		 WHERE u.mode IN ('o', 'b', 't');
	ELSE
		SELECT array_agg(a.attname ORDER BY a.attnum), array_agg(a.atttypid ORDER BY a.attnum) INTO v_names, v_types
		  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
		 WHERE t.oid = v_proc.prorettype AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped;
	END IF;
	IF v_names IS NOT NULL THEN
		SELECT json_build_object('type', 'object',
		           'properties', json_object_agg(u.name, parley.result_schema(u.type) ORDER BY u.place),
		           'required', json_agg(u.name ORDER BY u.place)) INTO v_schema
		  FROM unnest(v_names, v_types) WITH ORDINALITY u (name, type, place);
	ELSIF v_proc.prorettype <> 'record'::regtype THEN
		v_schema := parley.result_schema(v_proc.prorettype);
	END IF;
	IF v_proc.proretset THEN
		RETURN json_build_object('type', 'array', 'items', coalesce(v_schema, '{}'));
	END IF;
	-- A schema that says nothing is none.
	RETURN nullif(v_schema::text, '{}')::json;
END
$$;
COMMENT ON FUNCTION parley.tool_output IS 'The JSON schema of what a tool returns, from its comment or its return type; NULL: not known.';

-- CREATE OR REPLACE cannot give a function another column.
DROP FUNCTION IF EXISTS parley.tools_list();
CREATE FUNCTION parley.tools_list()
RETURNS TABLE (name text, description text, schema json, risk text, confirm boolean, output json)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT f.name,
	       btrim(regexp_replace(f.comment, '(^|\n)\s*@.*$', ''), E' \t\r\n'),
	       (SELECT json_build_object('type', 'object',
	                   'properties', coalesce(json_object_agg(a.name, json_strip_nulls(json_build_object(
	                       'type', a.kind, 'format', a.format, 'description', a.about, 'enum', a.choices,
	                       'items', CASE WHEN a.item IS NOT NULL
	                                     THEN json_build_object('type', parley.json_kind(a.item::regtype)) END,
	                       'default', a.value)) ORDER BY a.place), '{}'),
	                   'required', coalesce(json_agg(a.name ORDER BY a.place) FILTER (WHERE a.required), '[]'),
	                   'additionalProperties', false)
	          FROM parley.tool_args(f.id) a),
	       CASE WHEN f.comment ~ '(?n)^\s*@read_only(?!\w)' THEN 'read_only'
	            WHEN f.comment ~ '(?n)^\s*@idempotent(?!\w)' THEN 'idempotent' ELSE 'writes' END,
	       f.comment ~ '(?n)^\s*@confirm(?!\w)',
	       parley.tool_output(f.id)
	  FROM parley.tool_functions(NULL) f;
END
$$;
COMMENT ON FUNCTION parley.tools_list IS 'All SQL tools: what the model is told of them, their risk (read_only, idempotent, writes), whether the user is asked first, and the schema of their result.';

CREATE OR REPLACE FUNCTION parley.tool_refuse(p_id oid, p_args json, p_user text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v record;
	v_label text;
BEGIN
	FOR v IN
		SELECT coalesce(a.name, g.key) AS name, a.type, a.kind, a.required, a.choices, g.value,
		       coalesce(json_typeof(g.value), 'null') AS got, a.name IS NOT NULL AS declared
		  FROM parley.tool_args(p_id) a FULL JOIN json_each(p_args) g ON g.key = a.name
		 ORDER BY a.place
	LOOP
		-- A word becomes the beginning of a sentence; a name with an underscore stays as it is.
		v_label := CASE WHEN v.name ~ '_' THEN v.name ELSE upper(left(v.name, 1)) || substr(v.name, 2) END;
		IF NOT v.declared THEN
			-- Tools run as the user of the turn; naming that user again means nothing, naming another is no mistake.
			IF v.name <> 'user_id' THEN
				RETURN format('There is no argument %s.', left(v.name, 64));
			ELSIF v.got NOT IN ('string', 'number') OR v.value #>> '{}' <> p_user THEN
				RETURN 'access denied';
			END IF;
		ELSIF v.got = 'null' THEN
			IF v.required THEN
				RETURN v_label || ' is required.';
			END IF;
		ELSIF v.kind = 'integer' AND (v.got <> 'number' OR (v.value::text)::numeric % 1 <> 0) THEN
			RETURN v_label || ' must be a whole number.';
		ELSIF v.kind = 'integer' AND abs((v.value::text)::numeric) > (CASE v.type
		    WHEN 'smallint' THEN 32767 WHEN 'integer' THEN 2147483647 ELSE 9223372036854775807 END) THEN
			RETURN v_label || ' is out of range.';
		ELSIF v.kind <> 'integer' AND v.got <> v.kind THEN
			RETURN v_label || CASE v.kind WHEN 'number' THEN ' must be a number.'
			    WHEN 'boolean' THEN ' must be true or false.' WHEN 'object' THEN ' must be an object.'
			    WHEN 'array' THEN ' must be a list.' ELSE ' must be text.' END;
		ELSIF v.choices IS NOT NULL AND NOT v.value #>> '{}' = ANY (v.choices) THEN
			RETURN v_label || ' must be one of: ' || array_to_string(v.choices, ', ') || '.';
		END IF;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION parley.tool_refuse IS 'Why a tool cannot be called with these arguments, as a sentence for the model; NULL: it can.';

CREATE OR REPLACE FUNCTION parley.tool_sql(p_id oid, p_args json) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_proc pg_catalog.pg_proc;
	v_call text;
BEGIN
	SELECT p.* INTO v_proc FROM pg_catalog.pg_proc p WHERE p.oid = p_id;
	-- A null for an argument with a default is an argument not given.
	SELECT format('tools.%I(%s)', v_proc.proname, string_agg(format('%I => %s', a.name, CASE
	           WHEN a.kind = 'array' THEN format('ARRAY(SELECT e::%s FROM json_array_elements_text($1 -> %L) e)::%s',
	               a.item, a.name, a.type)
	           WHEN a.kind = 'object' THEN format('($1 -> %L)::%s', a.name, a.type)
	           WHEN a.kind = 'integer' THEN format('($1 ->> %L)::numeric::%s', a.name, a.type)
	           ELSE format('($1 ->> %L)::%s', a.name, a.type) END), ', ' ORDER BY a.place))
	  INTO v_call
	  FROM parley.tool_args(p_id) a
	 WHERE p_args ->> a.name IS NOT NULL;
	RETURN CASE
	    WHEN v_proc.proretset THEN format('SELECT coalesce(json_agg(r), ''[]'') FROM %s r', v_call)
	    WHEN v_proc.prorettype = 'void'::regtype THEN format('SELECT ''{"ok":true}''::json FROM %s r', v_call)
	    WHEN v_proc.prorettype = 'record'::regtype
	      OR (SELECT t.typtype FROM pg_catalog.pg_type t WHERE t.oid = v_proc.prorettype) = 'c'
	    THEN format('SELECT to_json(r) FROM %s r', v_call)
	    ELSE format('SELECT to_json(%s)', v_call) END;
END
$$;
COMMENT ON FUNCTION parley.tool_sql IS 'The statement that calls a tool with the arguments present in p_args, which are its $1; made from the catalog alone.';

CREATE OR REPLACE FUNCTION parley.call_store(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_pos int, p_result json, p_is_error boolean, p_since timestamptz)
RETURNS parley.tool_calls
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_now timestamptz := clock_timestamp();
	v_call parley.tool_calls;
BEGIN
	UPDATE parley.tool_calls c
	   SET result = coalesce(p_result, 'null'), is_error = p_is_error, executed_at = v_now,
	       -- It was not run (tool_run and tool_start see to that): there was something wrong with it.
	       approval = CASE c.approval WHEN 'needed' THEN 'refused' ELSE c.approval END,
	       duration_ms = extract(epoch FROM v_now - p_since) * 1000
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.idx = p_idx AND c.pos = p_pos AND c.result IS NULL
	RETURNING c.* INTO v_call;
	IF FOUND THEN
		-- A long result is shown to the model in part, so it counts in part.
		UPDATE parley.turns t
		   SET open_calls = t.open_calls - 1, messages = t.messages + 1,
		       tokens = t.tokens + least(octet_length(v_call.result::text), 16384) / 4 + 8
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
		   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running';
	END IF;
	IF NOT FOUND THEN
		PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
	END IF;
	RETURN v_call;
END
$$;
COMMENT ON FUNCTION parley.call_store IS 'Stores the one result of a call, under the fence of its turn: PF001 and PF002 undo whatever the transaction did.';

CREATE OR REPLACE FUNCTION parley.call_row(p_call parley.tool_calls, p_error_state text)
RETURNS TABLE (result json, is_error boolean, executed_at text, duration_ms int, error_state text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY SELECT p_call.result, p_call.is_error, parley.utc(p_call.executed_at), p_call.duration_ms, p_error_state;
END
$$;
COMMENT ON FUNCTION parley.call_row IS 'What a worker is told of a call that it has asked for.';

CREATE OR REPLACE FUNCTION parley.tool_try(p_user text, p_id oid, p_parameters json, p_max_result int,
    OUT result json, OUT is_error boolean, OUT error_state text) RETURNS record
LANGUAGE plpgsql AS $$
DECLARE
	v_role text := current_setting('role');
	v_error text := parley.tool_refuse(p_id, p_parameters, p_user);
	v_sql text;
BEGIN
	IF v_error IS NULL THEN
		v_sql := parley.tool_sql(p_id, p_parameters);
		BEGIN
			PERFORM set_config('role', 'parley_tool', true);
			EXECUTE v_sql INTO result USING p_parameters;
			SET CONSTRAINTS ALL IMMEDIATE;
			-- What a tool sets for the session would stay with the connection, and be everybody's.
			RESET ALL;
			PERFORM set_config('role', v_role, false), set_config('parley.user_id', p_user, true);
			IF octet_length(result::text) > p_max_result THEN
				RAISE EXCEPTION 'The result is too large (% bytes); nothing was changed.',
				    octet_length(result::text);
			END IF;
		-- The block undoes what the tool did, and gives back role and user.
		EXCEPTION
		WHEN raise_exception THEN
			v_error := SQLERRM;
			error_state := SQLSTATE;
		WHEN query_canceled THEN
			v_error := 'The tool was stopped because it took too long; nothing was changed.';
			error_state := SQLSTATE;
		WHEN invalid_text_representation OR invalid_datetime_format OR datetime_field_overflow
		    OR numeric_value_out_of_range OR invalid_parameter_value THEN
			v_error := 'An argument has a form that this tool does not take.';
			error_state := SQLSTATE;
		WHEN OTHERS OR assert_failure THEN
			v_error := 'The tool failed; nothing was changed.';
			error_state := SQLSTATE;
		END;
	END IF;
	is_error := v_error IS NOT NULL;
	IF is_error THEN
		result := json_build_object('error', v_error);
	END IF;
END
$$;
COMMENT ON FUNCTION parley.tool_try IS
    'Runs a tool as parley_tool for the user that is set, or says why not; what a tool that failed has done is undone. error_state is the SQLSTATE of a tool that failed, for the log.';

CREATE OR REPLACE FUNCTION parley.tool_run(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_pos int, p_max_result int)
RETURNS TABLE (result json, is_error boolean, executed_at text, duration_ms int, error_state text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_since timestamptz;
	v_call parley.tool_calls;
	v_id oid;
	v_error text;
	v_is_error boolean := true;
	v_result json;
	v_state text;
BEGIN
	-- Whoever asks for the same call at the same time waits here, and then finds the result.
	SELECT c.* INTO v_call FROM parley.tool_calls c
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.idx = p_idx AND c.pos = p_pos FOR UPDATE;
	PERFORM FROM parley.turns t
	  WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	    AND t.run = p_run AND t.fence = p_fence AND t.state = 'running';
	IF NOT FOUND OR v_call.id IS NULL THEN
		PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
	END IF;
	IF v_call.result IS NULL AND v_call.approval <> 'approved' THEN
		RAISE EXCEPTION 'the user has not said yes to this call' USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	IF v_call.result IS NULL THEN
		v_since := clock_timestamp();
		SELECT f.id INTO v_id FROM parley.tool_functions(v_call.tool_name) f;
		v_error := CASE WHEN v_id IS NULL THEN format('There is no tool %s.', left(v_call.tool_name, 64))
		    WHEN json_typeof(v_call.parameters) <> 'object' THEN 'The arguments are not a JSON object.' END;
		IF v_error IS NULL THEN
			SELECT r.result, r.is_error, r.error_state INTO v_result, v_is_error, v_state
			  FROM parley.tool_try(p_user, v_id, v_call.parameters, p_max_result) r;
		ELSE
			v_result := json_build_object('error', v_error);
		END IF;
		v_call := parley.call_store(p_user, p_conversation, p_turn, p_run, p_fence, p_idx, p_pos,
		    v_result, v_is_error, v_since);
	END IF;
	RETURN QUERY SELECT r.* FROM parley.call_row(v_call, v_state) r;
END
$$;
COMMENT ON FUNCTION parley.tool_run IS
    'Runs the SQL tool of a stored call as parley_tool: its effect, its result and the check of the fence are one transaction. A call that has its result gives it again and does nothing. error_state is the SQLSTATE of a tool that failed, for the log. One that the user has to approve is not run before (55000).';

CREATE OR REPLACE FUNCTION parley.tool_call(p_user text, p_key uuid, p_id uuid, p_name text, p_parameters json,
    p_max_result int)
RETURNS TABLE (result json, is_error boolean, executed_at text, duration_ms int, error_state text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_since timestamptz := clock_timestamp();
	v_call parley.tool_calls;
	v_id oid;
	v_is_error boolean;
	v_result json;
	v_state text;
BEGIN
	SELECT f.id INTO v_id FROM parley.tool_functions(p_name) f;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	-- Whoever asks for the same call again waits here, and then finds the result.
	INSERT INTO parley.tool_calls (user_id, conversation_id, turn, run, idx, pos, id, call_id, tool_name, parameters)
	VALUES (p_user, p_key, 0, 0, 0, 0, p_id, p_id::text, p_name, p_parameters)
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		SELECT r.result, r.is_error, r.error_state INTO v_result, v_is_error, v_state
		  FROM parley.tool_try(p_user, v_id, p_parameters, p_max_result) r;
		UPDATE parley.tool_calls c
		   SET result = coalesce(v_result, 'null'), is_error = v_is_error, executed_at = clock_timestamp(),
		       duration_ms = extract(epoch FROM clock_timestamp() - v_since) * 1000
		 WHERE c.user_id = p_user AND c.conversation_id = p_key
		   AND c.turn = 0 AND c.run = 0 AND c.idx = 0 AND c.pos = 0
		RETURNING c.* INTO v_call;
	ELSE
		SELECT c.* INTO v_call FROM parley.tool_calls c
		 WHERE c.user_id = p_user AND c.conversation_id = p_key
		   AND c.turn = 0 AND c.run = 0 AND c.idx = 0 AND c.pos = 0;
	END IF;
	RETURN QUERY SELECT r.* FROM parley.call_row(v_call, v_state) r;
END
$$;
COMMENT ON FUNCTION parley.tool_call IS
    'Runs a SQL tool for a user outside any conversation, as parley_tool: its effect, its record (under a key of the caller''s choosing, as turn 0) and its result are one transaction. The same key gives the same result again and does nothing. No row: there is no such tool.';

CREATE OR REPLACE FUNCTION parley.tool_answer(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_pos int, p_result json, p_is_error boolean)
RETURNS TABLE (result json, is_error boolean, executed_at text, duration_ms int, error_state text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_call parley.tool_calls;
BEGIN
	SELECT c.* INTO v_call FROM parley.tool_calls c
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.idx = p_idx AND c.pos = p_pos FOR UPDATE;
	IF NOT FOUND OR v_call.result IS NULL THEN
		v_call := parley.call_store(p_user, p_conversation, p_turn, p_run, p_fence, p_idx, p_pos,
		    p_result, p_is_error, coalesce(v_call.started_at, clock_timestamp()));
	END IF;
	RETURN QUERY SELECT r.* FROM parley.call_row(v_call, NULL) r;
END
$$;
COMMENT ON FUNCTION parley.tool_answer IS 'Stores the result of a call that was found without running anything, or that a remote tool gave; a call that has its result keeps it.';

CREATE OR REPLACE FUNCTION parley.tool_start(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_pos int)
RETURNS TABLE (result json, is_error boolean, executed_at text, duration_ms int, error_state text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_call parley.tool_calls;
BEGIN
	SELECT c.* INTO v_call FROM parley.tool_calls c
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.idx = p_idx AND c.pos = p_pos FOR UPDATE;
	-- Whoever takes the turn over waits for this, and then sees that the call was sent.
	PERFORM FROM parley.turns t
	  WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	    AND t.run = p_run AND t.fence = p_fence AND t.state = 'running' FOR UPDATE;
	IF NOT FOUND OR v_call.id IS NULL THEN
		PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
	END IF;
	IF v_call.result IS NULL AND v_call.approval <> 'approved' THEN
		RAISE EXCEPTION 'the user has not said yes to this call' USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	IF v_call.result IS NULL THEN
		UPDATE parley.tool_calls c SET started_at = clock_timestamp()
		 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
		   AND c.idx = p_idx AND c.pos = p_pos;
	END IF;
	RETURN QUERY SELECT r.* FROM parley.call_row(v_call, NULL) r;
END
$$;
COMMENT ON FUNCTION parley.tool_start IS
    'A remote call is about to be sent: from now on a call without result has an unknown outcome. result is NULL, unless the call has one: then it must not be sent. One that the user has to approve is not sent before (55000).';

CREATE OR REPLACE FUNCTION parley.mcp_known(p_user text, p_server text, p_url text, p_era_key text)
RETURNS TABLE (era text, version text, session text)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', coalesce(p_user, ''), true);
BEGIN
	RETURN QUERY
	SELECT (SELECT f.value FROM parley.facts f WHERE f.key = p_era_key AND f.expires_at > clock_timestamp()),
	       s.version, s.session
	  FROM (SELECT) one
	  LEFT JOIN parley.mcp_sessions s ON s.user_id = p_user AND s.server = p_server AND s.url = p_url;
END
$$;
COMMENT ON FUNCTION parley.mcp_known IS
    'How an MCP server is spoken to: its revision, NULL: not known; and what this user has begun with it: the revision agreed on, and the session, if it has them.';

CREATE OR REPLACE FUNCTION parley.mcp_session_set(p_user text, p_server text, p_url text, p_version text, p_session text)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	INSERT INTO parley.mcp_sessions AS s (user_id, server, url, version, session, opened_at)
	VALUES (p_user, p_server, p_url, p_version, p_session, clock_timestamp())
	ON CONFLICT (user_id, server) DO UPDATE
	    SET url = excluded.url, version = excluded.version, session = excluded.session, opened_at = excluded.opened_at,
	        tools = CASE WHEN s.url = excluded.url THEN s.tools END,
	        tools_until = CASE WHEN s.url = excluded.url THEN s.tools_until END;
END
$$;
COMMENT ON FUNCTION parley.mcp_session_set IS 'A user''s session with an MCP server, instead of the one before.';

CREATE OR REPLACE FUNCTION parley.mcp_lists(p_user text)
RETURNS TABLE (server text, url text, tools text, left_ms bigint)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	RETURN QUERY
	SELECT s.server, s.url, s.tools, (extract(epoch FROM s.tools_until - clock_timestamp()) * 1000)::bigint
	  FROM parley.mcp_sessions s
	 WHERE s.user_id = p_user AND s.tools_until IS NOT NULL;
END
$$;
COMMENT ON FUNCTION parley.mcp_lists IS
    'The tools that MCP servers have shown this user, and for how long that counts; tools is NULL where there was no answer.';

CREATE OR REPLACE FUNCTION parley.mcp_list_set(p_user text, p_server text, p_url text, p_tools text, p_ms bigint)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	INSERT INTO parley.mcp_sessions AS s (user_id, server, url, opened_at, tools, tools_until)
	VALUES (p_user, p_server, p_url, clock_timestamp(), p_tools, clock_timestamp() + p_ms * interval '1 millisecond')
	ON CONFLICT (user_id, server) DO UPDATE
	    SET url = excluded.url, tools = excluded.tools, tools_until = excluded.tools_until,
	        version = CASE WHEN s.url = excluded.url THEN s.version END,
	        session = CASE WHEN s.url = excluded.url THEN s.session END;
END
$$;
COMMENT ON FUNCTION parley.mcp_list_set IS 'The tools that an MCP server has shown this user count for so many milliseconds; NULL: it did not answer.';

CREATE OR REPLACE FUNCTION parley.mcp_facts(p_keys json) RETURNS TABLE (key text, value text, left_ms bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT f.key, f.value, (extract(epoch FROM f.expires_at - clock_timestamp()) * 1000)::bigint
	  FROM parley.facts f
	 WHERE f.key IN (SELECT json_array_elements_text(p_keys)) AND f.expires_at > clock_timestamp();
END;
COMMENT ON FUNCTION parley.mcp_facts IS 'Which facts of a list of keys are there, and for how many milliseconds more.';
RESET ROLE;
