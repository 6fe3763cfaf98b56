# Workers that die all the time, and who replaces them: no answer without shape, no effect without its result.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Process;
use Parley::Test;

sub wait_for { &Parley::Process::wait_for }

my %conf = ('turn.lease' => '3s');
my $pg = Parley::Postgres->new;

subtest 'workers that die all the time' => sub {
	my $p = Parley::Test->new(pg => $pg, model => Parley::Model->new(delay => 20), workers => 3, conf => \%conf);
	my (%got, %conversation, $n);
	my $until = time + 4;

	while (time < $until) {
		my @begun = map {
			my $user = "user-$_";
			$n++;
			[$user, $p->begin_chat($user, "add task: item $n of $user",
			    $conversation{$user} ? (conversation_id => $conversation{$user}) : ())];
		} 1 .. 12;
		sleep rand 0.15;
		my @pids = $p->pids;
		$p->kill_worker($pids[rand @pids]) if @pids;
		for (@begun) {
			my ($user, $c) = @$_;
			my $r = $c->response;
			$got{$r->{status}}++;
			push @{$got{shapeless}}, $r->{body} unless $r->{json} && ($r->{status} == 200 || $r->{json}{error_code});
			$conversation{$user} = $r->{json}{conversation_id} if $r->{status} == 200;
			# One that will be busy for a while is left alone.
			delete $conversation{$user} if $r->{status} != 200;
		}
		$p->ready;
	}
	note join ', ', map { "$got{$_} times $_" } grep { /^\d+$/ } sort keys %got;
	is $got{shapeless}, undef, 'every answer has a shape';
	is_deeply [grep { /^\d+$/ && !/^(200|409|50[0234])$/ } keys %got], [], 'and a status that was to be expected';
	cmp_ok $got{200}, '>', 20, 'most went well';

	my $made = q{SELECT user_id || ' ' || (result ->> 'task_id') || ' ' || (result ->> 'title') FROM parley.tool_calls
	    WHERE user_id ~ '^user-' AND tool_name = 'add_task' AND NOT is_error AND result IS NOT NULL};
	my $there = q{SELECT user_id || ' ' || id || ' ' || title FROM tasks.tasks WHERE user_id ~ '^user-'};
	is $pg->one("SELECT count(*) FROM (($made EXCEPT ALL $there) UNION ALL ($there EXCEPT ALL $made)) x"), 0,
	    'each task has the one call that made it, each result its task';
	is $pg->one(q{SELECT count(*) FROM parley.turns t WHERE state = 'done' AND
	    (SELECT role || calls FROM parley.messages m WHERE (m.user_id, m.conversation_id, m.turn, m.run) =
	        (t.user_id, t.conversation_id, t.turn, t.run) ORDER BY idx DESC LIMIT 1) <> 'assistant0'}), 0,
	    'what is done ends with an answer';
	is $pg->one(q{SELECT count(*) FROM parley.turns t WHERE NOT EXISTS (SELECT FROM parley.messages m
	    WHERE (m.user_id, m.conversation_id, m.turn, m.run, m.idx) = (t.user_id, t.conversation_id, t.turn, t.run, 0))}), 0,
	    'no turn without its message';
	# What was begun by those who died is finished by those who live.
	my $live = q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued') AND user_id ~ '^user-'};
	note $pg->one($live) . ' turns are live at the end';
	ok wait_for(sub { !$pg->one($live) }, 10), 'nothing is left running when the leases are out';
	is_deeply $pg->rows(q{SELECT error_code, count(*) FROM parley.turns WHERE state = 'failed'
	    AND error_code <> 'turn_abandoned' GROUP BY 1}), [], 'no turn has failed, but for those that met death three times';
	cmp_ok $pg->one(q{SELECT count(*) FROM parley.turns WHERE attempts > 1 AND state = 'done'}), '>', 0,
	    'some were finished by another';
};

subtest 'a parent that restarts with patience' => sub {
	my $p = Parley::Test->new(pg => $pg, how => 'listen', workers => 2, conf => \%conf);
	for my $n (1 .. 4) {
		my ($victim) = sort { $b <=> $a } $p->pids;		# the newest
		$p->kill_worker($victim);
		ok wait_for(sub { my @now = $p->pids; @now == 2 && !grep { $_ == $victim } @now }, 10), "death $n: replaced";
		is $p->get('/api/health', token => undef)->{status}, 200, '... while the other serves';
	}
	my @delays = map { $_->{restart_in_ms} } grep { $_->{event} eq 'worker_died' } $p->log;
	is scalar @delays, 4, 'each death is logged';
	cmp_ok $delays[-1], '>=', 4 * $delays[0], "the pauses grow: @delays";
};

done_testing;
