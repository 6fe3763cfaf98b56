# Questions to the user, as the database keeps them: asked by a turn that then waits, decided once, by that user alone.

use strict;
use warnings;

use FindBin;
use JSON::XS;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::SQL;

my $pg = Parley::Postgres->new;
my $db = Parley::SQL->new($pg);
my $json = JSON::XS->new->allow_nonref;
my $asked_users = 0;

sub failed { Parley::SQL::failed(@_) }

sub turn_row { return $pg->rows('SELECT * FROM parley.turns WHERE conversation_id = ? AND turn = ?',
    @{$_[0]}{qw(conversation_id turn)})->[0] }
sub calls { return @{$pg->rows('SELECT * FROM parley.tool_calls WHERE conversation_id = ? ORDER BY turn, idx, pos',
    $_[0]{conversation_id})} }
sub tasks { return join ',', map { $_->{id} } @{$pg->rows('SELECT id FROM tasks.tasks WHERE user_id = ? ORDER BY id', $_[0])} }
sub states { return join ' ', map { $_->{state} } @{$pg->rows('SELECT state FROM parley.turns WHERE conversation_id = ? ORDER BY turn',
	$_[0]{conversation_id})} }

# A user with so many tasks, and a turn that wants to delete all of them; asked unless ask => 0.  Returns turn and call ids.
sub wants {
	my ($n, %o) = @_;
	my $user = 'u' . ++$asked_users;
	$db->tool($user, add_task => { title => "task $_" }) for 1 .. $n;
	my $turn = $db->begin($user, 'delete them', %o);
	$db->step($turn, [map { [delete_task => { task_id => $_ }] } 1 .. $n], confirm => 1);
	$db->ask($turn, 1, [0 .. $n - 1], %o) unless exists $o{ask};
	return ($turn, map { $_->{id} } grep { $_->{tool_name} eq 'delete_task' } calls($turn));
}

subtest 'a question' => sub {
	my ($turn, $id) = wants(1, ask => 0);
	is failed(sub { $db->run($turn, 1, 0) }), '55000', 'a call that needs a yes is not run without one';
	is tasks($turn->{user}), '1', '... it has not run';
	is failed(sub { $db->rows('SELECT * FROM parley.tool_start(?, ?, ?, ?, ?, 1, 0)', Parley::SQL::key($turn)) }),
	    '55000', '... nor sent';
	$db->pulse(15000, $turn);
	my ($row) = @{$db->ask($turn, 1, [0])};
	is $row->{question}, 'Delete the task "task 1"?', 'its author has thought of a question';
	my $state = turn_row($turn);
	is $state->{state}, 'approval_required', 'the turn waits';
	is $pg->one('SELECT count(*) FROM parley.live WHERE conversation_id = ?', $turn->{conversation_id}), 0,
	    '... without a lease';
	is_deeply $db->pulse(15000, $turn), [[1, 'fenced']], 'a late pulse hears that the turn is not its own';
	is $pg->one('SELECT count(*) FROM parley.live WHERE conversation_id = ?', $turn->{conversation_id}), 0,
	    '... and leaves none';
	is_deeply $db->ask($turn, 1, [0]), [$row], 'asking again is harmless';
	is failed(sub { $db->ask({ %$turn, fence => 2 }, 1, [0]) }), 'PF001', '... under its fence';
	is failed(sub { $db->run($turn, 1, 0) }), 'PF001', 'nothing can be run';
	is failed(sub { $db->end($turn, 'done', 'x') }), 'PF001', '... or ended';
	is failed(sub { $db->step($turn, []) }), 'PF001', '... or said';
	is_deeply $db->expired(orphans => 1), [], 'nobody is to take it';
	is $db->retry($turn)->{outcome}, 'not_retryable', 'it cannot be retried';
	my $c = $json->decode($db->rows('SELECT * FROM parley.conversation_read(?, ?, 50, NULL, NULL, NULL, false)',
	    @$turn{qw(user conversation_id)})->[0]{conversation});
	is_deeply [@{$c}{qw(state live_turn)}], ['approval_required', 1], 'the conversation says so';
	is_deeply [map { [@$_{qw(id question)}, $_->{parameters}{task_id}] } @{$c->{approvals_required}}],
	    [[$id, $row->{question}, 1]], '... and what is asked';
	is $db->read($turn)->[0]{turn_state}, 'approval_required', 'so does the turn';
};

