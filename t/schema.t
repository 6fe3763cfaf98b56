# The rules that the database keeps whatever the workers do: properties 2, 3, 5, 6, asked as the worker's role.

use strict;
use warnings;

use FindBin;
use JSON::XS;
use Test::More;
use Time::HiRes qw(sleep time);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::SQL;

my $pg = Parley::Postgres->new;
my $db = Parley::SQL->new($pg);

sub failed { Parley::SQL::failed(@_) }

subtest 'what is there' => sub {
	is_deeply $pg->rows(q{
		SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
		 WHERE n.nspname IN ('parley', 'tasks', 'tools') AND c.relkind = 'r'
		   AND NOT (c.relrowsecurity AND c.relforcerowsecurity)}), [],
	    'row level security is enabled and forced wherever there is a user_id';
	is $pg->one(q{SELECT count(*) FROM pg_policies WHERE schemaname = 'parley' AND policyname = 'own_rows'}), 10,
	    'ten tables of users';
	is_deeply $pg->rows(q{
		SELECT indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		 WHERE c.relnamespace IN ('parley'::regnamespace, 'tasks'::regnamespace) AND i.indisunique
		   AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'user_id')
		   AND (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = i.indkey[0]) <> 'user_id'}), [],
	    'every unique index begins with user_id';
	is $pg->one(q{SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		 WHERE c.relnamespace IN ('parley'::regnamespace, 'tasks'::regnamespace)}), 0, 'no triggers';
	is_deeply $pg->rows(q{
		SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		 WHERE c.relnamespace IN ('parley'::regnamespace, 'tasks'::regnamespace) AND c.relkind = 'r'
		   AND a.attnum > 0 AND NOT a.attisdropped
		   AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)}), [],
	    'every table and column has a comment';
	is_deeply $pg->rows(q{
		SELECT p.proname FROM pg_proc p
		 WHERE p.pronamespace IN ('parley'::regnamespace, 'tasks'::regnamespace, 'tools'::regnamespace)
		   AND obj_description(p.oid, 'pg_proc') IS NULL}), [], 'every function has a comment';
	is_deeply $pg->rows(q{
		SELECT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		 WHERE p.pronamespace IN ('parley'::regnamespace, 'tasks'::regnamespace, 'tools'::regnamespace)
		   AND a.grantee = 0}), [], 'nothing is for everybody';
	# Why each of them may: whoever adds one says so here.
	my %crosses = (
		pulse => 'leases of all the turns of a worker, in one statement',
		turns_expired => 'turns of anybody that have no worker',
		live_count => 'the operator counts live turns',
		metrics => 'Prometheus asks for no user',
		metrics_rows => '... and this counts',
		stats => 'the operator sees tokens by user',
		prune_find => 'old conversations of anybody, by id',
		prune_users => 'users who have old rows',
	);
	# These work for the user they name, as the owner, whom row level security binds; they are for the operator alone.
	my %for_one = map { $_ => 1 } qw(prune_conversation prune_rows user_erase_conversations user_erase_rows user_rows user_stop
	    user_tables);
	is_deeply { map { $_->{proname} => $_->{owner} } @{$pg->rows(q{
		SELECT p.proname, p.proowner::regrole::text AS owner FROM pg_proc p
		 WHERE p.pronamespace = 'parley'::regnamespace AND p.prosecdef})} },
	    { map({ $_ => $crosses{$_} && /^(pulse|turns_expired)$/ ? 'parley_pulse' : 'parley_ops' } keys %crosses),
	      map({ $_ => 'parley_owner' } keys %for_one) }, 'these functions alone cross users';
	is_deeply $pg->rows(q{
		SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'parley'::regnamespace AND p.prosecdef
		   AND has_function_privilege('parley_worker', p.oid, 'EXECUTE') ORDER BY 1}),
	    [map { { proname => $_ } } qw(metrics pulse turns_expired)], '... and the worker has those it needs';
	is_deeply $pg->rows(q{
		SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		 WHERE c.relnamespace = 'parley'::regnamespace AND c.relkind = 'r' AND c.relrowsecurity AND NOT a.attisdropped
		   AND has_column_privilege('parley_ops', c.oid, a.attnum, 'SELECT')
		   AND a.atttypid IN ('text'::regtype, 'json'::regtype)
		   AND a.attname NOT IN ('user_id', 'state', 'error_code', 'model', 'timings', 'tool_name')}), [],
	    'the operator\'s role reads no text across users';
	is_deeply $pg->rows(q{
		SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
		 WHERE c.relnamespace = 'parley'::regnamespace AND c.relkind = 'r'
		   AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'ops_reads')}), [],
	    '... but finds what is old in each table of users (schema/ops.sql gives it the policy)';
	is_deeply $pg->rows(q{
		SELECT rolname FROM pg_roles WHERE rolname LIKE 'parley%' AND (rolsuper OR rolbypassrls OR rolcreaterole)}),
	    [], 'no role of ours is above the rules';
	is $pg->one(q{SELECT count(*) FROM pg_class WHERE relowner = 'parley_worker'::regrole}), 0, 'the worker owns nothing';
	is $db->one('SHOW statement_timeout'), '10s', 'its statements have a timeout';
};

