# Workers are killed while turns stand at each boundary of their steps, plain and streamed, at moments made certain by the
# model's script, by a slow tool, or by a lock that the test holds in the database.  Others go on after the last commit: a stored
# message is not asked for again, a finished tool does not run again, one whose transaction was lost runs for the first time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;

my $end = text_reply('All ', 'done.');
my $late = "wait 600\n$end";
sub call { return call_reply(count_once => { label => 'here', @_ ? (seconds => $_[0]) : () }) }

# name => [the moment, the script's replies, how often the model is asked in the end, how often the tool has acted]
my %moment = (
	begin => ['while the message is stored', [$end], 1, 0],
	first => ['before the first delta', ["hang\n", $end], 2, 0],
	between => ['between deltas', [text_reply('Half a ', 20000, 'word'), $end], 2, 0],
	lost => ["while the assistant's message is stored, which is lost", ["wait 600\n" . call(), call(), $end], 3, 1],
	stored => ["while the assistant's message is stored, which arrives", ["wait 600\n" . call(), $end], 2, 1],
	early => ["after the assistant's message, before its tool, which is lost", [call(), $end], 2, 1],
	inside => ["inside the tool's transaction", [call(3), $end], 2, 1],
	after => ['after the tool', [call(), "hang\n", $end], 3, 1],
	second => ['in the second step, between deltas', [call(), text_reply('One and ', 20000, 'two'), $end], 3, 1],
	end => ['while the end is stored, which arrives', [$late], 1, 0],
	unend => ['while the end is stored, which is lost', [$late, $end], 2, 0],
);
my $t = faults_test(workers => 3, conf => { 'database.connections' => 16 },
    scripts => { map { my $n = $_; map { ("$n-$_" => join "---\n", @{$moment{$n}[1]}) } qw(json stream) } keys %moment });
my ($pg, $model) = ($t->pg, $t->model);
my $o = Parley::Observer->new($t, patience => 40);
my @took;

sub asked { my ($name) = @_; return scalar grep { ($_->{script} // '') eq $name } $model->requests }
sub waiting_for { my ($what) = @_; return $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
    AND query ~ ?}, $what) }
sub leased { my ($user) = @_; return $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = ? AND partial <> ''}, $user) }
sub sleeping { return $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) }
sub turns { return $pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ANY (?)', [@_]) }

# What makes a statement wait until it is given back.
sub hold {
	my ($sql, @bind) = @_;
	my $db = $pg->dbh;
	$db->begin_work;
	$db->do($sql, undef, @bind);
	return $db;
}

sub both { return map { ("$_-json", "$_-stream") } @_ }
sub begin {
	return map {
		$o->say(user => $_, text => "script:$_ please", key => "key-$_", stream => /stream/ ? 1 : 0);
	} both(@_);
}

# The moment has come: all workers die.  What waits for the locks in lost never arrives (its connection ends with
# its worker), what waits for the others does.
sub kill_all {
	my ($locks, @lost) = @_;
	my $pids = $pg->one('SELECT array_agg(pid) FROM pg_stat_activity WHERE pg_blocking_pids(pid) && ?::int[]',
	    [map { $_->{pg_pid} } @lost]) // [];
	$t->kill_worker($_) for my @workers = $t->pids;
	my $since = time;
	$pg->one('SELECT count(pg_terminate_backend(p)) FROM unnest(?::int[]) p', $pids);
	wait_for(sub { !$pg->one('SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (?)', $pids) }, 5)
	    or die 'they do not end';
	$_->rollback for @$locks;
	return $since;
}

sub ended_ok {
	my ($since, @m) = @_;
	$o->run(sub { !grep { !$_->{end} } @m }, $LEASE + 10);
	for my $m (@m) {
		my $user = $m->{user};
		my ($name, $how) = split /-/, $user;
		my ($what, $script, $requests, $effects) = @{$moment{$name}};
		subtest "$what ($how)" => sub {
			is $m->{end}, 'done', 'it ends well' or diag explain $m->{body};
			is $m->{body}{response}, 'All done.', '... with the whole answer';
			my $took = ($m->{ended} // time) - $since;
			push @took, $took;
			cmp_ok $took, '<', $LEASE + 5, sprintf '... %.1f s after the kill', $took;
			is asked($user), $requests, "... the model was asked $requests times";
			is $pg->one('SELECT count(*) FROM counting.effects WHERE user_id = ?', $user), $effects,
			    "... the tool has acted $effects times";
			is turns($user), 1, '... in one turn';
		};
	}
}

subtest 'the beginning' => sub {
	my $lock = hold('LOCK TABLE parley.messages IN EXCLUSIVE MODE');
	my @m = begin('begin');
	ok $o->run(sub { waiting_for('turn_begin') == 2 }, 10), 'the moment comes';
	ended_ok(kill_all([$lock]), @m);
};

subtest 'the steps' => sub {
	my @locked = both(qw(lost stored end unend));
	my @m = begin(qw(first between after second));
	ok $o->run(sub { !grep { !leased($_) } both(qw(between second)) }, 15), 'they run';
	push @m, begin(qw(lost stored end unend));
	ok $o->run(sub { turns(@locked) == @locked }, 10), 'the others have begun';
	# Their rows are locked: neither a step nor an end can be stored.
	my @lock = map { hold("SELECT FROM parley.turns WHERE user_id ~ ? FOR UPDATE", "^$_-") } qw(lost stored end unend);
	ok $o->run(sub { waiting_for('turn_step') == 4 && waiting_for('turn_end') == 4 }, 10), 'they wait for locks';
	push @m, begin('inside');
	ok $o->run(sub { sleeping() == 2 && asked('first-json') && asked('first-stream') && asked('after-json') == 2
	    && asked('after-stream') == 2 }, 10), 'the moment comes';
	ended_ok(kill_all(\@lock, @lock[0, 3]), @m);
};

subtest 'before the tool' => sub {
	my $lock = hold('LOCK TABLE counting.effects IN EXCLUSIVE MODE');
	my @m = begin('early');
	ok $o->run(sub { waiting_for('tool_run') == 2 }, 10), 'the moment comes';
	ended_ok(kill_all([$lock], $lock), @m);
};

quiet_ok($o, $pg, 'all of them', $LEASE + 5);
my ($longest) = sort { $b <=> $a } @took;
figure sprintf 'the longest time from a kill to the answer: %.1f s', $longest;
is $t->pool->sickness, '', 'the workers were well';
done_testing;
