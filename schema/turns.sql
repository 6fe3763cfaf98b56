-- The life of a turn: begin, step, answer, end; the pulse between; and what becomes of it when its worker goes.
--
-- Each function is called as one statement, which is one transaction.  The first thing each does is to
-- name the user (set_config(…, true), so it ends with the transaction): row level security then shows
-- that user's rows only.  A write that finds the turn ended, taken over or gone
-- raises PF001 (PF002 when the turn's rows are gone) and leaves nothing behind.
--
-- Locks are taken in the order conversation, tool call, turn, so that nobody waits in a circle.  Calls of a turn that
-- waits for the user are touched by those only who hold the row of its conversation, and they may take the turn first.
SET LOCAL ROLE parley_owner;

-- Earlier releases had these with other arguments or results.
DROP FUNCTION IF EXISTS parley.turn_occupies, parley.turn_begin, parley.turn_end, parley.turn_retry, parley.pulse, parley.turns_expired;

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

CREATE OR REPLACE FUNCTION parley.key_find(p_user text, p_key text, p_hash text) RETURNS parley.turn_row
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_key parley.idempotency_keys;
	v_row parley.turn_row;
BEGIN
	SELECT k.* INTO v_key FROM parley.idempotency_keys k
	 WHERE k.user_id = p_user AND k.key = p_key AND k.created_at > clock_timestamp() - interval '24 hours';
	IF FOUND THEN
		v_row.outcome := CASE WHEN v_key.body_hash = p_hash THEN 'known' ELSE 'mismatch' END;
		v_row.conversation_id := v_key.conversation_id;
		v_row.turn := v_key.turn;
	END IF;
	RETURN v_row;
END
$$;
COMMENT ON FUNCTION parley.key_find IS
    'The turn that a key is bound to: outcome known, or mismatch when it was bound by another request; NULL: it is free.';

CREATE OR REPLACE FUNCTION parley.key_bind(p_user text, p_key text, p_hash text, p_conversation uuid, p_turn int)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM parley.idempotency_keys k
	 WHERE k.user_id = p_user AND k.created_at <= clock_timestamp() - interval '24 hours';
	INSERT INTO parley.idempotency_keys (user_id, key, body_hash, conversation_id, turn, created_at)
	VALUES (p_user, p_key, p_hash, p_conversation, p_turn, clock_timestamp())
	ON CONFLICT (user_id, key) DO NOTHING;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the key was bound in this moment' USING ERRCODE = 'PF003';
	END IF;
END
$$;
COMMENT ON FUNCTION parley.key_bind IS
    'Binds a key to a turn. PF003: somebody else was faster, and all that this statement did is undone; said again it will find that turn.';

CREATE OR REPLACE FUNCTION parley.turn_time(p_at timestamptz, p_zone text) RETURNS text
LANGUAGE sql STABLE
RETURN to_char(p_at AT TIME ZONE coalesce(p_zone, 'UTC'), 'FMDay, YYYY-MM-DD HH24:MI')
    || ' (' || coalesce(p_zone, 'UTC') || ')';
COMMENT ON FUNCTION parley.turn_time IS 'Date, time and zone, as the model is told them.';

CREATE OR REPLACE FUNCTION parley.history(p_user text, p_conversation uuid, p_turn int, p_own_tokens int,
    p_max_messages int, p_max_tokens int)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_from int;
	-- Turns in the history that are not simply done.
	v_odd int[];
	v_runs int[];
	v_states text[];
	v_codes text[];
	v_superseded int[] := ARRAY(SELECT t.turn FROM parley.turns t
	    WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn < p_turn
	      AND t.superseded_at IS NOT NULL);
BEGIN
	-- The cut: whole turns, newest first, while both budgets last.
	SELECT min(h.turn), array_agg(h.turn) FILTER (WHERE h.odd), array_agg(h.run) FILTER (WHERE h.odd),
	       array_agg(h.state) FILTER (WHERE h.odd), array_agg(h.error_code) FILTER (WHERE h.odd)
	  INTO v_from, v_odd, v_runs, v_states, v_codes
	  FROM (SELECT b.*, b.run <> 1 OR b.state <> 'done' AS odd,
	               sum(b.messages) OVER back AS all_messages, sum(b.tokens) OVER back AS all_tokens
	          FROM (SELECT t.turn, t.run, t.state, t.error_code, t.messages, t.tokens
	                  FROM parley.turns t
	                 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn < p_turn
	                   AND t.superseded_at IS NULL
	                 ORDER BY t.turn DESC
	                 -- A turn has a message at least, and a message eight tokens.
	                 LIMIT least(nullif(p_max_messages, 0), nullif(p_max_tokens, 0) / 8)) b
	        WINDOW back AS (ORDER BY b.turn DESC ROWS UNBOUNDED PRECEDING)) h
	 WHERE (p_max_messages = 0 OR h.all_messages < p_max_messages)
	   AND (p_max_tokens = 0 OR h.all_tokens + p_own_tokens <= p_max_tokens);

	-- One walk along the key, not a join: what is to be known of a turn is known already, and
	-- most turns have one run and are done.  Four times as fast, and never quadratic.
	IF v_from IS NOT NULL THEN
		RETURN QUERY
		SELECT m.turn, m.run, m.idx, m.id, m.role, m.content, m.raw, m.source,
		       coalesce(v_states[array_position(v_odd, m.turn)], 'done'),
		       v_codes[array_position(v_odd, m.turn)], m.interrupted, NULL::text,
		       CASE WHEN m.calls > 0 THEN parley.calls_json(p_user, p_conversation, m.turn, m.run, m.idx) END,
		       NULL::text, NULL::uuid, NULL::bigint, NULL::text, NULL::bigint[], NULL::bigint, NULL::bigint, NULL::bigint
		  FROM parley.messages m
		 WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn >= v_from AND m.turn < p_turn
		   AND m.turn <> ALL (v_superseded)
		   AND m.run = coalesce(v_runs[array_position(v_odd, m.turn)], 1)
		 ORDER BY m.turn, m.run, m.idx;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.history IS
    'What was said before a turn, oldest first, cut at turn boundaries to both budgets (0: no limit); superseded turns are passed over; p_own_tokens is what the turn itself needs.';

CREATE OR REPLACE FUNCTION parley.turn_load(p_user text, p_conversation uuid, p_turn int, p_fence bigint,
    p_holds text[], p_history_messages int, p_history_tokens int)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_turn parley.turns;
	v_came timestamptz;
BEGIN
	SELECT t.* INTO v_turn FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.fence = p_fence AND t.state = 'running';
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT m.created_at INTO v_came FROM parley.messages m
	 WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = p_turn
	   AND m.run = v_turn.run AND m.idx = 0;

	RETURN QUERY SELECT h.* FROM parley.history(p_user, p_conversation, p_turn, v_turn.tokens,
	    p_history_messages, p_history_tokens) h;
	-- Of earlier runs what tools were asked to do, and then all of this one.
	RETURN QUERY
	SELECT m.turn, m.run, m.idx, m.id, m.role, m.content, m.raw, m.source, 'running', NULL::text, m.interrupted,
	       parley.utc(m.created_at),
	       CASE WHEN m.calls > 0 THEN parley.calls_json(p_user, p_conversation, p_turn, m.run, m.idx) END,
	       'begun', p_conversation, p_fence, parley.turn_time(v_came, v_turn.time_zone),
	       parley.holds(p_holds, v_now), (extract(epoch FROM v_turn.deadline - v_now) * 1000)::bigint,
	       v_turn.input_tokens, v_turn.output_tokens
	  FROM parley.messages m
	 WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = p_turn
	   AND (m.run = v_turn.run OR m.calls > 0)
	 ORDER BY m.run, m.idx;
END
$$;
COMMENT ON FUNCTION parley.turn_load IS
    'All that is needed to go on with a running turn: the history, the calls of its earlier runs, its own messages. No rows: the fence is another''s, or the turn has ended.';

CREATE OR REPLACE FUNCTION parley.begin_again(p_user text, p_conversation uuid, p_new uuid, p_message uuid)
RETURNS parley.turns
LANGUAGE plpgsql AS $$
DECLARE
	v_turn parley.turns;
BEGIN
	-- Whoever is storing it just now is waited for.
	PERFORM FROM parley.conversations c
	  WHERE c.user_id = p_user AND c.id IN (p_conversation, p_new) FOR UPDATE;
	SELECT t.* INTO v_turn
	  FROM parley.messages m
	  JOIN parley.turns t
	    ON t.user_id = p_user AND t.conversation_id = m.conversation_id AND t.turn = m.turn
	 WHERE m.user_id = p_user AND m.conversation_id IN (p_conversation, p_new) AND m.id = p_message
	 LIMIT 1;
	RETURN v_turn;
END
$$;
COMMENT ON FUNCTION parley.begin_again IS 'The turn that an earlier attempt to store this message has made; NULL: there is none.';

CREATE OR REPLACE FUNCTION parley.turn_begin(p_user text, p_conversation uuid, p_new uuid, p_create boolean,
    p_message uuid, p_content text, p_zone text, p_yes boolean, p_on_busy text, p_key text, p_hash text, p_again boolean,
    p_holds text[], p_history_messages int, p_history_tokens int, p_deadline_ms int,
    p_max_turns int, p_max_queued int)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_id uuid := p_conversation;
	v_key text := p_key;
	v_row parley.turn_row;
	v_was parley.turns;
	v_tokens int := octet_length(p_content) / 4 + 8;
	v_turn int;
	v_place text;
	v_now timestamptz;
BEGIN
	IF p_again THEN
		v_was := parley.begin_again(p_user, p_conversation, p_new, p_message);
		IF v_was.turn IS NOT NULL THEN
			-- With its first fence nobody but the one who asks can have it.
			IF v_was.state = 'running' AND v_was.fence = 1 THEN
				RETURN QUERY SELECT l.* FROM parley.turn_load(p_user, v_was.conversation_id, v_was.turn, 1,
				    p_holds, p_history_messages, p_history_tokens) l;
				RETURN;
			END IF;
			v_row.outcome := CASE v_was.state WHEN 'queued' THEN 'queued' ELSE 'known' END;
			v_row.conversation_id := v_was.conversation_id;
			v_row.turn := v_was.turn;
			RETURN NEXT v_row;
			RETURN;
		END IF;
		-- Should the earlier attempt still be on its way, it finds this and gives up.
		v_key := coalesce(p_key, ' ' || p_message);
	END IF;
	IF v_key IS NOT NULL THEN
		v_row := parley.key_find(p_user, v_key, coalesce(p_hash, ''));
		IF v_row.outcome IS NOT NULL THEN
			RETURN NEXT v_row;
			RETURN;
		END IF;
	END IF;

	-- One count for each of the two small indexes.
	IF p_max_turns > 0 AND p_max_turns <=
	    (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'running')
	    + (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'queued') THEN
		v_row.outcome := 'rate_limited';
		RETURN NEXT v_row;
		RETURN;
	END IF;

	-- The conversation's row lock makes those who come together stand in line.
	IF v_id IS NOT NULL THEN
		UPDATE parley.conversations c
		   SET turns = c.turns + 1, updated_at = clock_timestamp()
		 WHERE c.user_id = p_user AND c.id = v_id
		RETURNING c.turns, c.updated_at INTO v_turn, v_now;
	END IF;
	IF v_turn IS NULL THEN
		IF v_id IS NOT NULL AND NOT p_create THEN
			v_row.outcome := 'not_found';
			RETURN NEXT v_row;
			RETURN;
		END IF;
		v_id := p_new;
		v_turn := 1;
		v_now := clock_timestamp();
		INSERT INTO parley.conversations (user_id, id, title, turns, created_at, updated_at)
		VALUES (p_user, v_id, left(regexp_replace(p_content, '\s+', ' ', 'g'), 80), 1, v_now, v_now)
		ON CONFLICT (user_id, id) DO NOTHING;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'an earlier attempt has made the conversation in this moment' USING ERRCODE = 'PF003';
		END IF;
	END IF;
	v_row.conversation_id := v_id;

	INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline)
	VALUES (p_user, v_id, v_turn, 'running', v_tokens, p_zone, v_now,
	    v_now + p_deadline_ms * interval '1 millisecond')
	ON CONFLICT (user_id, conversation_id) WHERE state IN ('running', 'approval_required') DO NOTHING;
	IF NOT FOUND THEN
		-- An attempt that was given up must not answer a later question, either.
		IF NOT p_again AND EXISTS (SELECT FROM parley.idempotency_keys k
		    WHERE k.user_id = p_user AND k.key = ' ' || p_message) THEN
			RAISE EXCEPTION 'this message is stored already' USING ERRCODE = 'PF003';
		END IF;
		SELECT p.outcome, p.turn, p.run, p.fence INTO v_place, v_row.turn, v_row.run, v_row.fence
		  FROM parley.turn_place(p_user, v_id, v_turn, v_tokens, p_zone, v_now, p_deadline_ms, p_on_busy, p_max_queued,
		      p_yes, p_message, p_content) p;
		IF v_place IN ('busy', 'queue_full', 'decided') THEN
			-- As if it had not been asked.
			UPDATE parley.conversations c
			   SET turns = c.turns - 1,
			       updated_at = (SELECT max(t.started_at) FROM parley.turns t
			                      WHERE t.user_id = p_user AND t.conversation_id = v_id AND t.turn >= v_row.turn)
			 WHERE c.user_id = p_user AND c.id = v_id;
			IF v_place <> 'decided' THEN
				v_row.outcome := v_place;
				-- In its way may be the same request, a moment faster.
				IF v_key IS NOT NULL AND (parley.key_find(p_user, v_key, coalesce(p_hash, ''))).outcome IS NOT NULL THEN
					v_row := parley.key_find(p_user, v_key, coalesce(p_hash, ''));
				END IF;
				RETURN NEXT v_row;
				RETURN;
			END IF;
			-- The message was the yes or no that the turn before waits for, and is part of that one.
			IF v_key IS NOT NULL THEN
				PERFORM parley.key_bind(p_user, v_key, coalesce(p_hash, ''), v_id, v_row.turn);
			END IF;
			RETURN QUERY SELECT l.* FROM parley.turn_load(p_user, v_id, v_row.turn, v_row.fence,
			    p_holds, p_history_messages, p_history_tokens) l;
			RETURN;
		END IF;
	END IF;

	-- Not if it was said again meanwhile: then this is the attempt that was given up.
	INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, created_at)
	SELECT p_user, v_id, v_turn, 1, 0, p_message, 'user', p_content, v_now
	 WHERE p_again OR NOT EXISTS (SELECT FROM parley.idempotency_keys k
	                               WHERE k.user_id = p_user AND k.key = ' ' || p_message);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'this message is stored already' USING ERRCODE = 'PF003';
	END IF;
	IF v_key IS NOT NULL THEN
		PERFORM parley.key_bind(p_user, v_key, coalesce(p_hash, ''), v_id, v_turn);
	END IF;
	IF v_place = 'queued' THEN
		-- One that waited for a yes or no has got a no, and goes on: the caller is to run it.
		IF v_row.fence IS NOT NULL THEN
			v_row.outcome := 'next';
			RETURN NEXT v_row;
		END IF;
		v_row.turn := v_turn;
		v_row.outcome := 'queued';
		RETURN NEXT v_row;
		RETURN;
	END IF;

	IF v_turn > 1 THEN
		RETURN QUERY SELECT h.* FROM parley.history(p_user, v_id, v_turn, v_tokens, p_history_messages, p_history_tokens) h;
	END IF;
	v_row.turn := v_turn;
	v_row.outcome := 'begun';
	v_row.run := 1;
	v_row.fence := 1;
	v_row.idx := 0;
	v_row.id := p_message;
	v_row.role := 'user';
	v_row.content := p_content;
	v_row.interrupted := false;
	v_row.turn_state := 'running';
	v_row.created_at := parley.utc(v_now);
	v_row.local_time := parley.turn_time(v_now, p_zone);
	v_row.left_ms := p_deadline_ms;
	-- Hardly ever is there one, and looking is cheaper than telling.
	IF EXISTS (SELECT FROM parley.facts f WHERE f.key = ANY (p_holds)) THEN
		v_row.holds := parley.holds(p_holds, v_now);
	END IF;
	RETURN NEXT v_row;
