# The whole pool is restarted again and again under load, with one second to drain: no turn is lost, and no client
# sees a 5xx other than 503 with Retry-After.  Released turns are taken by another worker within two seconds.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(time);

use Parley::Contract;
use Parley::Faults;

my $seconds = pick(8, 60);
my $t = faults_test(workers => 3, conf => { 'worker.drain_timeout' => '1 s' },
    scripts => { longer => text_reply('This ', map { (250, "and $_ ") } 1 .. 6) });
my $pg = $t->pg;
my $o = Parley::Observer->new($t, patience => 40);
my ($n, $next, $restarts, $steps, @old, %told) = (0, time + 1, 0, 0);

sub restart {
	$told{$_} = kill 'TERM', $_ for @_;
}

$o->run(sub {
	while ($o->waiting < 24) {
		$o->say(mixed($n), $n % 6 == 4 ? (text => "script:longer please $n") : ());
		$n++;
	}
	# multiwatch starts another for each that ends.
	restart(shift @old) if @old && time > $next - 2 + 0.3 * $steps && $steps++;
	return 0 if time < $next;
	# Who drains already must not be hurried by a second SIGTERM.
	@old = grep { !$told{$_} } $t->pids;
	$steps = 1;
	# One after another, or all at once: then new requests wait for the new workers.
	restart(splice @old) if $restarts++ % 2;
	$next = time + 2;
	return 0;
}, $seconds);

my $quiet = quiet_ok($o, $pg, "$restarts restarts", $LEASE + 8);
is_deeply [$o->ended('error')], [], 'no turn fails';
is_deeply [map { $_->{number} } $o->ended('unknown')], [], 'nobody is left without a word';
my @bad = grep { /^(?:GET|POST) 5/ && !/ 503 / } keys %{$o->count};
is_deeply \@bad, [], 'no 5xx but 503' or diag explain $o->count;
is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state <> 'done'}), 0, 'every turn is done';
is $pg->one('SELECT max(attempts) FROM parley.turns'), 1, 'a release is no failed attempt';
my $slow = (sort { $b <=> $a } map { $_->{took} } grep { $_->{text} =~ /longer/ } $o->ended('done'))[0];
figure sprintf '%d restarts of the pool in %d s, %d messages; the slowest took %.1f s (a turn of 1.5 s: %.1f s)', $restarts,
    $seconds, $n, $o->slowest, $slow // 0;
is $t->pool->sickness, '', 'the workers were well';
done_testing;
