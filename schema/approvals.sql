-- Questions to the user: asked by a turn that then waits without a worker, decided once, by that user alone.
--
-- A tool whose comment has a line `@confirm` is not run before the user has said yes.  `@confirm NAME` names a
-- function (not in schema tools) that takes the arguments as one json and returns the question as text; it
-- runs as parley_tool, like the tool itself.
SET LOCAL ROLE parley_owner;

-- Earlier releases had these with other arguments or results.
DROP FUNCTION IF EXISTS parley.turn_cancel_waiting;

CREATE OR REPLACE FUNCTION parley.call_question(p_user text, p_tool text, p_args json) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_role text := current_setting('role');
	v_name text;
	v_text text;
BEGIN
	SELECT (regexp_match(f.comment, '(?n)^\s*@confirm[ \t]+([a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*)[ \t]*$'))[1] INTO v_name
	  FROM parley.tool_functions(p_tool) f;
	IF v_name IS NOT NULL THEN
		BEGIN
			PERFORM set_config('role', 'parley_tool', true);
			EXECUTE format('SELECT %s($1)::text', v_name::regproc) INTO v_text USING p_args;
			RESET ALL;
			PERFORM set_config('role', v_role, false), set_config('parley.user_id', p_user, true);
		-- A question that cannot be made is no reason not to ask.
		EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
			v_text := NULL;
		END;
	END IF;
	RETURN left(nullif(btrim(v_text), ''), 2000);
END
$$;
COMMENT ON FUNCTION parley.call_question IS 'The question that the author of a SQL tool has thought of for these arguments; NULL: none.';

