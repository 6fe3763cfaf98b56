-- The tables, the roles and who may touch what.
--
-- user_id leads every key, so the tables can be distributed by it.  Row level security
-- is enabled and FORCED on every table with user data: it binds the owner too, so a
-- later migration that changes data must set parley.user_id for each user
-- or switch the policy off and on again inside its transaction.
--
-- There are no foreign keys: they cost 10-15 % of a turn, and what they would
-- enforce the functions already do, under the lock of the row that matters.  There
-- are no triggers.

-- Roles belong to the cluster: another database, or another migration at this very moment, may have made them.
DO $$
DECLARE
	v_role text;
	v_login text;
BEGIN
	FOR v_role, v_login IN VALUES
	    ('parley_owner', 'NOLOGIN'), ('parley_worker', 'LOGIN NOINHERIT'), ('parley_tool', 'NOLOGIN'),
	    ('parley_pulse', 'NOLOGIN'), ('parley_ops', 'NOLOGIN')
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = v_role) THEN
			BEGIN
				EXECUTE format('CREATE ROLE %I %s', v_role, v_login);
			EXCEPTION WHEN duplicate_object OR unique_violation THEN
				NULL;
			END;
		END IF;
	END LOOP;

	-- NOINHERIT: the worker can become the tool role, but cannot read the tools' tables itself.
	IF NOT pg_has_role('parley_worker', 'parley_tool', 'MEMBER') THEN
		GRANT parley_tool TO parley_worker;
	END IF;

	-- Whoever migrates without being superuser must be able to hand things over.
	FOR v_role IN VALUES ('parley_owner'), ('parley_pulse') LOOP
		IF NOT pg_has_role(current_user, v_role, 'MEMBER') THEN
			EXECUTE format('GRANT %I TO CURRENT_USER', v_role);
		END IF;
	END LOOP;

	-- A running function cannot change its own timeout, so it is the role's.  The worker's statements are
	-- all short walks along an index; a plan made while the tables were small or empty
	-- must not become a scan of what they have grown to, and planning them anew each time would cost more than running them.
	EXECUTE format('ALTER ROLE parley_worker IN DATABASE %I SET statement_timeout = %L', current_database(), '10s');
	EXECUTE format('ALTER ROLE parley_worker IN DATABASE %I SET enable_seqscan = off', current_database());
	EXECUTE format('ALTER ROLE parley_worker IN DATABASE %I SET plan_cache_mode = force_generic_plan', current_database());
	EXECUTE format('ALTER ROLE parley_worker IN DATABASE %I SET jit = off', current_database());
END
$$;

CREATE SCHEMA IF NOT EXISTS parley;
ALTER SCHEMA parley OWNER TO parley_owner;
COMMENT ON SCHEMA parley IS 'Parley: conversations, turns, messages, tool calls, and the functions that are the only way to them.';
CREATE SCHEMA IF NOT EXISTS tools;
ALTER SCHEMA tools OWNER TO parley_owner;
COMMENT ON SCHEMA tools IS 'Every function in here is a tool of the model. It runs as parley_tool, with parley.user_id set to the user of the turn.';

SET LOCAL ROLE parley_owner;
SET LOCAL client_min_messages = warning;

REVOKE ALL ON SCHEMA parley, tools FROM PUBLIC;
GRANT USAGE ON SCHEMA parley TO parley_worker, parley_pulse, parley_ops;
GRANT USAGE ON SCHEMA tools TO parley_tool;
-- Functions are for whom they are meant, from the moment they are made.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA parley GRANT EXECUTE ON FUNCTIONS TO parley_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA tools GRANT EXECUTE ON FUNCTIONS TO parley_tool;