END
$$;
COMMENT ON FUNCTION parley.turn_begin IS
    'Stores the user''s message and its turn (or, where p_yes says that it is nothing but a yes or a no and exactly one call waits for that, decides it: then that turn is begun again), and reads the history that goes to the model, oldest first; the last row is the new message and says what concerns the whole turn. outcome: begun; queued (it waits behind another; if that one waited for a yes or no, which this message was not, it has been told no and a row before, with outcome next, gives it to the caller); known (p_key led to this turn before); mismatch (p_key was bound by another request: p_hash differs); busy (p_on_busy is reject; turn says which is live); queue_full; rate_limited (the user has p_max_turns in flight); not_found. p_again: the fate of an earlier call with the same p_message is not known; it is found out. Unknown p_zone: 22023. PF003: say it again.';

CREATE OR REPLACE FUNCTION parley.turn_place(p_user text, p_conversation uuid, p_turn int, p_tokens int, p_zone text,
    p_now timestamptz, p_deadline_ms int, p_on_busy text, p_max_queued int, p_yes boolean, p_message uuid, p_content text,
    OUT outcome text, OUT turn int, OUT run int, OUT fence bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_live parley.turns;
BEGIN
	LOOP
		-- Locked, so that it cannot end without seeing who waits behind it.
		SELECT t.* INTO v_live
		  FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation
		   AND t.state IN ('running', 'approval_required')
		   FOR UPDATE;
		EXIT WHEN FOUND;
		INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline)
		VALUES (p_user, p_conversation, p_turn, 'running', p_tokens, p_zone, p_now,
		    p_now + p_deadline_ms * interval '1 millisecond')
		ON CONFLICT (user_id, conversation_id) WHERE state IN ('running', 'approval_required') DO NOTHING;
		IF FOUND THEN
			outcome := 'begun';
			RETURN;
		END IF;
	END LOOP;

	turn := v_live.turn;
	IF v_live.state = 'approval_required' AND p_yes IS NOT NULL
	   AND parley.turn_word(v_live, p_yes, p_message, p_content) THEN
		outcome := 'decided';
		SELECT r.run, r.fence INTO run, fence FROM parley.turn_resume(p_user, p_conversation, turn) r;
		RETURN;
	END IF;
	IF p_on_busy = 'reject' AND v_live.state = 'running' THEN
		outcome := 'busy';
		RETURN;
	END IF;
	IF p_on_busy = 'interrupt' THEN
		UPDATE parley.turns t SET state = 'cancelled', ended_at = p_now
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'queued';
		UPDATE parley.turns t SET cancel_requested_at = coalesce(t.cancel_requested_at, p_now)
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = v_live.turn;
	ELSIF p_max_queued <= (SELECT count(*) FROM parley.turns t
	    WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'queued') THEN
		outcome := 'queue_full';
		RETURN;
	END IF;
	IF v_live.state = 'approval_required' AND p_on_busy = 'interrupt' THEN
		-- It has no worker that could be told.
		PERFORM parley.turn_cancel_waiting(p_user, p_conversation, turn, NULL);
		INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline)
		VALUES (p_user, p_conversation, p_turn, 'running', p_tokens, p_zone, p_now,
		    p_now + p_deadline_ms * interval '1 millisecond');
		outcome := 'begun';
		RETURN;
	ELSIF v_live.state = 'approval_required' THEN
		PERFORM parley.turn_deny(p_user, p_conversation, turn, v_live.run, NULL,
		    'The user did not say yes to this call but went on to something else. It was not carried out.');
		SELECT r.run, r.fence INTO run, fence FROM parley.turn_resume(p_user, p_conversation, turn) r;
	END IF;
	INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline)
	VALUES (p_user, p_conversation, p_turn, 'queued', p_tokens, p_zone, p_now, 'infinity');
	outcome := 'queued';
