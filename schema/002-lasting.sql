-- What turns need to outlive their workers: a queue, keys against doing things twice, and more to see for followers.
SET LOCAL ROLE parley_owner;
SET LOCAL client_min_messages = warning;

-- Messages that wait behind a live turn, first come first served.
CREATE INDEX turns_queued ON parley.turns (user_id, conversation_id, turn) WHERE state = 'queued';

-- While a turn is queued its time does not run.
COMMENT ON COLUMN parley.turns.started_at IS 'When this run began; of a queued turn, when it came.';
COMMENT ON COLUMN parley.turns.deadline IS 'When it must have ended, on the database clock; infinity while it is queued.';
COMMENT ON COLUMN parley.turns.attempts IS 'How many workers have begun this run, those not counted that took over what was released.';

ALTER TABLE parley.live
    ADD COLUMN idx int NOT NULL DEFAULT 1,
    ADD COLUMN bytes int NOT NULL DEFAULT 0;
COMMENT ON COLUMN parley.live.lease_until IS 'Past this its worker is taken for dead; -infinity: it was released and may be taken at once.';
COMMENT ON COLUMN parley.live.idx IS 'The place of the message that is being said.';
COMMENT ON COLUMN parley.live.bytes IS 'The size of its text so far, for those who may not read it.';

-- One row for each request that must not be done twice.
CREATE TABLE parley.idempotency_keys (
	user_id		text COLLATE "C" NOT NULL,
	key		text COLLATE "C" NOT NULL,
	body_hash	text NOT NULL,
	conversation_id	uuid NOT NULL,
	turn		int NOT NULL,
	created_at	timestamptz NOT NULL,
	PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_age ON parley.idempotency_keys (user_id, created_at);
COMMENT ON TABLE parley.idempotency_keys IS 'Which turn a request with an Idempotency-Key has led to; kept for 24 hours.';
COMMENT ON COLUMN parley.idempotency_keys.user_id IS 'Whose it is: the same key of another user is another key.';
COMMENT ON COLUMN parley.idempotency_keys.key IS 'The Idempotency-Key; one of our own begins with a blank, which a client''s cannot.';
COMMENT ON COLUMN parley.idempotency_keys.body_hash IS 'Of the request, without what only concerns how it is answered.';
COMMENT ON COLUMN parley.idempotency_keys.conversation_id IS 'The conversation.';
COMMENT ON COLUMN parley.idempotency_keys.turn IS 'The turn.';
COMMENT ON COLUMN parley.idempotency_keys.created_at IS 'When it was bound.';
ALTER TABLE parley.idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE parley.idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON parley.idempotency_keys
    USING (user_id = nullif(current_setting('parley.user_id', true), ''));
GRANT SELECT, INSERT, UPDATE, DELETE ON parley.idempotency_keys TO parley_worker;

-- What a worker is told when a turn becomes its own: the messages for the model, and on the last row what
-- concerns the whole turn.
CREATE TYPE parley.turn_row AS (
	turn		int,
	run		int,
	idx		int,
	id		uuid,
	role		text,
	content		text,
	raw		json,
	source		text,
	turn_state	text,
	error_code	text,
	interrupted	boolean,
	created_at	text,
	calls		json,
	outcome		text,
	conversation_id	uuid,
	fence		bigint,
	local_time	text,
	holds		bigint[],
	left_ms		bigint,
	input_tokens	bigint,
	output_tokens	bigint
);
COMMENT ON TYPE parley.turn_row IS
    'A message for the model. On the last row also: outcome, conversation_id, fence, local_time (the user''s, when the turn came), holds (milliseconds until each model may be asked again, NULL: now), left_ms (until the deadline), and what the turn has cost so far.';

-- The pulse may see how far a turn has come, not what it says.
GRANT SELECT (messages, open_calls, started_at) ON parley.turns TO parley_pulse;
GRANT SELECT (idx, bytes), UPDATE (idx, bytes), DELETE ON parley.live TO parley_pulse;
RESET ROLE;