subtest 'a new conversation' => sub {
	my $turn = $db->begin('ann', "  Hello\n\n there " . 'x' x 100, zone => 'Europe/Berlin', holds => ['hold:a m', 'hold:b m']);
	is $turn->{outcome}, 'begun';
	is_deeply [@$turn{qw(turn run fence idx role turn_state)}], [1, 1, 1, 0, 'user', 'running'];
	is $turn->{holds}, undef, 'no model is held back';
	like $turn->{local_time}, qr/^(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, 20\d\d-\d\d-\d\d \d\d:\d\d \(Europe\/Berlin\)$/;
	like $turn->{created_at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ$/;
	is length $pg->one('SELECT title FROM parley.conversations WHERE user_id = ?', 'ann'), 80, 'a title of 80 characters';
	like $pg->one('SELECT title FROM parley.conversations WHERE user_id = ?', 'ann'), qr/^ Hello there x+$/,
	    'white space is one space';

	is failed(sub { $db->begin('ann', 'x', zone => 'Mars/Olympus') }), '22023', 'a zone nobody knows';
	is $pg->one('SELECT count(*) FROM parley.conversations WHERE user_id = ?', 'ann'), 1, '... and nothing is stored';

	is $db->begin('ann', 'x', conversation => Parley::SQL::uuid())->{outcome}, 'not_found', 'an unknown id';
	is $db->begin('eve', 'x', conversation => $turn->{conversation_id})->{outcome}, 'not_found', 'the id of another user';
	my $new = Parley::SQL::uuid();
	is $db->begin('eve', 'x', conversation => $turn->{conversation_id}, new => $new, create => 1)->{conversation_id},
	    $new, 'where unknown ones are made, it is made under the new id';

	$db->one('SELECT parley.fact_set(?, ?, 5000)', 'hold:b m', '');
	my $held = $db->begin('ann', 'x', holds => ['hold:a m', 'hold:b m']);
	is $held->{holds}[0], 0;
	cmp_ok $held->{holds}[1], '>', 4000, 'a model that asked for time is held back';
};

subtest 'one live turn' => sub {
	my $turn = $db->begin('bob', 'one');
	my $busy = $db->begin('bob', 'two', conversation => $turn->{conversation_id}, on_busy => 'reject');
	is_deeply [@$busy{qw(outcome turn)}], ['busy', 1], 'the second is told who is first';
	is $pg->one('SELECT turns FROM parley.conversations WHERE user_id = ?', 'bob'), 1, '... and leaves no trace';
	is $pg->one('SELECT count(*) FROM parley.messages WHERE user_id = ?', 'bob'), 1;
	is $pg->one('SELECT updated_at = created_at FROM parley.conversations WHERE user_id = ?', 'bob'), 1;

	is failed(sub {
		$db->dbh->do(q{SELECT set_config('parley.user_id', 'bob', false)});
		$db->dbh->do(q{INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, started_at, deadline)
			VALUES ('bob', ?, 2, 'approval_required', 1, now(), now())}, undef, $turn->{conversation_id});
	}), '23505', 'the table itself takes no second';
	$db->dbh->do('RESET parley.user_id');

	$db->end($turn, 'done', 'Hi');
	is $db->begin('bob', 'two', conversation => $turn->{conversation_id})->{turn}, 2, 'then the next, without a gap';
};

for my $case (['reject', { begun => 1, busy => 99 }, 2], ['queue', { begun => 1, queued => 99 }, 101]) {
	my ($on_busy, $want, $turns) = @$case;
	subtest "a hundred at once: $on_busy" => sub {
		my $user = "crowd-$on_busy";
		my $id = $db->talk($user, 'first', 'Hi')->{conversation_id};
		my @dbh = map { $pg->dbh('parley_worker') } 1 .. 100;
		my @sth = map {
			my $sth = $_->prepare($Parley::SQL::BEGIN, { pg_async => 1 });
			$sth->execute(Parley::SQL::begin_bind($user, 'me', conversation => $id, on_busy => $on_busy));
			$sth;
		} @dbh;
		my %outcome;
		for my $i (0 .. $#sth) {
			$dbh[$i]->pg_result;
			$outcome{$sth[$i]->fetchall_arrayref({})->[-1]{outcome}}++;
		}
		is_deeply \%outcome, $want, 'one begins, the others are told';
		is $pg->one('SELECT turns FROM parley.conversations WHERE user_id = ?', $user), $turns, 'the counter counts turns';
		is $pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ?', $user), $turns, '... and these are there';
	};
}

subtest 'steps and calls' => sub {
	my $turn = $db->begin('cat', 'go');
	my $id = Parley::SQL::uuid();
	my $at = $db->step($turn, [['list_tasks', {}], ['add_task', { title => 'Buy milk' }]], id => $id, content => 'Let me see');
	is $pg->one(q{SELECT open_calls FROM parley.turns WHERE user_id = 'cat'}), 2, 'two calls lack their result';
	is $db->step({ %$turn, next => 1 }, [['list_tasks', {}]], id => $id), $at, 'a step said again is the same step';
	is failed(sub { $db->step($turn, []) }), '55000', 'no next step before all have their result';
	is failed(sub { $db->end($turn, 'done', 'x') }), '23514', 'and no end';
	is failed(sub {
		$db->dbh->begin_work;
		$db->dbh->do(q{SELECT set_config('parley.user_id', 'cat', true)});
		$db->dbh->do(q{UPDATE parley.turns SET state = 'done' WHERE user_id = 'cat'});
	}), '23514', '... not even by hand';
	$db->dbh->rollback;

	my $first = $db->run($turn, 1, 1);
	is $first->{is_error}, 0, 'a tool runs';
	is_deeply $db->run($turn, 1, 1), $first, 'a tool run again gives what it gave';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'cat'}), 1, '... and does nothing';
	is_deeply $db->answer($turn, 1, 1, '{"error":"late"}', 1), $first, 'a result is written once';
	is $pg->one(q{SELECT open_calls FROM parley.turns WHERE user_id = 'cat'}), 1, 'and counted once';
	is $db->answer($turn, 1, 0, '{"error":"No."}', 1)->{is_error}, 1, 'a result without running';

	ok $db->step($turn, [['list_tasks', {}]]), 'now the next step';
	ok $db->end($turn, 'failed', undef, error_code => 'model_error', sentence => 'Sorry.'), 'a failed turn may end';
	like $pg->one(q{SELECT result FROM parley.tool_calls WHERE user_id = 'cat' AND idx = 2}), qr/was not done/,
	    'its open call has a result that says so';
	is_deeply $pg->rows(q{SELECT state, open_calls, messages, steps, error_code FROM parley.turns WHERE user_id = 'cat'}),
	    [{ state => 'failed', open_calls => 0, messages => 5, steps => 2, error_code => 'model_error' }];
};