END
$$;
COMMENT ON FUNCTION parley.turn_place IS
    'Where a new turn goes when another is live: queued behind it, or refused (busy, queue_full, with the live turn); or begun after all, as the other has just ended. One that waits for the user is told no and goes on before it (run and fence: the caller is to run it), unless the message is the yes or no itself: decided. Called under the lock of the conversation.';

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
	    parameters, broken, approval)
	SELECT p_user, p_conversation, p_turn, p_run, p_idx, c.place - 1, (c.call ->> 'id')::uuid, c.call ->> 'call_id',
	       c.call ->> 'tool_name', c.call -> 'parameters', c.call ->> 'broken',
	       CASE WHEN (c.call ->> 'confirm')::boolean THEN 'needed' END
	  FROM json_array_elements(p_calls) WITH ORDINALITY c (call, place);
	RETURN parley.utc(v_now);
END
$$;
COMMENT ON FUNCTION parley.turn_step IS
    'Commits an assistant message with its calls [{id,call_id,tool_name,parameters,broken,confirm}], before any of them runs; returns created_at. Saying it again is harmless. Impossible while a call of the step before lacks its result (55000).';

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
    p_model text, p_input_tokens bigint, p_output_tokens bigint, p_timings json,
    p_take boolean, p_deadline_ms int)