CREATE TABLE parley.conversations (
	user_id		text COLLATE "C" NOT NULL CHECK (user_id <> ''),
	id		uuid NOT NULL,
	title		text NOT NULL,
	turns		int NOT NULL DEFAULT 0,
	created_at	timestamptz NOT NULL,
	updated_at	timestamptz NOT NULL,
	PRIMARY KEY (user_id, id)
) WITH (fillfactor = 80);
CREATE INDEX conversations_recent ON parley.conversations (user_id, updated_at, id);
COMMENT ON TABLE parley.conversations IS 'One row for each conversation; its row lock orders the beginnings of turns.';
COMMENT ON COLUMN parley.conversations.user_id IS 'Whose it is: the user of the token.';
COMMENT ON COLUMN parley.conversations.id IS 'Made by the worker.';
COMMENT ON COLUMN parley.conversations.title IS 'The first 80 characters of the first message, until it is renamed.';
COMMENT ON COLUMN parley.conversations.turns IS 'How many turns it has; the number of the newest one.';
COMMENT ON COLUMN parley.conversations.created_at IS 'When its first message came.';
COMMENT ON COLUMN parley.conversations.updated_at IS 'When its newest turn began. Renaming is no activity.';

CREATE TABLE parley.turns (
	user_id		text COLLATE "C" NOT NULL,
	conversation_id	uuid NOT NULL,
	turn		int NOT NULL,
	state		text NOT NULL
	    CHECK (state IN ('queued', 'running', 'approval_required', 'done', 'failed', 'cancelled')),
	run		int NOT NULL DEFAULT 1,
	fence		bigint NOT NULL DEFAULT 1,
	attempts	int NOT NULL DEFAULT 1,
	steps		int NOT NULL DEFAULT 0,
	open_calls	int NOT NULL DEFAULT 0 CHECK (open_calls >= 0),
	messages	int NOT NULL DEFAULT 1,
	tokens		int NOT NULL,
	time_zone	text,
	started_at	timestamptz NOT NULL,
	deadline	timestamptz NOT NULL,
	ended_at	timestamptz,
	cancel_requested_at timestamptz,
	error_code	text,
	sentence	text,
	model		text,
	input_tokens	bigint NOT NULL DEFAULT 0,
	output_tokens	bigint NOT NULL DEFAULT 0,
	timings		json,
	PRIMARY KEY (user_id, conversation_id, turn),
	CONSTRAINT calls_before_end CHECK (open_calls = 0 OR state IN ('running', 'approval_required'))
) WITH (fillfactor = 70);
-- One live turn in a conversation, whatever the workers do.
CREATE UNIQUE INDEX turns_live ON parley.turns (user_id, conversation_id)
    WHERE state IN ('running', 'approval_required');
COMMENT ON TABLE parley.turns IS 'A message of the user and all that follows from it.';
COMMENT ON COLUMN parley.turns.user_id IS 'Whose it is.';
COMMENT ON COLUMN parley.turns.conversation_id IS 'Its conversation.';
COMMENT ON COLUMN parley.turns.turn IS 'Counts from 1 in its conversation, without gaps.';
COMMENT ON COLUMN parley.turns.state IS 'queued, running, approval_required, done, failed or cancelled.';
COMMENT ON COLUMN parley.turns.run IS 'The newest run; a retry raises it.';
COMMENT ON COLUMN parley.turns.fence IS 'The right to write: every write of the turn must bring this number, and whoever takes the turn over raises it.';
COMMENT ON COLUMN parley.turns.attempts IS 'How many workers have begun this run.';
COMMENT ON COLUMN parley.turns.steps IS 'Model answers stored in this run.';
COMMENT ON COLUMN parley.turns.open_calls IS 'Tool calls that lack their result: while there are any, neither the next step nor the end can be stored.';
COMMENT ON COLUMN parley.turns.messages IS 'What this run adds to the history: messages, each tool result counted as one.';
COMMENT ON COLUMN parley.turns.tokens IS 'Estimated tokens of these, for the cut of the history.';
COMMENT ON COLUMN parley.turns.time_zone IS 'The zone the client named; NULL is UTC.';
COMMENT ON COLUMN parley.turns.started_at IS 'When it began to run.';
COMMENT ON COLUMN parley.turns.deadline IS 'When it must have ended, on the database clock.';
COMMENT ON COLUMN parley.turns.ended_at IS 'When it ended; NULL while it is live.';
COMMENT ON COLUMN parley.turns.cancel_requested_at IS 'When somebody asked it to stop; its worker learns of it from its pulse.';
COMMENT ON COLUMN parley.turns.error_code IS 'Why it failed or was cancelled: an error_code of the HTTP contract.';
COMMENT ON COLUMN parley.turns.sentence IS 'What the user was told about that.';
COMMENT ON COLUMN parley.turns.model IS 'The model that answered, as the client is told.';
COMMENT ON COLUMN parley.turns.input_tokens IS 'Tokens read by the model in all steps.';
COMMENT ON COLUMN parley.turns.output_tokens IS 'Tokens written by the model in all steps.';
COMMENT ON COLUMN parley.turns.timings IS 'Milliseconds of its parts, as the worker measured them.';

