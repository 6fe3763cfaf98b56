# Statements that meet: what one has not committed yet, the other must not be misled by.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use DBD::Pg ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Postgres;
use Parley::Process;
use Parley::SQL;

my $pg = Parley::Postgres->new;
my $db = Parley::SQL->new($pg);

sub failed { goto &Parley::SQL::failed }
sub in { return (conversation => $_[0]{conversation_id}) }
sub states {
	return join ' ', map { $_->{state} }
	    @{$pg->rows('SELECT state FROM parley.turns WHERE user_id = ? ORDER BY conversation_id, turn', $_[0])};
}
sub expire { $pg->psql("UPDATE parley.live SET lease_until = now() - interval '1 s' WHERE user_id = '$_[0]{user}'") }

# A statement of another session: it is sent, and waits for a lock when this returns.
sub sent {
	my ($sql, @bind) = @_;
	my $dbh = $pg->dbh('parley_worker');
	my $sth = $dbh->prepare($sql, { pg_async => DBD::Pg::PG_ASYNC() });
	$sth->execute(@bind);
	my $pid = $dbh->{pg_pid};
	Parley::Process::wait_for {
		$pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE pid = ? AND wait_event_type = 'Lock'}, $pid)
	} 5 or diag 'it waits for nothing';
	return { dbh => $dbh, sth => $sth };
}

# Its rows; dies as Parley::SQL does.
sub answer {
	my ($sent) = @_;
	eval { $sent->{dbh}->pg_result; 1 } or die Parley::SQL::Error->new($sent->{dbh}->state, $@);
	return $sent->{sth}->fetchall_arrayref({});
}

# What this session does, committed when the other waits for it.
sub meanwhile {
	my ($do, @statement) = @_;
	$db->dbh->begin_work;
	$do->();
	my $sent = sent(@statement);
	$db->dbh->commit;
	return answer($sent);
}

my $END = q{SELECT * FROM parley.turn_end(?::text, ?::uuid, ?::int, ?::int, ?::bigint, ?::text, NULL, NULL,
	1, NULL, NULL, NULL, NULL, false, 'model', 1, 1, '{}', true, 100000, false)};

subtest 'the next in the queue is stopped in the moment in which it would begin' => sub {
	my $turn = $db->begin('ann', 'one');
	my ($two, $three) = map { $db->begin('ann', $_, in($turn)) } qw(two three);
	my $row = meanwhile(sub { $db->cancel($two) }, $END, Parley::SQL::key({ %$turn, run => 1 }), 'failed')->[0];
	is states('ann'), 'failed cancelled running', 'the one behind it begins';
	is $row->{next_turn}, 3, '... and is handed on';
	is $row->{next_fence}, 2;
};

subtest 'the whole queue is stopped in that moment' => sub {
	my $turn = $db->begin('abe', 'one');
	my @waiting = map { $db->begin('abe', $_, in($turn)) } qw(two three);
	my $row = meanwhile(sub { $db->cancel($_) for @waiting }, $END, Parley::SQL::key($turn), 'failed')->[0];
	is states('abe'), 'failed cancelled cancelled', 'nothing is left to begin';
	is $row->{next_turn}, undef;
};

subtest 'a turn is given away while a pulse of its worker is under way' => sub {
	my $turn = $db->begin('bob', 'one');
	$db->pulse(15000, $turn);
	meanwhile(sub { $db->release($turn) }, q{SELECT * FROM parley.pulse(15000, ARRAY['bob'], ARRAY[?::uuid], ARRAY[1],
		ARRAY[1::bigint], ARRAY[1], ARRAY['text'], '{}', '{}', '{}', '{}', '{}')}, $turn->{conversation_id});
	is_deeply [grep { /^bob/ } @{$db->expired}], ['bob 1 2'], 'it may be taken at once';
};

subtest 'a turn is taken over while a pulse of its first worker is under way' => sub {
	my $turn = $db->begin('bea', 'one');
	$db->pulse(15000, $turn);
	expire($turn);
	meanwhile(sub { $db->take($turn) }, q{SELECT * FROM parley.pulse(15000, ARRAY['bea'], ARRAY[?::uuid], ARRAY[1],
		ARRAY[1::bigint], ARRAY[1], ARRAY['text'], '{}', '{}', '{}', '{}', '{}')}, $turn->{conversation_id});
	is_deeply $pg->rows(q{SELECT fence, partial FROM parley.live WHERE user_id = 'bea'}), [{ fence => 2, partial => undef }],
	    'the lease is the new one\'s';
};

