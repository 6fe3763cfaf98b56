# SQL tools from the model's call to the client's answer: what the model is offered, what is run, what is refused.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $json = JSON::XS->new->canonical->allow_nonref;
my $model = Parley::Model->new(scripts => {});
my $pg = Parley::Postgres->new;
$pg->do(q{ALTER ROLE parley_worker IN DATABASE parley SET statement_timeout = '1500ms'}, 'parley');
$pg->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tools.nap(seconds numeric) RETURNS text LANGUAGE sql AS $$
	SELECT 'rested' FROM pg_sleep(seconds)
$$;
CREATE FUNCTION tools.raises(how text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tools.add_task('left over');
	IF how = 'sentence' THEN
		RAISE EXCEPTION 'The moon is not full.';
	ELSIF how = 'division' THEN
		PERFORM 1 / 0;
	ELSIF how = 'assert' THEN
		ASSERT false, 'private words';
	ELSIF how = 'constraint' THEN
		INSERT INTO tasks.tasks (user_id, id, title, created_at, updated_at)
		VALUES (current_setting('parley.user_id'), 1, '', now(), now());
	END IF;
END
$$;
CREATE FUNCTION tools.lines() RETURNS json LANGUAGE sql AS $$ SELECT E'{ "a" :\n\t[1, "two \\" words"]\r\n}'::json $$;
CREATE FUNCTION tools.half() RETURNS json LANGUAGE sql AS $$ SELECT '{"a":"\ud83d"}'::json $$;
CREATE FUNCTION tools.settles(how text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF how = 'setting' THEN
		SET search_path = '';
		SET statement_timeout = 1;
		SET default_transaction_read_only = on;
		SET row_security = off;
		SET client_encoding = 'LATIN1';
		PERFORM set_config('parley.user_id', 'bob', false);
	ELSIF how = 'role' THEN
		SET ROLE parley_tool;
	ELSE
		RESET ROLE;
	END IF;
	RETURN how;
END
$$;
CREATE FUNCTION tools.large(bytes int) RETURNS text LANGUAGE sql AS $$ SELECT repeat('x', bytes) $$;
SQL
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1,
    conf => { 'database.connections' => 4, 'tools.refresh' => '200ms', 'agent.max_steps' => 4, 'tools.max_result' => '32 KiB' });

# One turn in which the model sends these replies; the answer, and the calls as the client sees them.
my $scripts = 0;
sub turn {
	my ($user, @replies) = @_;
	my $name = 'tools-' . ++$scripts;
	$model->script($name, join "---\n", @replies);
	my $r = $t->chat($user, "script:$name");
	return ($r, @{$r->{json}{tool_calls} // []});
}

# The same for calls that the model makes in one step, before it says "So."; checks the shape of all.
sub calls {
	my ($user, @calls) = @_;
	my ($r, @got) = turn($user, call_reply(@calls), text_reply('So.'));
	is $r->{status}, 200, 'the turn is done' or diag $r->{body};
	body_ok($r->{json}, 'the turn');
	is $r->{json}{response}, 'So.', 'and the model has the last word';
	return @got;
}

sub tools_offered {
	$t->chat('alice', 'hello');
	my ($last) = reverse $model->requests;
	return { map { $_->{function}{name} => $_->{function} } @{$last->{body}{tools}} };
}

subtest 'a new function is a new tool' => sub {
	ok !tools_offered()->{book_room}, 'it is not there yet';
	my @before = $t->pids;
	$pg->psql(<<'SQL');
CREATE FUNCTION tools.book_room(room text, seats int, day date DEFAULT NULL, quiet boolean DEFAULT false, tags text[] DEFAULT '{}')
RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('room', room, 'seats', seats, 'quiet', quiet, 'tags', tags, 'user', current_setting('parley.user_id')) $$;
COMMENT ON FUNCTION tools.book_room IS 'Books a room.
@param room (red|blue) Which room.
@param seats How many seats.
@idempotent';
SQL
	my $tool;
	ok Parley::Process::wait_for(sub { sleep 0.2; $tool = tools_offered()->{book_room} }, 10), 'it is offered soon';
	is_deeply [$t->pids], \@before, '... without a restart';
	is $tool->{description}, 'Books a room.', 'its description';
	is_deeply $tool->{parameters}, {
		type => 'object', required => ['room', 'seats'], additionalProperties => JSON::XS::false,
		properties => {
			room => { type => 'string', enum => ['red', 'blue'], description => 'Which room.' },
			seats => { type => 'integer', description => 'How many seats.' },
			day => { type => 'string', format => 'date' },
			quiet => { type => 'boolean', default => JSON::XS::false },
			tags => { type => 'array', items => { type => 'string' } },
		},
	}, 'its schema' or diag explain $tool->{parameters};
	my ($call) = calls('alice', book_room => { room => 'red', seats => 3, tags => ['a', 'b'] });
	is_deeply $call->{result}, { room => 'red', seats => 3, quiet => JSON::XS::false, tags => ['a', 'b'], user => 'alice' },
	    'it runs, for the user of the turn';
	$pg->psql('DROP FUNCTION tools.book_room');
	ok Parley::Process::wait_for(sub { sleep 0.2; !tools_offered()->{book_room} }, 10), 'it goes when its function goes';
};

subtest 'a result that only PostgreSQL reads' => sub {
	my ($call) = calls('alice', half => {});
	is_deeply $call->{result}, { a => "\x{fffd}" }, 'half a surrogate pair is mended';
};

subtest 'what a tool sets ends with it' => sub {
	for my $how ('setting', 'role', 'no role') {
		my ($call) = calls('alice', settles => { how => $how });
		is $call->{result}, $how, "$how: the tool is done";
		# One after the other, so that the same connection serves them.
		for (1 .. 3) {
			is $t->chat('alice', "add task: \x{e9} $_")->{status}, 200, '... and turns go on';
			is $t->get('/api/conversations', user => 'carol')->{status}, 200, '... for others, too';
		}
	}
};

subtest 'a result of several lines' => sub {
	$model->script('lines', join "---\n", call_reply(lines => {}), text_reply('So.'));
	my @e = $t->stream('alice', 'script:lines');
	my ($result) = grep { $_->{event} eq 'tool_result' } @e;
	is_deeply $result->{data}{result}, { a => [1, 'two " words'] }, 'is one line of the stream';
	is $e[-1]{event}, 'done', '... which goes on';
	my ($tool) = grep { $_->{role} eq 'tool' } @{($model->requests)[-1]{body}{messages}};
	is $tool->{content}, '{"a":[1,"two \\" words"]}', 'the model pays for no blanks';
};

subtest 'exceptions' => sub {
	my %said = (
		sentence => 'The moon is not full.', division => 'The tool failed; nothing was changed.',
		assert => 'The tool failed; nothing was changed.', constraint => 'The tool failed; nothing was changed.',
	);
	my @how = sort keys %said;
	my @calls = calls('alice', map { (raises => { how => $_ }) } @how);
	for my $i (0 .. $#how) {
		ok $calls[$i]{is_error}, "$how[$i]: is_error";
		is_deeply $calls[$i]{result}, { error => $said{$how[$i]} }, '... with a sentence';
	}
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE title = 'left over'}), 0, 'nothing is left of what they had done';
	my ($last) = reverse $model->requests;
	is_deeply [map { $json->decode($_->{content})->{error} } grep { $_->{role} eq 'tool' } @{$last->{body}{messages}}],
	    [map { $said{$_} } @how], 'the model is told the same';
	unlike $t->log_text, qr/private words|moon/, 'the log has none of the words';
	like $t->log_text, qr/22012/, '... but the SQLSTATE';
};

subtest 'a tool that takes too long' => sub {
	my $at = time;
	my ($slow, $after) = calls('alice', nap => { seconds => 20 }, add_task => { title => 'after the nap' });
	cmp_ok time - $at, '<', 8, 'it is stopped by the statement timeout';
	ok $slow->{is_error}, 'is_error';
	like $slow->{result}{error}, qr/took too long/, '... and a sentence';
	is $after->{result}{status}, 'created', 'the next call is made';
};

subtest 'calls that cannot be made' => sub {
	my @calls = calls('alice', no_such_tool => { a => 1 }, 'add-task' => {}, "add_task\0" => {}, tasks => {});
	is_deeply [map { $_->{is_error} ? 1 : 0 } @calls], [(1) x @calls], 'unknown tools';
	is $calls[0]{result}{error}, 'There is no tool of this name.', '... with a sentence';
	is $calls[0]{tool_name}, 'no_such_tool', '... under the name that the model gave';

	for my $broken ('{"title":"half', 'not JSON', '[]', '"{\"title\":\"x\"}"', '{"title":"a"}{"title":"b"}') {
		my $before = $pg->one('SELECT count(*) FROM tasks.tasks');
		my $delta = sub { JSON::XS->new->utf8->canonical->encode({ choices => [{ index => 0, delta => { tool_calls => [{ index => 0, id => 'c1',
		    type => 'function', function => { name => $_[0], arguments => $broken } }] } }] }) };
		my $end = q(data {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}) . "\ndone\n";
		my ($r, $call) = turn('alice', 'data ' . $delta->('add_task') . "\n$end", text_reply('So.'));
		is $r->{status}, 200, "broken arguments $broken: the turn goes on" or diag $r->{body};
		ok $call->{is_error}, '... the call is refused';
		like $call->{result}{error}, qr/not a (?:valid )?JSON object/, '... with a sentence';
		is $pg->one('SELECT count(*) FROM tasks.tasks'), $before, '... and nothing was done';
	}
	my ($r, $call) = turn('alice', q(data {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function",)
	    . q("function":{"name":"list_tasks","arguments":"\"{\\\\\"status\\\\\":\\\\\"pending\\\\\"}\""}}]}}]}) . "\n"
	    . q(data {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}) . "\ndone\n", text_reply('So.'));
	ok !$call->{is_error}, 'a tool that only reads takes mended arguments' or diag $r->{body};
	is_deeply $call->{parameters}, { status => 'pending' }, '... as they were meant';
};