RETURNS TABLE (ended_at text, next_turn int, next_run int, next_fence bigint)
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
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION parley.turn_end IS
    'Stores the reply (p_id NULL: none) and ends the turn as done, failed or cancelled; ended_at says when. Saying it again is harmless. A turn with open calls cannot be done; failed or cancelled, they get a result that says so. The next queued turn of the conversation begins to run: with p_take it is the caller''s (next_…), else anybody''s.';

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

CREATE OR REPLACE FUNCTION parley.lease_release(p_user text, p_conversation uuid, p_turn int, p_fence bigint)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO parley.live AS l (user_id, conversation_id, turn, fence, lease_until)
	VALUES (p_user, p_conversation, p_turn, p_fence, '-infinity')
	ON CONFLICT (user_id, conversation_id) DO UPDATE
	    SET turn = excluded.turn, fence = excluded.fence, lease_until = excluded.lease_until;
END
$$;
COMMENT ON FUNCTION parley.lease_release IS 'Leaves a running turn to whoever takes it first.';

CREATE OR REPLACE FUNCTION parley.turn_release(p_user text, p_conversation uuid, p_turn int, p_run int, p_fence bigint)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	-- A new fence, as a pulse on its way would renew the lease of the old one.
	UPDATE parley.turns t SET fence = t.fence + 1
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	   AND t.run = p_run AND t.fence = p_fence AND t.state = 'running';
	IF FOUND THEN
		PERFORM parley.lease_release(p_user, p_conversation, p_turn, p_fence + 1);
	END IF;