subtest 'a turn is given away while somebody gives it the lease that it lacks' => sub {
	my $turn = $db->talk('bill', 'one', 'Hi');
	my $two = $db->begin('bill', 'two', in($turn));
	$pg->psql(qq{UPDATE parley.turns SET started_at = started_at - interval '2 s' WHERE user_id = 'bill';
	    INSERT INTO parley.live (user_id, conversation_id, turn, fence, lease_until)
	    VALUES ('bill', '$turn->{conversation_id}', 1, 1, now())});
	meanwhile(sub { $db->release($two) }, 'SELECT * FROM parley.turns_expired(15000, 100, true)');
	is_deeply [grep { /^bill/ } @{$db->expired}], ['bill 2 2'], 'it may be taken at once';
};

subtest 'a step that was given up on its way, and the end of its turn' => sub {
	my $turn = $db->begin('cat', 'one');
	my %step = %$turn;
	meanwhile(sub { $db->step(\%step, [['list_tasks', {}]]) }, $END, Parley::SQL::key($turn), 'cancelled');
	is states('cat'), 'cancelled', 'it has ended';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id = 'cat' AND result IS NULL}), 0,
	    'the call of the step has a result all the same';
};

subtest 'a turn whose end another has stored, said again by who had it' => sub {
	my $turn = $db->begin('dan', 'one');
	$db->begin('dan', 'two', in($turn));
	$db->pulse(15000, $turn);
	$db->cancel($turn);
	expire($turn);
	my $taken = $db->take($turn);
	is_deeply [@$taken{qw(outcome turn fence)}], ['ended', 2, 2], 'the other has the next one';
	is failed(sub { $db->end($turn, 'cancelled', undef) }), 'PF001', 'whoever wakes up late does not get it as well';
};

subtest 'nobody waits for a tool in order to give a turn up' => sub {
	$pg->psql(q{CREATE FUNCTION tools.rest() RETURNS json LANGUAGE plpgsql AS $$
		BEGIN PERFORM tools.add_task('Rested'); PERFORM pg_sleep(2); RETURN '{}'; END $$});
	my $turn = $db->begin('eve', 'one');
	$db->step($turn, [['rest', {}]]);
	$db->pulse(15000, $turn);
	$db->cancel($turn);
	expire($turn);
	my $dbh = $pg->dbh('parley_worker');
	my $sth = $dbh->prepare('SELECT * FROM parley.tool_run(?::text, ?::uuid, ?::int, ?::int, ?::bigint, 1, 0, 1000)',
	    { pg_async => DBD::Pg::PG_ASYNC() });
	$sth->execute(Parley::SQL::key($turn));
	Parley::Process::wait_for { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) };
	my $since = time;
	is $db->take($turn)->{outcome}, 'gone', 'while the tool runs there is nothing to take';
	cmp_ok time - $since, '<', 1, '... which is said at once';
	is eval { $dbh->pg_result }, 1, 'the tool ends as it would have';
	is $db->take($turn)->{outcome}, 'ended', 'then the turn is given up';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id = 'eve' AND NOT is_error}), 1, '... with what the tool did';
};

subtest 'the last turn, stopped in the queue, is asked again while the one before still runs' => sub {
	my $turn = $db->begin('fay', 'one');
	my $two = $db->begin('fay', 'two', in($turn));
	$db->cancel($two);
	is $db->retry($two)->{outcome}, 'not_retryable', 'not now';
	$db->end($turn, 'done', 'Hi');
	is $db->retry($two)->{outcome}, 'begun', 'later it can be';
};

subtest 'a new conversation whose beginning got no answer is still being stored when it is said again' => sub {
	my %ids = (new => Parley::SQL::uuid(), message => Parley::SQL::uuid());
	my $state = failed(sub { meanwhile(sub { $db->begin('gus', 'one', %ids) }, $Parley::SQL::BEGIN,
	    Parley::SQL::begin_bind('gus', 'one', %ids, again => 1)) });
	is $state, 'PF003', 'it is told to ask once more';
	my $again = $db->begin('gus', 'one', %ids, again => 1);
	is_deeply [@$again{qw(outcome turn fence)}], ['begun', 1, 1], '... and then has it';
	is states('gus'), 'running', '... once';
};

done_testing;