subtest 'several calls in a step, several steps' => sub {
	my ($r, @calls) = turn('bob',
	    call_reply(add_task => { title => 'one' }, add_task => { title => 'two' }, list_tasks => {}),
	    call_reply(complete_task => { task_id => 1 }), text_reply('All done.'));
	is_deeply [map { $_->{tool_name} } @calls], [qw(add_task add_task list_tasks complete_task)], 'in the order of the model';
	is_deeply [map { $_->{title} } @{$calls[2]{result}{tasks}}], ['two', 'one'], 'one after another';
	is $calls[3]{result}{status}, 'completed', 'the second step builds on the first';
	my @m = @{$r->{json}{messages}};
	is_deeply [map { scalar @{$_->{tool_calls}} } @m], [0, 3, 1, 0], 'each call stands in its message';
	my ($last) = reverse $model->requests;
	is join(' ', map { $_->{role} } @{$last->{body}{messages}}), 'system user assistant tool tool tool assistant tool',
	    'the model sees each result after its call';
};

subtest 'a model without end' => sub {
	my ($r) = turn('carol', call_reply(add_task => { title => 'again' }));
	error_is($r, 500, 'too_many_steps', 'it is stopped');
	my $id = $pg->one(q{SELECT id FROM parley.conversations WHERE user_id = 'carol'});
	is $pg->one(q{SELECT state || ' ' || error_code || ' ' || open_calls FROM parley.turns WHERE user_id = 'carol'}),
	    'failed too_many_steps 0', '... and stored so';
	is $pg->one(q{SELECT timings->>'steps' FROM parley.turns WHERE user_id = 'carol'}), 4, '... with as many steps as it had';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'carol'}), 4, 'what was done is done';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id = 'carol' AND result IS NOT NULL}), 4, '... and has its results';
	is $t->chat('carol', 'show my tasks', conversation_id => $id)->{status}, 200, 'the conversation goes on';
};