subtest 'yes' => sub {
	my ($turn, $id) = wants(1);
	my $before = turn_row($turn);
	sleep 0.2;
	my $again = $db->decide($turn, { $id => 't' });
	is "$again->{outcome} $again->{turn} $again->{run} $again->{fence}", 'begun 1 1 2', 'the turn is the caller\'s';
	my $row = turn_row($turn);
	is "$row->{state} $row->{attempts}", 'running 1', '... and runs';
	my $moved = $pg->one('SELECT extract(epoch FROM ?::timestamptz - ?::timestamptz)', $row->{deadline}, $before->{deadline});
	cmp_ok $moved, '>', 0.15, 'its deadline has waited as well';
	cmp_ok $moved, '<', 5, '... no longer';
	is $db->decide($turn, { $id => 't' })->{outcome}, 'decided', 'a second yes comes too late';
	is $db->decide($turn, { $id => 'f' })->{outcome}, 'decided', '... and a no';
	is failed(sub { $db->run($turn, 1, 0) }), 'PF001', 'who had asked cannot run it';
	my $done = $db->run($again, 1, 0);
	is $json->decode($done->{result})->{status}, 'deleted', 'who was told yes can';
	is_deeply $db->run($again, 1, 0)->{result}, $done->{result}, '... once';
	is tasks($turn->{user}), '', 'it is done';
	$again->{next} = 2;
	$db->step($again, [[delete_task => { task_id => 1 }]], confirm => 1);
	is failed(sub { $db->run($again, 2, 0) }), '55000', 'the yes was for that call alone';
	$db->end($again, 'cancelled', undef);
	is_deeply [map { $_->{approval} } grep { $_->{tool_name} eq 'delete_task' } calls($turn)], [qw(approved expired)],
	    'a turn that ends leaves no question';
};

subtest 'no, and one by one' => sub {
	my ($turn, @id) = wants(3);
	is $db->decide($turn, { $id[1] => 'f' })->{outcome}, 'known', 'one of three';
	is states($turn), 'approval_required', 'the turn still waits';
	is_deeply [map { $_->{approval} } (calls($turn))], [qw(waiting denied waiting)], '... for the others';
	like +(calls($turn))[1]{result}, qr/said no/, 'the model will be told';
	my $first = $db->decide($turn, { $id[0] => 't', $id[1] => 't' });
	is $first->{outcome}, 'decided', 'a request that decides one again';
	is_deeply [map { $_->{approval} } (calls($turn))], [qw(waiting denied waiting)], '... decides nothing';
	my $again = $db->decide($turn, { $id[0] => 't', $id[2] => 'f' });
	is $again->{outcome}, 'begun', 'the last';
	is failed(sub { $db->step($again, []) }), '55000', 'what was approved comes before the next step';
	is $json->decode($db->run($again, 1, $_)->{result})->{$_ ? 'error' : 'status'} =~ s/The user //r,
	    $_ ? 'said no to this call. It was not carried out.' : 'deleted', "call $_" for 0 .. 2;
	is tasks($turn->{user}), '2,3', 'only that one was carried out';
	$db->end({ %$again, next => 2 }, 'done', 'So.');
	is turn_row($turn)->{messages}, 6, 'all of them count in the history';
};

