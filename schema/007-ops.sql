-- What the person who runs Parley may see across users: states, times, codes, models and tokens, and never a text.
DO $$
BEGIN
	-- Whoever migrates without being superuser must be able to hand things over.
	IF NOT pg_has_role(current_user, 'parley_ops', 'MEMBER') THEN
		EXECUTE format('GRANT %I TO CURRENT_USER', 'parley_ops');
	END IF;
END
$$;
SET LOCAL ROLE parley_owner;
SET LOCAL client_min_messages = warning;

-- What ended of late is found without a look at all that ever did.  Every update of ended_at changes the state as well,
-- which the index of live turns depends on: so this one costs no update its place in the page (HOT).
CREATE INDEX turns_ended ON parley.turns USING brin (ended_at) WITH (pages_per_range = 16, autosummarize = on);

GRANT SELECT (user_id, conversation_id, turn, run, state, attempts, steps, started_at, deadline, ended_at, error_code, model,
    input_tokens, output_tokens, timings, asked_at, expires_at) ON parley.turns TO parley_ops;
GRANT SELECT (user_id, conversation_id, turn, run, tool_name, is_error, started_at, executed_at, duration_ms)
    ON parley.tool_calls TO parley_ops;
GRANT SELECT (user_id, conversation_id, turn, fence, lease_until) ON parley.live TO parley_ops;
GRANT SELECT (user_id, id, updated_at) ON parley.conversations TO parley_ops;
GRANT SELECT, INSERT, UPDATE, DELETE ON parley.facts TO parley_ops;

COMMENT ON COLUMN parley.mcp_sessions.session IS 'The id that the server gave; NULL: it has no sessions. @secret';
COMMENT ON COLUMN parley.facts.key IS 'hold:BASE_URL MODEL: that model is not to be asked before expires_at. jwks:URL: the issuer''s keys. claim:KEY: who may ask for them, and when next. mcp:era:NAME|URL: the revision that a server of tools speaks. mcp:tools:NAME|URL|WANTED: its tools, those that the configuration wants. ops:metrics: what GET /api/metrics tells until then.';
RESET ROLE;