END
$$;
COMMENT ON FUNCTION parley.turn_release IS 'A worker that ends gives a turn away; whoever takes it goes on after its last step. Harmless when it is not the caller''s.';

CREATE OR REPLACE FUNCTION parley.turn_take(p_user text, p_conversation uuid, p_turn int, p_fence bigint,
    p_lease_ms int, p_max_attempts int, p_take boolean, p_deadline_ms int,
    p_holds text[], p_history_messages int, p_history_tokens int)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_live parley.live;
	v_turn parley.turns;
	v_row parley.turn_row;
BEGIN
	IF EXISTS (SELECT FROM parley.turns t
	            WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
	              AND t.fence = p_fence AND t.state = 'approval_required') THEN
		RETURN NEXT parley.turn_expire(p_user, p_conversation, p_turn, p_fence, p_take, p_deadline_ms);
		RETURN;
	END IF;
	-- What is locked is being renewed, taken or ended: then there is nothing to do.
	SELECT l.* INTO v_live FROM parley.live l
	 WHERE l.user_id = p_user AND l.conversation_id = p_conversation AND l.turn = p_turn
	   AND l.fence = p_fence AND l.lease_until < v_now FOR UPDATE SKIP LOCKED;
	IF FOUND THEN
		SELECT t.* INTO v_turn FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
		   AND t.fence = p_fence AND t.state = 'running' FOR UPDATE SKIP LOCKED;
	END IF;
	IF v_turn.turn IS NULL THEN
		v_row.outcome := 'gone';
		RETURN NEXT v_row;
		RETURN;
	END IF;

	IF v_turn.cancel_requested_at IS NOT NULL OR v_live.lease_until > '-infinity' AND v_turn.attempts >= p_max_attempts THEN
		-- A tool of the dead worker may still run in the database; it is not waited for, nor stopped: the next look will do.
		IF v_turn.open_calls > (SELECT count(*) FROM (SELECT FROM parley.tool_calls c
		    WHERE c.user_id = p_user AND c.conversation_id = p_conversation AND c.turn = p_turn AND c.run = v_turn.run
		      AND c.result IS NULL FOR UPDATE SKIP LOCKED) free) THEN
			v_row.outcome := 'gone';
			RETURN NEXT v_row;
			RETURN;
		END IF;
		-- Whoever had it must not take this end for his own, and the next turn with it.
		UPDATE parley.turns t SET fence = t.fence + 1
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn
		RETURNING t.* INTO v_turn;
		v_row.outcome := 'ended';
		v_row.conversation_id := p_conversation;
		SELECT e.next_turn, e.next_run, e.next_fence INTO v_row.turn, v_row.run, v_row.fence
		  FROM parley.turn_abandon(v_turn, v_live, p_take, p_deadline_ms) e;
		RETURN NEXT v_row;
		RETURN;
	END IF;

	UPDATE parley.turns t
	   SET fence = t.fence + 1, attempts = t.attempts + CASE v_live.lease_until WHEN '-infinity' THEN 0 ELSE 1 END
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
	UPDATE parley.live l
	   SET fence = p_fence + 1, lease_until = v_now + p_lease_ms * interval '1 millisecond', partial = NULL, bytes = 0
	 WHERE l.user_id = p_user AND l.conversation_id = p_conversation;
	RETURN QUERY SELECT l.* FROM parley.turn_load(p_user, p_conversation, p_turn, p_fence + 1,
	    p_holds, p_history_messages, p_history_tokens) l;
