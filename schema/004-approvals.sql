-- Calls that wait for the user's yes or no.
SET LOCAL ROLE parley_owner;

ALTER TABLE parley.tool_calls
    ADD COLUMN approval text CHECK (approval IN ('needed', 'refused', 'waiting', 'approved', 'denied', 'expired')),
    ADD COLUMN question text,
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN decided_at timestamptz,
    -- Only an approved call may go from waiting to a result of its own.
    ADD CONSTRAINT waiting_is_not_run CHECK (approval NOT IN ('needed', 'waiting') OR result IS NULL);
COMMENT ON COLUMN parley.tool_calls.approval IS 'NULL: nobody has to be asked. needed: the user has to be, and then it is waiting for the answer; refused: its arguments were no good, so nobody was asked; expired: nobody answered before the turn ended. The question is bound to this row, so to these arguments and this user.';
COMMENT ON COLUMN parley.tool_calls.question IS 'What the user is asked.';
COMMENT ON COLUMN parley.tool_calls.expires_at IS 'Until when the question may be answered.';
COMMENT ON COLUMN parley.tool_calls.decided_at IS 'When it was.';

-- The deadline does not run while the user thinks.
ALTER TABLE parley.turns
    ADD COLUMN asked_at timestamptz,
    ADD COLUMN expires_at timestamptz;
COMMENT ON COLUMN parley.turns.asked_at IS 'Since when it waits for the user; NULL while it does not.';
COMMENT ON COLUMN parley.turns.expires_at IS 'Until when it waits for the user.';
-- Few are ever expired, however many wait.
CREATE INDEX turns_asked ON parley.turns (expires_at) WHERE state = 'approval_required';
GRANT SELECT (expires_at) ON parley.turns TO parley_pulse;
RESET ROLE;
