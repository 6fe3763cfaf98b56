# Workers are killed (kill -9) at random moments while forty users write: plain, streamed, with tools, with a slow
# model, with and without Idempotency-Key.  What was accepted is answered or fails in words, once; no tool acts twice; soon
# after the last death all is quiet.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(time);

use Parley::Faults;

my $kills = pick(12, 200);
my $t = faults_test(workers => 4);
my $pg = $t->pg;
my $o = Parley::Observer->new($t, patience => 40);
my ($n, $killed, $next, @kills) = (0, 0, time + 0.5);

$o->run(sub {
	$o->say(mixed($n++)) while $o->waiting < 24;
	return $killed == $kills if time < $next;
	my @pids = $t->pids or return 0;
	$t->kill_worker($pids[rand @pids]);
	push @kills, time;
	$next = time + 0.2 + rand 0.6;
	return ++$killed == $kills;
}, 30 + $kills) or fail 'the kills take too long';
is $killed, $kills, "$killed workers were killed";

# The last ones may have been given a lease, waited it out, and then their time again.
my $quiet = quiet_ok($o, $pg, "$kills kills", $LEASE + 5 + 5);
# From the last death that a message has seen to its answer.
my @took = sort { $a <=> $b } map {
	my $m = $_;
	my ($last) = grep { $_ > $m->{began} && $_ < $m->{ended} } reverse @kills;
	$last ? $m->{ended} - $last : ();
} $o->messages;
cmp_ok $took[-1], '<', $LEASE + 5, 'no answer takes longer than the lease and 5 s from the last kill';
cmp_ok scalar(() = $o->ended('done')), '>', $n / 2, 'most went well';
is_deeply [grep { $_->{code} ne 'turn_abandoned' } $o->ended('error')], [],
    'no turn fails but one that was killed again and again';
my $taken = $pg->one('SELECT count(*) FROM parley.turns WHERE attempts > 1');
cmp_ok $taken, '>', 0, 'turns were taken over';
figure "$killed kills, $n messages, $taken turns taken over; ",
    sprintf 'from a kill to the answer %.1f s at most (%.1f s in the middle), quiet after %.1f s', $took[-1], $took[@took / 2],
    $quiet;
is $t->pool->sickness, '', 'the workers were well';
done_testing;
