# Hundreds of clients that ask for a stream and do not read it: each is cut after client.write_timeout, their turns
# are done and stored whole, the workers' memory has a bound, and other turns go on meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Select;
use Socket;
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;

my $N = pick(60, 500);
my $pieces = 150;			# of 4000 characters: more than sockets and nginx hold
my $delta = '{"choices":[{"index":0,"delta":{"content":"' . 'x' x 4000 . '"}}]}';
my $t = faults_test(workers => 2, scripts => { flood => "repeat $pieces data $delta\n" . text_reply('End') },
    # The kernel would take megabytes for each.
    settings => sub { s/backlog=4096;/backlog=4096 sndbuf=16k;/ or die 'no listen' },
    conf => { 'client.write_timeout' => '1 s', 'model.max_answer' => '2 MiB', 'turn.deadline' => '90 s' });
my $pg = $t->pg;
my $o = Parley::Observer->new($t, patience => 40);

# Resident memory of all workers that is their own, in KiB.
sub memory {
	my $sum = 0;
	for my $pid ($t->pids) {
		open my $fh, '<', "/proc/$pid/smaps_rollup" or next;
		$sum += /^Private_\w+:\s+(\d+) kB/ ? $1 : 0 while <$fh>;
	}
	return $sum;
}

my $before = memory();
my $since = time;
my @still = map {
	my $c = $t->begin('POST', '/api/chat', { message => 'script:flood please', stream => JSON::XS::true },
	    user => "still-$_");
	setsockopt $c->sock, SOL_SOCKET, SO_RCVBUF, 4096;
	$o->run(undef, 0.01);
	$c;
} 1 .. $N;
my ($peak, $next, @quick) = (0, time);
my $done = sub { $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id ~ '^still' AND state = 'done'}) };
ok $o->run(sub {
	return 0 if time < $next;
	$next = time + 0.25;
	my $now = memory();
	$peak = $now if $now > $peak;
	push @quick, $o->say(user => 'quick', text => 'bench number ' . @quick);
	return $done->() == $N;
}, 60), "$N turns are done, though nobody reads" or diag $done->() . ' of them';
my $took = time - $since;
is scalar($o->finish(10)), 0, 'others are served meanwhile';
is_deeply [grep { $_->{end} ne 'done' } @quick], [], '... well';
my ($max) = sort { $b <=> $a } map { $_->{took} } @quick;
is $pg->one(q{SELECT count(*) FROM parley.messages WHERE user_id ~ '^still' AND role = 'assistant' AND length(content) = ?},
    $pieces * 4000 + 3), $N,
    'each answer is stored whole';
SKIP: {
	skip 'a sanitizer keeps what was given back', 1 if sanitized();
	cmp_ok(($peak - $before) / $N, '<', 6 * 1024, 'memory has a bound');
}
figure sprintf '%d readers that do not read: all turns done after %.1f s, %d KiB a turn at most; others waited %.2f s at most',
    $N, $took, ($peak - $before) / $N, $max;

# What one finds that reads at last, which a small window makes slow: the rest is not there, and no end.
my $whole = 0;
for my $c (splice @still, 0, 1) {
	my $last = '';
	setsockopt $c->sock, SOL_SOCKET, SO_RCVBUF, 1 << 20;
	while (my $e = eval { $c->event }) {
		$last = $e->{event};
	}
	$whole++ if $last eq 'done';
	$c->close;
}
is $whole, 0, 'the stream was cut';
$_->close for @still;
quiet_ok($o, $pg, 'slow readers', $LEASE + 5);
is $t->pool->sickness, '', 'the workers were well';
done_testing;
