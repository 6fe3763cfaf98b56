package Parley::Audit;

# What must be true of the rows when all is quiet, whatever has died meanwhile.
#
#	is_deeply [Parley::Audit::complaints($pg)], [];
#	Parley::Audit::counting_tool($pg);	# tools.count_once(label, seconds): effects that can be counted
#
# Each complaint is one line that names the rows.

use strict;
use warnings;

my @RULES = (
	'a turn that is not over' => q{
		SELECT user_id, conversation_id, turn, state FROM parley.turns WHERE state IN ('running', 'queued')},
	# A late pulse may leave one behind, for a minute.
	'an old lease of a turn that does not run' => q{
		SELECT l.user_id, l.conversation_id, l.turn FROM parley.live l
		 WHERE l.lease_until < clock_timestamp() - interval '70 seconds' AND NOT EXISTS (SELECT FROM parley.turns t
		     WHERE t.state = 'running'
		                    AND (t.user_id, t.conversation_id, t.turn) = (l.user_id, l.conversation_id, l.turn))},
	'turns with a gap' => q{
		SELECT user_id, id, c.turns FROM parley.conversations c
		 WHERE ARRAY(SELECT t.turn FROM parley.turns t WHERE (t.user_id, t.conversation_id) = (c.user_id,
		     c.id) ORDER BY 1)
		    <> ARRAY(SELECT generate_series(1, c.turns))},
	'a turn without its message' => q{
		SELECT user_id, conversation_id, turn, run FROM parley.turns t
		 WHERE NOT EXISTS (SELECT FROM parley.messages m WHERE m.role = 'user' AND m.idx = 0
		                    AND (m.user_id, m.conversation_id, m.turn) = (t.user_id, t.conversation_id, t.turn))},
	'messages with a gap' => q{
		SELECT user_id, conversation_id, turn, run, array_agg(idx ORDER BY idx) FROM parley.messages
		 GROUP BY 1, 2, 3, 4 HAVING min(idx) <> 0 OR max(idx) + 1 <> count(*)},
	'a message of a run that there is not' => q{
		SELECT user_id, conversation_id, turn, m.run FROM parley.messages m
		 WHERE NOT EXISTS (SELECT FROM parley.turns t WHERE t.run >= m.run
		                    AND (m.user_id, m.conversation_id, m.turn) = (t.user_id, t.conversation_id, t.turn))},
	'a turn that is done and has not one answer' => q{
		SELECT t.user_id, t.conversation_id, t.turn, count(m.idx) FROM parley.turns t
		  LEFT JOIN parley.messages m ON m.role = 'assistant' AND m.calls = 0 AND NOT m.interrupted
		       AND (m.user_id, m.conversation_id, m.turn, m.run) = (t.user_id, t.conversation_id, t.turn, t.run)
		 WHERE t.state = 'done' GROUP BY 1, 2, 3 HAVING count(m.idx) <> 1},
	'a turn that failed and has an answer' => q{
		SELECT t.user_id, t.conversation_id, t.turn FROM parley.turns t
		  JOIN parley.messages m ON m.role = 'assistant' AND m.calls = 0 AND NOT m.interrupted
		       AND (m.user_id, m.conversation_id, m.turn, m.run) = (t.user_id, t.conversation_id, t.turn, t.run)
		 WHERE t.state = 'failed'},
	'an answer that is followed by something' => q{
		SELECT m.user_id, m.conversation_id, m.turn, m.idx FROM parley.messages m
		 WHERE m.role = 'assistant' AND m.calls = 0 AND NOT m.interrupted
		   AND EXISTS (SELECT FROM parley.messages n WHERE n.idx > m.idx
		                AND (m.user_id, m.conversation_id, m.turn, m.run) = (n.user_id, n.conversation_id, n.turn,
		                n.run))},
	'a call without result' => q{
		SELECT user_id, conversation_id, turn, run, idx, pos, tool_name FROM parley.tool_calls WHERE result IS NULL},
	'a message whose calls are not there' => q{
		SELECT m.user_id, m.conversation_id, m.turn, m.run, m.idx, m.calls FROM parley.messages m
		 WHERE ARRAY(SELECT c.pos FROM parley.tool_calls c
		              WHERE (m.user_id, m.conversation_id, m.turn, m.run, m.idx) =
		                    (c.user_id, c.conversation_id, c.turn, c.run, c.idx) ORDER BY 1)
		    <> ARRAY(SELECT generate_series(0, m.calls - 1))},
	'a task that no call made, or a call without its task' => q{
		SELECT coalesce(t.user_id, c.user_id), t.id, c.id FROM tasks.tasks t
		  FULL JOIN (SELECT * FROM parley.tool_calls WHERE tool_name = 'add_task' AND NOT is_error) c
		         ON c.user_id = t.user_id AND (c.result ->> 'task_id')::bigint = t.id
		 WHERE t.id IS NULL OR c.id IS NULL},
);

my @COUNTING = (
	'an effect without its one result, or a result without its effect' => q{
		SELECT coalesce(e.user_id, c.user_id), e.id, e.label, c.conversation_id, c.turn FROM counting.effects e
		  FULL JOIN (SELECT * FROM parley.tool_calls WHERE tool_name = 'count_once' AND NOT is_error) c
		         ON c.user_id = e.user_id AND (c.result ->> 'effect')::bigint = e.id
		        AND c.result ->> 'label' = e.label
		 WHERE e.id IS NULL OR c.id IS NULL},
	'an effect that two results speak of' => q{
		SELECT result ->> 'effect', count(*) FROM parley.tool_calls
		 WHERE tool_name = 'count_once' AND NOT is_error GROUP BY 1 HAVING count(*) > 1},
);

sub complaints {
	my ($pg) = @_;
	my @rules = (@RULES, $pg->one(q{SELECT to_regclass('counting.effects')}) ? @COUNTING : ());
	my @bad;

	while (my ($name, $sql) = splice @rules, 0, 2) {
		my $rows = $pg->dbh->selectall_arrayref($sql);
		push @bad, map { "$name: " . join ' ', map { ref ? "[@$_]" : $_ // '-' } @$_ } splice @$rows, 0, 5;
		push @bad, "... and " . @$rows . ' more of these' if @$rows;
	}
	return @bad;
}

sub counting_tool {
	my ($pg) = @_;
	my ($status, $out) = $pg->psql(<<'SQL');
CREATE SCHEMA counting AUTHORIZATION parley_owner;
SET ROLE parley_owner;
GRANT USAGE ON SCHEMA counting TO parley_tool;
CREATE TABLE counting.effects (
	user_id		text COLLATE "C" NOT NULL,
	id		bigint GENERATED ALWAYS AS IDENTITY,
	label		text NOT NULL,
	PRIMARY KEY (user_id, id)
);
ALTER TABLE counting.effects ENABLE ROW LEVEL SECURITY;
ALTER TABLE counting.effects FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON counting.effects USING (user_id = nullif(current_setting('parley.user_id', true), ''));
GRANT SELECT, INSERT ON counting.effects TO parley_tool;
CREATE FUNCTION tools.count_once(label text, seconds numeric DEFAULT 0) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	v_id bigint;
BEGIN
	INSERT INTO counting.effects (user_id, label) VALUES (current_setting('parley.user_id'), label) RETURNING id INTO v_id;
	IF seconds > 0 THEN
		PERFORM pg_sleep(seconds);
	END IF;
	RETURN json_build_object('effect', v_id, 'label', label);
END
$$;
COMMENT ON FUNCTION tools.count_once IS 'Counts something, once.';
SQL
	die "counting_tool: $out" if $status;
}

1;
