-- What a user may spend: tokens in a day (parley.usage), turns in a minute (parley.pace).
--
-- Reserve before the call, settle after.  A turn that is stored sets aside what its first model call may need; a step that
-- is stored sets aside what the next one may; whatever ends the turn settles it: what was used is spent, the rest is free
-- again.  The turn's own row keeps what it has reserved, so that nothing is lost with a worker: its turn is taken over, or
-- ended by another.  All of it is part of the statements that a turn has anyway.
--
-- Who ends a turn settles it, once, in the statement that gives it its last state.
--
-- Locks: the rows of a user's usage (the earlier day first) come after those of conversations, calls and turns, his pace after them, and
-- keys (key_bind) last of all.  They are held until the statement's commit, so they are taken as late as can be.
SET LOCAL ROLE parley_owner;

CREATE OR REPLACE FUNCTION parley.usage_day(p_at timestamptz) RETURNS date
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (p_at AT TIME ZONE 'UTC')::date;
END
$$;
COMMENT ON FUNCTION parley.usage_day IS 'The day of a budget: in UTC, whatever the zone of the session.';

CREATE OR REPLACE FUNCTION parley.usage_wait(p_day date) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN greatest(1, ceil(extract(epoch FROM (p_day + 1)::timestamp AT TIME ZONE 'UTC' - clock_timestamp()) * 1000));
END
$$;
COMMENT ON FUNCTION parley.usage_wait IS 'Milliseconds until this day has ended.';

