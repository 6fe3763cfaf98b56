-- One range of the index of what ended, summarized in the background, is a megabyte.  Smaller ones come faster than
-- autovacuum's list of work has room for, from 1,300 turns a second on, and each that is not taken is a line in PostgreSQL's log.
SET LOCAL ROLE parley_owner;
DROP INDEX parley.turns_ended;
CREATE INDEX turns_ended ON parley.turns USING brin (ended_at) WITH (pages_per_range = 128, autosummarize = on);
RESET ROLE;
