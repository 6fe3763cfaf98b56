package Parley::Bench::Flight;

# Many turns in flight: latency added to the model's own, memory of the workers.

use strict;
use warnings;

use Parley::Bench;
use Parley::Tls;

my %HOW = ('' => '', stream => ', streaming', secure => ', streaming, TLS and HTTP/2 to the model');

sub flight {
	my ($b) = @_;
	my @runs = $b->quick ? map { [100, 500, 2, $_] } '', 'stream', 'secure'
	    : ([1000, 2000, 3, ''], [1000, 2000, 3, 'stream'], [10_000, 10_000, 2, ''], [10_000, 10_000, 2, 'secure']);

	$b->settle;
	for (@runs) {
		my ($want, $delay, $waves, $how) = @$_;
		if ($how eq 'secure' && Parley::Tls::missing()) {
			$b->note(Parley::Tls::missing());
			next;
		}
		my $n = $b->fits($want);
		# The one without a target is there to be compared.
		my @seen = map { once($b, $n, $delay, $waves, $how) } 1 .. ($want == 10_000 && $how eq '' ? 1 : $b->rounds);
		_figures($b, $want, $how, sprintf('%d turns in flight%s, %g s model', $n, $HOW{$how}, $delay / 1000), @seen);
	}
}

sub _figures {
	my ($b, $want, $how, $what, @seen) = @_;
	my %median = map { my $k = $_; $k => Parley::Bench::median(map { $_->{$k} } @seen) } keys %{$seen[0]};

	$b->note("$what: at most $median{running} turns were running at a time") if $median{busy} < 0.9 && !$b->quick;
	$b->group($what);
	$b->figure('added latency, p50', $median{p50}, 'ms', $want == 1000 ? ['at most', 5] : ());
	$b->figure('added latency, p99', $median{p99}, 'ms', $want == 1000 ? ['at most', 15] : ());
	$b->figure('first delta after the first byte of the model, p50', $median{delta}, 'ms', $want == 1000 ? ['at most', 3] : ())
	    if $how && defined $median{delta};
	$b->figure('memory of all workers (PSS) per turn', $median{kb}, 'KB', $how eq 'secure' && $want == 10_000 ? ['at most', 32] : ());
	$b->figure('  of it more than idle workers have', $median{more}, 'KB');
}

# The clients come evenly over the model's time, each asks again when it has its answer.
sub once {
	my ($b, $n, $delay, $waves, $how) = @_;
	my $t = $how eq 'secure' ? $b->serve_securely($delay) : $b->serve($delay);
	my $idle = $b->pss_kb($t->pids);
	my ($running, $kb) = (0, 0);
	my $l = $b->load($t, concurrency => $n, requests => $n * $waves, ramp => $delay, keepalive => '',
	    $how ? (stream => '') : (), meanwhile => sub {
		my $now = $b->running;
		($running, $kb) = ($now, $b->pss_kb($t->pids)) if $now > $running;
	});
	my $at = $l->{latency_ms} // { p50 => 0, p99 => 0 };

	return {
		p50 => $at->{p50} - $delay, p99 => $at->{p99} - $delay, running => $running, busy => $running / $n,
		kb => $kb / ($running || 1), more => ($kb - $idle) / ($running || 1),
		$l->{first_delta_ms} ? (delta => $l->{first_delta_ms}{p50} - _first_byte($t)) : (),
	};
}

# Milliseconds from a turn's beginning to the first byte of the model, as half of the turns in the log had it.
sub _first_byte {
	my ($t) = @_;
	return Parley::Bench::median(map { $_->{begin_ms} + $_->{first_byte_ms} } grep { ($_->{event} // '') eq 'turn' } $t->log);
}

1;
