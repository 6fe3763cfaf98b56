# Slowness on every side: clients that send or read a byte now and then, FastCGI peers that stop in the middle, model and
# MCP servers that trickle or never end, a database whose answers come byte by byte.  Each has its deadline, nobody else
# waits for them, and nothing of them is left.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Select;
use JSON::XS ();
use Socket;
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;
use Parley::Hurt;
use Parley::Proxy;
use Parley::Turns ();

my $SECONDS = pick(1.5, 20);
my $TRUE = JSON::XS::true;

sub delta { return 'data: {"model":"m","choices":[{"index":0,"delta":{"content":"' . $_[0] . '"}}]}' . "\n\n" }

sub drip {
	my ($sock, $text, $pause) = @_;
	for (split //, $text) {
		sent($sock, $_, 2) or return 0;
		sleep $pause;
	}
	return 1;
}

my $SSE = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
my %slow = (
	'says-nothing' => sub { sleep 30 },
	'head-in-bytes' => sub { drip($_[0], $SSE . 'X: ' . 'h' x 1000, 0.05) },
	'body-in-bytes' => sub { sent($_[0], "$SSE\r\n") && drip($_[0], delta('Slowly.') . "data: [DONE]\n\n", 0.005) },
	'trickles' => sub { sent($_[0], "$SSE\r\n") or return; 1 while sent($_[0], delta('x'), 2) && sleep 0.1 },
	'comments' => sub { sent($_[0], "$SSE\r\n") or return; 1 while sent($_[0], ": still here\n\n", 2) && sleep 0.1 },
	'line-in-bytes' => sub { sent($_[0], "$SSE\r\ndata: ") or return; drip($_[0], 'x' x 10_000, 0.05) },
	'stops' => sub { sent($_[0], "$SSE\r\n" . delta('Half')), sleep 30 },
	'never-closes' => sub { sent($_[0], "$SSE\r\n" . delta('All.') . "data: [DONE]\n\n"), sleep 30 },
	'error-in-bytes' => sub { sent($_[0], "HTTP/1.1 500 No\r\n\r\n") && drip($_[0], 'x' x 10_000, 0.05) },
	'long' => sub { my ($s) = @_; sent($s, "$SSE\r\n") && (!grep { !sent($s, delta('y' x 1000), 20) } 1 .. 300) &&
		sent($s, "data: [DONE]\n\n") && IO::Select->new($s)->can_read(2); },
);
my $model = server(sub {
	my ($sock, $head, $body) = @_;
	my ($name) = $body =~ /.*"content":"slow ([a-z-]+)/s;
	return $slow{$name}->($sock) && 0 if $name && $slow{$name};
	my $text = delta('Fine.') . "data: [DONE]\n\n";
	return sent($sock, "${SSE}Content-Length: " . length($text) . "\r\n\r\n$text");
});
my %conf = ('client.read_timeout' => '2 s', 'client.write_timeout' => '2 s', 'model.first_byte_timeout' => '2 s',
	'model.idle_timeout' => '2 s', 'model.call_timeout' => '5 s', 'model.retries' => 0, 'turn.deadline' => '30 s',
	'client.max_wait' => '25 s', 'limits.user_turns' => 0, 'database.connections' => 8);
my $t = faults_test(workers => 1, pg => { port => 1 }, model => $model->url . '/v1', conf => \%conf);
my @pids = $t->pids;
my $all = Parley::Hurt->measure($t);
my $quiet = honest($t, pick(30, 200));
my $m = Parley::Hurt->measure($t);

subtest 'clients' => sub {
	my $n = pick(200, 2000);
	$m->restart;
	my $attack = attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS;
		my $token = $t->token('slowly');
		my @c = map { {
			sock => Parley::Client->connect($t->nginx->port)->sock, at => 0,
			text => ($_ % 2 ? '' : "POST /api/chat HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer $token\r\n"
			    . "Content-Type: application/json\r\nContent-Length: 6000\r\n\r\n{\"message\":\"") . 'GET /' . 'x' x 5000,
		} } 1 .. $n;
		while (time < $until && !$over->()) {
			for my $c (@c) {
				$c->{at} += syswrite($c->{sock}, $c->{text}, $c->{at} ? 1 : length($c->{text}) - 5000, $c->{at}) // 0;
			}
			sleep 0.05;
		}
	});
	compare("$n clients that send a byte now and then", $quiet, Parley::Hurt::honest_while($t, sub { $attack->running }));
	$m->bounded("$n slow clients", 16);
};

subtest 'FastCGI peers' => sub {
	my $n = pick(200, 2000);
	my $text = Parley::Hurt::health(1);
	my $attack = attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS;
		my @c = map { [Parley::Hurt::peer($t->pool->socket), 0] } 1 .. $n;
		while (time < $until && !$over->()) {
			for my $c (@c) {
				next if $c->[1] > 40 && $c->[1] % 3 == 0;	# stops in the middle
				$c->[1] += syswrite($c->[0], $text, 1, $c->[1]) // 0 if $c->[1] < length $text;
			}
			sleep 0.01;
		}
	});
	$m->restart;
	compare("$n peers that send byte by byte", $quiet, Parley::Hurt::honest_while($t, sub { $attack->running }));
	$m->bounded("$n slow peers", 8 + $n / 50);

	my @stop = map { [$_, Parley::Hurt::peer($t->pool->socket)] } 0, 1, 7, 8, 12, 30, length($text) - 1;
	sent($_->[1], substr($text, 0, $_->[0]), 2) for @stop;
	my $since = time;
	for (@stop) {
		my ($at, $peer) = @$_;
		ok(scalar(IO::Select->new($peer)->can_read(8)), sprintf 'who stops after %d bytes is cut, after %.1f s', $at, time - $since);
	}
	my $peer = Parley::Hurt::peer($t->pool->socket);
	my $in = '';
	drip($peer, $text, 0.003);
	sysread $peer, $in, 65536, length $in while $in !~ /"status"/ && IO::Select->new($peer)->can_read(5);
	like $in, qr/"status":"ok"/, 'who is slow and in time is served';
};

