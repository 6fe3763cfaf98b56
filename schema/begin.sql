-- How a turn begins: a message is stored and its turn placed, or the last one begins anew; and all that its worker needs to know.
--
-- How it goes on and ends is in turns.sql, where the rules of fences and locks stand as well.
SET LOCAL ROLE parley_owner;

-- Earlier releases had these with other arguments or results.
DROP FUNCTION IF EXISTS parley.turn_occupies, parley.turn_begin, parley.turn_place, parley.turn_retry;

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
		       NULL::text, NULL::uuid, NULL::bigint, NULL::text, NULL::bigint[], NULL::bigint, NULL::bigint, NULL::bigint,
		       NULL::bigint, NULL::text
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
	       v_turn.input_tokens, v_turn.output_tokens, parley.budget_left(v_turn), v_turn.trace
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

CREATE OR REPLACE FUNCTION parley.turns_many(p_user text, p_max int) RETURNS boolean
LANGUAGE plpgsql STABLE
-- Each turn that ended since the last vacuum has left an entry in the index of live ones.  A plain scan marks those it meets, and
-- none meets them again; one by bitmap goes to the table for every one of them, each time.
SET enable_bitmapscan = off AS $$
BEGIN
	-- One count for each of the two small indexes.
	RETURN p_max <= (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'running')
	    + (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'queued');
END
$$;
COMMENT ON FUNCTION parley.turns_many IS 'Has a user so many turns, or more, that run or are queued?';

CREATE OR REPLACE FUNCTION parley.turn_begin(p_user text, p_conversation uuid, p_new uuid, p_create boolean,
    p_message uuid, p_content text, p_zone text, p_yes boolean, p_on_busy text, p_key text, p_hash text, p_again boolean,
    p_holds text[], p_history_messages int, p_history_tokens int, p_deadline_ms int,
    p_max_turns int, p_max_queued int, p_per_minute int, p_per_day bigint, p_call_tokens bigint, p_trace text)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_id uuid := p_conversation;
	v_key text := p_key;
	v_row parley.turn_row;
	v_was parley.turns;
	v_tokens int := octet_length(p_content) / 4 + 8;
	v_reserved bigint;
	v_day date;
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

	IF p_max_turns > 0 AND parley.turns_many(p_user, p_max_turns) THEN
		v_row.outcome := 'rate_limited';
		RETURN NEXT v_row;
		RETURN;
	END IF;
	-- A yes or no that decides a call is no turn of its own: whether it is one shows later, and is looked at then.
	IF (p_per_minute > 0 OR p_per_day > 0) AND p_yes IS NULL THEN
		SELECT l.outcome, l.wait_ms INTO v_row.outcome, v_row.budget_ms
		  FROM parley.limits_look(p_user, p_per_minute, p_per_day, p_call_tokens + v_tokens, p_deadline_ms) l;
		IF v_row.outcome IS NOT NULL THEN
			RETURN NEXT v_row;
			RETURN;
		END IF;
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
	IF p_per_day > 0 THEN
		v_day := parley.usage_day(v_now);
		v_reserved := p_call_tokens + v_tokens
		    + parley.history_tokens(p_user, v_id, v_turn, p_history_messages, p_history_tokens);
	END IF;

	INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline,
	    reserved, reserved_on, trace)
	VALUES (p_user, v_id, v_turn, 'running', v_tokens, p_zone, v_now,
	    v_now + p_deadline_ms * interval '1 millisecond', v_reserved, v_day, p_trace)
	ON CONFLICT (user_id, conversation_id) WHERE state IN ('running', 'approval_required') DO NOTHING;
	IF NOT FOUND THEN
		-- An attempt that was given up must not answer a later question, either.
		IF NOT p_again AND EXISTS (SELECT FROM parley.idempotency_keys k
		    WHERE k.user_id = p_user AND k.key = ' ' || p_message) THEN
			RAISE EXCEPTION 'this message is stored already' USING ERRCODE = 'PF003';
		END IF;
		SELECT p.outcome, p.turn, p.run, p.fence INTO v_place, v_row.turn, v_row.run, v_row.fence
		  FROM parley.turn_place(p_user, v_id, v_turn, v_tokens, p_zone, v_now, p_deadline_ms, p_on_busy, p_max_queued,
		      p_yes, p_message, p_content, v_reserved, v_day, p_trace) p;
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
	-- Read before what concerns all conversations of the user is locked.
	IF v_turn > 1 AND v_place IS DISTINCT FROM 'queued' THEN
		RETURN QUERY SELECT h.* FROM parley.history(p_user, v_id, v_turn, v_tokens, p_history_messages, p_history_tokens) h;
	END IF;
	IF p_per_minute > 0 OR p_per_day > 0 THEN
		PERFORM parley.limits_take(p_user, p_per_minute, p_per_day, v_day, v_reserved, p_deadline_ms);
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
    'Stores the user''s message and its turn (or, where p_yes says that it is nothing but a yes or a no and exactly one call waits for that, decides it: then that turn is begun again), and reads the history that goes to the model, oldest first; the last row is the new message and says what concerns the whole turn. outcome: begun; queued (it waits behind another; if that one waited for a yes or no, which this message was not, it has been told no and a row before, with outcome next, gives it to the caller); known (p_key led to this turn before); mismatch (p_key was bound by another request: p_hash differs); busy (p_on_busy is reject; turn says which is live); queue_full; rate_limited (the user has p_max_turns in flight, or has begun p_per_minute in the last minute), budget_exceeded, budget_reserved (p_per_day tokens in a day; p_call_tokens is what a model call needs beside the history and the message), with budget_ms: until it is worth while to ask again (0: no limit; the same refusals also come as PF004, see limits_take); not_found. p_again: the fate of an earlier call with the same p_message is not known; it is found out. Unknown p_zone: 22023. PF003: say it again.';

