# Ten thousand idle streams: half of them wait for a model that thinks, half follow a turn that somebody else began.
# What one costs in memory, and how others are served meanwhile; in the end all are told, and all is given back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Select;
use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;
use Parley::Hurt;
use Parley::Turns ();

my $N = pick(300, 10_000);
my ($limit) = `sh -c 'ulimit -Hn'` =~ /^(\d+)/;
$N = int($limit / 2) - 500 if $limit && $N > $limit / 2 - 500;
my $thinks = pick(6, 60);		# seconds
my $t = faults_test(workers => pick(2, 4), scripts => { thinks => 'wait ' . 1000 * $thinks . "\n" . text_reply('Done.') }, conf => {
	'model.first_byte_timeout' => '120 s', 'model.idle_timeout' => '120 s', 'model.call_timeout' => '120 s',
	'turn.deadline' => '150 s', 'turn.lease' => '15 s' });
my @pids = $t->pids;
my $quiet = honest($t, pick(30, 200));
my $m = Parley::Hurt->measure($t);

# Resident memory of all workers that is their own, in KiB.
sub memory {
	my $sum = 0;
	for my $pid (@pids) {
		open my $f, '<', "/proc/$pid/smaps_rollup" or next;
		$sum += /^Private_\w+:\s+(\d+) kB/ ? $1 : 0 while <$f>;
	}
	return $sum;
}

my ($since, $before) = (time, memory());
my (@c, @id);
for my $i (1 .. $N / 2) {
	push @c, $t->begin('POST', '/api/chat', { message => 'script:thinks please', stream => JSON::XS::true }, user => "thinker-$i");
	# The first ten are followed by the other half.
	next if $i != 10;
	ok wait_for(sub { @id = @{$t->pg->rows(q{SELECT user_id, conversation_id, turn FROM parley.turns
	    WHERE user_id ~ '^thinker' AND state = 'running'})}; @id == 10 }, 10), 'ten turns run';
}
push @c, map { my $to = $id[$_ % 10]; Parley::Turns::follow($t, @$to{qw(user_id conversation_id turn)}) } 1 .. $N / 2;
my $running = sub { $t->pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id ~ '^thinker' AND state = 'running'}) };
my $all = wait_for(sub { $running->() == int($N / 2) }, $thinks / 2);
my $took = time - $since;
SKIP: {
	skip 'too slow a machine: the first have ended before the last began', 1 unless $all;
	ok $all, sprintf '%d streams are open after %.1f s', scalar @c, $took;
}
my $now = memory();
figure sprintf '%d idle streams, opened in %.1f s: %.1f KiB each, turns in flight and followers alike', scalar @c, $took, ($now - $before) / @c;
SKIP: {
	skip 'a sanitizer has memory of its own', 1 if sanitized();
	cmp_ok(($now - $before) / @c, '<', 64, 'memory for each has a bound');
}
compare(@c . ' idle streams', $quiet, honest($t, pick(40, 300)));

my %end;
for my $c (@c) {
	my $last = 'none';
	while (my $e = $c->event) {
		$last = $e->{event};
	}
	$end{$last}++;
	$c->close;
}
is_deeply \%end, { done => scalar @c }, 'all are told the end';
$m->bounded(@c . ' idle streams', 32 + @c / 16);
$m->given_back('idle streams', 32 + @c / 50, pick(200, 4100));
well($t, \@pids, 'idle streams');
done_testing;