CREATE OR REPLACE FUNCTION parley.pace_wait(p_began timestamptz[], p_max int, p_now timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_ms bigint := ceil(extract(epoch FROM p_began[cardinality(p_began) - p_max + 1] + interval '1 minute' - p_now) * 1000);
BEGIN
	-- A clock that was put back must not lock anybody out.
	RETURN CASE WHEN v_ms > 0 THEN least(v_ms, 60000) END;
END
$$;
COMMENT ON FUNCTION parley.pace_wait IS
    'A sliding window: milliseconds until fewer than p_max of these times (oldest first) lie in the last minute; NULL: it is so now.';

CREATE OR REPLACE FUNCTION parley.history_tokens(p_user text, p_conversation uuid, p_turn int, p_max_messages int,
    p_max_tokens int) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (SELECT least(coalesce(sum(h.tokens), 0), nullif(p_max_tokens, 0))
	          FROM (SELECT t.tokens, sum(t.messages) OVER (ORDER BY t.turn DESC ROWS UNBOUNDED PRECEDING) AS messages
	                  FROM parley.turns t
	                 WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn < p_turn
	                   AND t.superseded_at IS NULL
	                 ORDER BY t.turn DESC
	                 LIMIT least(nullif(p_max_messages, 0), nullif(p_max_tokens, 0) / 8)) h
	         WHERE p_max_messages = 0 OR h.messages < p_max_messages);
END
$$;
COMMENT ON FUNCTION parley.history_tokens IS 'About how many tokens parley.history() will bring along.';

CREATE OR REPLACE FUNCTION parley.limits_look(p_user text, p_per_minute int, p_per_day bigint, p_tokens bigint,
    p_deadline_ms int, OUT outcome text, OUT wait_ms bigint)
LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz := clock_timestamp();
	v_day date := parley.usage_day(v_now);
	v_spent bigint;
	v_reserved bigint;
BEGIN
	IF p_per_day > 0 THEN
		SELECT u.spent, u.reserved INTO v_spent, v_reserved FROM parley.usage u WHERE u.user_id = p_user AND u.day = v_day;
		IF coalesce(v_spent, 0) + p_tokens > p_per_day THEN
			outcome := 'budget_exceeded';
			wait_ms := parley.usage_wait(v_day);
			RETURN;
		ELSIF v_spent + v_reserved + p_tokens > p_per_day THEN
			-- Turns that run now may leave some of it: they end by their deadline.
			outcome := 'budget_reserved';
			wait_ms := least(parley.usage_wait(v_day), p_deadline_ms);
			RETURN;
		END IF;
	END IF;
	IF p_per_minute > 0 THEN
		SELECT parley.pace_wait(p.began, p_per_minute, v_now) INTO wait_ms FROM parley.pace p WHERE p.user_id = p_user;
		IF wait_ms IS NOT NULL THEN
			outcome := 'rate_limited';
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.limits_look IS
    'Would limits_take be refused? Locks nothing and stores nothing, so that whoever asks in vain costs little. outcome NULL: perhaps not. budget_exceeded: not before the next day; budget_reserved: what is left is set aside for turns that run; rate_limited. wait_ms: until it is worth while to ask again.';

CREATE OR REPLACE FUNCTION parley.limits_take(p_user text, p_per_minute int, p_per_day bigint, p_day date, p_tokens bigint,
    p_deadline_ms int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz;
	v_began timestamptz[];
	v_outcome text;
	v_wait bigint;
BEGIN
	IF p_per_day > 0 THEN
		INSERT INTO parley.usage AS u (user_id, day, reserved)
		SELECT p_user, p_day, p_tokens WHERE p_tokens <= p_per_day
		ON CONFLICT (user_id, day) DO UPDATE
		    SET reserved = u.reserved + excluded.reserved
		  WHERE u.spent + u.reserved + excluded.reserved <= p_per_day;
		IF NOT FOUND THEN
			SELECT l.outcome, l.wait_ms INTO v_outcome, v_wait
			  FROM parley.limits_look(p_user, 0, p_per_day, p_tokens, p_deadline_ms) l;
			RAISE EXCEPTION '%', coalesce(v_outcome, 'budget_exceeded')
			    USING ERRCODE = 'PF004', DETAIL = coalesce(v_wait, 1)::text;
		END IF;
	END IF;
	IF p_per_minute > 0 THEN
		LOOP
			SELECT p.began INTO v_began FROM parley.pace p WHERE p.user_id = p_user FOR UPDATE;
			EXIT WHEN FOUND;
			INSERT INTO parley.pace (user_id, began, last_at) VALUES (p_user, '{}', clock_timestamp()) ON CONFLICT (user_id) DO NOTHING;
		END LOOP;
		-- Under the lock: so they are in order, and each sees all before it.
		v_now := clock_timestamp();
		v_wait := parley.pace_wait(v_began, p_per_minute, v_now);
		IF v_wait IS NOT NULL THEN
			RAISE EXCEPTION 'rate_limited' USING ERRCODE = 'PF004', DETAIL = v_wait::text;
		END IF;
		UPDATE parley.pace p
		   SET last_at = v_now, began = ARRAY(SELECT b.at FROM unnest(v_began) WITH ORDINALITY b (at, place)
		                      WHERE b.at > v_now - interval '1 minute' ORDER BY b.place) || v_now
		 WHERE p.user_id = p_user;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.limits_take IS
    'One more turn: its tokens are reserved, its time is noted. PF004: it may not be, and all that the statement did is undone; the message is an outcome of limits_look, the detail its wait_ms.';

CREATE OR REPLACE FUNCTION parley.usage_extend(p_turn parley.turns, p_per_day bigint, p_next bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	v_used bigint := p_turn.input_tokens + p_turn.output_tokens;
	v_want bigint := v_used + greatest(p_next, 1);
	v_granted boolean := v_want <= p_turn.reserved;
BEGIN
	IF v_granted THEN
		RETURN NULL;
	END IF;
	UPDATE parley.usage u SET reserved = u.reserved + v_want - p_turn.reserved
	 WHERE u.user_id = p_turn.user_id AND u.day = p_turn.reserved_on
	   AND (p_per_day = 0 OR u.spent + u.reserved + v_want - p_turn.reserved <= p_per_day);
	v_granted := FOUND;
	IF NOT v_granted THEN
		-- What it has used, and nothing to go on with: by this budget_left knows it again.
		v_want := v_used;
		UPDATE parley.usage u SET reserved = u.reserved + v_want - p_turn.reserved
		 WHERE u.user_id = p_turn.user_id AND u.day = p_turn.reserved_on;
	END IF;
	UPDATE parley.turns t SET reserved = v_want
	 WHERE t.user_id = p_turn.user_id AND t.conversation_id = p_turn.conversation_id AND t.turn = p_turn.turn;
	RETURN CASE WHEN NOT v_granted THEN parley.usage_wait(p_turn.reserved_on) END;
END
$$;
COMMENT ON FUNCTION parley.usage_extend IS
    'After a step: reserves what the next model call may need (p_next), on the day of the turn. NULL: it may be asked; else milliseconds until there is a budget again, and the turn is to end once this step is done.';

CREATE OR REPLACE FUNCTION parley.budget_left(p_turn parley.turns) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN CASE WHEN p_turn.steps > 0 AND p_turn.reserved <= p_turn.input_tokens + p_turn.output_tokens
	       THEN parley.usage_wait(p_turn.reserved_on) END;
END
$$;
COMMENT ON FUNCTION parley.budget_left IS 'What usage_extend has said after the last step of this turn, for whoever goes on with it.';

CREATE OR REPLACE FUNCTION parley.usage_settle(p_turns parley.turns[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	v record;
BEGIN
	FOR v IN
		SELECT s.user_id, s.reserved_on, sum(s.reserved) AS reserved, sum(s.cost) AS cost,
		       coalesce(sum(s.cost) FILTER (WHERE s.guess), 0) AS guess
		  FROM (SELECT t.user_id, t.reserved_on, t.reserved, t.estimated OR t.state = 'running' AS guess,
		               -- One that runs while it is deleted has a model at work whose bill will never come.
		               CASE t.state WHEN 'running' THEN greatest(t.reserved, t.input_tokens + t.output_tokens)
		               ELSE t.input_tokens + t.output_tokens END AS cost
		          FROM unnest(p_turns) t
		         WHERE t.reserved_on IS NOT NULL) s
		 GROUP BY s.user_id, s.reserved_on
		 ORDER BY s.reserved_on
	LOOP
		UPDATE parley.usage u
		   SET reserved = u.reserved - v.reserved, spent = u.spent + v.cost, estimated = u.estimated + v.guess
		 WHERE u.user_id = v.user_id AND u.day = v.reserved_on;
	END LOOP;
END
$$;
COMMENT ON FUNCTION parley.usage_settle IS
    'These turns have ended in this statement, or are deleted: what they have used is spent, on the day it was reserved on, and the rest is free again. Those without a reservation are passed over.';
RESET ROLE;