CREATE TABLE parley.messages (
	user_id		text COLLATE "C" NOT NULL,
	conversation_id	uuid NOT NULL,
	turn		int NOT NULL,
	run		int NOT NULL,
	idx		int NOT NULL,
	id		uuid NOT NULL,
	role		text NOT NULL CHECK (role IN ('user', 'assistant')),
	content		text NOT NULL,
	raw		json,
	source		text,
	model		text,
	calls		int NOT NULL DEFAULT 0,
	interrupted	boolean NOT NULL DEFAULT false,
	created_at	timestamptz NOT NULL,
	PRIMARY KEY (user_id, conversation_id, turn, run, idx)
);
COMMENT ON TABLE parley.messages IS 'What was said, append-only, in the order of its key.';
COMMENT ON COLUMN parley.messages.user_id IS 'Whose it is.';
COMMENT ON COLUMN parley.messages.conversation_id IS 'Its conversation.';
COMMENT ON COLUMN parley.messages.turn IS 'Its turn.';
COMMENT ON COLUMN parley.messages.run IS 'The run of the turn that made it.';
COMMENT ON COLUMN parley.messages.idx IS 'Its place in the run; 0 is the user''s message.';
COMMENT ON COLUMN parley.messages.id IS 'Made by the worker.';
COMMENT ON COLUMN parley.messages.role IS 'user or assistant.';
COMMENT ON COLUMN parley.messages.content IS 'The text, maybe empty.';
COMMENT ON COLUMN parley.messages.raw IS 'The model''s message as received, with what only that model understands.';
COMMENT ON COLUMN parley.messages.source IS 'Base URL and name of the model asked: only that one gets the raw message back.';
COMMENT ON COLUMN parley.messages.model IS 'The model''s name, as the client is told.';
COMMENT ON COLUMN parley.messages.calls IS 'How many tool calls it makes.';
COMMENT ON COLUMN parley.messages.interrupted IS 'The text was cut off: it is kept, but is no answer.';
COMMENT ON COLUMN parley.messages.created_at IS 'When it was stored.';