subtest 'who may answer' => sub {
	my ($turn, $id) = wants(1);
	my ($other, $foreign) = wants(1);
	is $db->decide($turn, { $_ => 't' })->{outcome}, 'unknown_call', 'no such question' for Parley::SQL::uuid(), $foreign;
	is $db->decide($turn, { $id => 't', $foreign => 't' })->{outcome}, 'unknown_call', '... nor one of them';
	is $db->decide($turn, { $id => 't' }, user => 'mallory')->{outcome}, 'not_found', 'another user';
	is $db->decide({ %$turn, conversation_id => $other->{conversation_id} }, { $id => 't' })->{outcome}, 'not_found',
	    'another conversation';
	my ($needed, $early) = wants(1, ask => 0);
	is $db->decide($needed, { $early => 't' })->{outcome}, 'unknown_call', 'one that was not asked yet';
	is_deeply [map { (calls($_))[0]{approval} } $turn, $other, $needed], [qw(waiting waiting needed)], 'nothing is decided';
	$db->begin($turn->{user}, 'hello', conversation => $turn->{conversation_id}, on_busy => 'interrupt');
};

subtest 'keys' => sub {
	my ($turn, @id) = wants(2);
	my %k = (key => 'k', hash => 'h');
	is $db->decide($turn, { $id[0] => 't' }, %k)->{outcome}, 'known', 'a decision';
	is $db->decide($turn, { $id[0] => 't' }, %k)->{outcome}, 'known', '... said again';
	is $db->decide($turn, { $id[1] => 't' }, key => 'k', hash => 'other')->{outcome}, 'mismatch', 'another with its key';
	is +(calls($turn))[1]{approval}, 'waiting', '... is none';
	is $db->decide($turn, { $id[1] => 't' }, key => 'k2', hash => 'h')->{outcome}, 'begun', 'the other';
	my $r = $db->decide($turn, { $id[1] => 't' }, key => 'k2', hash => 'h');
	is "$r->{outcome} $r->{turn}", 'known 1', '... said again leads to the turn';
	is turn_row($turn)->{fence}, 2, '... which goes on once';
};

subtest 'in a word' => sub {
	my ($turn, $id) = wants(1);
	my %c = (conversation => $turn->{conversation_id});
	my $again = $db->begin($turn->{user}, 'Yes!', %c, yes => 't', key => 'w', hash => 'h');
	is "$again->{outcome} $again->{turn} $again->{fence}", 'begun 1 2', 'yes';
	is_deeply [map { "$_->{idx} $_->{role} $_->{content}" } @{$again->{history}}],
	    ['0 user delete them', '1 assistant ', '2 user Yes!'], '... is part of that turn';
	is $pg->one('SELECT turns FROM parley.conversations WHERE id = ?', $turn->{conversation_id}), 1,
	    '... and no turn of its own';
	is +(calls($turn))[0]{approval}, 'approved', '... and decides';
	my $known = $db->begin($turn->{user}, 'Yes!', %c, yes => 't', key => 'w', hash => 'h');
	is "$known->{outcome} $known->{turn}", 'known 1', 'with its key again: the same';
	is $db->begin($turn->{user}, 'yes', %c, yes => 't')->{outcome}, 'queued', 'when nothing waits it is a message';

	($turn) = wants(1);
	$again = $db->begin($turn->{user}, 'no', conversation => $turn->{conversation_id}, yes => 'f');
	is $again->{outcome}, 'begun', 'no';
	is +(calls($turn))[0]{approval}, 'denied', '... decides';

	($turn) = wants(2);
	my $rows = $db->begin($turn->{user}, 'yes', conversation => $turn->{conversation_id}, yes => 't');
	is_deeply [map { "$_->{outcome} $_->{turn}" } @{$rows->{history}}], ['next 1', 'queued 2'],
	    'a yes to two questions is no answer';
	is_deeply [map { $_->{approval} } calls($turn)], [qw(denied denied)], '... but a message like any other';

	# Its answer was lost; when it is said again, it has decided.
	($turn) = wants(1);
	my $message = Parley::SQL::uuid();
	my @yes = ($turn->{user}, 'yes', conversation => $turn->{conversation_id}, yes => 't', message => $message);
	$db->begin(@yes);
	$again = $db->begin(@yes, again => 1);
	is "$again->{outcome} $again->{turn}", 'known 1', 'an answer that was lost';

	# It had never arrived: the second attempt decides, and the first must not decide anything more.
	($turn) = wants(1);
	@yes = ($turn->{user}, 'yes', conversation => $turn->{conversation_id}, yes => 't', message => Parley::SQL::uuid());
	$again = $db->begin(@yes, again => 1);
	is $again->{outcome}, 'begun', 'one that had not arrived';
	$db->run($again, 1, 0);
	$db->step({ %$again, next => 3 }, [[delete_task => { task_id => 9 }]], confirm => 1);
	$db->ask({ %$again, next => 4 }, 3, [0]);
	is failed(sub { $db->begin(@yes) }), 'PF003', '... and arrives late: it is no answer to the next question';
};