subtest 'fences' => sub {
	my $turn = $db->begin('dan', 'go');
	my %old = (%$turn, fence => 0);
	is failed(sub { $db->step(\%old, [['list_tasks', {}]]) }), 'PF001', 'step';
	is failed(sub { $db->end(\%old, 'done', 'x') }), 'PF001', 'end';
	$db->step($turn, [['add_task', { title => 'Once' }]]);
	is failed(sub { $db->run(\%old, 1, 0) }), 'PF001', 'tool';
	is failed(sub { $db->answer(\%old, 1, 0, '{}', 0) }), 'PF001', 'answer';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'dan'}), 0, '... without effect';

	# Taken over while the tool runs: the effect goes with the result.
	$pg->psql(q{CREATE FUNCTION tools.slow_add() RETURNS json LANGUAGE plpgsql AS $$
		BEGIN PERFORM tools.add_task('Never'); PERFORM pg_sleep(1); RETURN '{}'; END $$});
	my $other = $db->begin('dora', 'go');
	$db->step($other, [['slow_add', {}]]);
	my $dbh = $pg->dbh('parley_worker');
	my $sth = $dbh->prepare('SELECT * FROM parley.tool_run(?::text, ?::uuid, ?::int, ?::int, ?::bigint, 1, 0, 1000)',
	    { pg_async => 1 });
	$sth->execute(Parley::SQL::key($other));
	sleep 0.3;
	$pg->psql(q{UPDATE parley.turns SET fence = 2 WHERE user_id = 'dora'});
	ok !eval { $dbh->pg_result; 1 };
	is $dbh->state, 'PF001', 'a tool whose turn was taken over meanwhile is undone';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'dora'}), 0;

	$db->run($turn, 1, 0);
	my $at = $db->end($turn, 'done', 'x');
	is $db->end($turn, 'done', 'x'), $at, 'an end said again is the same end';
	is failed(sub { $db->end($turn, 'failed', undef) }), 'PF001', 'but no other end';
	is failed(sub { $db->step($turn, [['list_tasks', {}]]) }), 'PF001', 'and no step after it';
};