CREATE OR REPLACE FUNCTION parley.turn_place(p_user text, p_conversation uuid, p_turn int, p_tokens int, p_zone text,
    p_now timestamptz, p_deadline_ms int, p_on_busy text, p_max_queued int, p_yes boolean, p_message uuid, p_content text,
    p_reserved bigint, p_day date, p_trace text,
    OUT outcome text, OUT turn int, OUT run int, OUT fence bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_live parley.turns;
	v_cancelled parley.turns[];
BEGIN
	LOOP
		-- Locked, so that it cannot end without seeing who waits behind it.
		SELECT t.* INTO v_live
		  FROM parley.turns t
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation
		   AND t.state IN ('running', 'approval_required')
		   FOR UPDATE;
		EXIT WHEN FOUND;
		INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline,
		    reserved, reserved_on, trace)
		VALUES (p_user, p_conversation, p_turn, 'running', p_tokens, p_zone, p_now,
		    p_now + p_deadline_ms * interval '1 millisecond', p_reserved, p_day, p_trace)
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
		WITH gone AS (
			UPDATE parley.turns t SET state = 'cancelled', ended_at = p_now
			 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'queued'
			RETURNING t)
		SELECT array_agg(g.t) INTO v_cancelled FROM gone g;
		UPDATE parley.turns t SET cancel_requested_at = coalesce(t.cancel_requested_at, p_now)
		 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = v_live.turn;
	ELSIF p_max_queued <= (SELECT count(*) FROM parley.turns t
	    WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'queued') THEN
		outcome := 'queue_full';
		RETURN;
	END IF;
	IF v_live.state = 'approval_required' AND p_on_busy = 'interrupt' THEN
		-- It has no worker that could be told.
		v_cancelled := v_cancelled || parley.turn_cancel_waiting(p_user, p_conversation, turn, NULL);
		INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline,
		    reserved, reserved_on, trace)
		VALUES (p_user, p_conversation, p_turn, 'running', p_tokens, p_zone, p_now,
		    p_now + p_deadline_ms * interval '1 millisecond', p_reserved, p_day, p_trace);
		PERFORM parley.usage_settle(v_cancelled);
		outcome := 'begun';
		RETURN;
	ELSIF v_live.state = 'approval_required' THEN
		PERFORM parley.turn_deny(p_user, p_conversation, turn, v_live.run, NULL,
		    'The user did not say yes to this call but went on to something else. It was not carried out.');
		SELECT r.run, r.fence INTO run, fence FROM parley.turn_resume(p_user, p_conversation, turn) r;
	END IF;
	INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, time_zone, started_at, deadline,
	    reserved, reserved_on, trace)
	VALUES (p_user, p_conversation, p_turn, 'queued', p_tokens, p_zone, p_now, 'infinity', p_reserved, p_day, p_trace);
	IF v_cancelled IS NOT NULL THEN
		PERFORM parley.usage_settle(v_cancelled);
	END IF;
	outcome := 'queued';