subtest 'another message' => sub {
	my ($turn) = wants(2);
	my %c = (conversation => $turn->{conversation_id});
	my ($next, $own) = @{$db->begin($turn->{user}, 'What is the time?', %c)->{history}};
	is_deeply [@$next{qw(outcome turn run fence)}], ['next', 1, 1, 2], 'the turn that waited is the caller\'s, to be ended';
	is_deeply [@$own{qw(outcome turn)}], ['queued', 2], '... and then comes the message';
	is states($turn), 'running queued', '... as a turn of its own';
	is_deeply [map { $_->{approval} } calls($turn)], [qw(denied denied)], 'nothing was agreed to';
	is tasks($turn->{user}), '1,2', '... or done';
	my $load = $db->load({ %$turn, fence => 2 });
	is $load->{outcome}, 'begun', 'it can be loaded';
	my $end = $db->end_row({ %$load, next => 2 }, 'done', 'All right.');
	is "$end->{next_turn} $end->{next_fence}", '2 2', 'the next is handed on';

	($turn) = wants(1);
	%c = (conversation => $turn->{conversation_id});
	is $db->begin($turn->{user}, 'x', %c, max_queued => 0)->{outcome}, 'queue_full', 'where no message can wait';
	is +(calls($turn))[0]{approval}, 'waiting', '... nothing is denied';
};

subtest 'messages that came before the question' => sub {
	my ($turn, $id) = wants(1, ask => 0);
	$db->begin($turn->{user}, 'and then?', conversation => $turn->{conversation_id});
	$db->ask($turn, 1, [0]);
	is states($turn), 'approval_required queued', 'wait';
	my $again = $db->begin($turn->{user}, 'yes', conversation => $turn->{conversation_id}, yes => 't');
	is "$again->{outcome} $again->{turn}", 'begun 1', 'and a yes overtakes them';
	is states($turn), 'running queued', '...';
};

subtest 'nobody answers' => sub {
	my ($turn, $id) = wants(1, expire => 300);
	$db->begin($turn->{user}, 'x', conversation => $turn->{conversation_id}, on_busy => 'queue', max_queued => 0);
	is_deeply $db->expired(orphans => 1), [], 'there is time';
	is $db->take($turn)->{outcome}, 'gone', '... nobody can take it';
	sleep 0.4;
	is $db->decide($turn, { $id => 't' })->{outcome}, 'decided', 'then it is too late';
	is_deeply $db->expired, [], 'with the next look';
	is_deeply $db->expired(orphans => 1), ["$turn->{user} 1 1"], '... it is found';
	my $r = $db->take($turn);
	is $r->{outcome}, 'ended', 'and ended';
	my $row = turn_row($turn);
	is "$row->{state} $row->{error_code} $row->{open_calls}", 'cancelled approval_expired 0', '... as expired';
	is +(calls($turn))[0]{approval}, 'expired', '... with its question';
	is $db->take($turn)->{outcome}, 'gone', 'once';
	is tasks($turn->{user}), '1', 'nothing was done';
	is $db->decide($turn, { $id => 't' })->{outcome}, 'decided', 'and nothing will be';
	$r = $db->retry($turn);
	is "$r->{outcome} $r->{run}", 'begun 2', 'it can be retried';

	($turn) = wants(1, expire => 100, ask => 0);
	$db->begin($turn->{user}, 'behind', conversation => $turn->{conversation_id});
	$db->ask($turn, 1, [0], expire => 100);
	sleep 0.2;
	$r = $db->take($turn);
	is "$r->{outcome} $r->{turn} $r->{fence}", 'ended 2 2', 'who waited behind it is handed on';
};