CREATE OR REPLACE FUNCTION parley.calls_refuse(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_positions int[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz := clock_timestamp();
	v_n int;
	v_bytes int;
BEGIN
	WITH refused AS (
		UPDATE parley.tool_calls c
		   SET approval = 'refused', result = json_build_object('error', r.why), is_error = true,
		       executed_at = v_now, duration_ms = 0
		  FROM (SELECT c.pos, parley.tool_refuse(f.id, c.parameters, p_user) AS why
		          FROM parley.tool_calls c
		         CROSS JOIN LATERAL parley.tool_functions(c.tool_name) f
		         WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
		           AND c.idx = p_idx AND c.pos = ANY (p_positions) AND c.approval = 'needed') r
		 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
		   AND c.idx = p_idx AND c.pos = r.pos AND c.approval = 'needed' AND r.why IS NOT NULL
		RETURNING octet_length(c.result::text) / 4 + 8 AS tokens)
	SELECT count(*), sum(r.tokens) INTO v_n, v_bytes FROM refused r;
	UPDATE parley.turns t
	   SET open_calls = t.open_calls - v_n, messages = t.messages + v_n, tokens = t.tokens + v_bytes
	 WHERE v_n > 0 AND t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running';
	IF v_n > 0 AND NOT FOUND THEN
		PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
	END IF;
END
$$;
COMMENT ON FUNCTION parley.calls_refuse IS
    'Nobody is asked about what cannot be done: SQL tools'' calls whose arguments are wrong get the sentence about that as their result.';

CREATE OR REPLACE FUNCTION parley.turn_ask(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_positions int[], p_questions text[], p_expiry_ms bigint)
RETURNS TABLE (pos int, approval text, question text, expires_at text, result json, is_error boolean, executed_at text,
    duration_ms int)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_expires timestamptz := v_now + p_expiry_ms * interval '1 millisecond';
	v_turn parley.turns;
BEGIN
	PERFORM parley.calls_refuse(p_user, p_conversation, p_turn, p_run, p_fence, p_idx, p_positions);
	UPDATE parley.tool_calls c
	   SET approval = 'waiting', expires_at = v_expires,
	       question = coalesce(parley.call_question(p_user, c.tool_name, c.parameters), a.question)
	  FROM unnest(p_positions, p_questions) a (pos, question)
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.idx = p_idx AND c.pos = a.pos AND c.approval = 'needed';
	UPDATE parley.turns t
	   SET state = 'approval_required', asked_at = v_now, expires_at = v_expires
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running' AND t.cancel_requested_at IS NULL
	   AND EXISTS (SELECT FROM parley.tool_calls c
	                WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn
	                  AND c.run = p_run AND c.idx = p_idx AND c.approval = 'waiting');
	IF FOUND THEN
		DELETE FROM parley.live l WHERE l.user_id = p_user AND l.conversation_id = p_conversation;
	ELSE
		SELECT t.* INTO v_turn FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
		   AND t.run = p_run AND t.fence = p_fence
		   -- The answer to an earlier try may have been lost; or no call was worth a question.
		   AND (t.state = 'approval_required' OR t.state = 'running');
		IF NOT FOUND THEN
			PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
		ELSIF v_turn.cancel_requested_at IS NOT NULL THEN
			-- Nobody would be left to stop it.
			RAISE EXCEPTION 'the turn is to be cancelled' USING ERRCODE = 'PF002';
		END IF;
	END IF;
	RETURN QUERY
	SELECT c.pos, c.approval, c.question, parley.utc(c.expires_at), c.result, c.is_error, parley.utc(c.executed_at),
	       c.duration_ms
	  FROM parley.tool_calls c
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.idx = p_idx AND c.pos = ANY (p_positions)
	 ORDER BY c.pos;
END
$$;
COMMENT ON FUNCTION parley.turn_ask IS
    'The turn waits for the user''s word on these calls of its last step, without worker and lease. p_questions: what is asked where the tool''s author has not thought of a better one. Those of them that cannot be made whatever he says have their result instead (approval refused); when none is left to ask about, the turn runs on. Saying it again is harmless. PF002 also when the turn is to be cancelled.';

CREATE OR REPLACE FUNCTION parley.turn_deny(p_user text, p_conversation uuid, p_turn int, p_run int, p_ids uuid[],
    p_sentence text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz := clock_timestamp();
	v_result json := json_build_object('error', p_sentence);
	v_n int;
BEGIN
	UPDATE parley.tool_calls c
	   SET approval = 'denied', decided_at = v_now, result = v_result, is_error = true, executed_at = v_now, duration_ms = 0
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.approval = 'waiting' AND (p_ids IS NULL OR c.id = ANY (p_ids));
	GET DIAGNOSTICS v_n = ROW_COUNT;
	UPDATE parley.turns t
	   SET open_calls = t.open_calls - v_n, messages = t.messages + v_n,
	       tokens = t.tokens + v_n * (octet_length(v_result::text) / 4 + 8)
	 WHERE v_n > 0 AND t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
END
$$;
COMMENT ON FUNCTION parley.turn_deny IS 'The user says no to these waiting calls, or (p_ids NULL) to all of the turn; the sentence is their result, for the model.';

CREATE OR REPLACE FUNCTION parley.turn_resume(p_user text, p_conversation uuid, p_turn int, OUT run int, OUT fence bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	UPDATE parley.turns t
	   SET state = 'running', fence = t.fence + 1, attempts = 1, asked_at = NULL, expires_at = NULL,
	       deadline = t.deadline + (clock_timestamp() - t.asked_at)
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.state = 'approval_required'
	RETURNING t.run, t.fence INTO run, fence;
END
$$;
COMMENT ON FUNCTION parley.turn_resume IS 'All is decided: the turn runs again, and is the caller''s. The time that it waited does not count.';

CREATE OR REPLACE FUNCTION parley.turn_decide(p_user text, p_conversation uuid, p_ids uuid[], p_yes boolean[],
    p_key text, p_hash text, p_holds text[], p_history_messages int, p_history_tokens int)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_row parley.turn_row;
	v_turn parley.turns;
	v_found int;
	v_waiting int;
BEGIN
	PERFORM FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_conversation FOR UPDATE;
	IF NOT FOUND THEN
		v_row.outcome := 'not_found';
		RETURN NEXT v_row;
		RETURN;
	END IF;
	-- Under the lock: the same request at the same time has bound it until now.
	v_row := parley.key_find(p_user, p_key, p_hash);
	IF v_row.outcome IS NOT NULL THEN
		RETURN NEXT v_row;
		RETURN;
	END IF;

	-- All or nothing: a request that knows less than it thinks decides nothing.
	SELECT count(*), count(*) FILTER (WHERE c.approval = 'waiting' AND c.expires_at > clock_timestamp()), max(c.turn)
	  INTO v_found, v_waiting, v_row.turn
	  FROM (SELECT c.* FROM parley.tool_calls c
	         WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.id = ANY (p_ids)
	           AND c.approval IN ('waiting', 'approved', 'denied', 'expired') FOR UPDATE) c;
	v_row.conversation_id := p_conversation;
	IF v_found < cardinality(p_ids) OR v_waiting < v_found THEN
		v_row.outcome := CASE WHEN v_found < cardinality(p_ids) THEN 'unknown_call' ELSE 'decided' END;
		RETURN NEXT v_row;
		RETURN;
	END IF;
	SELECT t.* INTO v_turn FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = v_row.turn
	   AND t.state = 'approval_required' FOR UPDATE;
	IF NOT FOUND THEN
		v_row.outcome := 'decided';
		RETURN NEXT v_row;
		RETURN;
	END IF;

	UPDATE parley.tool_calls c SET approval = 'approved', decided_at = clock_timestamp()
	  FROM unnest(p_ids, p_yes) d (id, yes)
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = v_turn.turn AND c.run = v_turn.run
	   AND c.id = d.id AND d.yes;
	PERFORM parley.turn_deny(p_user, p_conversation, v_turn.turn, v_turn.run,
	    ARRAY(SELECT d.id FROM unnest(p_ids, p_yes) d (id, yes) WHERE NOT d.yes),
	    'The user said no to this call. It was not carried out.');
	PERFORM parley.key_bind(p_user, p_key, p_hash, p_conversation, v_turn.turn);
	IF EXISTS (SELECT FROM parley.tool_calls c
	            WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = v_turn.turn
	              AND c.run = v_turn.run AND c.approval = 'waiting') THEN
		v_row.outcome := 'known';
		RETURN NEXT v_row;
		RETURN;
	END IF;
	SELECT r.fence INTO v_row.fence FROM parley.turn_resume(p_user, p_conversation, v_turn.turn) r;
	RETURN QUERY SELECT l.* FROM parley.turn_load(p_user, p_conversation, v_turn.turn, v_row.fence,
	    p_holds, p_history_messages, p_history_tokens) l;
END
$$;
COMMENT ON FUNCTION parley.turn_decide IS
    'The user''s decisions on waiting calls. Outcome: begun, with the rows of turn_load, when all are decided: the turn is the caller''s; known, while some are missing (or p_key was used for this before); mismatch as in turn_begin; not_found: no such conversation; unknown_call: one of them is no question of this conversation; decided: one of them has been answered or has expired. The key also finds out about an answer that was lost, so there must be one. PF003: say it again.';

CREATE OR REPLACE FUNCTION parley.turn_word(p_turn parley.turns, p_yes boolean, p_message uuid, p_content text)
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	v_ids uuid[];
BEGIN
	v_ids := ARRAY(SELECT c.id FROM parley.tool_calls c
	                WHERE c.user_id = p_turn.user_id AND c.conversation_id = p_turn.conversation_id
	                  AND c.turn = p_turn.turn AND c.run = p_turn.run
	                  AND c.approval = 'waiting' AND c.expires_at > clock_timestamp() LIMIT 2);
	IF cardinality(v_ids) <> 1 THEN
		RETURN false;
	END IF;
	INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, created_at)
	SELECT p_turn.user_id, p_turn.conversation_id, p_turn.turn, p_turn.run, max(m.idx) + 1, p_message, 'user', p_content,
	       clock_timestamp()
	  FROM parley.messages m
	 WHERE m.user_id = p_turn.user_id AND m.conversation_id = p_turn.conversation_id
	   AND m.turn = p_turn.turn AND m.run = p_turn.run;
	UPDATE parley.turns t
	   SET messages = t.messages + 1, tokens = t.tokens + octet_length(p_content) / 4 + 8
	 WHERE t.user_id = p_turn.user_id AND t.conversation_id = p_turn.conversation_id AND t.turn = p_turn.turn;
	IF p_yes THEN
		UPDATE parley.tool_calls c SET approval = 'approved', decided_at = clock_timestamp()
		 WHERE c.user_id = p_turn.user_id AND c.conversation_id = p_turn.conversation_id
		   AND c.turn = p_turn.turn AND c.run = p_turn.run AND c.id = v_ids[1];
	ELSE
		PERFORM parley.turn_deny(p_turn.user_id, p_turn.conversation_id, p_turn.turn, p_turn.run, v_ids,
		    'The user said no to this call. It was not carried out.');
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION parley.turn_word IS
    'A message that is nothing but a yes or a no decides the one call that waits, and is a message of that turn; false: none waits, or more than one.';

CREATE FUNCTION parley.turn_cancel_waiting(p_user text, p_conversation uuid, p_turn int, p_error_code text)
RETURNS parley.turns
LANGUAGE plpgsql AS $$
DECLARE
	v_turn parley.turns;
BEGIN
	PERFORM parley.calls_close(p_user, p_conversation, p_turn, t.run)
	   FROM parley.turns t
	  WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
	-- With a new fence: who had asked the question must not take this end for his own, and the next turn with it.
	UPDATE parley.turns t
	   SET state = 'cancelled', fence = t.fence + 1, open_calls = 0, ended_at = clock_timestamp(), asked_at = NULL, expires_at = NULL,
	       error_code = p_error_code,
	       sentence = CASE p_error_code WHEN 'approval_expired' THEN 'The question was not answered in time.' END
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn AND t.state = 'approval_required'
	RETURNING t.* INTO v_turn;
	RETURN v_turn;
END
$$;
COMMENT ON FUNCTION parley.turn_cancel_waiting IS 'Cancels a turn that waits for a yes or no: the user wants that (p_error_code NULL), or the question has expired (approval_expired). Returns it, for usage_settle.';

CREATE OR REPLACE FUNCTION parley.turn_expire(p_user text, p_conversation uuid, p_turn int, p_fence bigint,
    p_take boolean, p_deadline_ms int) RETURNS parley.turn_row
LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz := clock_timestamp();
	v_row parley.turn_row;
	v_turn parley.turns;
BEGIN
	v_row.outcome := 'gone';
	-- Whoever has it is perhaps just deciding.
	PERFORM FROM parley.conversations c
	  WHERE c.user_id = p_user AND c.id = p_conversation FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN v_row;
	END IF;
	PERFORM FROM parley.turns t
	  WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	    AND t.fence = p_fence AND t.state = 'approval_required' AND t.expires_at < v_now FOR UPDATE;
	IF FOUND THEN
		v_turn := parley.turn_cancel_waiting(p_user, p_conversation, p_turn, 'approval_expired');
		v_row.outcome := 'ended';
		v_row.conversation_id := p_conversation;
		SELECT n.turn, n.run, n.fence INTO v_row.turn, v_row.run, v_row.fence
		  FROM parley.turn_next(p_user, p_conversation, v_now, p_take, p_deadline_ms) n;
		PERFORM parley.usage_settle(ARRAY[v_turn]);
	END IF;
	RETURN v_row;
END
$$;
COMMENT ON FUNCTION parley.turn_expire IS
    'Ends a turn whose question nobody has answered in time; part of turn_take. Outcome: ended, or gone.';
RESET ROLE;
