-- Whose a running turn is: the pulse that renews leases, and what becomes of a turn when its worker goes.
--
-- The rules of fences and locks stand in turns.sql.
SET LOCAL ROLE parley_owner;

-- Earlier releases had these with other arguments or results.
DROP FUNCTION IF EXISTS parley.pulse, parley.turns_expired;

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
	    p_turn.model, p_turn.input_tokens, p_turn.output_tokens, p_turn.timings, p_take, p_deadline_ms,
	    p_turn.estimated) e;
END
$$;
COMMENT ON FUNCTION parley.turn_abandon IS 'Ends a turn that has no worker: cancelled where somebody asked for that, else failed as turn_abandoned.';

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
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
	v record;
BEGIN
	-- Turn by turn, each by its key.  As one join this is at the mercy of what the planner last knew: parley.live may have been
	-- empty then and have thousands of rows now, and every row of one table was held against every row of the other.
	FOR v IN SELECT * FROM unnest(p_users, p_conversations, p_turns, p_fences, p_idxs, p_partials)
	                       u (user_id, conversation_id, turn, fence, idx, partial)
	LOOP
		-- Not one upsert: excluded.partial would need the right to read the text, and this role has none.
		UPDATE parley.live l
		   SET turn = v.turn, fence = v.fence, idx = v.idx, partial = v.partial,
		       bytes = coalesce(octet_length(v.partial), 0),
		       lease_until = clock_timestamp() + p_lease_ms * interval '1 millisecond'
		  FROM parley.turns t
		 WHERE t.user_id = v.user_id AND t.conversation_id = v.conversation_id AND t.turn = v.turn
		   AND t.fence = v.fence AND t.state = 'running'
		   AND l.user_id = v.user_id AND l.conversation_id = v.conversation_id
		   -- The turn is read as it was before this waited for the lease: it may have been released or taken since.
		   AND (l.turn <> v.turn OR l.fence <= v.fence);
		IF NOT FOUND THEN
			INSERT INTO parley.live (user_id, conversation_id, turn, fence, lease_until, idx, partial, bytes)
			SELECT v.user_id, v.conversation_id, v.turn, v.fence,
			       clock_timestamp() + p_lease_ms * interval '1 millisecond',
			       v.idx, v.partial, coalesce(octet_length(v.partial), 0)
			  FROM parley.turns t
			 WHERE t.user_id = v.user_id AND t.conversation_id = v.conversation_id AND t.turn = v.turn
			   AND t.fence = v.fence AND t.state = 'running'
			ON CONFLICT (user_id, conversation_id) DO NOTHING;
		END IF;
	END LOOP;
	RETURN QUERY
	SELECT false, p.place::int,
	       CASE WHEN t.turn IS NULL OR t.cancel_requested_at IS NOT NULL AND t.fence = p.fence AND t.state = 'running'
	            THEN 'cancelled' ELSE 'fenced' END
	  FROM unnest(p_users, p_conversations, p_turns, p_fences)
	           WITH ORDINALITY p (user_id, conversation_id, turn, fence, place)
	  LEFT JOIN LATERAL (SELECT t.turn, t.fence, t.state, t.cancel_requested_at FROM parley.turns t
	                      WHERE t.user_id = p.user_id AND t.conversation_id = p.conversation_id AND t.turn = p.turn
	                      LIMIT 1) t ON true
	 WHERE t.turn IS NULL OR t.fence <> p.fence OR t.state <> 'running' OR t.cancel_requested_at IS NOT NULL;

	IF cardinality(p_watch_users) > 0 THEN
		RETURN QUERY
		SELECT true, w.place::int, d.digest
		  FROM unnest(p_watch_users, p_watch_conversations, p_watch_turns, p_watch_text, p_watch_seen)
		           WITH ORDINALITY w (user_id, conversation_id, turn, texts, seen, place)
		  LEFT JOIN LATERAL (SELECT t.turn, t.state, t.run, t.fence, t.messages, t.open_calls FROM parley.turns t
		                      WHERE t.user_id = w.user_id AND t.conversation_id = w.conversation_id AND t.turn = w.turn
		                      LIMIT 1) t ON true
		  LEFT JOIN LATERAL (SELECT l.bytes FROM parley.live l
		                      WHERE w.texts AND t.state = 'running' AND l.user_id = w.user_id AND l.conversation_id = w.conversation_id
		                        AND l.turn = t.turn AND l.fence = t.fence
		                      LIMIT 1) l ON true
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
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Two sets that are read once each and held together, however few rows the planner believes in.
SET enable_nestloop = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
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