subtest 'to be stopped' => sub {
	my ($turn) = wants(1);
	is $db->cancel($turn)->{outcome}, 'cancelled', 'a turn that waits ends at once';
	is states($turn), 'cancelled', '...';
	is +(calls($turn))[0]{approval}, 'expired', '... with its question';
	is $db->cancel($turn)->{outcome}, 'ended', '... once';

	($turn) = wants(1, ask => 0);
	is $db->cancel($turn)->{outcome}, 'running', 'one that is about to ask';
	is failed(sub { $db->ask($turn, 1, [0]) }), 'PF002', '... does not begin to wait';
	$db->end($turn, 'cancelled', undef);

	($turn) = wants(1);
	my $r = $db->begin($turn->{user}, 'stop that', conversation => $turn->{conversation_id}, on_busy => 'interrupt');
	is "$r->{outcome} $r->{turn}", 'begun 2', 'interrupt';
	is states($turn), 'cancelled running', '... ends it';

	($turn, my $id) = wants(1);
	is $db->one('SELECT parley.conversation_delete(?, ?)', @$turn{qw(user conversation_id)}), 1, 'deleted';
	is $db->decide($turn, { $id => 't' })->{outcome}, 'not_found', '... with its question';
	is tasks($turn->{user}), '1', 'nothing was done';
};

subtest 'what is not worth a question' => sub {
	my $turn = $db->begin('erik', 'x');
	$db->step($turn, [['delete_task', {}], ['delete_task', { task_id => 'one' }]], confirm => 1);
	my $rows = $db->ask($turn, 1, [0, 1]);
	is_deeply [map { $json->decode($_->{result})->{error} } @$rows], ['task_id is required.',
	    'task_id must be a whole number.'],
	    'arguments that are wrong';
	is states($turn), 'running', 'the turn goes on';
	is_deeply [map { $_->{approval} } calls($turn)], [qw(refused refused)], '...';
	is_deeply $db->ask($turn, 1, [0, 1]), $rows, 'asking again is harmless';
	$db->step($turn, [['delete_task', {}], ['delete_task', { task_id => 7 }]], confirm => 1);
	$rows = $db->ask($turn, 2, [0, 1]);
	is_deeply [map { $_->{approval} } @$rows], [qw(refused waiting)], 'one of two';
	is $rows->[1]{question}, 'May I do 1?', 'no such task: its author has no question';
	is states($turn), 'approval_required', 'the turn waits for the other';
};