CREATE TABLE parley.tool_calls (
	user_id		text COLLATE "C" NOT NULL,
	conversation_id	uuid NOT NULL,
	turn		int NOT NULL,
	run		int NOT NULL,
	idx		int NOT NULL,
	pos		int NOT NULL,
	id		uuid NOT NULL,
	call_id		text NOT NULL,
	tool_name	text NOT NULL,
	parameters	json NOT NULL,
	broken		text,
	result		json,
	is_error	boolean NOT NULL DEFAULT false,
	started_at	timestamptz,
	executed_at	timestamptz,
	duration_ms	int,
	PRIMARY KEY (user_id, conversation_id, turn, run, idx, pos),
	CHECK ((result IS NULL) = (executed_at IS NULL))
) WITH (fillfactor = 70);
COMMENT ON TABLE parley.tool_calls IS 'What the model asked tools to do, and the one result of each call.';
COMMENT ON COLUMN parley.tool_calls.user_id IS 'Whose it is, and whom the tool runs for.';
COMMENT ON COLUMN parley.tool_calls.conversation_id IS 'The conversation of its message.';
COMMENT ON COLUMN parley.tool_calls.turn IS 'The turn of its message.';
COMMENT ON COLUMN parley.tool_calls.run IS 'The run of its message.';
COMMENT ON COLUMN parley.tool_calls.idx IS 'The place of its message.';
COMMENT ON COLUMN parley.tool_calls.pos IS 'Its place in the message, from 0.';
COMMENT ON COLUMN parley.tool_calls.id IS 'Made by the worker; what the client knows it by.';
COMMENT ON COLUMN parley.tool_calls.call_id IS 'The model''s own id, which must be sent back to it.';
COMMENT ON COLUMN parley.tool_calls.tool_name IS 'The tool, as the model named it.';
COMMENT ON COLUMN parley.tool_calls.parameters IS 'The arguments: a JSON object.';
COMMENT ON COLUMN parley.tool_calls.broken IS 'What the model sent where it was no JSON object; never sent back to it.';
COMMENT ON COLUMN parley.tool_calls.result IS 'What came of it; NULL until then, and written once.';
COMMENT ON COLUMN parley.tool_calls.is_error IS 'The result says what went wrong.';
COMMENT ON COLUMN parley.tool_calls.started_at IS 'When a remote call was sent; stays NULL for SQL tools, which are done or not.';
COMMENT ON COLUMN parley.tool_calls.executed_at IS 'When it was done.';
COMMENT ON COLUMN parley.tool_calls.duration_ms IS 'How long it took.';

