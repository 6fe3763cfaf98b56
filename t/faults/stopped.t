# A worker that is stopped (kill -STOP) past its lease, while another finishes its turn: when it goes on (kill -CONT) it
# writes nothing, and its client gets the answer, or a clean end that can be attached to again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;

# The first asking ends long after the second, and would say something else.
my $stale = text_reply('From ', 7000, 'the past.');
my $fresh = text_reply('From ', 'the present.');
my $t = faults_test(workers => 1, scripts => {
	json => "$stale---\n$fresh", stream => "$stale---\n$fresh",
	tool => join("---\n", call_reply(count_once => { label => 'stopped', seconds => 1 }), text_reply('Counted.')),
});
my $pg = $t->pg;
# Its other pool takes over: the same data, another socket, so that the test knows who has which turn.
my $other = Parley::Test->new(pg => $pg, model => $t->model, workers => 1, conf => { 'turn.lease' => "$LEASE s" });
my $o = Parley::Observer->new($t, patience => 30);
my ($pid) = $t->pids;

sub rows { return $pg->rows(q{SELECT turn, run, idx, role, content FROM parley.messages WHERE user_id = ? ORDER BY 1, 2, 3},
    $_[0]) }
sub done { return $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = ? AND state = 'done'}, $_[0]) }

for my $round (1 .. pick(1, 4)) {
	$t->model->clear;
	my @m = map {
		$o->say(user => "$_-$round", text => "script:$_ please ($round)", stream => $_ eq 'stream' ? 1 : 0,
		    key => "$_-$round");
	} qw(json stream tool);
	ok $o->run(sub { $pg->one('SELECT count(*) FROM parley.live') >= 2
	    && !grep { !$pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ?', $_->{user}) } @m }, 8),
	    'three turns run';
	kill 'STOP', $pid;
	my $since = time;
	ok wait_for(sub { $o->run(undef, 0.1); !grep { !done($_->{user}) } @m }, $LEASE + 8), 'another worker finishes them';
	figure sprintf 'taken over and finished after %.1f s', time - $since;
	my @before = map { rows($_->{user}) } @m;
	sleep 1 while time - $since < 7;
	kill 'CONT', $pid;
	is scalar($o->finish(10)), 0, 'their clients all have an end';
	is_deeply [map { $_->{end} } @m], [('done') x 3], '... a good one' or diag explain [map { $_->{body} } @m];
	is $_->{body}{response}, 'From the present.', "... what the other said ($_->{text})" for @m[0, 1];
	$o->run(undef, 1);
	is_deeply [map { rows($_->{user}) } @m], \@before, 'the stopped one has written nothing';
	is $t->get('/api/conversations')->{status}, 200, '... and serves others';
}
quiet_ok($o, $pg, 'a stopped worker', $LEASE + 5);
is $_->pool->sickness, '', 'the workers were well' for $t, $other;
done_testing;