subtest 'questions of other tools' => sub {
	$pg->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tasks.raises(p json) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
CREATE FUNCTION tasks.leaks(p json) RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM set_config('parley.user_id', 'alice', false); RETURN 'Sure about ' || (p ->> 'x') || '? ' || current_user; END $$;
CREATE FUNCTION tasks.secret(p json) RETURNS text LANGUAGE sql AS 'SELECT content FROM parley.messages LIMIT 1';
CREATE FUNCTION tasks.lasts(p json) RETURNS text LANGUAGE sql AS 'SELECT ''long '' || repeat(''x'', 5000)';
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tasks TO parley_tool;
CREATE FUNCTION tools.t1(x text) RETURNS text LANGUAGE sql AS 'SELECT x';
COMMENT ON FUNCTION tools.t1 IS E'x\n@confirm tasks.raises';
CREATE FUNCTION tools.t2(x text) RETURNS text LANGUAGE sql AS 'SELECT x';
COMMENT ON FUNCTION tools.t2 IS E'x\n@confirm tasks.leaks';
CREATE FUNCTION tools.t3(x text) RETURNS text LANGUAGE sql AS 'SELECT x';
COMMENT ON FUNCTION tools.t3 IS E'x\n@confirm tasks.secret';
CREATE FUNCTION tools.t4(x text) RETURNS text LANGUAGE sql AS 'SELECT x';
COMMENT ON FUNCTION tools.t4 IS E'x\n@confirm tasks.lasts';
CREATE FUNCTION tools.t5(x text) RETURNS text LANGUAGE sql AS 'SELECT x';
COMMENT ON FUNCTION tools.t5 IS E'x\n@confirm nowhere.nothing';
CREATE FUNCTION tools.t6(x text) RETURNS text LANGUAGE sql AS 'SELECT x';
COMMENT ON FUNCTION tools.t6 IS E'x\n@confirm';
SQL
	my $turn = $db->begin('gwen', 'x');
	$db->step($turn, [map { ["t$_", { x => "'; --" }] } 1 .. 6], confirm => 1);
	my @q = map { $_->{question} } @{$db->ask($turn, 1, [0 .. 5])};
	is $q[$_], "May I do $_?", 'a question that cannot be made: the plain one' for 0, 2, 4, 5;
	is $q[1], "Sure about '; --? parley_tool", 'it is made by the role of the tools';
	is length $q[3], 2000, 'and has a bound';
	is $db->one('SELECT current_user'), 'parley_worker', 'nothing of it stays with the connection';
	is $db->one('SELECT current_setting(\'parley.user_id\', true)') // '', '', '... not even a user';
};

# Everybody at the same waiting turns: nobody waits in a circle, and what comes of it holds together.
subtest 'all at once' => sub {
	my @turns = map { [wants(2)] } 1 .. 40;
	my @pid;
	for my $worker (0 .. 3) {
		my $pid = fork // die $!;
		if (!$pid) {
			my $own = Parley::SQL->new($pg);
			my $bad = 0;
			srand $worker;
			for my $t (@turns) {
				my ($turn, @id) = @$t;
				my @deeds = (
					sub { $own->decide($turn, { $id[0] => 't' }) },
					sub { $own->decide($turn, { $id[0] => 't', $id[1] => 'f' }) },
					sub { $own->cancel($turn) },
					sub { $own->begin($turn->{user}, 'no', conversation => $turn->{conversation_id}, yes => 'f') },
					sub { $own->begin($turn->{user}, 'stop', conversation => $turn->{conversation_id}, on_busy => 'interrupt') },
					sub { $own->take($turn) },
				);
				my $state = failed($deeds[rand @deeds]);
				$bad++ if $state ne '' && $state ne 'PF003';
			}
			POSIX::_exit($bad);
		}
		push @pid, $pid;
	}
	my $bad = 0;
	for (@pid) {
		waitpid $_, 0;
		$bad += $? >> 8;
	}
	is $bad, 0, 'nothing fails';
	is $pg->one(q{SELECT count(*) FROM parley.turns t WHERE t.state = 'approval_required' AND NOT EXISTS
	    (SELECT FROM parley.tool_calls c WHERE c.conversation_id = t.conversation_id AND c.turn = t.turn AND c.approval = 'waiting')}),
	    0, 'who waits has a question';
	is $pg->one(q{SELECT count(*) FROM parley.turns t WHERE t.state <> 'approval_required' AND EXISTS
	    (SELECT FROM parley.tool_calls c WHERE c.conversation_id = t.conversation_id AND c.turn = t.turn AND c.approval = 'waiting')}),
	    0, '... and who has a question waits';
	is $pg->one(q{SELECT count(*) FROM parley.turns t WHERE t.open_calls <> (SELECT count(*) FROM parley.tool_calls c
	    WHERE c.conversation_id = t.conversation_id AND c.turn = t.turn AND c.run = t.run AND c.result IS NULL)}), 0,
	    'open calls are counted';
};

done_testing;
