-- The life of a turn: begin, step, answer, end, and the pulse between.
--
-- Each function is called as one statement, which is one transaction.  The first thing each does is to
-- name the user (set_config(…, true), so it ends with the transaction): row level security then shows
-- that user's rows only.  A write that finds the turn ended, taken over or gone
-- raises PF001 (PF002 when the turn's rows are gone) and leaves nothing behind.
--
-- Locks are taken in the order conversation, tool call, turn, so that nobody waits in a circle.
SET LOCAL ROLE parley_owner;

CREATE OR REPLACE FUNCTION parley.calls_close(p_user text, p_conversation uuid, p_turn int, p_run int) RETURNS int
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_n int;
BEGIN
	-- A SQL tool's effect and its result are one transaction: without a result nothing has happened,
	-- and one that is running now is waited for.
	UPDATE parley.tool_calls c
	   SET result = '{"error":"This was not done: the turn ended before it could be."}',
	       is_error = true, executed_at = clock_timestamp(), duration_ms = 0
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.result IS NULL;
	GET DIAGNOSTICS v_n = ROW_COUNT;
	RETURN v_n;
END
$$;
COMMENT ON FUNCTION parley.calls_close IS 'Gives each call of a run that lacks a result one that says so; part of ending a turn.';

CREATE OR REPLACE FUNCTION parley.turn_occupies(p_user text, p_conversation uuid, p_lease_ms int) RETURNS int
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_turn parley.turns;
BEGIN
	SELECT t.* INTO v_turn
	  FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation
	   AND t.state IN ('running', 'approval_required');
	IF NOT FOUND OR v_turn.state = 'approval_required' THEN
		RETURN v_turn.turn;
	END IF;

	-- No lease yet, or the database lost it in a crash: the owner gets the full time to claim it.
	INSERT INTO parley.live AS l (user_id, conversation_id, turn, fence, lease_until)
	VALUES (p_user, p_conversation, v_turn.turn, v_turn.fence,
	    clock_timestamp() + p_lease_ms * interval '1 millisecond')
	ON CONFLICT (user_id, conversation_id) DO UPDATE
	    SET turn = excluded.turn, fence = excluded.fence, lease_until = excluded.lease_until, partial = NULL
	    WHERE (l.turn, l.fence) <> (excluded.turn, excluded.fence);

	-- The lease is judged under its row lock, so a pulse that comes now is either before this or too late.
	DELETE FROM parley.live l
	 WHERE l.user_id = p_user AND l.conversation_id = p_conversation AND l.lease_until < clock_timestamp();
	IF NOT FOUND THEN
		RETURN v_turn.turn;
	END IF;
	PERFORM parley.calls_close(p_user, p_conversation, v_turn.turn, v_turn.run);
	UPDATE parley.turns t
	   SET state = 'failed', fence = t.fence + 1, open_calls = 0, ended_at = clock_timestamp(),
	       error_code = 'turn_abandoned',
	       sentence = 'The server lost this turn while it ran. Please try again.'
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = v_turn.turn
	   AND t.state = 'running' AND t.fence = v_turn.fence;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION parley.turn_occupies IS
    'The live turn of a conversation, or NULL; one whose lease has expired is ended as turn_abandoned. Called under the lock of the conversation.';

CREATE OR REPLACE FUNCTION parley.turn_begin(p_user text, p_conversation uuid, p_new uuid, p_create boolean,
    p_message uuid, p_content text, p_zone text, p_holds text[],
    p_history_messages int, p_history_tokens int, p_deadline_ms int, p_lease_ms int)
RETURNS TABLE (outcome text, conversation_id uuid, turn int, run int, fence bigint, idx int, id uuid,
    role text, content text, raw json, source text, interrupted boolean, turn_state text, error_code text,
    calls json, created_at text, local_time text, holds bigint[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_id uuid := p_conversation;
	v_tokens int := octet_length(p_content) / 4 + 8;
	v_turn int;
	v_busy int;
	v_now timestamptz;
	v_from int;
	-- Turns in the history that are not simply done.
	v_odd int[];
	v_runs int[];
	v_states text[];
	v_codes text[];
BEGIN
	-- The conversation's row lock makes those who come together stand in line.
	IF v_id IS NOT NULL THEN
		UPDATE parley.conversations c
		   SET turns = c.turns + 1, updated_at = clock_timestamp()
		 WHERE c.user_id = p_user AND c.id = v_id
		RETURNING c.turns, c.updated_at INTO v_turn, v_now;
	END IF;
	IF v_turn IS NULL THEN
		IF v_id IS NOT NULL AND NOT p_create THEN
			outcome := 'not_found';
			RETURN NEXT;
			RETURN;
		END IF;
		v_id := p_new;
		v_turn := 1;
		v_now := clock_timestamp();
		INSERT INTO parley.conversations (user_id, id, title, turns, created_at, updated_at)
		VALUES (p_user, v_id, left(regexp_replace(p_content, '\s+', ' ', 'g'), 80), 1, v_now, v_now);
	END IF;

	LOOP
		INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline)
		VALUES (p_user, v_id, v_turn, 'running', v_tokens, p_zone, v_now,
		    v_now + p_deadline_ms * interval '1 millisecond')
		ON CONFLICT (user_id, conversation_id) WHERE state IN ('running', 'approval_required') DO NOTHING;
		EXIT WHEN FOUND;

		v_busy := parley.turn_occupies(p_user, v_id, p_lease_ms);
		IF v_busy IS NOT NULL THEN
			-- As if it had not been asked.
			UPDATE parley.conversations c
			   SET turns = c.turns - 1,
			       updated_at = (SELECT t.started_at FROM parley.turns t
			                      WHERE t.user_id = p_user AND t.conversation_id = v_id AND t.turn = v_busy)
			 WHERE c.user_id = p_user AND c.id = v_id;
			outcome := 'busy';
			conversation_id := v_id;
			turn := v_busy;
			RETURN NEXT;
			RETURN;
		END IF;
	END LOOP;

	INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, created_at)
	VALUES (p_user, v_id, v_turn, 1, 0, p_message, 'user', p_content, v_now);

	-- The cut: whole turns, newest first, while both budgets last.  This turn is always in.
	IF v_turn > 1 THEN
		SELECT min(h.turn), array_agg(h.turn) FILTER (WHERE h.odd), array_agg(h.run) FILTER (WHERE h.odd),
		       array_agg(h.state) FILTER (WHERE h.odd), array_agg(h.error_code) FILTER (WHERE h.odd)
		  INTO v_from, v_odd, v_runs, v_states, v_codes
		  FROM (SELECT b.*, b.run <> 1 OR b.state <> 'done' AS odd,
		               sum(b.messages) OVER back AS all_messages, sum(b.tokens) OVER back AS all_tokens
		          FROM (SELECT t.turn, t.run, t.state, t.error_code, t.messages, t.tokens
		                  FROM parley.turns t
		                 WHERE t.user_id = p_user AND t.conversation_id = v_id AND t.turn < v_turn
		                 ORDER BY t.turn DESC
		                 -- A turn has a message at least, and a message eight tokens.
		                 LIMIT least(nullif(p_history_messages, 0), nullif(p_history_tokens, 0) / 8)) b
		        WINDOW back AS (ORDER BY b.turn DESC ROWS UNBOUNDED PRECEDING)) h
		 WHERE (p_history_messages = 0 OR h.all_messages < p_history_messages)
		   AND (p_history_tokens = 0 OR h.all_tokens + v_tokens <= p_history_tokens);
	END IF;

	-- One walk along the key, not a join: what is to be known of a turn is known already, and
	-- most turns have one run and are done.  Four times as fast, and never quadratic.
	IF v_from IS NOT NULL THEN
		RETURN QUERY
		SELECT 'begun', NULL::uuid, m.turn, m.run, NULL::bigint, m.idx, m.id, m.role, m.content, m.raw, m.source,
		       m.interrupted, coalesce(v_states[array_position(v_odd, m.turn)], 'done'),
		       v_codes[array_position(v_odd, m.turn)],
		       CASE WHEN m.calls > 0 THEN parley.calls_json(p_user, v_id, m.turn, m.run, m.idx) END,
		       NULL::text, NULL::text, NULL::bigint[]
		  FROM parley.messages m
		 WHERE m.user_id = p_user AND m.conversation_id = v_id AND m.turn >= v_from AND m.turn < v_turn
		   AND m.run = coalesce(v_runs[array_position(v_odd, m.turn)], 1)
		 ORDER BY m.turn, m.run, m.idx;
	END IF;

	outcome := 'begun';
	conversation_id := v_id;
	turn := v_turn;
	run := 1;
	fence := 1;
	idx := 0;
	id := p_message;
	role := 'user';
	content := p_content;
	interrupted := false;
	turn_state := 'running';
	created_at := parley.utc(v_now);
	local_time := to_char(v_now AT TIME ZONE coalesce(p_zone, 'UTC'), 'FMDay, YYYY-MM-DD HH24:MI')
	    || ' (' || coalesce(p_zone, 'UTC') || ')';
	-- Hardly ever is there one, and looking is cheaper than telling.
	IF EXISTS (SELECT FROM parley.facts f WHERE f.key = ANY (p_holds)) THEN
		holds := parley.holds(p_holds, v_now);
	END IF;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION parley.turn_begin IS
    'Stores the user''s message and its turn, and reads the history that goes to the model, oldest first; the last row is the new message and says what concerns the whole turn. outcome: begun, busy (turn says which), not_found. holds: milliseconds until each fact of p_holds expires, NULL: none of them. Unknown p_zone: 22023.';

CREATE OR REPLACE FUNCTION parley.holds(p_keys text[], p_now timestamptz) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (SELECT array_agg(coalesce((SELECT ceil(extract(epoch FROM f.expires_at - p_now) * 1000)::bigint
	                                     FROM parley.facts f
	                                    WHERE f.key = k.key AND f.expires_at > p_now), 0) ORDER BY k.place)
	          FROM unnest(p_keys) WITH ORDINALITY k (key, place));
END
$$;
COMMENT ON FUNCTION parley.holds IS 'For each of these facts the milliseconds until it expires; 0: there is none.';

CREATE OR REPLACE FUNCTION parley.calls_json(p_user text, p_conversation uuid, p_turn int, p_run int, p_idx int) RETURNS json
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (SELECT json_agg(json_build_object('id', c.id, 'call_id', c.call_id, 'tool_name', c.tool_name,
	                   'parameters', c.parameters::text, 'broken', c.broken, 'result', c.result::text,
	                   'is_error', c.is_error,
	                   'executed_at', parley.utc(c.executed_at), 'duration_ms', c.duration_ms) ORDER BY c.pos)
	          FROM parley.tool_calls c
	         WHERE c.user_id = p_user AND c.conversation_id = p_conversation
	           AND c.turn = p_turn AND c.run = p_run AND c.idx = p_idx);
END
$$;
COMMENT ON FUNCTION parley.calls_json IS 'The calls of a message, for the worker; parameters and result are JSON texts inside strings, so that they come through as they are.';

CREATE OR REPLACE FUNCTION parley.turn_lost(p_user text, p_conversation uuid, p_turn int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM parley.turns t
	            WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn) THEN
		RAISE EXCEPTION 'the turn belongs to another or has ended' USING ERRCODE = 'PF001';
	END IF;
	RAISE EXCEPTION 'the conversation has been deleted' USING ERRCODE = 'PF002';
END
$$;
COMMENT ON FUNCTION parley.turn_lost IS 'Never returns: says why a turn cannot be written, PF001 (another''s, or ended) or PF002 (deleted).';

CREATE OR REPLACE FUNCTION parley.turn_step(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_id uuid, p_content text, p_raw json, p_source text, p_model text,
    p_input_tokens bigint, p_output_tokens bigint, p_calls json) RETURNS text
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_calls int := coalesce(json_array_length(p_calls), 0);
BEGIN
	UPDATE parley.turns t
	   SET open_calls = v_calls, steps = t.steps + 1, messages = t.messages + 1,
	       tokens = t.tokens + (octet_length(p_content) + coalesce(octet_length(p_calls::text), 0)) / 4 + 8,
	       input_tokens = t.input_tokens + coalesce(p_input_tokens, 0),
	       output_tokens = t.output_tokens + coalesce(p_output_tokens, 0)
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running' AND t.open_calls = 0
	   AND NOT EXISTS (SELECT FROM parley.messages m
	                    WHERE m.user_id = p_user AND m.conversation_id = p_conversation
	                      AND m.turn = p_turn AND m.run = p_run AND m.idx = p_idx);
	IF NOT FOUND THEN
		RETURN parley.step_again(p_user, p_conversation, p_turn, p_run, p_fence, p_idx, p_id);
	END IF;
	INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, raw, source, model,
	    calls, created_at)
	VALUES (p_user, p_conversation, p_turn, p_run, p_idx, p_id, 'assistant', p_content, p_raw, p_source, p_model,
	    v_calls, v_now);
	INSERT INTO parley.tool_calls (user_id, conversation_id, turn, run, idx, pos, id, call_id, tool_name,
	    parameters, broken)
	SELECT p_user, p_conversation, p_turn, p_run, p_idx, c.place - 1, (c.call ->> 'id')::uuid, c.call ->> 'call_id',
	       c.call ->> 'tool_name', c.call -> 'parameters', c.call ->> 'broken'
	  FROM json_array_elements(p_calls) WITH ORDINALITY c (call, place);
	RETURN parley.utc(v_now);
