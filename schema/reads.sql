-- What clients read and rename and delete.  JSON is made here, in the shapes of the HTTP contract.
SET LOCAL ROLE parley_owner;

-- Earlier releases had these with other arguments or results.
DROP FUNCTION IF EXISTS parley.conversation_read, parley.turn_read;

CREATE OR REPLACE FUNCTION parley.approvals_json(p_user text, p_conversation uuid, p_turn int) RETURNS json
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (SELECT coalesce(json_agg(json_build_object('id', c.id, 'tool_name', c.tool_name, 'parameters', c.parameters,
	                   'question', c.question, 'expires_at', parley.utc(c.expires_at)) ORDER BY c.idx, c.pos), '[]')
	          FROM parley.tool_calls c
	         WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.approval = 'waiting');
END
$$;
COMMENT ON FUNCTION parley.approvals_json IS 'The calls of a turn that wait for the user, as clients see them.';

CREATE OR REPLACE FUNCTION parley.conversation_json(p parley.conversations) RETURNS json
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_turn int;
	v_state text;
BEGIN
	SELECT t.turn, t.state INTO v_turn, v_state
	  FROM parley.turns t
	 WHERE t.user_id = p.user_id AND t.conversation_id = p.id AND t.state IN ('running', 'approval_required');
	RETURN json_build_object('id', p.id, 'title', p.title, 'created_at', parley.utc(p.created_at),
	    'updated_at', parley.utc(p.updated_at), 'turns', p.turns, 'state', coalesce(v_state, 'idle'),
	    'live_turn', v_turn,
	    'queued', (SELECT count(*) FROM parley.turns t
	                WHERE t.user_id = p.user_id AND t.conversation_id = p.id AND t.state = 'queued'),
	    'approvals_required', CASE v_state WHEN 'approval_required' THEN parley.approvals_json(p.user_id, p.id, v_turn)
	                          ELSE '[]' END);
END
$$;
COMMENT ON FUNCTION parley.conversation_json IS 'A conversation as clients see it.';

CREATE OR REPLACE FUNCTION parley.message_json(p parley.messages, p_state text, p_error_code text) RETURNS json
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_calls json := '[]';
BEGIN
	IF p.calls > 0 THEN
		v_calls := (SELECT json_agg(CASE WHEN c.executed_at IS NULL
		                   THEN json_build_object('id', c.id, 'tool_name', c.tool_name, 'parameters', c.parameters,
		                       'result', NULL, 'is_error', false)
		                   ELSE json_build_object('id', c.id, 'tool_name', c.tool_name,
		                       'parameters', c.parameters, 'result', c.result, 'is_error', c.is_error,
		                       'executed_at', parley.utc(c.executed_at), 'duration_ms', c.duration_ms) END ORDER BY c.pos)
		              FROM parley.tool_calls c
		             WHERE c.user_id = p.user_id AND c.conversation_id = p.conversation_id
		               AND c.turn = p.turn AND c.run = p.run AND c.idx = p.idx);
	END IF;
	-- What means nothing for this message is left out, not null; stripping nulls would also reach into results.
	RETURN left(json_build_object('id', p.id, 'turn', p.turn, 'turn_state', p_state, 'run', p.run, 'role', p.role,
	        'content', p.content, 'created_at', parley.utc(p.created_at), 'tool_calls', v_calls)::text, -1)
	    || coalesce(', "error_code" : ' || to_json(p_error_code)::text, '')
	    || CASE WHEN p.interrupted THEN ', "interrupted" : true' ELSE '' END
	    || coalesce(', "model" : ' || to_json(p.model)::text, '') || '}';
END
$$;
COMMENT ON FUNCTION parley.message_json IS 'A message as clients see it, with its calls and what became of its turn.';

-- The index has the order.  Who has many conversations is rare, so a plan for everybody would rather sort all of the user's.
CREATE OR REPLACE FUNCTION parley.conversation_list(p_user text, p_limit int, p_before bigint, p_before_id uuid, p_q text)
RETURNS TABLE (conversation json, cursor text)
LANGUAGE plpgsql SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_like text := '%' || regexp_replace(p_q, '([\\%_])', '\\\1', 'g') || '%';
	v_before timestamptz := 'epoch'::timestamptz + p_before * interval '1 microsecond';
