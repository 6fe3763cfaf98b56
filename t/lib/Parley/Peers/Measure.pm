package Parley::Peers::Measure;

# What `make bench-peers` measures of each service, Parley's own among them; how is Parley::Bench's affair.
#
#	my %figure = Parley::Peers::Measure::round($bench, 'parley' | a kind of Parley::Peers);	# name => value, undef: it failed
#	for (Parley::Peers::Measure::rows($bench)) { my ($group, $name, $unit, $format) = @$_; … }	# $figure{"$group, $name"}

use strict;
use warnings;

use JSON::XS ();
use Time::HiRes qw(time);

use Parley::Bench;
use Parley::Client;
use Parley::Model;
use Parley::Peers;
use Parley::Peers::Verify;

# Of each process, to the database.
our $CONNECTIONS = 10;

my %HOW = (
	new => '64 users, no model delay, each turn begins a conversation',
	same => '64 users, no model delay, conversations go on',
);

sub name { my ($kind) = @_; return $kind eq 'parley' ? 'Parley' : Parley::Peers::name($kind) }

# Turns in flight, and the model's milliseconds.
sub _flights { my ($b) = @_; return $b->quick ? ([100, 200], 500) : ([1000, 2000], 2000) }

sub _flight_name {
	my ($b, $n, $stream) = @_;
	my (undef, $delay) = _flights($b);
	return sprintf '%d %s in flight, %g s model', $n, $stream ? 'streams' : 'turns', $delay / 1000;
}

sub rows {
	my ($b) = @_;
	my ($flights) = _flights($b);
	return (
		(map { ([$HOW{$_}, 'turns', '/s', '%.0f'], [$HOW{$_}, 'CPU of the service per turn', 'us', '%.0f'],
		    [$HOW{$_}, 'CPU of PostgreSQL per turn', 'us', '%.0f']) } qw(new same)),
		['at rest', 'memory of all processes (PSS)', 'MB', '%.1f'],
		(map { my $g = _flight_name($b, $_, 0); ([$g, 'added latency, p50', 'ms', '%.1f'], [$g, 'added latency, p99', 'ms', '%.1f'],
		    [$g, 'memory of all processes (PSS)', 'MB', '%.1f'], [$g, '  of it for a turn', 'KB', '%.1f']) } @$flights),
		(map { my $g = _flight_name($b, $_, 1); ([$g, 'first delta after the model\'s, p50', 'ms', '%.1f'],
		    [$g, 'first delta after the model\'s, p99', 'ms', '%.1f']) } $flights->[0]),
	);
}

# All have the same number of connections to the database: it matters more than most else where commits are waited for.
sub serve {
	my ($b, $kind, $delay) = @_;
	return $b->serve($delay, 'database.connections' => $CONNECTIONS) if $kind eq 'parley';
	return Parley::Peers->new(kind => $kind, pg => $b->pg, model => Parley::Model->new(delay => $delay),
	    workers => $b->{workers}, nginx_workers => $b->{workers}, pool => $CONNECTIONS);
}

# Why a peer is not to be measured; undef: it does the same work.
sub unfit {
	my ($b, $kind) = @_;
	my $why = Parley::Peers::missing($kind);
	return $why if $why;
	my $t = Parley::Peers->new(kind => $kind, pg => $b->pg, model => Parley::Model->new(scripts => Parley::Peers::Verify::scripts()));
	my @bad = grep { length $_->[1] } Parley::Peers::Verify::checks($t);
	return @bad ? 'it does not do the same work: ' . join '; ', map { "$_->[0]: $_->[1]" } @bad : undef;
}

sub round {
	my ($b, $kind) = @_;
	my $had = @{$b->{notes}};
	my ($flights, $delay) = _flights($b);
	my $t = serve($b, $kind, 0);
	my %f = map { _speed($b, $t, $_) } qw(new same);

	undef $t;
	for ([$flights->[0], 3, 0], [$flights->[1], 2, 0], [$flights->[0], 2, 1]) {
		# Each anew: what one has taken of memory is not the next one's.
		$t = serve($b, $kind, $delay);
		%f = (%f, _flight($b, $t, $delay, @$_));
		undef $t;
	}
	$_ = name($kind) . ": $_" for @{$b->{notes}}[$had .. $#{$b->{notes}}];
	return %f;
}

sub _speed {
	my ($b, $t, $how) = @_;
	my %load = (concurrency => 64, keepalive => '', conversation => $how);

	$b->load($t, %load, requests => 640);
	# The pool's backends are there by now, so that none begins or ends in between.
	my @pg = _backends($b);
	my ($service, $pg) = ($b->cpu_us($t->pids), $b->cpu_us(@pg));
	my $l = $b->load($t, %load, seconds => $b->quick ? 1 : 4);
	my $ok = $l->{ok} || 1;
	my $g = $HOW{$how};

	return ("$g, turns" => $l->{rps}, "$g, CPU of the service per turn" => ($b->cpu_us($t->pids) - $service) / $ok,
	    "$g, CPU of PostgreSQL per turn" => ($b->cpu_us(@pg) - $pg) / $ok);
}

sub _backends {
	my ($b) = @_;
	my $pid = $b->pg->pid;
	open my $fh, '<', "/proc/$pid/task/$pid/children" or return;
	return split ' ', scalar(<$fh>) // '';
}

sub _flight {
	my ($b, $t, $delay, $n, $waves, $stream) = @_;
	my $g = _flight_name($b, $n, $stream);
	my $idle = $b->pss_kb($t->pids);
	my $model = $stream ? _first_piece($t->model) : 0;
	my ($running, $kb) = (0, 0);
	my $l = $b->load($t, concurrency => $n, requests => $n * $waves, ramp => $delay, keepalive => '',
	    $stream ? (stream => '') : (), meanwhile => sub {
		my $now = $t->isa('Parley::Peers') ? $t->running : $b->running;
		($running, $kb) = ($now, $b->pss_kb($t->pids)) if $now > $running;
	});

	# Who does not answer all of them does not stand so many.
	return () if $l->{ok} < $l->{count};
	$b->note("$g: at most $running were running at a time") if $running < 0.8 * $n;
	return map { ("$g, first delta after the model's, $_" => $l->{first_delta_ms}{$_} - $model) } qw(p50 p99) if $stream;
	return ("$g, added latency, p50" => $l->{latency_ms}{p50} - $delay, "$g, added latency, p99" => $l->{latency_ms}{p99} - $delay,
	    "$g, memory of all processes (PSS)" => $kb / 1024, "$g,   of it for a turn" => ($kb - $idle) / ($running || 1),
	    'at rest, memory of all processes (PSS)' => $idle / 1024);
}

# Milliseconds until the model, asked by nobody else, says something.
sub _first_piece {
	my ($model) = @_;
	my $body = JSON::XS::encode_json({ model => 'demo', stream => JSON::XS::true, messages => [{ role => 'user', content => 'bench' }] });
	my @ms;

	for (1 .. 3) {
		my $at = time;
		my $c = Parley::Client->new($model->port, 'POST', '/v1/chat/completions', $body, { 'Content-Type' => 'application/json' });
		while (my $e = $c->event) {
			last if ref $e->{data} && length($e->{data}{choices}[0]{delta}{content} // '');
		}
		push @ms, 1000 * (time - $at);
		$c->close;
	}
	return Parley::Bench::median(@ms);
}

1;
