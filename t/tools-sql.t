# SQL tools: what the model is told of them, how they are called, and the five task tools with each of their errors.

use strict;
use utf8;
use warnings;

use FindBin;
use JSON::XS;
use Test::More;
use Time::HiRes qw(time);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::SQL;

my $pg = Parley::Postgres->new;
my $db = Parley::SQL->new($pg);
my $json = JSON::XS->new->canonical;
my $user;

sub call {
	my ($name, $arguments) = @_;
	my ($result, $is_error) = $db->tool($user, $name, $arguments);
	return $is_error ? $result->{error} // 'no sentence' : $result;
}

subtest 'what the model is told' => sub {
	my %tool = map { $_->{name} => $_ } @{$db->rows('SELECT * FROM parley.tools_list()')};
	is_deeply [sort keys %tool], [qw(add_task complete_task delete_task list_tasks update_task)];
	is_deeply { map { $_ => [$tool{$_}{risk}, $tool{$_}{confirm}] } keys %tool }, {
		add_task => ['writes', 0], list_tasks => ['read_only', 0], update_task => ['idempotent', 0],
		complete_task => ['idempotent', 0], delete_task => ['writes', 1],
	}, 'their risks';
	is $tool{add_task}{description}, "Adds a task to the user's list.", 'the description has no lines for us';
	is_deeply $json->decode($tool{list_tasks}{schema}), {
		type => 'object', required => [], additionalProperties => JSON::XS::false,
		properties => { status => {
			type => 'string', enum => [qw(all pending completed)], default => 'all',
			description => 'Which tasks: all of them, those not yet done, or those done.',
		} },
	}, 'an enumeration with a default';
	my $update = $json->decode($tool{update_task}{schema});
	is_deeply $update->{required}, ['task_id'], 'required is what has no default';
	is $update->{properties}{task_id}{type}, 'integer';
};