subtest 'the pulse' => sub {
	my @turn = map { $db->begin("gus$_", 'go') } 1 .. 5;
	$_->{partial} = qq{He said "hi", \\ {no}} for @turn;
	is_deeply $db->pulse(15000, @turn), [], 'all go on';
	is $pg->one(q{SELECT partial FROM parley.live WHERE user_id = 'gus2'}), 'He said "hi", \\ {no}', 'partial text is kept';
	$db->end($turn[0], 'done', 'x');
	$pg->psql(q{UPDATE parley.turns SET cancel_requested_at = now() WHERE user_id = 'gus2';
	    UPDATE parley.turns SET fence = 7 WHERE user_id = 'gus3'});
	is $db->one('SELECT parley.conversation_delete(?, ?)', 'gus4', $turn[3]{conversation_id}), 1;
	is_deeply $db->pulse(15000, @turn), [
		[1, 'fenced'], [2, 'cancelled'], [3, 'fenced'], [4, 'cancelled']],
	    'ended, asked to stop, taken over, deleted; the fifth goes on';
	is $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id IN ('gus1', 'gus4')}), 0, 'what ended has no lease';

	my $pulse = $pg->dbh;
	$pulse->do('SET ROLE parley_pulse');
	for my $sql ('SELECT content FROM parley.messages', 'SELECT partial FROM parley.live', 'SELECT sentence FROM parley.turns',
	    'SELECT title FROM parley.conversations', 'SELECT result FROM parley.tool_calls',
	    'DELETE FROM parley.turns', 'SELECT key FROM parley.idempotency_keys', q{UPDATE parley.turns SET state = 'done'}) {
		ok !eval { $pulse->do($sql) } && $pulse->state eq '42501', "its role may not $sql";
	}
};