-- Unlogged: written every second for each running turn and worth nothing after a crash.
CREATE UNLOGGED TABLE parley.live (
	user_id		text COLLATE "C" NOT NULL,
	conversation_id	uuid NOT NULL,
	turn		int NOT NULL,
	fence		bigint NOT NULL,
	lease_until	timestamptz NOT NULL,
	partial		text,
	PRIMARY KEY (user_id, conversation_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE parley.live IS 'Leases of running turns. A running turn without a row here is not expired; whoever notices gives it one with a full lease.';
COMMENT ON COLUMN parley.live.user_id IS 'Whose turn it is.';
COMMENT ON COLUMN parley.live.conversation_id IS 'Its conversation, which has one live turn at most.';
COMMENT ON COLUMN parley.live.turn IS 'The turn; a row of an older one means nothing.';
COMMENT ON COLUMN parley.live.fence IS 'The fence of who renews it.';
COMMENT ON COLUMN parley.live.lease_until IS 'Past this its worker is taken for dead.';
COMMENT ON COLUMN parley.live.partial IS 'The text of the present step so far.';

CREATE TABLE parley.facts (
	key		text PRIMARY KEY,
	value		text NOT NULL,
	expires_at	timestamptz NOT NULL,
	stored_at	timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE parley.facts IS 'What all workers may know and forget: public, with an expiry, nothing of any user.';
COMMENT ON COLUMN parley.facts.key IS 'hold:BASE_URL MODEL: that model is not to be asked before expires_at. jwks:URL: the issuer''s keys. claim:KEY: who may ask for them, and when next.';
COMMENT ON COLUMN parley.facts.value IS 'What is known.';
COMMENT ON COLUMN parley.facts.expires_at IS 'Until when.';
COMMENT ON COLUMN parley.facts.stored_at IS 'Since when.';

-- Row level security.  No setting, no rows: current_setting() gives NULL or '' then.
DO $$
DECLARE
	v_table text;
BEGIN
	FOREACH v_table IN ARRAY ARRAY['conversations', 'turns', 'messages', 'tool_calls', 'live'] LOOP
		EXECUTE format('ALTER TABLE parley.%I ENABLE ROW LEVEL SECURITY', v_table);
		EXECUTE format('ALTER TABLE parley.%I FORCE ROW LEVEL SECURITY', v_table);
		EXECUTE format('CREATE POLICY own_rows ON parley.%I'
		    ' USING (user_id = nullif(current_setting(''parley.user_id'', true), ''''))', v_table);
		EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON parley.%I TO parley_worker', v_table);
	END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON parley.facts TO parley_worker;

-- The pulse crosses users, so it sees ids, fences, states and leases, and no text.
GRANT SELECT (user_id, conversation_id, turn, run, state, fence, cancel_requested_at) ON parley.turns TO parley_pulse;
GRANT SELECT (user_id, conversation_id, turn, fence, lease_until) ON parley.live TO parley_pulse;
GRANT INSERT, UPDATE (turn, fence, lease_until, partial) ON parley.live TO parley_pulse;
CREATE POLICY pulse_reads ON parley.turns FOR SELECT TO parley_pulse USING (true);
CREATE POLICY pulse_renews ON parley.live TO parley_pulse USING (true);

CREATE FUNCTION parley.utc(p_at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
COMMENT ON FUNCTION parley.utc IS 'A time as clients see it: RFC 3339, UTC, milliseconds.';

CREATE FUNCTION parley.fact_set(p_key text, p_value text, p_ms bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	-- The later of two expiries stands: two workers may have been told different things.
	INSERT INTO parley.facts AS f (key, value, expires_at, stored_at)
	VALUES (p_key, p_value, clock_timestamp() + p_ms * interval '1 millisecond', clock_timestamp())
	ON CONFLICT (key) DO UPDATE
	    SET value = excluded.value, expires_at = greatest(f.expires_at, excluded.expires_at), stored_at = excluded.stored_at;
	DELETE FROM parley.facts WHERE expires_at < clock_timestamp() - interval '1 day';
END
$$;
COMMENT ON FUNCTION parley.fact_set IS 'Stores a fact for so many milliseconds.';

CREATE FUNCTION parley.fact_get(p_key text, OUT value text, OUT age_ms bigint) RETURNS record
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT f.value, (extract(epoch FROM clock_timestamp() - f.stored_at) * 1000)::bigint
	  FROM parley.facts f
	 WHERE f.key = p_key AND f.expires_at > clock_timestamp();
END;
COMMENT ON FUNCTION parley.fact_get IS 'A fact, and the milliseconds since it was stored; NULLs when there is none or it has expired.';

CREATE FUNCTION parley.fact_claim(p_key text, p_ms bigint, OUT claimed boolean, OUT age_ms bigint) RETURNS record
LANGUAGE plpgsql AS $$
BEGIN
	-- The row is a turnstile: in p_ms one caller gets through, whichever worker it is.
	INSERT INTO parley.facts AS f (key, value, expires_at, stored_at)
	VALUES ('claim:' || p_key, '', clock_timestamp() + p_ms * interval '1 millisecond', clock_timestamp())
	ON CONFLICT (key) DO UPDATE
	    SET expires_at = excluded.expires_at, stored_at = excluded.stored_at
	  WHERE f.expires_at <= excluded.stored_at;
	claimed := FOUND;
	SELECT (extract(epoch FROM clock_timestamp() - f.stored_at) * 1000)::bigint INTO age_ms
	  FROM parley.facts f
	 WHERE f.key = 'claim:' || p_key;
END
$$;
COMMENT ON FUNCTION parley.fact_claim IS 'The right to do what must be done at most once in so many milliseconds; and the milliseconds since it was last given.';
RESET ROLE;

-- `parleyctl migrate` has made its list before it came here; `parleyctl check` reads it as the worker.
DO $$
BEGIN
	IF to_regclass('parley.migrations') IS NOT NULL THEN
		GRANT SELECT ON parley.migrations TO parley_worker;
	END IF;
END
$$;
