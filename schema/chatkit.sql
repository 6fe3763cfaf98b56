-- What only POST /api/chatkit asks for: threads by when they were begun, their messages turn by turn from either end,
-- what can be checked before a stream is opened, and feedback.
SET LOCAL ROLE parley_owner;

-- Earlier releases had these with other arguments or results.
DROP FUNCTION IF EXISTS parley.chatkit_check;

-- As with conversation_list: the index has the order.
CREATE OR REPLACE FUNCTION parley.chatkit_threads(p_user text, p_id uuid, p_limit int, p_oldest_first boolean, p_after uuid)
RETURNS TABLE (id uuid, title text, created_at text)
LANGUAGE plpgsql SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_after timestamptz;
BEGIN
	IF p_id IS NOT NULL THEN
		RETURN QUERY
		SELECT c.id, c.title, parley.utc(c.created_at) FROM parley.conversations c
		 WHERE c.user_id = p_user AND c.id = p_id;
		RETURN;
	END IF;
	SELECT c.created_at INTO v_after FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_after;
	IF p_oldest_first THEN
		RETURN QUERY
		SELECT c.id, c.title, parley.utc(c.created_at) FROM parley.conversations c
		 WHERE c.user_id = p_user
		   AND (c.created_at, c.id) > (coalesce(v_after, '-infinity'), coalesce(p_after, '00000000-0000-0000-0000-000000000000'))
		 ORDER BY c.created_at, c.id
		 LIMIT p_limit;
	ELSE
		RETURN QUERY
		SELECT c.id, c.title, parley.utc(c.created_at) FROM parley.conversations c
		 WHERE c.user_id = p_user
		   AND (c.created_at, c.id) < (coalesce(v_after, 'infinity'), coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
		 ORDER BY c.created_at DESC, c.id DESC
		 LIMIT p_limit;
	END IF;
END
$$;
COMMENT ON FUNCTION parley.chatkit_threads IS
    'Conversations as ChatKit''s threads: the one named, or so many by when they were begun, after the one given.';

CREATE OR REPLACE FUNCTION parley.chatkit_messages(p_user text, p_conversation uuid, p_from int, p_turns int,
    p_oldest_first boolean)
RETURNS TABLE (turn int, run int, idx int, id uuid, role text, content text, raw json, source text,
    turn_state text, error_code text, interrupted boolean, created_at text, calls json)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_turns int[];
BEGIN
	IF p_oldest_first THEN
		v_turns := ARRAY(SELECT t.turn FROM parley.turns t
		                  WHERE t.user_id = p_user AND t.conversation_id = p_conversation
		                    AND t.turn >= coalesce(p_from, 0) AND t.superseded_at IS NULL
		                  ORDER BY t.turn LIMIT p_turns);
	ELSE
		v_turns := ARRAY(SELECT t.turn FROM parley.turns t
		                  WHERE t.user_id = p_user AND t.conversation_id = p_conversation
		                    AND t.turn <= coalesce(p_from, 2147483647) AND t.superseded_at IS NULL
		                  ORDER BY t.turn DESC LIMIT p_turns);
	END IF;
	RETURN QUERY
	SELECT m.turn, m.run, m.idx, m.id, m.role, m.content, NULL::json, NULL::text, t.state, t.error_code, m.interrupted,
	       parley.utc(m.created_at),
	       CASE WHEN m.calls > 0 THEN parley.calls_json(p_user, p_conversation, m.turn, m.run, m.idx) END
	  FROM unnest(v_turns) v (turn)
	  JOIN parley.turns t
	    ON t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = v.turn
	  JOIN parley.messages m
	    ON m.user_id = p_user AND m.conversation_id = p_conversation AND m.turn = t.turn AND m.run = t.run
	 ORDER BY m.turn, m.idx;
END
$$;
COMMENT ON FUNCTION parley.chatkit_messages IS
    'The messages of so many turns in a row, in their newest runs, oldest first: those from a turn on, or those up to it.';

CREATE OR REPLACE FUNCTION parley.chatkit_place(p_user text, p_conversation uuid, p_message uuid, OUT there boolean,
    OUT turn int, OUT idx int, OUT role text, OUT shown boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	there := EXISTS (SELECT FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_conversation);
	SELECT m.turn, m.idx, m.role, t.run = m.run AND t.superseded_at IS NULL INTO turn, idx, role, shown
	  FROM parley.messages m
	  JOIN parley.turns t
	    ON t.user_id = p_user AND t.conversation_id = p_conversation AND t.turn = m.turn
	 WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.id = p_message
	 ORDER BY m.run DESC
	 LIMIT 1;
END
$$;
COMMENT ON FUNCTION parley.chatkit_place IS
    'Where a message stands; shown: it is part of what people see (its turn has no newer run and was not superseded). there: there is such a conversation.';

CREATE OR REPLACE FUNCTION parley.chatkit_check(p_user text, p_conversation uuid, p_wish text, p_key text, p_hash text,
    p_max_turns int, p_max_queued int, p_per_minute int, p_per_day bigint, p_call_tokens bigint, p_deadline_ms int,
    OUT outcome text, OUT wait_ms bigint)
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
	v_queued int;
BEGIN
	outcome := (parley.key_find(p_user, p_key, p_hash)).outcome;
	IF outcome IS NOT NULL THEN
		RETURN;
	END IF;
	IF p_conversation IS NOT NULL AND NOT EXISTS (SELECT FROM parley.conversations c
	    WHERE c.user_id = p_user AND c.id = p_conversation) THEN
		outcome := 'not_found';
		RETURN;
	END IF;
	IF p_wish = 'retry' AND EXISTS (SELECT FROM parley.turns t
	    WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'running') THEN
		outcome := 'busy';
		RETURN;
	END IF;
	v_queued := (SELECT count(*) FROM parley.turns t
	              WHERE t.user_id = p_user AND t.conversation_id = p_conversation AND t.state = 'queued');
	IF p_wish = 'message' AND v_queued >= greatest(p_max_queued, 1) THEN
		outcome := 'queue_full';
		RETURN;
	END IF;
	IF p_wish <> 'decision' AND p_max_turns > 0 AND p_max_turns <=
	    (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'running')
	    + (SELECT count(*) FROM parley.turns t WHERE t.user_id = p_user AND t.state = 'queued') THEN
		outcome := 'rate_limited';
		RETURN;
	END IF;
	-- What is said while a call waits may be the yes or no to it, which is no turn of its own.
	IF (p_per_minute > 0 OR p_per_day > 0) AND (p_wish = 'retry' OR p_wish = 'message' AND NOT EXISTS (
	    SELECT FROM parley.turns t WHERE t.user_id = p_user AND t.conversation_id = p_conversation
	       AND t.state = 'approval_required')) THEN
		SELECT l.outcome, l.wait_ms INTO outcome, wait_ms
		  FROM parley.limits_look(p_user, p_per_minute, p_per_day, p_call_tokens, p_deadline_ms) l;
	END IF;
	outcome := coalesce(outcome, 'fine');
END
$$;
COMMENT ON FUNCTION parley.chatkit_check IS
    'Would turn_begin (p_wish message), turn_retry (retry) or turn_decide (decision) be done now? fine, known, or its refusal (wait_ms as in limits_look). What comes between then and now is told inside of the stream.';

CREATE OR REPLACE FUNCTION parley.feedback_give(p_user text, p_conversation uuid, p_items text[], p_messages uuid[], p_kind text)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_user text := set_config('parley.user_id', p_user, true);
BEGIN
	-- Deletion waits for this lock, so nothing is left behind.
	PERFORM FROM parley.conversations c WHERE c.user_id = p_user AND c.id = p_conversation FOR KEY SHARE;
	IF NOT FOUND THEN
		RETURN 'not_found';
	END IF;
	IF EXISTS (SELECT FROM unnest(p_messages) p (id)
	            WHERE NOT EXISTS (SELECT FROM parley.messages m
	                               WHERE m.user_id = p_user AND m.conversation_id = p_conversation AND m.id = p.id)) THEN
		RETURN 'no_item';
	END IF;
	INSERT INTO parley.feedback AS f (user_id, conversation_id, item, kind, given_at)
	SELECT p_user, p_conversation, p.item, p_kind, clock_timestamp()
	  FROM (SELECT DISTINCT u.item FROM unnest(p_items) u (item)) p
	ON CONFLICT (user_id, conversation_id, item) DO UPDATE
	    SET kind = excluded.kind, given_at = excluded.given_at;
	RETURN 'given';
END
$$;
COMMENT ON FUNCTION parley.feedback_give IS
    'Stores what the user thinks of these items of a conversation (p_messages: the message of each); not_found, or no_item, when one of them is not there, and then nothing is stored.';
RESET ROLE;