END
$$;
COMMENT ON FUNCTION parley.turn_take IS
    'Takes over a turn whose lease has expired or was given up; waits for no lock. Outcome: begun, with the rows of turn_load and a new fence; gone (somebody else has it, or it has ended); ended (it was to be cancelled, or p_max_attempts workers have died of it, or its question has expired; turn, run and fence are those of the next, when it is the caller''s).';

CREATE OR REPLACE FUNCTION parley.turn_abandon(p_turn parley.turns, p_live parley.live, p_take boolean, p_deadline_ms int)
RETURNS TABLE (ended_at text, next_turn int, next_run int, next_fence bigint)
LANGUAGE plpgsql AS $$
DECLARE
	v_cancelled boolean := p_turn.cancel_requested_at IS NOT NULL;
	-- What was said of the step that never ended is kept.
	v_idx int := (SELECT max(m.idx) + 1 FROM parley.messages m
	               WHERE m.user_id = p_turn.user_id AND m.conversation_id = p_turn.conversation_id
	                 AND m.turn = p_turn.turn AND m.run = p_turn.run);
	v_said boolean := p_live.partial <> '' AND p_live.idx = v_idx;
BEGIN
	RETURN QUERY SELECT e.* FROM parley.turn_end(p_turn.user_id, p_turn.conversation_id, p_turn.turn, p_turn.run, p_turn.fence,
	    CASE WHEN v_cancelled THEN 'cancelled' ELSE 'failed' END,
	    CASE WHEN NOT v_cancelled THEN 'turn_abandoned' END,
	    CASE WHEN NOT v_cancelled THEN 'The work on this message was interrupted again and again. Try again.' END,
	    v_idx, CASE WHEN v_said THEN gen_random_uuid() END, p_live.partial, NULL, NULL, true,
	    p_turn.model, p_turn.input_tokens, p_turn.output_tokens, p_turn.timings, p_take, p_deadline_ms) e;
END
$$;
COMMENT ON FUNCTION parley.turn_abandon IS 'Ends a turn that has no worker: cancelled where somebody asked for that, else failed as turn_abandoned.';

CREATE OR REPLACE FUNCTION parley.turn_cancel(p_user text, p_conversation uuid, p_turn int, p_take boolean, p_deadline_ms int)
RETURNS TABLE (outcome text, next_turn int, next_run int, next_fence bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
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
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
		outcome := 'cancelled';
	ELSIF outcome = 'approval_required' THEN
		PERFORM parley.turn_cancel_waiting(p_user, p_conversation, p_turn, NULL);
		SELECT n.turn, n.run, n.fence INTO next_turn, next_run, next_fence
		  FROM parley.turn_next(p_user, p_conversation, clock_timestamp(), p_take, p_deadline_ms) n;
		outcome := 'cancelled';
	ELSE
		outcome := 'ended';
	END IF;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION parley.turn_cancel IS
    'The user wants a turn to stop. outcome: running (its worker will be told by its pulse), cancelled (it had none), ended (nothing was to be stopped), not_found. next_…: the next queued turn, which is the caller''s now.';

CREATE OR REPLACE FUNCTION parley.turns_wait_no_more(p_user text, p_conversation uuid, p_turn int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM parley.turns t
	            WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'running') THEN
		RETURN;
	END IF;
	UPDATE parley.turns t SET state = 'cancelled', ended_at = clock_timestamp()
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn > p_turn AND t.state = 'queued';
	PERFORM parley.turn_cancel_waiting(p_user, p_conversation, t.turn, NULL)
	   FROM parley.turns t
	  WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn >= p_turn
	    AND t.state = 'approval_required';
END
$$;
COMMENT ON FUNCTION parley.turns_wait_no_more IS
    'Before an earlier turn is asked anew: what waits, for its time or for the user, is cancelled, unless something runs. Called under the lock of the conversation.';

CREATE OR REPLACE FUNCTION parley.turn_retry(p_user text, p_conversation uuid, p_turn int, p_supersede boolean, p_key text, p_hash text,
    p_holds text[], p_history_messages int, p_history_tokens int, p_deadline_ms int, p_max_turns int)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_row parley.turn_row;
	v_newest int;
	v_turn parley.turns;
BEGIN
	PERFORM FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_conversation FOR UPDATE;
	-- Under the lock: the same request at the same time has bound it until now.
	v_row := parley.key_find(p_user, p_key, p_hash);
	IF v_row.outcome IS NOT NULL THEN
		RETURN NEXT v_row;
		RETURN;
	END IF;
	IF p_supersede THEN
		PERFORM parley.turns_wait_no_more(p_user, p_conversation, p_turn);
	END IF;
	SELECT t.* INTO v_turn FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn FOR UPDATE;
	SELECT max(t.turn) INTO v_newest FROM parley.turns t
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.superseded_at IS NULL
	   AND (NOT p_supersede OR t.turn <= p_turn OR t.state NOT IN ('done', 'failed', 'cancelled'));
	v_row.outcome := CASE
	    WHEN v_turn.turn IS NULL THEN 'turn_not_found'
	    WHEN v_turn.turn <> v_newest OR v_turn.state NOT IN ('done', 'failed', 'cancelled') THEN 'not_retryable'
	    -- It was cancelled in the queue, and those before it are not through.
	    WHEN EXISTS (SELECT FROM parley.turns t WHERE t.user_id = p_user AND t.conversation_id = p_conversation
	                  AND t.state IN ('running', 'approval_required')) THEN 'not_retryable'
	    WHEN p_max_turns > 0 AND p_max_turns <=
	        (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'running')
	        + (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'queued')
	    THEN 'rate_limited' END;
	IF v_row.outcome IS NOT NULL THEN
		RETURN NEXT v_row;
		RETURN;
	END IF;

	UPDATE parley.turns t SET superseded_at = v_now
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn > p_turn AND t.superseded_at IS NULL;
	INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, created_at)
	SELECT m.user_id, m.conversation_id, m.turn, m.run + 1, 0, m.id, m.role, m.content, m.created_at
	  FROM parley.messages m
	 WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = p_turn
	   AND m.run = v_turn.run AND m.idx = 0;
	UPDATE parley.turns t
	   SET state = 'running', run = t.run + 1, fence = t.fence + 1, attempts = 1, steps = 0, messages = 1,
	       tokens = (SELECT octet_length(m.content) / 4 + 8 FROM parley.messages m
	                  WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = p_turn
	                    AND m.run = t.run AND m.idx = 0),
	       started_at = v_now, deadline = v_now + p_deadline_ms * interval '1 millisecond', ended_at = NULL,
	       cancel_requested_at = NULL, error_code = NULL, sentence = NULL, model = NULL,
	       input_tokens = 0, output_tokens = 0, timings = NULL
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
	UPDATE parley.conversations c SET updated_at = v_now WHERE c.user_id = p_user AND c.id = p_conversation;
	PERFORM parley.key_bind(p_user, p_key, p_hash, p_conversation, p_turn);
	RETURN QUERY SELECT l.* FROM parley.turn_load(p_user, p_conversation, p_turn, v_turn.fence + 1,
	    p_holds, p_history_messages, p_history_tokens) l;
