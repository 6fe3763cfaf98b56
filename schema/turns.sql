-- The life of a turn once it runs: its steps, its end, and who comes after it.
--
-- Each function is called as one statement, which is one transaction.  The first thing each does is to
-- name the user (set_config(…, true), so it ends with the transaction): row level security then shows
-- that user's rows only.  A write that finds the turn ended, taken over or gone
-- raises PF001 (PF002 when the turn's rows are gone) and leaves nothing behind.
--
-- Locks are taken in the order conversation, tool call, turn, so that nobody waits in a circle.  Calls of a turn that
-- waits for the user are touched by those only who hold the row of its conversation, and they may take the turn first.
-- What concerns all conversations of the user comes after these; see budgets.sql.
--
-- enable_seqscan is off in what is called for every turn: a plan that was made while parley.live was empty would read all of
-- it for each of ten thousand turns.
SET LOCAL ROLE parley_owner;

-- Earlier releases had these with other arguments or results.
DROP FUNCTION IF EXISTS parley.turn_step, parley.step_again, parley.turn_end, parley.turns_wait_no_more;

CREATE OR REPLACE FUNCTION parley.calls_close(p_user text, p_conversation uuid, p_turn int, p_run int) RETURNS int
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_n int;
BEGIN
	-- A SQL tool's effect and its result are one transaction: without a result nothing has happened,
	-- and one that is running now is waited for.  A remote call that was sent may have been done.
	UPDATE parley.tool_calls c
	   SET result = CASE WHEN c.started_at IS NULL
	           THEN '{"error":"This was not done: the turn ended before it could be."}'::json
	           ELSE '{"error":"The outcome of this call is unknown: it was sent, and the turn ended before there was an answer. It may have been carried out; look before doing it again."}'
	       END,
	       approval = CASE WHEN c.approval IN ('needed', 'waiting') THEN 'expired' ELSE c.approval END,
	       is_error = true, executed_at = clock_timestamp(), duration_ms = 0
	 WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = p_run
	   AND c.result IS NULL;
	GET DIAGNOSTICS v_n = ROW_COUNT;
	RETURN v_n;
END
$$;
COMMENT ON FUNCTION parley.calls_close IS 'Gives each call of a run that lacks a result one that says so; part of ending a turn.';

CREATE OR REPLACE FUNCTION parley.calls_json(p_user text, p_conversation uuid, p_turn int, p_run int, p_idx int) RETURNS json
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (SELECT json_agg(json_build_object('id', c.id, 'call_id', c.call_id, 'tool_name', c.tool_name,
	                   'parameters', c.parameters::text, 'broken', c.broken, 'result', c.result::text,
	                   'is_error', c.is_error, 'started', c.started_at IS NOT NULL,
	                   'approval', c.approval, 'question', c.question, 'expires_at', parley.utc(c.expires_at),
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
    p_input_tokens bigint, p_output_tokens bigint, p_calls json, p_estimated boolean, p_per_day bigint,
    p_next_tokens bigint, OUT created_at text, OUT budget_ms bigint)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_calls int := coalesce(json_array_length(p_calls), 0);
	v_turn parley.turns;
BEGIN
	UPDATE parley.turns t
	   SET open_calls = v_calls, steps = t.steps + 1, messages = t.messages + 1,
	       tokens = t.tokens + (octet_length(p_content) + coalesce(octet_length(p_calls::text), 0)) / 4 + 8,
	       input_tokens = t.input_tokens + coalesce(p_input_tokens, 0),
	       output_tokens = t.output_tokens + coalesce(p_output_tokens, 0), estimated = t.estimated OR p_estimated
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running' AND t.open_calls = 0
	   AND NOT EXISTS (SELECT FROM parley.messages m
	                    WHERE m.user_id = p_user AND m.conversation_id = p_conversation
	                      AND m.turn = p_turn AND m.run = p_run AND m.idx = p_idx)
	RETURNING t.* INTO v_turn;
	IF NOT FOUND THEN
		SELECT s.created_at, s.budget_ms INTO created_at, budget_ms
		  FROM parley.step_again(p_user, p_conversation, p_turn, p_run, p_fence, p_idx, p_id) s;
		RETURN;
	END IF;
	INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, raw, source, model,
	    calls, created_at)
	VALUES (p_user, p_conversation, p_turn, p_run, p_idx, p_id, 'assistant', p_content, p_raw, p_source, p_model,
	    v_calls, v_now);
	INSERT INTO parley.tool_calls (user_id, conversation_id, turn, run, idx, pos, id, call_id, tool_name,
	    parameters, broken, approval)
	SELECT p_user, p_conversation, p_turn, p_run, p_idx, c.place - 1, (c.call ->> 'id')::uuid, c.call ->> 'call_id',
	       c.call ->> 'tool_name', c.call -> 'parameters', c.call ->> 'broken',
	       CASE WHEN (c.call ->> 'confirm')::boolean THEN 'needed' END
	  FROM json_array_elements(p_calls) WITH ORDINALITY c (call, place);
	created_at := parley.utc(v_now);
	IF v_turn.reserved_on IS NOT NULL THEN
		budget_ms := parley.usage_extend(v_turn, p_per_day, p_next_tokens);
	END IF;
END
$$;
COMMENT ON FUNCTION parley.turn_step IS
    'Commits an assistant message with its calls [{id,call_id,tool_name,parameters,broken,confirm}], before any of them runs; returns created_at, and in budget_ms whether the model may be asked again (usage_extend; p_next_tokens: what that may need). Saying it again is harmless. Impossible while a call of the step before lacks its result (55000).';

CREATE OR REPLACE FUNCTION parley.step_again(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_idx int, p_id uuid, OUT created_at text, OUT budget_ms bigint)
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
	created_at := parley.utc(v_at);
	budget_ms := parley.budget_left(v_turn);
END
$$;
COMMENT ON FUNCTION parley.step_again IS 'Why a step could not be stored: it was already (returns what turn_step did), or it may not.';

CREATE OR REPLACE FUNCTION parley.turn_end(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_state text, p_error_code text, p_sentence text,
    p_idx int, p_id uuid, p_content text, p_raw json, p_source text, p_interrupted boolean,
    p_model text, p_input_tokens bigint, p_output_tokens bigint, p_timings json,
    p_take boolean, p_deadline_ms int, p_estimated boolean)
RETURNS TABLE (ended_at text, next_turn int, next_run int, next_fence bigint)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_day date;
	v_turn parley.turns;
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
	       model = p_model, input_tokens = p_input_tokens, output_tokens = p_output_tokens, timings = p_timings,
	       estimated = t.estimated OR p_estimated
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running'
	RETURNING t.reserved_on INTO v_day;
	IF NOT FOUND THEN
		RETURN QUERY SELECT * FROM parley.end_again(p_user, p_conversation, p_turn, p_run, p_fence, p_state);
		RETURN;
	END IF;
	-- A step that was given up on its way may have come in until the turn's row was free.
	IF p_state <> 'done' THEN
		PERFORM parley.calls_close(p_user, p_conversation, p_turn, p_run);
	END IF;
	IF p_id IS NOT NULL THEN
		INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, raw, source,
		    model, interrupted, created_at)
		VALUES (p_user, p_conversation, p_turn, p_run, p_idx, p_id, 'assistant', p_content, p_raw, p_source,
		    p_model, p_interrupted, v_now);
	END IF;
	DELETE FROM parley.live l WHERE l.user_id = p_user AND l.conversation_id = p_conversation;
	ended_at := parley.utc(v_now);
	IF EXISTS (SELECT FROM parley.turns t
	            WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'queued') THEN
		SELECT n.turn, n.run, n.fence INTO next_turn, next_run, next_fence
		  FROM parley.turn_next(p_user, p_conversation, v_now, p_take, p_deadline_ms) n;
	END IF;
	IF v_day IS NOT NULL THEN
		SELECT t.* INTO v_turn FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
		PERFORM parley.usage_settle(ARRAY[v_turn]);
	END IF;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION parley.turn_end IS
    'Stores the reply (p_id NULL: none) and ends the turn as done, failed or cancelled; ended_at says when. The tokens are those of the whole run (p_estimated: some of them are a guess); what was reserved for it is settled. Saying it again is harmless. A turn with open calls cannot be done; failed or cancelled, they get a result that says so. The next queued turn of the conversation begins to run: with p_take it is the caller''s (next_…), else anybody''s.';

CREATE OR REPLACE FUNCTION parley.end_again(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint,
    p_state text)
RETURNS TABLE (ended_at text, next_turn int, next_run int, next_fence bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_ended timestamptz;
BEGIN
	SELECT t.ended_at INTO v_ended FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = p_state;
	IF NOT FOUND THEN
		PERFORM parley.turn_lost(p_user, p_conversation, p_turn);
	END IF;
	ended_at := parley.utc(v_ended);
	-- What was handed on with the answer that got lost: it began in that moment, and nobody has it.
	SELECT t.turn, t.run, t.fence INTO next_turn, next_run, next_fence
	  FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn > p_turn
	   AND t.state = 'running' AND t.started_at = v_ended AND t.fence = 2
	   AND NOT EXISTS (SELECT FROM parley.live l
	                    WHERE l.user_id = p_user AND l.conversation_id = p_conversation);
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION parley.end_again IS 'What turn_end has answered already, when its answer was lost; PF001 and PF002 as in turn_lost.';

CREATE OR REPLACE FUNCTION parley.turn_next(p_user text, p_conversation uuid, p_now timestamptz, p_take boolean,
    p_deadline_ms int, OUT turn int, OUT run int, OUT fence bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	-- The first may be cancelled in this very moment: then it is the one behind it, for nobody else would see to that.
	LOOP
		UPDATE parley.turns t
		   SET state = 'running', fence = t.fence + 1, started_at = p_now,
		       deadline = p_now + p_deadline_ms * interval '1 millisecond'
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation
		   AND t.turn = (SELECT min(q.turn) FROM parley.turns q
		                  WHERE q.user_id = p_user AND q.conversation_id = p_conversation AND q.state = 'queued')
		   AND t.state = 'queued'
		RETURNING t.turn, t.run, t.fence INTO turn, run, fence;
		EXIT WHEN FOUND OR NOT EXISTS (SELECT FROM parley.turns q
		                                WHERE q.user_id = p_user AND q.conversation_id = p_conversation AND q.state = 'queued');
	END LOOP;
	IF turn IS NOT NULL AND NOT p_take THEN
		PERFORM parley.lease_release(p_user, p_conversation, turn, fence);
		turn := NULL;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.turn_next IS
    'The first queued turn of a conversation without a live one begins to run. With p_take the caller has it; else, and turn is NULL, it is released. Called while the row of the one before is locked.';

CREATE OR REPLACE FUNCTION parley.turn_cancel(p_user text, p_conversation uuid, p_turn int, p_take boolean, p_deadline_ms int)
RETURNS TABLE (outcome text, next_turn int, next_run int, next_fence bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_turn parley.turns;
BEGIN
	PERFORM FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_conversation FOR UPDATE;
	SELECT t.state INTO outcome FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn FOR UPDATE;
	IF NOT FOUND THEN
		outcome := 'not_found';
	ELSIF outcome = 'running' THEN
		UPDATE parley.turns t SET cancel_requested_at = coalesce(t.cancel_requested_at, clock_timestamp())
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
	ELSIF outcome = 'queued' THEN
		UPDATE parley.turns t SET state = 'cancelled', ended_at = clock_timestamp()
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
		RETURNING t.* INTO v_turn;
		PERFORM parley.usage_settle(ARRAY[v_turn]);
		outcome := 'cancelled';
	ELSIF outcome = 'approval_required' THEN
		v_turn := parley.turn_cancel_waiting(p_user, p_conversation, p_turn, NULL);
		SELECT n.turn, n.run, n.fence INTO next_turn, next_run, next_fence
		  FROM parley.turn_next(p_user, p_conversation, clock_timestamp(), p_take, p_deadline_ms) n;
		PERFORM parley.usage_settle(ARRAY[v_turn]);
		outcome := 'cancelled';
	ELSE
		outcome := 'ended';
	END IF;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION parley.turn_cancel IS
    'The user wants a turn to stop. outcome: running (its worker will be told by its pulse), cancelled (it had none), ended (nothing was to be stopped), not_found. next_…: the next queued turn, which is the caller''s now.';

CREATE OR REPLACE FUNCTION parley.turns_wait_no_more(p_user text, p_conversation uuid, p_turn int) RETURNS parley.turns[]
LANGUAGE plpgsql AS $$
DECLARE
	v_queued parley.turns[];
	v_waiting parley.turns[];
BEGIN
	IF EXISTS (SELECT FROM parley.turns t
	            WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'running') THEN
		RETURN NULL;
	END IF;
	WITH gone AS (
		UPDATE parley.turns t SET state = 'cancelled', ended_at = clock_timestamp()
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn > p_turn AND t.state = 'queued'
		RETURNING t)
	SELECT array_agg(g.t) INTO v_queued FROM gone g;
	v_waiting := ARRAY(SELECT parley.turn_cancel_waiting(p_user, p_conversation, t.turn, NULL)
	   FROM parley.turns t
	  WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn >= p_turn
	    AND t.state = 'approval_required');
	RETURN v_queued || v_waiting;
END
$$;
COMMENT ON FUNCTION parley.turns_wait_no_more IS
    'Before an earlier turn is asked anew: what waits, for its time or for the user, is cancelled, unless something runs. Returns these, for usage_settle. Called under the lock of the conversation.';
RESET ROLE;
