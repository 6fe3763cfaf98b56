-- What a person thinks of an answer; and turns that a retry of an earlier one has taken the place of.
SET LOCAL ROLE parley_owner;
SET LOCAL client_min_messages = warning;

CREATE TABLE parley.feedback (
	user_id		text COLLATE "C" NOT NULL,
	conversation_id	uuid NOT NULL,
	item		text COLLATE "C" NOT NULL,
	kind		text NOT NULL CHECK (kind IN ('positive', 'negative')),
	given_at	timestamptz NOT NULL,
	PRIMARY KEY (user_id, conversation_id, item)
);
COMMENT ON TABLE parley.feedback IS 'Thumbs up or down: one for each item of a conversation, the last word stands. It goes with its conversation.';
COMMENT ON COLUMN parley.feedback.user_id IS 'Whose conversation it is; nobody else can judge it.';
COMMENT ON COLUMN parley.feedback.conversation_id IS 'The conversation.';
COMMENT ON COLUMN parley.feedback.item IS 'A message''s id, or that of what a ChatKit client shows of its tool calls: a prefix and the message''s id.';
COMMENT ON COLUMN parley.feedback.kind IS 'positive or negative.';
COMMENT ON COLUMN parley.feedback.given_at IS 'When it was said last.';
ALTER TABLE parley.feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE parley.feedback FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON parley.feedback
    USING (user_id = nullif(current_setting('parley.user_id', true), ''));
GRANT SELECT, INSERT, UPDATE, DELETE ON parley.feedback TO parley_worker;

-- A turn's number is never given out again: a worker that has not heard of its turn's end, a key against doing things
-- twice, a stream that goes on after its last event, all of them know a turn by its number.  So turns are not deleted
-- when one before them is asked anew, but marked: what models and people are shown passes over them, and the
-- next turn gets the number after theirs.  Only turns that have ended are marked.
ALTER TABLE parley.turns
    ADD COLUMN superseded_at timestamptz,
    ADD CONSTRAINT superseded_has_ended CHECK (superseded_at IS NULL OR state IN ('done', 'failed', 'cancelled'));
CREATE INDEX turns_superseded ON parley.turns (user_id, conversation_id, turn) WHERE superseded_at IS NOT NULL;
COMMENT ON COLUMN parley.turns.superseded_at IS 'When an earlier turn was asked anew, which took this one out of the history; NULL: it is part of it.';

-- ChatKit lists threads by when they were begun.
CREATE INDEX conversations_begun ON parley.conversations (user_id, created_at, id);
RESET ROLE;