subtest 'add_task' => sub {
	$user = 'ann';
	my $r = call('add_task', { title => "  Buy groceries \n", description => 'Milk' });
	is_deeply [sort keys %$r], [qw(status task task_id title)];
	is_deeply [@$r{qw(task_id status title)}], [1, 'created', 'Buy groceries'];
	is_deeply [sort keys %{$r->{task}}], [qw(created_at description id status title updated_at)];
	is_deeply [@{$r->{task}}{qw(id title description status)}], [1, 'Buy groceries', 'Milk', 'pending'];
	like $r->{task}{created_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
	is call('add_task', { title => 'ß' x 255 })->{task_id}, 2, '255 characters';
	is call('add_task', { title => 'x', description => undef, user_id => 'ann' })->{task}{description}, '',
	    'null is not given; naming oneself is harmless';

	is call('add_task', {}), 'Title is required.';
	is call('add_task', { title => undef }), 'Title is required.';
	is call('add_task', { title => " \t " }), 'Title is required.';
	is call('add_task', { title => 'x' x 256 }), 'Title must be 255 characters or less.';
	is call('add_task', { title => 5 }), 'Title must be text.';
	is call('add_task', { title => 'x', description => 'x' x 5001 }), 'Description must be 5000 characters or less.';
	is call('add_task', { title => 'x', due => 'now' }), 'There is no argument due.';
	is call('add_task', { title => 'x', user_id => 'bob' }), 'access denied';
	is call('add_task', { title => 'x', user_id => JSON::XS::true }), 'access denied';
	is scalar @{call('list_tasks')->{tasks}}, 3, 'none of these has added anything';
};

subtest 'list_tasks' => sub {
	$user = 'bob';
	is_deeply call('list_tasks'), { tasks => [] }, 'another user has none';
	is call('add_task', { title => "task $_" })->{task_id}, $_, 'numbers count from 1 for each user' for 1 .. 3;
	call('complete_task', { task_id => 2 });
	my $ids = sub { join ' ', map { $_->{id} } @{call('list_tasks', @_)->{tasks}} };
	is $ids->(), '3 2 1', 'newest first';
	is $ids->({ status => 'all' }), '3 2 1';
	is $ids->({ status => 'pending' }), '3 1';
	is $ids->({ status => 'completed' }), '2';
	is call('list_tasks', { status => 'open' }), 'Status must be one of: all, pending, completed.';
	is call('list_tasks', { status => 1 }), 'Status must be text.';
};

subtest 'update_task' => sub {
	my $r = call('update_task', { task_id => 1, title => ' New ' });
	is_deeply [sort keys %$r], [qw(previous status task task_id title)];
	is_deeply [@$r{qw(task_id status title)}], [1, 'updated', 'New'];
	is_deeply $r->{previous}, { title => 'task 1', description => '' }, 'the old values';
	is call('update_task', { task_id => 1, description => 'd' })->{task}{title}, 'New', 'what is not given stays';
	is call('update_task', { task_id => 1, description => '' })->{task}{description}, '', 'empty removes';

	is call('update_task', { task_id => 1 }), 'Nothing to update: give a title or a description.';
	is call('update_task', { task_id => 1, title => undef }), 'Nothing to update: give a title or a description.';
	is call('update_task', { task_id => 999, title => 'x' }), 'There is no task 999.';
	is call('update_task', { title => 'x' }), 'task_id is required.';
	is call('update_task', { task_id => '1', title => 'x' }), 'task_id must be a whole number.';
	is call('update_task', '{"task_id":1.5,"title":"x"}'), 'task_id must be a whole number.';
	is call('update_task', '{"task_id":18446744073709551615,"title":"x"}'), 'task_id is out of range.';
	is call('update_task', { task_id => 1, title => '' }), 'Title is required.';
	is call('update_task', { task_id => 1, title => 'x' x 256 }), 'Title must be 255 characters or less.';
	is call('update_task', { task_id => 1, description => 'x' x 5001 }), 'Description must be 5000 characters or less.';
};

subtest 'complete_task and delete_task' => sub {
	my $r = call('complete_task', { task_id => 1 });
	is_deeply [@$r{qw(task_id status title)}, $r->{task}{status}], [1, 'completed', 'New', 'completed'];
	is_deeply call('complete_task', { task_id => 1 }), $r, 'completing it again changes nothing';
	is call('complete_task', { task_id => 999 }), 'There is no task 999.';
	is call('complete_task', {}), 'task_id is required.';
	is call('complete_task', { task_id => 'milk' }), 'task_id must be a whole number.';

	$r = call('delete_task', { task_id => 1 });
	is_deeply [@$r{qw(task_id status title)}, $r->{task}{status}], [1, 'deleted', 'New', 'completed'], 'the row as it was';
	is call('delete_task', { task_id => 1 }), 'There is no task 1.';
	is call('delete_task', {}), 'task_id is required.';
	is call('delete_task', { task_id => JSON::XS::true }), 'task_id must be a whole number.';
	is call('add_task', { title => 'next' })->{task_id}, 4, 'a number is not used twice';
};

subtest 'tools of others' => sub {
	$pg->psql(<<'SQL');
	CREATE TYPE public.size AS ENUM ('small', 'large');
	CREATE FUNCTION tools.types(n int, x numeric DEFAULT 1.5, b boolean DEFAULT true, s public.size DEFAULT 'small',
	    l text[] DEFAULT '{}', o jsonb DEFAULT '{}', d date DEFAULT NULL, at timestamptz DEFAULT NULL,
	    u uuid DEFAULT NULL) RETURNS json LANGUAGE sql AS $$
	    SELECT json_build_object('n', n, 'x', x, 'b', b, 's', s, 'l', l, 'o', o, 'd', d, 'u', u) $$;
	CREATE FUNCTION tools.rows(n int) RETURNS TABLE (i int, t text) LANGUAGE sql AS $$
	    SELECT g, 'x' || g FROM generate_series(1, n) g $$;
	CREATE FUNCTION tools.pair(OUT a int, OUT b text) LANGUAGE sql AS $$ SELECT 1, 'x' $$;
	CREATE FUNCTION tools.nothing() RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0) $$;
	CREATE FUNCTION tools.zero() RETURNS int LANGUAGE sql AS $$ SELECT 1 / (random() * 0)::int $$;
	CREATE FUNCTION tools.null_result() RETURNS text LANGUAGE sql AS $$ SELECT NULL::text $$;
	CREATE FUNCTION tools.me() RETURNS text LANGUAGE sql AS $$ SELECT current_user || ' ' || current_setting('parley.user_id') $$;
	CREATE FUNCTION tools.peek() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM parley.messages $$;
	CREATE FUNCTION tools.other_user() RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN PERFORM set_config('parley.user_id', 'ann', true); RETURN (SELECT count(*) FROM tasks.tasks); END $$;
	CREATE FUNCTION tools.add_then_fail() RETURNS json LANGUAGE plpgsql AS $$
	BEGIN PERFORM tools.add_task('never'); RAISE EXCEPTION 'I changed my mind.'; END $$;
	CREATE FUNCTION tools.slow() RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(20) $$;
	CREATE FUNCTION tools.twice(a int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
	CREATE FUNCTION tools.twice(a text) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
	CREATE FUNCTION tools.nameless(int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
	CREATE FUNCTION tools."drop table; --"() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
	CREATE FUNCTION tools.not_yours() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
	REVOKE EXECUTE ON FUNCTION tools.not_yours FROM PUBLIC;
	GRANT USAGE ON SCHEMA tools TO parley_tool;
SQL
	my %tool = map { $_->{name} => $json->decode($_->{schema}) } @{$db->rows('SELECT * FROM parley.tools_list()')};
	ok !exists $tool{$_}, "no tool: $_" for 'twice', 'nameless', 'drop table; --', 'not_yours';
	is_deeply $tool{types}{properties}, {
		n => { type => 'integer' }, x => { type => 'number', default => 1.5 },
		b => { type => 'boolean', default => JSON::XS::true }, s => { type => "string", enum => [qw(small large)], default => "small" },
		l => { type => 'array', items => { type => 'string' } }, o => { type => 'object', default => {} },
		d => { type => 'string', format => 'date' }, at => { type => 'string', format => 'date-time' },
		u => { type => 'string', format => 'uuid' },
	}, 'types';

	is_deeply call('types', { n => 1 }),
	    { n => 1, x => 1.5, b => JSON::XS::true, s => 'small', l => [], o => {}, d => undef, u => undef }, 'defaults';
	is_deeply call('types', '{"n":2.0,"x":1e2,"b":false,"s":"large","l":["a","b\'; --"],"o":{"k":[1]},"d":"2026-11-20"}'),
	    { n => 2, x => 100, b => JSON::XS::false, s => 'large', l => ['a', "b'; --"], o => { k => [1] },
	      d => '2026-11-20', u => undef }, 'arguments';
	is call('types', { n => 1, b => 'yes' }), 'B must be true or false.';
	is call('types', { n => 1, x => 'many' }), 'X must be a number.';
	is call('types', { n => 1, l => 'a' }), 'L must be a list.';
	is call('types', { n => 1, o => [] }), 'O must be an object.';
	is call('types', { n => 1, s => 'huge' }), 'S must be one of: small, large.';
	is call('types', { n => 3000000000 }), 'N is out of range.';
	is call('types', { n => 1, d => '2026-11-99' }), 'An argument has a form that this tool does not take.';
	is call('types', { n => 1, u => "1'; DROP TABLE x; --" }), 'An argument has a form that this tool does not take.';

	is_deeply call('rows', { n => 2 }), [{ i => 1, t => 'x1' }, { i => 2, t => 'x2' }], 'rows are a list';
	is_deeply call('rows', { n => 0 }), [], '... maybe empty';
	is_deeply call('pair'), { a => 1, b => 'x' }, 'several results are an object';
	is_deeply call('nothing'), { ok => JSON::XS::true }, 'nothing is fine';
	like call('rows', { n => 100000 }), qr/^The result is too large \(\d+ bytes\); nothing was changed\.$/;
	is call('zero'), 'The tool failed; nothing was changed.', 'an error of its own making has no internals';
	is call('peek'), 'The tool failed; nothing was changed.', 'it cannot read what is not its own';
	is call('add_then_fail'), 'I changed my mind.', 'what it raises is for the model';
	is call('nosuch'), 'There is no tool nosuch.';
	is call('not_yours'), 'There is no tool not_yours.';
	is call("x'; DROP TABLE tasks.tasks; --"), "There is no tool x'; DROP TABLE tasks.tasks; --.";
	is_deeply [map { $_->{title} } @{call('list_tasks')->{tasks}}], ['next', 'task 3', 'task 2'], 'nothing was left behind';

	my $turn = $db->begin('ida', 'go');
	$db->step($turn, [map { [$_, {}] } qw(me null_result other_user slow)]);
	is $db->run($turn, 1, 0)->{result}, '"parley_tool ida"', 'it runs as the tool role, for the user';
	is $db->run($turn, 1, 1)->{result}, 'null', 'no result is null';
	# Its author is trusted not to; but what is stored afterwards is stored for the right user.
	ok defined $db->run($turn, 1, 2)->{result}, 'a tool that changes the user spoils nothing after it';
	my $at = time;
	my $slow = $db->run($turn, 1, 3);
	is $json->decode($slow->{result})->{error}, 'The tool was stopped because it took too long; nothing was changed.';
	is $slow->{error_state}, '57014', 'the log learns the code';
	cmp_ok time - $at, '<', 15, '... after ten seconds';
	$db->end($turn, 'done', 'ok');
};

subtest 'what comes of them' => sub {
	my %output = map { $_->{name} => $_->{output} && $json->decode($_->{output}) }
	    @{$db->rows('SELECT name, output FROM parley.tools_list()')};
	my $int = { type => ['integer', 'null'] };
	is_deeply $output{pair}, { type => 'object', required => ['a', 'b'],
	    properties => { a => $int, b => { type => ['string', 'null'] } } }, 'several results';
	is_deeply $output{rows}{items}{required}, ['i', 't'], 'rows';
	is $output{rows}{type}, 'array', '... are a list';
	is_deeply $output{zero}, $int, 'one value';
	is_deeply $output{nothing}{required}, ['ok'], 'nothing';
	is $output{types}, undef, 'JSON says nothing of itself';
	is_deeply $output{delete_task}{properties}{status}, { const => 'deleted' }, '... but its comment may';
	$pg->psql(q~COMMENT ON FUNCTION tools.types IS E'Types.\n@returns {"type": "object",\n\t"x": 1}\n@read_only';
	    COMMENT ON FUNCTION tools.zero IS E'Zero.\n@returns {"type": \n@idempotent'~);
	%output = map { $_->{name} => $_->{output} && $json->decode($_->{output}) }
	    @{$db->rows('SELECT name, output FROM parley.tools_list()')};
	is_deeply $output{types}, { type => 'object', x => 1 }, '... on several lines';
	is_deeply $output{zero}, $int, 'what is no JSON is not believed';
};

subtest 'a call outside conversations' => sub {
	my ($key, $other) = map { Parley::SQL::uuid() } 1, 2;
	my $ask = sub { $db->rows('SELECT * FROM parley.tool_call(?, ?, ?, ?, ?, 32768)', @_) };
	my $first = $ask->('kay', $key, $other, 'add_task', '{"title":"once"}');
	is $json->decode($first->[0]{result})->{task_id}, 1, 'is done';
	is_deeply $ask->('kay', $key, $other, 'add_task', '{"title":"once"}')->[0]{result}, $first->[0]{result},
	    'asked again it gives the same result';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'kay'}), 1, '... and does nothing';
	is $ask->('eve', $key, $other, 'me', '{}')->[0]{result}, '"parley_tool eve"', 'another user has keys of his own';
	is_deeply $ask->('kay', Parley::SQL::uuid(), $other, 'nosuch', '{}'), [], 'no tool, no row';
	ok $ask->('kay', Parley::SQL::uuid(), $other, 'other_user', '{}')->[0], 'a tool that changes the user';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id = 'kay' AND tool_name = 'other_user'}), 1,
	    '... is recorded as his who called it';
	is Parley::SQL::failed(sub { $ask->('kay', $key, $other, 'me', '[') }), '22P02', 'arguments are JSON';
};

subtest 'ten thousand tasks' => sub {
	$pg->psql(q{INSERT INTO tasks.tasks SELECT 'max', g, 'task ' || g, '', 'pending', now(), now()
		FROM generate_series(1, 10000) g; INSERT INTO tasks.counters VALUES ('max', 10000)});
	$user = 'max';
	my $r = call('list_tasks');
	cmp_ok scalar @{$r->{tasks}}, '>=', 500, 'as many as a result may hold';
	is $r->{tasks}[0]{id}, 10000, 'the newest ones';
	is $r->{total}, 10000, 'and how many there are';
	is call('complete_task', { task_id => 5000 })->{task_id}, 5000;
};

done_testing;
