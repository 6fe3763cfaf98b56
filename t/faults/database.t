# PostgreSQL crashes (stop -m immediate) and starts again under load.  While it is away requests get 503 database_unavailable
# with Retry-After within 3 s; when it is back everything heals without a restart, and nothing that was acknowledged is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Faults;

my $t = faults_test(workers => 3);
my $pg = $t->pg;
my $o = Parley::Observer->new($t, patience => 40);
my ($n, @refusal, @healed) = (0);
my @workers = sort $t->pids;

for my $away (pick(0, 1) ? (2, 6, 1, 10) : (1, 2)) {
	my $load = sub { $o->say(mixed($n++)) while $o->waiting < 20; return 0 };
	$o->run($load, pick(1, 3));
	$pg->stop('immediate');
	my $until = time + $away;
	while (time < $until) {
		my $r = $t->begin_chat("nobody-" . $n++, 'hello?');
		my $since = time;
		$o->run(sub { IO::Select->new($r->sock)->can_read(0) }, 10);
		push @refusal, time - $since;
		$r = $r->response;
		is "$r->{status} " . ($r->{json}{error_code} // $r->{body}), '503 database_unavailable',
		    sprintf 'while it is away: told so after %.2f s', $refusal[-1];
		like $r->{headers}{'retry-after'} // '', qr/^[1-9]\d*$/, '... and when to come back';
		cmp_ok $refusal[-1], '<', 3, '... in time';
		$o->run(undef, 0.3);
	}
	$pg->start;
	my $since = time;
	ok $o->run(sub { $o->{heal} //= $t->begin_chat('healed', "hello $n"); IO::Select->new($o->{heal}->sock)->can_read(0) },
	    10), 'it is back';
	is delete($o->{heal})->response->{status}, 200, '... and the next request is served';
	push @healed, time - $since;
	$o->run($load, 1);
}
quiet_ok($o, $pg, 'crashes', $LEASE + 10);
is_deeply [sort $t->pids], \@workers, 'no worker has ended';
my ($slowest) = sort { $b <=> $a } @refusal;
my ($healed) = sort { $b <=> $a } @healed;
figure sprintf '%d refusals, the slowest after %.2f s; served again %.2f s after the start', scalar @refusal, $slowest, $healed;
is $t->pool->sickness, '', 'the workers were well';
done_testing;
