-- What a user may spend: tokens in a day, turns in a minute.  And the trace that a turn belongs to.
--
-- Rows are written here only while a limit is set (limits.user_tokens_per_day, limits.user_turns_per_minute); budgets.sql
-- has the functions and the rules.
SET LOCAL ROLE parley_owner;
SET LOCAL client_min_messages = warning;

CREATE TABLE parley.usage (
	user_id		text COLLATE "C" NOT NULL,
	day		date NOT NULL,
	reserved	bigint NOT NULL DEFAULT 0,
	spent		bigint NOT NULL DEFAULT 0,
	estimated	bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (user_id, day)
) WITH (fillfactor = 50);
COMMENT ON TABLE parley.usage IS 'Tokens of a user in a day. A new day is a new row, so nothing is ever reset.';
COMMENT ON COLUMN parley.usage.user_id IS 'Whose they are.';
COMMENT ON COLUMN parley.usage.day IS 'The day, in UTC, on which the turns were asked for; a turn that ends on another is settled here all the same.';
COMMENT ON COLUMN parley.usage.reserved IS 'What turns that have not ended may still need, as they have it in their own rows.';
COMMENT ON COLUMN parley.usage.spent IS 'What turns that have ended have used, every run of them.';
COMMENT ON COLUMN parley.usage.estimated IS 'How much of that belongs to turns whose model did not say all that it used.';

CREATE TABLE parley.pace (
	user_id		text COLLATE "C" NOT NULL,
	began		timestamptz[] NOT NULL,
	last_at		timestamptz NOT NULL,
	PRIMARY KEY (user_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE parley.pace IS 'When a user has asked for turns: one row for each user.';
COMMENT ON COLUMN parley.pace.user_id IS 'Who.';
COMMENT ON COLUMN parley.pace.began IS 'The times of the last minute, oldest first; no more than limits.user_turns_per_minute.';
COMMENT ON COLUMN parley.pace.last_at IS 'The newest of them: a row that is older than a minute means nothing any more.';

DO $$
DECLARE
	v_table text;
BEGIN
	FOREACH v_table IN ARRAY ARRAY['usage', 'pace'] LOOP
		EXECUTE format('ALTER TABLE parley.%I ENABLE ROW LEVEL SECURITY', v_table);
		EXECUTE format('ALTER TABLE parley.%I FORCE ROW LEVEL SECURITY', v_table);
		EXECUTE format('CREATE POLICY own_rows ON parley.%I'
		    ' USING (user_id = nullif(current_setting(''parley.user_id'', true), ''''))', v_table);
		EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON parley.%I TO parley_worker', v_table);
	END LOOP;
END
$$;

ALTER TABLE parley.turns
    ADD COLUMN reserved bigint,
    ADD COLUMN reserved_on date,
    ADD COLUMN estimated boolean NOT NULL DEFAULT false,
    ADD COLUMN trace text;
COMMENT ON COLUMN parley.turns.reserved IS 'Tokens set aside for this run in parley.usage; once it has ended they are not any more.';
COMMENT ON COLUMN parley.turns.reserved_on IS 'The day there; NULL: there was no budget when this run was asked for.';
COMMENT ON COLUMN parley.turns.estimated IS 'Some of its tokens are a guess: a model did not say.';
COMMENT ON COLUMN parley.turns.trace IS 'W3C Trace Context of the request that asked for this run: traceparent, and behind a blank tracestate where there is one; NULL: it came without.';

ALTER TYPE parley.turn_row ADD ATTRIBUTE budget_ms bigint, ADD ATTRIBUTE trace text;
COMMENT ON TYPE parley.turn_row IS
    'A message for the model. On the last row also: outcome, conversation_id, fence, local_time (the user''s, when the turn came), holds (milliseconds until each model may be asked again, NULL: now), left_ms (until the deadline), what the turn has cost so far, budget_ms (NULL: it may ask the model, else milliseconds until there is a budget again; with a refusal, until it is worth while to ask again), and its trace.';
RESET ROLE;
