# Slow SQL tools on every connection that tools may have: other turns go on, leases are renewed, and those who wait
# for a tool's connection get it in the end.  When all connections are taken, new requests hear 503 after database.wait.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;

my $t = faults_test(workers => 1, conf => { 'database.connections' => 6, 'database.wait' => '2 s', 'turn.deadline' => '40 s' });
my $pg = $t->pg;
my $o = Parley::Observer->new($t, patience => 40);
my $sleeping = sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) };

# Longer than a lease: the pulse is not held up by them.
my $slow = $LEASE + 1.5;
my @slow = map { $o->say(user => "slow-$_", text => qq(bench:call count_once {"label":"s$_","seconds":$slow}),
    stream => $_ % 2) } 1 .. 6;
ok $o->run(sub { $sleeping->() >= 2 }, 10), 'slow tools run';
my @quick;
my $next = time;
$o->run(sub {
	if (time > $next) {
		push @quick, $o->say(user => 'quick', text => 'bench or ' . @quick), $o->say(user => 'tools',
		    text => 'add task: nr ' . @quick);
		$next = time + 0.2;
	}
	return !grep { !$_->{end} } @slow;
}, 30);
is scalar($o->finish(20)), 0, 'all have an end';
is_deeply [grep { $_->{end} ne 'done' } @slow], [], 'the slow ones a good one' or diag explain [map { $_->{body} } @slow];
my @plain = grep { $_->{user} eq 'quick' } @quick;
is_deeply [grep { $_->{end} ne 'done' } @plain], [], scalar(@plain) . ' others went on meanwhile';
my ($max) = sort { $b <=> $a } map { $_->{took} } @plain;
cmp_ok $max, '<', 2, '... without waiting';
is $pg->one('SELECT max(attempts) FROM parley.turns'), 1, 'no lease was lost';
figure sprintf '%d turns beside slow tools: the slowest took %.2f s', scalar @plain, $max;

subtest 'every connection is taken' => sub {
	# Half of them is all that one user can take.
	my @two = map { $o->say(user => $_, text => 'hello') } qw(frank fred);
	is scalar($o->finish(5)), 0, 'two conversations';
	# Each beginning waits for the lock of its conversation, and holds its connection.
	my $db = $pg->dbh;
	$db->begin_work;
	$db->do('SELECT FROM parley.conversations WHERE id = ANY (?) FOR UPDATE', undef, [map { $_->{conversation_id} } @two]);
	my @wait = map { my $n = $_; map { $o->say(user => $_->{user}, text => "I wait $n", conversation_id => $_->{conversation_id},
	    key => "wait-$n") } @two } 1 .. 4;
	ok $o->run(sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'}) >= 6 }, 5),
	    'they have all connections';
	my $since = time;
	my $c = $t->begin_chat('grace', 'is there room?');
	$o->run(sub { IO::Select->new($c->sock)->can_read(0) }, 10);
	my $took = time - $since;
	my $r = $c->response;
	is "$r->{status} " . ($r->{json}{error_code} // ''), '503 database_unavailable', 'no connection is free: told so'
	    or diag $r->{body};
	ok $r->{headers}{'retry-after'}, '... and when to come back';
	cmp_ok $took, '<', 3.5, sprintf '... after database.wait (%.1f s)', $took;
	$db->rollback;
	is scalar($o->finish(20)), 0, 'when they are free again, all are served';
	is_deeply [grep { $_->{end} ne 'done' } @wait], [], '... well';
	is $t->chat('grace', 'and now?')->{status}, 200, '... and new ones';
};

quiet_ok($o, $pg, 'slow tools', $LEASE + 5);
is $t->pool->sickness, '', 'the workers were well';
done_testing;
