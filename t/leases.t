# Leases: a worker that was stopped, one that leaves, a database that has forgotten them all, and the deadline.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Test;
use Parley::Turns;

my $add = call_reply(add_task => { title => 'Once' });
my $model = Parley::Model->new(scripts => {
	(map { $_ => join("---\n", text_reply('Well, ', 30000, 'was away.'), text_reply('I am ', 'another.')) } qw(pause pause2)),
	crashed => text_reply('I ', 4500, 'never left.'),
	drained => join("---\n", $add, text_reply('Half ', 30000, 'x'), text_reply('Whole.')),
	late => "hang\n",
});
my $pg = Parley::Postgres->new;
my %conf = ('turn.lease' => '3s', 'model.retries' => 0);
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => \%conf);
my $other = beside($t, conf => \%conf);
my $true = JSON::XS::true;

sub row { return $pg->rows('SELECT * FROM parley.turns WHERE conversation_id = ? AND turn = 1', $_[0])->[0] }
sub asked { my ($script) = @_; return grep { ($_->{script} // '') eq $script } $model->requests }
sub tasks { return $pg->one('SELECT count(*) FROM tasks.tasks WHERE user_id = ?', $_[0]) }
sub asked_ok {
	my ($script, $n) = @_;
	return scalar wait_for { asked($script) >= $n } 15;
}

subtest 'a worker that is stopped for longer than its lease' => sub {
	my ($c, $id) = begun($t, 'pause', 'script:pause');
	my ($s, $ids) = begun($t, 'pause2', 'script:pause2', stream => $true);
	wait_for { speaks($pg, $id) && speaks($pg, $ids) };
	my ($pid) = $t->pids;
	kill 'STOP', $pid;
	expire($pg, $_) for $id, $ids;
	is turn($other, 'pause', $id, 1, 10)->{json}{status}, 'success', 'another finishes its turn';
	is turn($other, 'pause2', $ids, 1, 10)->{json}{status}, 'success', '... and the other';
	my $messages = sub { $pg->rows(q{SELECT user_id, idx, content, created_at FROM parley.messages
	    WHERE user_id LIKE 'pause%' ORDER BY 1, 2}) };
	my $was = $messages->();
	my $turns = $pg->rows(q{SELECT * FROM parley.turns WHERE user_id LIKE 'pause%' ORDER BY user_id});
	kill 'CONT', $pid;
	my $since = time;
	my $r = $c->response;
	cmp_ok time - $since, '<', 3, 'it wakes up, and its client is answered';
	is $r->{status}, 200, '... well' or diag $r->{body};
	my ($text) = map { $_->{content} } grep { $_->{user_id} eq 'pause' && $_->{idx} == 1 } @$was;
	is $r->{json}{response}, $text, '... with what the other has stored';
	my @e = events($s);
	is names(@e), 'turn delta reset delta done', 'its stream goes on after a reset';
	stream_ok('its stream', @e);
	sleep 1.2;
	is_deeply $messages->(), $was, 'it has written no message';
	is_deeply $pg->rows(q{SELECT * FROM parley.turns WHERE user_id LIKE 'pause%' ORDER BY user_id}), $turns, '... and no turn';
	is $t->chat('pause', 'Hello', conversation_id => $id)->{status}, 200, 'it serves others';
};

subtest 'a drain' => sub {
	my $drains = beside($t, conf => { %conf, 'worker.drain_timeout' => '300 ms' });
	my ($c, $id) = begun($drains, 'drain', 'script:drained', stream => $true);
	asked_ok('drained', 2);
	my @e = map { $c->event } 1 .. 4;
	my ($queued) = begun($drains, 'drain', 'My name is Dan', conversation_id => $id);
	my $wait = $drains->begin('GET', "/api/conversations/$id/turns/1?wait=20", undef, user => 'drain');
	my $f = follow($drains, 'drain', $id, 2);
	is $f->event->{event}, 'turn', 'somebody follows the next';
	my $since = time;
	kill 'TERM', $drains->pids;
	my $r = $queued->response;
	is "$r->{status} $r->{json}{status}", '202 queued', 'who waits in the queue is told to come back';
	$r = $wait->response;
	is "$r->{status} $r->{json}{status}", '200 running', 'who waits for the end as well';
	cmp_ok time - $since, '<', 2, '... at once';
	push @e, events($c);
	is names(events($f)), 'queued', 'who follows comes back by himself';
	is names(@e), 'turn tool_call tool_result delta', 'its stream ends without an end';
	my $gone = time;
	ok asked_ok('drained', 3), 'another worker has it';
	cmp_ok time - $gone, '<', 2, '... within 2 s';
	my @more = events(follow($other, 'drain', $id, 1, $e[-1]{id}));
	is said(@e, @more), 'Whole.', 'its client comes back for the rest';
	is names(@more), 'reset delta done', '... by a reset';
	my $row = row($id);
	is "$row->{state} $row->{attempts} $row->{run}", 'done 1 1', 'that was no failed attempt';
	is tasks('drain'), 1, 'its tool has run once';
	like turn($other, 'drain', $id, 2, 10)->{json}{response}, qr/Dan/, 'and the next is answered';
};

subtest 'a database that crashes' => sub {
	my ($c, $id) = begun($t, 'crash', 'script:crashed');
	wait_for { speaks($pg, $id) };
	my $fence = row($id)->{fence};
	$pg->restart('immediate');
	my $r = $c->response;
	is $r->{json}{response}, 'I never left.', 'its worker goes on' or diag $r->{body};
	my $row = row($id);
	is "$row->{state} $row->{fence} $row->{attempts}", "done $fence 1", '... and nobody takes it over';
	is scalar asked('crashed'), 1, '... nor asks again';
};

subtest 'the deadline counts from the first start' => sub {
	my %hasty = (%conf, 'turn.deadline' => '4 s');
	my @t = map { beside($t, conf => \%hasty) } 1, 2;
	my ($c, $id) = begun($t[0], 'late', 'script:late');
	my $since = time;
	sleep 1;
	$t[0]->kill_worker;
	$c->response;
	expire($pg, $id);
	my $r = turn($t[1], 'late', $id, 1, 10);
	my $took = time - $since;
	error_is($r, 200, 'turn_timeout', 'it ends');
	ok $took > 3.5 && $took < 5.5, '... when it had to' or diag $took;
	is scalar asked('late'), 2, '... after two workers have asked';
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