END
$$;
COMMENT ON FUNCTION parley.turn_retry IS
    'The last turn of a conversation begins a new run from its message; with p_supersede any turn, and those after it are superseded unless one of them runs. Outcome: begun, with the rows of turn_load; known, mismatch, rate_limited as in turn_begin; turn_not_found; not_retryable. The key also finds out about an answer that was lost, so there must be one. PF003: say it again.';

CREATE OR REPLACE FUNCTION parley.turn_digest(p_state text, p_run int, p_fence bigint, p_messages int, p_open_calls int,
    p_live int, p_bytes int) RETURNS text
LANGUAGE sql STABLE
RETURN concat_ws('.', p_state, p_run, p_fence, p_messages, p_open_calls, p_live, p_bytes);
COMMENT ON FUNCTION parley.turn_digest IS 'Differs whenever a follower of the turn has something to learn: p_live is the live turn that a queued one waits for, p_bytes how much text there is of the present step.';
GRANT EXECUTE ON FUNCTION parley.turn_digest TO parley_pulse;

CREATE FUNCTION parley.pulse(p_lease_ms int, p_users text[], p_conversations uuid[], p_turns int[],
    p_fences bigint[], p_idxs int[], p_partials text[],
    p_watch_users text[], p_watch_conversations uuid[], p_watch_turns int[], p_watch_text boolean[], p_watch_seen text[])