BEGIN
	RETURN QUERY
	SELECT parley.conversation_json(c), (extract(epoch FROM c.updated_at) * 1000000)::bigint || ',' || c.id
	  FROM parley.conversations c
	 WHERE c.user_id = p_user
	   AND (c.updated_at, c.id) < (coalesce(v_before, 'infinity'), coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
	   AND (v_like IS NULL OR c.title ILIKE v_like)
	 ORDER BY c.updated_at DESC, c.id DESC
	 LIMIT p_limit;
END
$$;
COMMENT ON FUNCTION parley.conversation_list IS
    'Conversations, newest activity first, older than a place (microseconds, id) where one is given; p_q: only titles that contain it, in any case. cursor is the place of the row.';

CREATE OR REPLACE FUNCTION parley.conversation_read(p_user text, p_id uuid, p_limit int, p_turn int, p_run int, p_idx int,
    p_all boolean)
RETURNS TABLE (conversation json, messages json, cursor text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_count bigint;
BEGIN
	SELECT parley.conversation_json(c) INTO conversation
	  FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_id;
	IF NOT FOUND THEN
		RETURN;
	END IF;

	-- Backwards along the key, one more than asked for: then there is an older page.
	WITH page AS (
		SELECT m, m.turn, m.run, m.idx, t.state, t.error_code,
		       row_number() OVER (ORDER BY m.turn DESC, m.run DESC, m.idx DESC) AS n
		  FROM parley.messages m
		 CROSS JOIN LATERAL (SELECT t.state, t.error_code
		                       FROM parley.turns t
		                      WHERE t.user_id = p_user AND t.conversation_id = p_id
		                        AND t.turn = m.turn AND (p_all OR t.run = m.run AND t.superseded_at IS NULL)
		                     OFFSET 0) t
		 WHERE m.user_id = p_user AND m.conversation_id = p_id
		   AND (m.turn, m.run, m.idx) < (coalesce(p_turn, 2147483647), coalesce(p_run, 0), coalesce(p_idx, 0))
		 ORDER BY m.turn DESC, m.run DESC, m.idx DESC
		 LIMIT p_limit + 1)
	SELECT coalesce(json_agg(parley.message_json(p.m, p.state, p.error_code) ORDER BY p.n DESC)
	           FILTER (WHERE p.n <= p_limit), '[]'),
	       max(concat_ws(',', p.turn, p.run, p.idx)) FILTER (WHERE p.n = p_limit),
	       count(*)
	  INTO messages, cursor, v_count
	  FROM page p;
	IF v_count <= p_limit THEN
		cursor := NULL;
	END IF;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION parley.conversation_read IS
    'A conversation with its newest messages, or those before a place (turn, run, idx), oldest first; p_all: those of earlier runs and of superseded turns as well; cursor is the place to go on from, NULL at the beginning. No row: there is no such conversation.';

CREATE OR REPLACE FUNCTION parley.conversation_rename(p_user text, p_id uuid, p_title text) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_row parley.conversations;
BEGIN
	UPDATE parley.conversations c SET title = p_title
	 WHERE c.user_id = p_user AND c.id = p_id
	RETURNING c.* INTO v_row;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	RETURN parley.conversation_json(v_row);
END
$$;
COMMENT ON FUNCTION parley.conversation_rename IS 'Gives a conversation a title and returns it; NULL: there is no such conversation.';

CREATE OR REPLACE FUNCTION parley.conversation_delete(p_user text, p_id uuid) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_live parley.turns[];
BEGIN
	DELETE FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_id;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	-- A tool that runs holds its call: it is waited for here.  Once the turns are gone nothing can be added,
	-- and what was added until then is seen by the statements after it.
	PERFORM FROM parley.tool_calls c
	  WHERE c.user_id = p_user AND c.conversation_id = p_id AND c.result IS NULL FOR UPDATE;
	WITH gone AS (
		DELETE FROM parley.turns t WHERE t.user_id = p_user AND t.conversation_id = p_id
		RETURNING t, t.state, t.reserved_on)
	SELECT array_agg(g.t) INTO v_live FROM gone g
	 WHERE g.reserved_on IS NOT NULL AND g.state IN ('queued', 'running', 'approval_required');
	DELETE FROM parley.tool_calls c WHERE c.user_id = p_user AND c.conversation_id = p_id;
	DELETE FROM parley.messages m WHERE m.user_id = p_user AND m.conversation_id = p_id;
	DELETE FROM parley.live l WHERE l.user_id = p_user AND l.conversation_id = p_id;
	DELETE FROM parley.feedback f WHERE f.user_id = p_user AND f.conversation_id = p_id;
	IF v_live IS NOT NULL THEN
		PERFORM parley.usage_settle(v_live);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION parley.conversation_delete IS
    'Deletes a conversation and all that is in it; false: there is none. A turn that runs meets its fence at its next write, and its pulse tells it to stop.';

CREATE OR REPLACE FUNCTION parley.turn_read(p_user text, p_conversation uuid, p_turn int, p_text boolean)
RETURNS TABLE (turn int, run int, idx int, id uuid, role text, content text, raw json, source text,
    turn_state text, error_code text, interrupted boolean, created_at text, calls json,
    sentence text, model text, input_tokens bigint, output_tokens bigint, ahead int, digest text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_turn parley.turns;
	v_live parley.live;
	v_before int;
	v_ahead int;
	v_digest text;
BEGIN
	-- First how far it is, then what there is: what comes between shows as a change the next time.
	SELECT t.* INTO v_turn FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	IF v_turn.state = 'approval_required' THEN
		-- It is over for who asks now, so its questions must be those of this state: not decided while they are read.
		SELECT t.* INTO v_turn FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn FOR SHARE;
		IF NOT FOUND THEN
			RETURN;
		END IF;
	END IF;
	IF v_turn.state = 'queued' THEN
		SELECT count(*), min(t.turn) FILTER (WHERE t.state <> 'queued') INTO v_ahead, v_before
		  FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn < p_turn
		   AND t.state IN ('queued', 'running', 'approval_required');
	ELSIF v_turn.state = 'running' AND p_text THEN
		SELECT l.* INTO v_live FROM parley.live l
		 WHERE l.user_id = p_user AND l.conversation_id = p_conversation AND l.turn = p_turn AND l.fence = v_turn.fence;
	END IF;
	v_digest := parley.turn_digest(v_turn.state, v_turn.run, v_turn.fence, v_turn.messages, v_turn.open_calls,
	    v_before, v_live.bytes);

	RETURN QUERY
	SELECT m.turn, m.run, m.idx, m.id, m.role, m.content, m.raw, m.source,
	       v_turn.state, v_turn.error_code, m.interrupted, parley.utc(m.created_at),
	       CASE WHEN m.calls > 0 THEN parley.calls_json(p_user, p_conversation, m.turn, m.run, m.idx) END,
	       v_turn.sentence, v_turn.model, v_turn.input_tokens, v_turn.output_tokens, v_ahead, v_digest
	  FROM parley.messages m
	 WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = p_turn AND m.run = v_turn.run
	 ORDER BY m.idx;
	IF v_live.bytes > 0 AND NOT EXISTS (SELECT FROM parley.messages m
	    WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = p_turn AND m.run = v_turn.run
	      AND m.idx >= v_live.idx) THEN
		RETURN QUERY
		SELECT p_turn, v_turn.run, v_live.idx, NULL::uuid, 'assistant', v_live.partial, NULL::json, NULL::text,
		       v_turn.state, NULL::text, true, NULL::text, NULL::json,
		       NULL::text, NULL::text, NULL::bigint, NULL::bigint, NULL::int, NULL::text;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.turn_read IS
    'The newest run of a turn: one row for each message, the turn''s state on all of them. ahead: of a queued one, how many are before it. digest: for the pulse, to learn of changes. p_text: what has been said of the present step comes as a last row without id. No row: there is no such turn.';
RESET ROLE;