END
$$;
COMMENT ON FUNCTION parley.turn_step IS
    'Commits an assistant message with its calls [{id,call_id,tool_name,parameters,broken}], before any of them runs; returns created_at. Saying it again is harmless. Impossible while a call of the step before lacks its result (55000).';

CREATE OR REPLACE FUNCTION parley.step_again(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_id uuid) RETURNS text
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_turn parley.turns;
	v_at timestamptz;
BEGIN
	SELECT t.* INTO v_turn FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running';
	IF NOT FOUND THEN
		PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
	END IF;
	SELECT m.created_at INTO v_at FROM parley.messages m
	 WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = p_turn AND m.run = p_run
	   AND m.idx = p_idx AND m.id = p_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the step before is not complete: % calls lack their result', v_turn.open_calls
		    USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	RETURN parley.utc(v_at);
END
$$;
COMMENT ON FUNCTION parley.step_again IS 'Why a step could not be stored: it was already (returns its created_at), or it may not.';

CREATE OR REPLACE FUNCTION parley.turn_end(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_state text, p_error_code text, p_sentence text,
    p_idx int, p_id uuid, p_content text, p_raw json, p_source text, p_interrupted boolean,
    p_model text, p_input_tokens bigint, p_output_tokens bigint, p_timings json) RETURNS text
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
BEGIN
	IF p_state <> 'done' THEN
		PERFORM parley.calls_close(p_user, p_conversation, p_turn, p_run)
		   FROM parley.turns t
		  WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
		    AND t.run = p_run AND t.fence = p_fence AND t.state = 'running' AND t.open_calls > 0;
	END IF;
	-- With p_state done an open call stops this: the table's constraint says no.
	UPDATE parley.turns t
	   SET state = p_state, ended_at = v_now, error_code = p_error_code, sentence = p_sentence,
	       open_calls = CASE p_state WHEN 'done' THEN t.open_calls ELSE 0 END,
	       messages = t.messages + CASE WHEN p_id IS NULL THEN 0 ELSE 1 END,
	       tokens = t.tokens + CASE WHEN p_id IS NULL THEN 0 ELSE octet_length(p_content) / 4 + 8 END,
	       model = p_model, input_tokens = p_input_tokens, output_tokens = p_output_tokens, timings = p_timings
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running';
	IF NOT FOUND THEN
		-- The answer to an earlier try may have been lost.
		SELECT t.ended_at INTO v_now FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
		   AND t.run = p_run AND t.fence = p_fence AND t.state = p_state;
		IF NOT FOUND THEN
			PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
		END IF;
		RETURN parley.utc(v_now);
	END IF;
	IF p_id IS NOT NULL THEN
		INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, raw, source,
		    model, interrupted, created_at)
		VALUES (p_user, p_conversation, p_turn, p_run, p_idx, p_id, 'assistant', p_content, p_raw, p_source,
		    p_model, p_interrupted, v_now);
	END IF;
	DELETE FROM parley.live l WHERE l.user_id = p_user AND l.conversation_id = p_conversation;
	RETURN parley.utc(v_now);