RETURNS TABLE (watched boolean, place int, say text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	IF cardinality(p_users) > 0 THEN
		-- Not one upsert: excluded.partial would need the right to read the text, and this role has none.
		UPDATE parley.live l
		   SET turn = p.turn, fence = p.fence, idx = p.idx, partial = p.partial,
		       bytes = coalesce(octet_length(p.partial), 0),
		       lease_until = clock_timestamp() + p_lease_ms * interval '1 millisecond'
		  FROM unnest(p_users, p_conversations, p_turns, p_fences, p_idxs, p_partials)
		           p (user_id, conversation_id, turn, fence, idx, partial)
		  JOIN parley.turns t
		    ON t.user_id = p.user_id AND t.conversation_id = p.conversation_id AND t.turn = p.turn
		   AND t.fence = p.fence AND t.state = 'running'
		 WHERE l.user_id = p.user_id AND l.conversation_id = p.conversation_id
		   -- The turn is read as it was before this waited for the lease: it may have been released or taken since.
		   AND (l.turn <> p.turn OR l.fence <= p.fence);
		INSERT INTO parley.live (user_id, conversation_id, turn, fence, lease_until, idx, partial, bytes)
		SELECT p.user_id, p.conversation_id, p.turn, p.fence,
		       clock_timestamp() + p_lease_ms * interval '1 millisecond',
		       p.idx, p.partial, coalesce(octet_length(p.partial), 0)
		  FROM unnest(p_users, p_conversations, p_turns, p_fences, p_idxs, p_partials)
		           p (user_id, conversation_id, turn, fence, idx, partial)
		  JOIN parley.turns t
		    ON t.user_id = p.user_id AND t.conversation_id = p.conversation_id AND t.turn = p.turn
		   AND t.fence = p.fence AND t.state = 'running'
		 WHERE NOT EXISTS (SELECT FROM parley.live l
		                    WHERE l.user_id = p.user_id AND l.conversation_id = p.conversation_id)
		ON CONFLICT (user_id, conversation_id) DO NOTHING;
		RETURN QUERY
		SELECT false, p.place::int,
		       CASE WHEN t.turn IS NULL OR t.cancel_requested_at IS NOT NULL AND t.fence = p.fence AND t.state = 'running'
		            THEN 'cancelled' ELSE 'fenced' END
		  FROM unnest(p_users, p_conversations, p_turns, p_fences)
		           WITH ORDINALITY p (user_id, conversation_id, turn, fence, place)
		  LEFT JOIN parley.turns t
		    ON t.user_id = p.user_id AND t.conversation_id = p.conversation_id AND t.turn = p.turn
		 WHERE t.turn IS NULL OR t.fence <> p.fence OR t.state <> 'running' OR t.cancel_requested_at IS NOT NULL;
	END IF;

	IF cardinality(p_watch_users) > 0 THEN
		RETURN QUERY
		SELECT true, w.place::int, d.digest
		  FROM unnest(p_watch_users, p_watch_conversations, p_watch_turns, p_watch_text, p_watch_seen)
		           WITH ORDINALITY w (user_id, conversation_id, turn, texts, seen, place)
		  LEFT JOIN parley.turns t
		    ON t.user_id = w.user_id AND t.conversation_id = w.conversation_id AND t.turn = w.turn
		  LEFT JOIN parley.live l
		    ON w.texts AND t.state = 'running' AND l.user_id = t.user_id AND l.conversation_id = t.conversation_id
		   AND l.turn = t.turn AND l.fence = t.fence
		 CROSS JOIN LATERAL (SELECT CASE WHEN t.turn IS NULL THEN 'gone' ELSE parley.turn_digest(
		           t.state, t.run, t.fence, t.messages, t.open_calls,
		           CASE t.state WHEN 'queued' THEN (SELECT min(q.turn) FROM parley.turns q
		               WHERE q.user_id = w.user_id AND q.conversation_id = w.conversation_id
		                 AND q.state IN ('running', 'approval_required')) END,
		           l.bytes) END) d (digest)
		 WHERE d.digest <> w.seen;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.pulse IS
    'A worker''s heartbeat. For all its turns: renews their leases, keeps their partial text (of the message p_idxs), and says which must stop, by their places from 1: cancelled (asked to, or gone) or fenced (taken over or ended). For the turns it watches (watched): which digests are no longer those in p_watch_seen; gone: there is no such turn.';

CREATE FUNCTION parley.turns_expired(p_lease_ms int, p_max int, p_orphans boolean)
RETURNS TABLE (user_id text, conversation_id uuid, turn int, fence bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	v_now timestamptz := clock_timestamp();
BEGIN
	-- Without a lease, as their worker died before its first pulse or the database lost it in a crash:
	-- if they have an owner, he has the full time to claim it.
	IF p_orphans THEN
		UPDATE parley.live l
		   SET turn = t.turn, fence = t.fence, idx = 1, partial = NULL, bytes = 0,
		       lease_until = v_now + p_lease_ms * interval '1 millisecond'
		  FROM parley.turns t
		 WHERE t.user_id = l.user_id AND t.conversation_id = l.conversation_id AND t.state = 'running'
		   AND t.started_at < v_now - interval '1 second' AND (t.turn <> l.turn OR t.fence > l.fence);
		INSERT INTO parley.live (user_id, conversation_id, turn, fence, lease_until)
		SELECT t.user_id, t.conversation_id, t.turn, t.fence, v_now + p_lease_ms * interval '1 millisecond'
		  FROM parley.turns t
		 WHERE t.state = 'running' AND t.started_at < v_now - interval '1 second'
		   AND NOT EXISTS (SELECT FROM parley.live l
		                    WHERE l.user_id = t.user_id AND l.conversation_id = t.conversation_id)
		ON CONFLICT (user_id, conversation_id) DO NOTHING;
		-- And leases without a turn, which a late pulse can leave behind.  (What was released has one.)
		DELETE FROM parley.live l
		 WHERE l.lease_until < v_now - interval '1 minute' AND l.lease_until > '-infinity'
		   AND NOT EXISTS (SELECT FROM parley.turns t
		                    WHERE t.user_id = l.user_id AND t.conversation_id = l.conversation_id
		                      AND t.turn = l.turn AND t.state = 'running');
	END IF;
	RETURN QUERY
	SELECT l.user_id, l.conversation_id, l.turn, l.fence
	  FROM parley.live l
	 WHERE l.lease_until < v_now
	   AND EXISTS (SELECT FROM parley.turns t
	                WHERE t.user_id = l.user_id AND t.conversation_id = l.conversation_id AND t.turn = l.turn
	                  AND t.fence = l.fence AND t.state = 'running')
	 ORDER BY l.lease_until
	 LIMIT p_max;
	IF p_orphans THEN
		RETURN QUERY
		SELECT t.user_id, t.conversation_id, t.turn, t.fence
		  FROM parley.turns t
		 WHERE t.state = 'approval_required' AND t.expires_at < v_now
		 LIMIT p_max;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.turns_expired IS
    'Running turns of anybody whose lease has expired or was given up. p_orphans: those without any lease get one first; and those come as well whose question to the user has expired.';

-- These two belong to the role that may look across users, and to no other right.
GRANT CREATE ON SCHEMA parley TO parley_pulse;
RESET ROLE;
ALTER FUNCTION parley.pulse OWNER TO parley_pulse;
ALTER FUNCTION parley.turns_expired OWNER TO parley_pulse;
SET LOCAL ROLE parley_owner;
REVOKE CREATE ON SCHEMA parley FROM parley_pulse;
RESET ROLE;