subtest 'isolation' => sub {
	my $turn = $db->begin('hal', 'secret', key => 'k', hash => 'h');
	$db->step($turn, [['list_tasks', {}]]);
	$db->pulse(15000, $turn);
	my $raw = $pg->dbh('parley_worker');
	for my $table (qw(conversations turns messages tool_calls live idempotency_keys)) {
		is $raw->selectrow_array("SELECT count(*) FROM parley.$table"), 0, "$table: no setting, no rows";
		is $raw->selectrow_array("SELECT count(*) FROM parley.$table, set_config('parley.user_id', '', false)"), 0,
		    "$table: empty setting, no rows";
		$raw->do(q{SELECT set_config('parley.user_id', 'ida', false)});
		is $raw->selectrow_array("SELECT count(*) FROM parley.$table"), 0, "$table: another user, no rows";
		$raw->do(q{SELECT set_config('parley.user_id', 'hal', false)});
		is $raw->selectrow_array("SELECT count(*) > 0 FROM parley.$table"), 1, "$table: the user, the rows";
		$raw->do('RESET parley.user_id');
	}
	$raw->do(q{SELECT set_config('parley.user_id', 'ida', false)});
	ok !eval { $raw->do(q{INSERT INTO parley.conversations VALUES ('hal', gen_random_uuid(), 't', 0, now(), now())}) }
	    && $raw->state eq '42501', 'nothing can be written for another user';
	ok !eval { $raw->do('SELECT * FROM tasks.tasks') } && $raw->state eq '42501', "the worker does not see the tools' tables";
	ok !eval { $raw->do('SELECT tools.list_tasks()') } && $raw->state eq '42501', '... nor runs a tool as itself';
	$raw->do('SET ROLE parley_tool');
	ok !eval { $raw->do('SELECT * FROM parley.messages') } && $raw->state eq '42501', 'a tool does not see messages';
	my $owner = $pg->dbh;
	$owner->do('SET ROLE parley_owner');
	is $owner->selectrow_array('SELECT count(*) FROM parley.messages'), 0, 'the owner is bound as well';

	for my $call (['conversation_read', $turn->{conversation_id}, 10, undef, undef, undef, 'f'],
	    ['turn_read', $turn->{conversation_id}, 1, 't']) {
		my ($name, @args) = @$call;
		is_deeply $db->rows("SELECT * FROM parley.$name(" . join(', ', ('?') x (@args + 1)) . ')', 'ida', @args), [],
		    "$name of another user's conversation finds nothing";
	}
	is $db->one('SELECT parley.conversation_rename(?, ?, ?)', 'ida', $turn->{conversation_id}, 'x'), undef, 'rename';
	is $db->one('SELECT parley.conversation_delete(?, ?)', 'ida', $turn->{conversation_id}), 0, 'delete';
	is failed(sub { $db->end({ %$turn, user => 'ida' }, 'failed', undef) }), 'PF002', 'end';
	is failed(sub { $db->run({ %$turn, user => 'ida' }, 1, 0) }), 'PF002', 'run';
	is $db->cancel({ %$turn, user => 'ida' })->{outcome}, 'not_found', 'cancel';
	is $db->retry({ %$turn, user => 'ida' })->{outcome}, 'turn_not_found', 'retry';
	is $db->take({ %$turn, user => 'ida' })->{outcome}, 'gone', 'take';
	is $db->load({ %$turn, user => 'ida' })->{outcome}, 'none', 'load';
	$db->release({ %$turn, user => 'ida' });
	is_deeply $db->pulse(15000, { %$turn, user => 'ida' }), [[1, 'cancelled']], 'pulse';
	is_deeply $db->watch({ %$turn, user => 'ida' }), [[1, 'gone']], 'watch';
	is_deeply $pg->rows(q{SELECT state, fence FROM parley.turns WHERE user_id = 'hal'}), [{ state => 'running', fence => 1 }],
	    '... and nothing has happened to it';
	is $db->one(q{SELECT current_setting('parley.user_id', true)}), '', 'the setting ends with the statement';
};

done_testing;