subtest 'each error sentence of the task tools' => sub {
	my @cases = (
		[add_task => {}, 'Title is required.'],
		[add_task => { title => '' }, 'Title is required.'],
		[add_task => { title => " \t\n" }, 'Title is required.'],
		[add_task => { title => undef }, 'Title is required.'],
		[add_task => { title => 7 }, 'Title must be text.'],
		[add_task => { title => ['a'] }, 'Title must be text.'],
		[add_task => { title => 'ü' x 256 }, 'Title must be 255 characters or less.'],
		[add_task => { title => 'a', description => 'ü' x 5001 }, 'Description must be 5000 characters or less.'],
		[add_task => { title => 'a', description => {} }, 'Description must be text.'],
		[add_task => { title => 'a', priority => 1 }, 'There is no argument priority.'],
		[list_tasks => { status => 'open' }, 'Status must be one of: all, pending, completed.'],
		[list_tasks => { status => 1 }, 'Status must be text.'],
		[map({ ($_ => {}) } 'complete_task'), 'task_id is required.'],
		(map { my $tool = $_; (
			[$tool => {}, 'task_id is required.'],
			[$tool => { task_id => '1' }, 'task_id must be a whole number.'],
			[$tool => { task_id => 1.5 }, 'task_id must be a whole number.'],
			[$tool => { task_id => 1e30 }, 'task_id is out of range.'],
		) } qw(update_task complete_task delete_task)),
		[complete_task => { task_id => 999 }, 'There is no task 999.'],
		[update_task => { task_id => 999, title => 'x' }, 'There is no task 999.'],
		[update_task => { task_id => 1 }, 'Nothing to update: give a title or a description.'],
		[update_task => { task_id => 1, title => ' ' }, 'Title is required.'],
		[update_task => { task_id => 1, title => 'a' x 256 }, 'Title must be 255 characters or less.'],
		[update_task => { task_id => 1, description => 'a' x 5001 }, 'Description must be 5000 characters or less.'],
	);
	my ($made) = calls('dave', add_task => { title => 'ü' x 255, description => 'ü' x 5000 });
	is $made->{result}{task}{title}, 'ü' x 255, 'what just fits is taken';
	my @calls = calls('dave', map { ($_->[0], $_->[1]) } @cases);
	for my $i (0 .. $#cases) {
		my ($tool, $args, $sentence) = @{$cases[$i]};
		is_deeply [$calls[$i]{result}, $calls[$i]{is_error} ? 1 : 0], [{ error => $sentence }, 1],
		    "$tool " . substr($json->encode($args), 0, 60) or diag explain $calls[$i];
	}
	is $pg->one(q{SELECT count(*) || ' ' || min(status) FROM tasks.tasks WHERE user_id = 'dave'}), '1 pending', 'nothing has changed';
};