END
$$;
COMMENT ON FUNCTION parley.turn_place IS
    'Where a new turn goes when another is live: queued behind it, or refused (busy, queue_full, with the live turn); or begun after all, as the other has just ended. One that waits for the user is told no and goes on before it (run and fence: the caller is to run it), unless the message is the yes or no itself: decided. Called under the lock of the conversation.';

CREATE OR REPLACE FUNCTION parley.turn_retry(p_user text, p_conversation uuid, p_turn int, p_supersede boolean, p_key text, p_hash text,
    p_holds text[], p_history_messages int, p_history_tokens int, p_deadline_ms int, p_max_turns int,
    p_per_minute int, p_per_day bigint, p_call_tokens bigint, p_trace text)
RETURNS SETOF parley.turn_row
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_now timestamptz := clock_timestamp();
	v_row parley.turn_row;
	v_newest int;
	v_turn parley.turns;
	v_cancelled parley.turns[];
	v_reserved bigint;
	v_day date;
BEGIN
	PERFORM FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_conversation FOR UPDATE;
	-- Under the lock: the same request at the same time has bound it until now.
	v_row := parley.key_find(p_user, p_key, p_hash);
	IF v_row.outcome IS NOT NULL THEN
		RETURN NEXT v_row;
		RETURN;
	END IF;
	IF p_supersede THEN
		v_cancelled := parley.turns_wait_no_more(p_user, p_conversation, p_turn);
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
	    WHEN p_max_turns > 0 AND parley.turns_many(p_user, p_max_turns) THEN 'rate_limited' END;
	IF v_row.outcome IS NOT NULL THEN
		PERFORM parley.usage_settle(v_cancelled);
		RETURN NEXT v_row;
		RETURN;
	END IF;
	IF p_per_day > 0 THEN
		v_day := parley.usage_day(v_now);
		v_reserved := p_call_tokens
		    + parley.history_tokens(p_user, p_conversation, p_turn + 1, p_history_messages, p_history_tokens);
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
	       input_tokens = 0, output_tokens = 0, timings = NULL,
	       reserved = v_reserved, reserved_on = v_day, estimated = false, trace = p_trace
	 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = p_turn;
	UPDATE parley.conversations c SET updated_at = v_now WHERE c.user_id = p_user AND c.id = p_conversation;
	PERFORM parley.usage_settle(v_cancelled);
	IF p_per_minute > 0 OR p_per_day > 0 THEN
		PERFORM parley.limits_take(p_user, p_per_minute, p_per_day, v_day, v_reserved, p_deadline_ms);
	END IF;
	PERFORM parley.key_bind(p_user, p_key, p_hash, p_conversation, p_turn);
	RETURN QUERY SELECT l.* FROM parley.turn_load(p_user, p_conversation, p_turn, v_turn.fence + 1,
	    p_holds, p_history_messages, p_history_tokens) l;
END
$$;
COMMENT ON FUNCTION parley.turn_retry IS
    'The last turn of a conversation begins a new run from its message; with p_supersede any turn, and those after it are superseded unless one of them runs. Outcome: begun, with the rows of turn_load; known, mismatch, rate_limited and PF004 as in turn_begin; turn_not_found; not_retryable. The key also finds out about an answer that was lost, so there must be one. PF003: say it again.';
RESET ROLE;
