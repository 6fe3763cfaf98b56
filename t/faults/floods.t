# Floods: headers and parameters without end, records that are nothing to us, connections by the thousand, bytes after
# the end of a request.  One worker puts up with each for a bounded time and at a bounded price; honest users are served
# meanwhile, and nothing is left of it afterwards.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Select;
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;
use Parley::Hurt;

my $SECONDS = pick(0.3, 3);		# of each flood that the worker does not end
my $t = faults_test(workers => 1, conf => { 'client.read_timeout' => '2 s', 'limits.user_turns' => 0 });
my @pids = $t->pids;
my $socket = $t->pool->socket;
my $all = Parley::Hurt->measure($t);
my $quiet = honest($t, pick(30, 200));
my $m = Parley::Hurt->measure($t);

# -- FastCGI peers, straight on the worker's socket --

my $B = \&Parley::Hurt::begin;
my $P = \&Parley::Hurt::pairs;
my $MB = 1 << 20;
my $health = [[REQUEST_METHOD => 'GET'], [REQUEST_URI => '/api/health']];
my $post = [[REQUEST_METHOD => 'POST'], [REQUEST_URI => '/api/chat'], [CONTENT_TYPE => 'application/json']];

# A content in records, as large as they can be.
sub records { my ($type, $id, $content) = @_; return map { record($type, $id, $_) } unpack '(a65535)*', $content }

# name => [what is sent first, and what then for as long as it is taken]
my %flood = (
	'a long name' => [$B->() . record(4, 1, pack('NN', 0xffffffff, 1 << 31) . 'x' x 1000), record(4, 1, 'x' x 60000)],
	'a long value' => [$B->() . record(4, 1, pack('CN', 1, 0xffffffff) . 'x' x 1000), record(4, 1, 'x' x 60000)],
	'many parameters' => [$B->() . join('', records(4, 1, $P->(map { ["N$_" => 'v'] } 1 .. 20_000)))],
	'empty names' => [$B->(), record(4, 1, "\0\0" x 30_000)],
	'16 MiB of parameters' => [$B->() . join('', records(4, 1, $P->(map { ["N$_" => 'v' x 65_000] } 1 .. 250)))],
	'parameters that end early' => [$B->() . record(4, 1, pack('CC', 10, 10) . 'x') . record(4, 1, '') . record(5, 1, '')],
	'parameters in pieces of a byte' => [$B->() . join('', map { record(4, 1, $_, 255) } split //,
	    $P->(map { ["N$_" => 'v' x 200] } 1 .. 240))],
	'an unknown kind' => [$B->(), record(42, 1, 'x' x 65_000)],
	'an unknown kind, empty' => [$B->(), record(42, 1, '', 0) x 8000],
	'another id' => [$B->(), record(4, 2, 'x' x 65_000)],
	'padding' => [$B->(), record(42, 1, '', 255) x 200],
	'many ids' => [$B->(), join '', map { $B->($_) } 2 .. 4000],
	'the same id' => [$B->(), $B->() x 4000],
	'no beginning' => ['', record(5, 1, 'x' x 65_000)],
	'aborts' => [$B->(), record(2, 1, '') x 8000],
	'aborts of others' => [$B->(), record(2, 7, '') x 8000],
	'a body too early' => [$B->(), record(5, 1, 'x' x 65_000)],
	'a body without end' => [$B->() . record(4, 1, $P->(@$post, [CONTENT_LENGTH => 60_000])) . record(4, 1, ''),
	    record(5, 1, ' ' x 65_000)],
	'a body of no length' => [$B->() . record(4, 1, $P->(@$post)) . record(4, 1, ''), record(5, 1, ' ' x 65_000)],
	'a body in pieces of a byte' => [$B->() . record(4, 1, $P->(@$post, [CONTENT_LENGTH => 60_000])) . record(4, 1, ''),
	    record(5, 1, ' ', 255) x 2000],
	'more than was said' => [$B->() . record(4, 1, $P->(@$post, [CONTENT_LENGTH => 1])) . record(4, 1, ''), record(5, 1, ' ' x 65_000)],
	'management records' => [record(9, 0, $P->([FCGI_MPXS_CONNS => ''])) x 8000],
	'another version' => ["\x02\x01\0\1\0\0\0\0" x 8000],
	'a role of its own' => [record(1, 1, pack 'nCx5', 77, 1) . record(4, 1, '') . record(5, 1, ''), $B->() x 100],
	'noise' => [join '', map { chr int rand 256 } 1 .. 200_000],
	'after the end' => [Parley::Hurt::health(1), record(42, 1, 'x' x 65_000)],
);
my @during;
for my $name (sort keys %flood) {
	my ($first, $then) = @{$flood{$name}};
	srand 7;
	$m->restart;
	# A connection that the worker has closed is made again: the flood goes on.
	my $attack = attack(sub {
		my ($over) = @_;
		my ($until, $closed) = (time + $SECONDS, 0);
		while (time < $until && !$over->()) {
			my $peer = Parley::Hurt::peer($socket);
			$peer->blocking(0);
			next unless sent($peer, $first, 4);
			1 while defined $then && length $then && time < $until && sent($peer, $then, 4);
			sysread $peer, my $answer, 65536;
		}
	});
	my $took = Parley::Hurt::honest_while($t, sub { $attack->running });
	cmp_ok $took->[-1], '<', 5000, sprintf '%s: honest turns took %.0f ms at most', $name, $took->[-1];
	$m->bounded($name, 32);
	push @during, @$took;
}
compare('FastCGI floods', $quiet, [sort { $a <=> $b } @during]);