subtest 'results are bounded' => sub {
	my ($fits, $not) = calls('alice', large => { bytes => 20000 }, large => { bytes => 40000 });
	is length $fits->{result}, 20000, 'one that fits comes through whole';
	ok $not->{is_error}, 'a larger one is an error';
	like $not->{result}{error}, qr/too large/, '... that says so';
	my ($last) = reverse $model->requests;
	my ($shown) = map { $_->{content} } grep { $_->{role} eq 'tool' } @{$last->{body}{messages}};
	cmp_ok length $shown, '<', 16 * 1024 + 100, 'the model sees the beginning';
	like $shown, qr/^"x+ … \[cut: this is the first 16384 of 20002 bytes\]$/, '... and a note';
};

subtest 'slow tools do not stop other turns' => sub {
	$model->script('nap', join "---\n", call_reply(nap => { seconds => 1 }), text_reply('Rested.'));
	# Each its own script, so that each gets both replies.
	my @slow = map {
		$model->script("nap-$_", join "---\n", call_reply(nap => { seconds => 1 }), text_reply('Rested.'));
		$t->begin_chat("napper-$_", "script:nap-$_");
	} 1 .. 8;
	my $naps = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'};
	ok Parley::Process::wait_for(sub { $pg->one($naps) >= 2 }, 10), 'tools hold connections';
	# What each backend waits for is not read at one moment: one that has just slept and its successor may both count, once.
	my ($least) = sort { $a <=> $b } map { $pg->one($naps) } 1 .. 3;
	cmp_ok $least, '<=', 2, '... half of the four';
	my @got = map { $t->chat("other-$_", 'hello') } 1 .. 10;
	is_deeply [grep { $_->{status} != 200 } @got], [], 'turns without tools go on';
	cmp_ok $pg->one($naps), '>=', 1, '... while they sleep';
	is_deeply [map { $_->{json}{response} // $_->{body} } map { $_->response } @slow], [('Rested.') x @slow], 'and each gets its sleep';
};

done_testing;