END
$$;
COMMENT ON FUNCTION parley.turn_end IS
    'Stores the reply (p_id NULL: none) and ends the turn as done, failed or cancelled; returns when. Saying it again is harmless. A turn with open calls cannot be done; failed or cancelled, they get a result that says so.';

CREATE OR REPLACE FUNCTION parley.pulse(p_lease_ms int, p_users text[], p_conversations uuid[], p_turns int[],
    p_fences bigint[], p_partials text[])
RETURNS TABLE (place int, stop text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	-- Not one upsert: excluded.partial would need the right to read the text, and this role has none.
	UPDATE parley.live l
	   SET turn = p.turn, fence = p.fence, partial = p.partial,
	       lease_until = clock_timestamp() + p_lease_ms * interval '1 millisecond'
	  FROM unnest(p_users, p_conversations, p_turns, p_fences, p_partials)
	           p (user_id, conversation_id, turn, fence, partial)
	  JOIN parley.turns t
	    ON t.user_id = p.user_id AND t.conversation_id = p.conversation_id AND t.turn = p.turn
	   AND t.fence = p.fence AND t.state = 'running'
	 WHERE l.user_id = p.user_id AND l.conversation_id = p.conversation_id;
	INSERT INTO parley.live (user_id, conversation_id, turn, fence, lease_until, partial)
	SELECT p.user_id, p.conversation_id, p.turn, p.fence,
	       clock_timestamp() + p_lease_ms * interval '1 millisecond', p.partial
	  FROM unnest(p_users, p_conversations, p_turns, p_fences, p_partials)
	           p (user_id, conversation_id, turn, fence, partial)
	  JOIN parley.turns t
	    ON t.user_id = p.user_id AND t.conversation_id = p.conversation_id AND t.turn = p.turn
	   AND t.fence = p.fence AND t.state = 'running'
	 WHERE NOT EXISTS (SELECT FROM parley.live l
	                    WHERE l.user_id = p.user_id AND l.conversation_id = p.conversation_id)
	ON CONFLICT (user_id, conversation_id) DO NOTHING;

	RETURN QUERY
	SELECT p.place::int,
	       CASE WHEN t.turn IS NULL OR t.cancel_requested_at IS NOT NULL AND t.fence = p.fence AND t.state = 'running'
	            THEN 'cancelled' ELSE 'fenced' END
	  FROM unnest(p_users, p_conversations, p_turns, p_fences)
	           WITH ORDINALITY p (user_id, conversation_id, turn, fence, place)
	  LEFT JOIN parley.turns t
	    ON t.user_id = p.user_id AND t.conversation_id = p.conversation_id AND t.turn = p.turn
	 WHERE t.turn IS NULL OR t.fence <> p.fence OR t.state <> 'running' OR t.cancel_requested_at IS NOT NULL
	 ORDER BY p.place;
END
$$;
COMMENT ON FUNCTION parley.pulse IS
    'A worker''s heartbeat for all its turns: renews their leases, keeps their partial text, and returns the places (from 1) of those that must stop: cancelled (asked to, or gone) or fenced (taken over or ended).';

-- It belongs to the role that may look across users, and to no other right.
GRANT CREATE ON SCHEMA parley TO parley_pulse;
RESET ROLE;
ALTER FUNCTION parley.pulse OWNER TO parley_pulse;
SET LOCAL ROLE parley_owner;
REVOKE CREATE ON SCHEMA parley FROM parley_pulse;
RESET ROLE;