subtest 'one connection cannot go on for ever' => sub {
	for my $name ('an unknown kind', 'an unknown kind, empty', 'another id', 'many ids', 'padding', 'no beginning') {
		my ($first, $then) = @{$flood{$name}};
		my $peer = Parley::Hurt::peer($socket);
		my ($since, $bytes) = (time, 0);
		$peer->blocking(0);
		if (sent($peer, $first, 4)) {
			$bytes += length $then while sent($peer, $then, 1) && time - $since < 8;
		}
		cmp_ok time - $since, '<', 6, sprintf '%s: cut after %.1f s and %d KiB', $name, time - $since, $bytes / 1024;
	}
};

# -- connections --

subtest 'connections that come and go' => sub {
	my $n = pick(1500, 20_000);
	for my $where ('the worker', 'nginx') {
		$m->restart;
		my $attack = attack(sub {
			my ($over) = @_;
			for my $i (1 .. $n) {
				last if $over->();
				my $c = $where eq 'nginx' ? Parley::Client->connect($t->nginx->port)->sock : Parley::Hurt::peer($socket);
				syswrite $c, substr($where eq 'nginx' ? "GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n" : Parley::Hurt::health(1),
				    0, $i % 60) if $i % 3;
				shutdown $c, $i % 2 if $i % 5 == 0;
				CORE::close($c);
			}
		});
		my $took = Parley::Hurt::honest_while($t, sub { $attack->running });
		compare("$n connections to $where", $quiet, $took);
		$m->bounded("$n connections to $where", 32);
	}
};

subtest 'half-closed connections' => sub {
	my @half = map { Parley::Hurt::peer($socket) } 1 .. 200;
	sent($_, Parley::Hurt::health(1)), shutdown $_, 1 for @half;
	compare('200 half-closed', $quiet, honest($t, 20));
	my $answered = grep { my $in = ''; 1 while IO::Select->new($_)->can_read(5) && sysread $_, $in, 65536, length $in; $in =~ /"status"/ } @half;
	cmp_ok $answered, '>=', 0, "$answered of them are answered";
};

# -- through nginx --

sub head { return join '', "GET /api/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", @_, "\r\n" }

subtest 'headers' => sub {
	my %head = (
		'200 headers' => [head(map { "X-H$_: v\r\n" } 1 .. 200), qr/^200$/],
		'300 headers' => [head(map { "X-H$_: v\r\n" } 1 .. 300), qr/^4\d\d$/],
		'4,000 headers' => [head(map { "X-H$_: v\r\n" } 1 .. 4000), qr/^4\d\d$/],
		'one header 200 times' => [head("X-H: v\r\n" x 200), qr/^[24]\d\d$/],
		'60 KiB in four headers' => [head(map { "X-H$_: " . 'v' x 15_000 . "\r\n" } 1 .. 4), qr/^[24]\d\d$/],
		'a header of 1 MB' => [head('X-H: ' . 'v' x 1_000_000 . "\r\n"), qr/^4\d\d$/],
		'an address of 1 MB' => ['GET /api/health?' . 'q' x 1_000_000 . " HTTP/1.1\r\nHost: a\r\n\r\n", qr/^4\d\d$/],
		'names of parameters' => [head(map { "$_: v\r\n" } qw(Content-Length-X Script-Filename Request-Method Https Auth-Type
		    Remote-User Document-Root Gateway-Interface)), qr/^200$/],
	);
	$m->restart;
	for my $name (sort keys %head) {
		my ($text, $want) = @{$head{$name}};
		my $answer = $t->raw($text, 20);
		my ($status) = $answer =~ m{^HTTP/1\.1 (\d+)};
		like $status // 'none', $want, "$name: " . ($status // 'none');
		like $answer, qr/"error_code":"\w+"/, '... in our shape' if ($status // 0) >= 400;
	}
	my $flood = $head{'300 headers'}[0];
	my $attack = attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS;
		$t->raw($flood, 20) while time < $until && !$over->();
	});
	compare('header floods', $quiet, Parley::Hurt::honest_while($t, sub { $attack->running }));
	$m->bounded('header floods', 32);
};

subtest 'junk behind a request' => sub {
	my $attack = attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS;
		while (time < $until && !$over->()) {
			my $c = Parley::Client->connect($t->nginx->port, 10);
			my $get = "GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n";
			$c->write($get x 50 . "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{{{{{GARBAGE\r\n\r\n" . "\0\xff" x 5000);
			eval { $c->slurp };
			my $p = Parley::Hurt::peer($socket);
			$p->blocking(0);
			sent($p, Parley::Hurt::health(1) x 20 . "\xff" x 5000, 2);
		}
	});
	$m->restart;
	compare('pipelined junk', $quiet, Parley::Hurt::honest_while($t, sub { $attack->running }));
	$m->bounded('pipelined junk', 32);
};

$all->given_back('floods', 32);
well($t, \@pids, 'floods');
done_testing;
