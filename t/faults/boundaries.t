# A worker is killed at each boundary of a turn's steps, one by one, at moments made certain by the model's script,
# by a slow tool, or by a lock that the test holds in the database.  Another worker goes on after the last commit: a stored
# message is not asked for again, a finished tool does not run again, one whose transaction was lost runs for the first time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;

my $call = sub { call_reply(count_once => { label => $_[0], @_ > 1 ? (seconds => $_[1]) : () }) };
my $end = text_reply('All ', 'done.');
my $t = faults_test(workers => 2, scripts => {
	begin => $end,
	first => "hang\n---\n$end",
	between => text_reply('Half a ', 20000, 'word') . "---\n$end",
	stored => $call->('stored') . "---\n$end",
	lost => join("---\n", $call->('lost'), $call->('lost'), $end),
	inside => $call->('inside', 2.5) . "---\n$end",
	after => $call->('after') . "---\nhang\n---\n$end",
	end => $end,
	second => $call->('second') . "---\n" . text_reply('One and ', 20000, 'two') . "---\n$end",
});
my ($pg, $model) = ($t->pg, $t->model);
my $o = Parley::Observer->new($t, patience => 40);
my @took;

# A lock that makes a statement of the turn wait until it is given back.
sub hold {
	my ($sql, @bind) = @_;
	my $db = $pg->dbh;
	$db->begin_work;
	$db->do($sql, undef, @bind);
	return $db;
}
sub waits { my ($like) = @_; return $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ ?}, $like) }
sub asked { my ($name) = @_; return scalar grep { ($_->{script} // '') eq $name } $model->requests }

# The one that the model or the database has a connection of, as the others are idle: kill all that may run it.
sub kill_all {
	my @pids = $t->pids;
	$t->kill_worker($_) for @pids;
	return time;
}

# when: true as soon as the moment has come; requests: how often the model may have been asked; effects: how often the tool may have acted.
sub killed {
	my ($name, %at) = @_;
	subtest $name => sub {
		my $user = $at{script} . ($at{stream} ? '-stream' : '');
		$model->clear;
		my $locked = $at{lock} && $at{lock}->($user);
		my $m = $o->say(user => $user, text => "script:$at{script} please ($user)", key => $user, stream => $at{stream});
		ok $o->run(sub { $at{when}->($m) }, 10), 'the moment comes' or return diag $t->log_text;
		my $since = kill_all();
		if ($locked) {
			# What the dead one had sent must not arrive later: its connection ends with it.
			$pg->one(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'}) if $at{lost};
			$locked->rollback;
		}
		ok $o->run(sub { $m->{end} }, $LEASE + 9), 'it ends';
		my $took = time - $since;
		push @took, $took;
		is $m->{end}, 'done', '... well' or diag explain $m->{body};
		is $m->{body}{response}, 'All done.', '... with the whole answer';
		cmp_ok $took, '<', $LEASE + 5, sprintf '... %.1f s after the kill', $took;
		is asked($at{script}), $at{requests}, "the model was asked $at{requests} times";
		is $pg->one('SELECT count(*) FROM counting.effects WHERE user_id = ?', $user), $at{effects} // 0, 'the tool has acted ' . ($at{effects} // 0) . ' times';
		is $pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ?', $user), 1, 'one turn';
	};
}

my $messages = sub { hold('LOCK TABLE parley.messages IN EXCLUSIVE MODE') };
my $leases = sub { my ($m) = @_; return $pg->one('SELECT count(*) FROM parley.live WHERE user_id = ?', $m->{user}) };
my $stored = sub { my ($m) = @_; return $pg->one(q{SELECT count(*) FROM parley.messages WHERE user_id = ? AND role = 'assistant'}, $m->{user}) };

for my $stream (pick(1, 0) ? 1 : (0, 1)) {
	my $with = $stream ? ' (streamed)' : '';
	killed("while the message is stored$with", script => 'begin', stream => $stream, lock => $messages,
	    when => sub { waits('turn_begin') }, requests => 1);
	killed("before the first delta$with", script => 'first', stream => $stream,
	    when => sub { asked('first') }, requests => 2);
	killed("between deltas$with", script => 'between', stream => $stream,
	    when => sub { asked('between') && $leases->($_[0]) }, requests => 2);
	killed("while the step is stored, which is lost$with", script => 'lost', stream => $stream, lost => 1,
	    lock => sub { hold('LOCK TABLE parley.tool_calls IN EXCLUSIVE MODE') },
	    when => sub { waits('turn_step') }, requests => 3, effects => 1);
	killed("after the assistant's message, before its tool$with", script => 'stored', stream => $stream,
	    lock => sub { hold('LOCK TABLE counting.effects IN EXCLUSIVE MODE') }, lost => 1,
	    when => sub { waits('tool_run') }, requests => 2, effects => 1);
	killed("inside the tool's transaction$with", script => 'inside', stream => $stream,
	    when => sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) }, requests => 2, effects => 1);
	killed("after the tool$with", script => 'after', stream => $stream,
	    when => sub { asked('after') == 2 }, requests => 3, effects => 1);
	killed("in the second step, between deltas$with", script => 'second', stream => $stream,
	    when => sub { asked('second') == 2 && $leases->($_[0]) }, requests => 3, effects => 1);
	killed("while the end is stored, which arrives$with", script => 'end', stream => $stream,
	    lock => sub { hold('LOCK TABLE parley.live IN EXCLUSIVE MODE') },
	    when => sub { waits('turn_end') }, requests => 1);
}

quiet_ok($o, $pg, 'all of them', $LEASE + 5);
my ($longest) = sort { $b <=> $a } @took;
figure sprintf 'the longest time from a kill to the answer: %.1f s', $longest;
is $t->pool->sickness, '', 'the workers were well';
done_testing;
