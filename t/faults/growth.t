# One worker serves turn after turn of the kinds that a fiber without a request runs or that somebody only follows: queued
# behind another, taken over, attached by a key, read as events.  Each gives back what it had: the second half adds nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use JSON::XS ();
use Test::More;

use Parley::Contract;
use Parley::Faults;
use Parley::Turns ();

plan skip_all => 'a sanitizer keeps what was given back' if sanitized();

my $rounds = pick(4, 20);		# of 100 turns; of both halves together
my $t = faults_test(workers => 1, scripts => { takes => text_reply('This takes ', 1500, 'a while.') });
my $pg = $t->pg;
my $true = JSON::XS::true;
my $bad = 0;
my $expire = q{INSERT INTO parley.live SELECT user_id, conversation_id, turn, fence, now() - interval '1 s'
    FROM parley.turns WHERE state = 'running'
    ON CONFLICT (user_id, conversation_id) DO UPDATE SET lease_until = excluded.lease_until};

# Resident memory of the worker that is its own, in KiB.
sub memory {
	my ($pid) = $t->pids;
	open my $f, '<', "/proc/$pid/status" or die "the worker: $!";
	my ($rss) = map { /^RssAnon:\s+(\d+) kB/ } <$f>;
	return $rss;
}

# Twenty conversations: a turn that is taken over while it runs, and four that wait for it.
sub round_of {
	my ($round) = @_;
	my (@c, $id);

	for my $n (1 .. 20) {
		my ($user, $stream) = ("user-$round-$n", $n % 2);
		my $body = { message => 'script:takes', stream => $stream ? $true : JSON::XS::false };
		my @first = ('POST', '/api/chat', $body, user => $user, headers => { 'Idempotency-Key' => 'key' });
		push @c, [$stream, $t->begin(@first)];
		wait_for(sub { ($id) = map { $_->{conversation_id} }
		    @{$pg->rows('SELECT conversation_id FROM parley.turns WHERE user_id = ?', $user)} }, 20);
		push @c, [1, Parley::Turns::follow($t, $user, $id, 1)];
		push @c, [$stream, $t->begin(@first)];
		push @c, map { [0, $t->begin_chat($user, "hello $_", conversation_id => $id)] } 1 .. 4;
	}
	$pg->do($expire);
	for (@c) {
		my ($stream, $c) = @$_;
		my $end = $stream ? (Parley::Turns::events($c))[-1]{event} : $c->response->{json}{status};
		$bad++ if $end !~ /^(?:done|success)$/;
	}
}

my @rss = (memory());
for my $round (1 .. $rounds) {
	round_of($round);
	push @rss, memory() if $round % ($rounds / 4) == 0;
}
is $bad, 0, 'all are answered';
cmp_ok $pg->one('SELECT count(*) FROM parley.turns WHERE attempts > 1'), '>', 0, 'turns were taken over';
cmp_ok $rss[4] - $rss[2], '<', 1024, 'the second half adds nothing to speak of' or diag "KiB: @rss";
figure sprintf '%d turns queued, followed, taken over by one worker: %d KiB at first, %d after one half, %d after both',
    $rounds * 100, @rss[0, 2, 4];
is $t->pool->sickness, '', 'the workers were well';
done_testing;