subtest 'readers' => sub {
	my $n = pick(40, 300);
	$m->restart;
	my $attack = attack(sub {
		my ($over) = @_;
		my $until = time + $SECONDS + 3;
		my @c = map { my $c = $t->begin('POST', '/api/chat', { message => 'slow long', stream => $TRUE }, user => "reader-$_");
			setsockopt $c->sock, SOL_SOCKET, SO_RCVBUF, 4096; $c } 1 .. $n;
		while (time < $until && !$over->()) {
			sysread $_->sock, my $byte, 1 for grep { IO::Select->new($_->sock)->can_read(0) } @c;
			sleep 0.5;
		}
	});
	compare("$n readers of a byte now and then", $quiet, Parley::Hurt::honest_while($t, sub { $attack->running }));
	$m->bounded("$n slow readers", 16 + $n);
	ok wait_for(sub { $t->pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id ~ '^reader' AND state = 'done'}) == $n }, 20),
	    'their turns are done';
};

subtest 'models' => sub {
	my %want = (
		'says-nothing' => [qr/^error model_timeout/, 2], 'head-in-bytes' => [qr/^error model_timeout/, 2],
		'body-in-bytes' => [qr/^done success/, 0], 'trickles' => [qr/^error model_timeout/, 5],
		'comments' => [qr/^error model_timeout/, 5], 'line-in-bytes' => [qr/^error model_timeout/, 5],
		'stops' => [qr/^error model_timeout/, 2], 'never-closes' => [qr/^done success/, 0],
		'error-in-bytes' => [qr/^error model_unavailable/, 2],
	);
	my $n = pick(5, 30);		# of each
	my $since = time;
	$m->restart;
	my %c = map { my $name = $_; map { ("$name $_" => $t->begin_chat("$name-$_", "slow $name", stream => $TRUE)) } 1 .. $n } keys %want;
	my $during = Parley::Hurt::honest_while($t, sub { time - $since < 3 });
	my (%took, %left);
	%left = %c;
	while (%left && time - $since < 20) {
		for my $c (sort keys %left) {
			IO::Select->new($left{$c}->sock)->can_read(0.002) or next;
			while (my $e = $left{$c}->event) {
				$took{$c} = [$e->{event} . ' ' . ($e->{data}{error_code} // $e->{data}{status} // ''), time - $since]
				    if $e->{event} =~ /^(?:done|error)$/;
				last if $took{$c} || !IO::Select->new($left{$c}->sock)->can_read(0);
			}
			delete $left{$c} if $took{$c};
		}
	}
	for my $name (sort keys %want) {
		my ($end, $least) = @{$want{$name}};
		my ($got, $took) = @{$took{"$name 1"} // ['none', 99]};
		like $got, $end, sprintf '%s: %s after %.1f s', $name, $got, $took;
		cmp_ok $took, '>=', $least - 0.3, '... not before its time' if $least;
		cmp_ok $took, '<', 15, '... but then';
		is scalar(grep { ($took{"$name $_"}[0] // '') eq $got } 1 .. $n), $n, '... all of them';
	}
	compare(scalar(keys %c) . ' slow models', $quiet, $during);
	$m->bounded(scalar(keys %c) . ' slow models', 8 + keys(%c) / 4);
};

subtest 'MCP servers' => sub {
	my %mcp = map { my $how = $slow{$_}; ($_ => server(sub { $how->($_[0]); 0 })) } qw(says-nothing head-in-bytes trickles comments line-in-bytes);
	my $i = 0;
	my $b = Parley::Test->new(pg => $t->pg, model => $model->url . '/v1', workers => 1, conf => { %conf,
		map { ('mcp.s' . ++$i . '.url' => $mcp{$_}->url . '/mcp', "mcp.s$i.timeout" => '2 s') } sort keys %mcp });
	my $since = time;
	my $r = $b->chat('mcp', 'hello, who is there?');
	is $r->{status}, 200, sprintf 'five servers that do not answer cost their tools, not the turn: %.1f s', time - $since;
	cmp_ok time - $since, '<', 25, '... in time';
	compare('slow MCP servers', $quiet, honest($b, pick(10, 50)));
	is $b->pool->sickness, '', 'the worker was well';
};

subtest 'PostgreSQL' => sub {
	my $proxy = Parley::Proxy->new($t->pg->port);
	my $b = Parley::Test->new(pg => $t->pg, model => $model->url . '/v1', workers => 1, conf => { %conf,
		'database.url' => $proxy->url('parley_worker') });
	honest($b, 3);
	$proxy->drip;
	my $since = time;
	my @c = map { $b->begin_chat("drip-$_", 'hello there') } 1 .. pick(10, 100);
	is_deeply [grep { $_ != 200 } map { $_->response->{status} } @c], [], sprintf 'answers byte by byte: all turns done after %.1f s', time - $since;
	$proxy->pass;
	compare('after a slow database', $quiet, honest($b, 10));
	is $b->pool->sickness, '', 'the worker was well';
};

$all->given_back('slowness', 48, pick(100, 600));
well($t, \@pids, 'slowness');
done_testing;
