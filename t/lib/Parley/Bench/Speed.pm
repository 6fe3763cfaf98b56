package Parley::Bench::Speed;

# How many turns, and what each costs the workers.

use strict;
use warnings;

use List::Util qw(max);

use Parley::Bench;
use Parley::Bench::Floor;
use Parley::Tls;

# Turns per second with a model of no delay against what PostgreSQL alone does with the same statements, at its best.
# Taken in turns, several times: a busy moment of the machine then spoils one ratio, not the median.
sub floor {
	my ($b) = @_;
	my $floor = Parley::Bench::Floor->new($b);

	for my $how (qw(new same)) {
		my %seen;

		for (1 .. $b->rounds) {
			my $best = max map { $floor->turns_per_second($_, $b->quick ? 1 : 2, $how) } $b->quick ? 32 : (16, 32, 64);
			my $t = $b->serve(0);

			for my $users (64, 256) {
				my ($tps, $cpu) = rate($b, $t, $users, $how);
				push @{$seen{$users}}, { tps => $tps, cpu => $cpu, floor => $best, part => 100 * $tps / $best };
			}
		}
		_floor_figures($b, $how, $_, @{$seen{$_}}) for 64, 256;
	}
}

sub _floor_figures {
	my ($b, $how, $users, @seen) = @_;
	my %median = map { my $k = $_; $k => Parley::Bench::median(map { $_->{$k} } @seen) } qw(tps cpu floor part);

	$b->group("$users users, no model delay, " . ($how eq 'new' ? 'each turn begins a conversation' : 'conversations go on'));
	$b->figure('turns', $median{tps}, '/s');
	$b->figure('pgbench with the same two statements', $median{floor}, '/s');
	$b->figure('part of that', $median{part}, '%', ['at least', 65]);
	$b->figure('worker CPU per turn', $median{cpu}, 'us', $users == 64 ? ['at most', 120] : ());
}

# The same work where the model is reached as providers are.
sub secure {
	my ($b) = @_;
	my (@tps, @cpu);

	return $b->note(Parley::Tls::missing()) if Parley::Tls::missing();
	for (1 .. $b->rounds) {
		my ($tps, $cpu) = rate($b, $b->serve_securely(0), 64, 'new');
		push @tps, $tps;
		push @cpu, $cpu;
	}
	$b->group('64 users, no model delay, TLS and HTTP/2 to the model');
	$b->figure('turns', Parley::Bench::median(@tps), '/s');
	$b->figure('worker CPU per turn', Parley::Bench::median(@cpu), 'us', ['at most', 180]);
}

# Turns per second, and microseconds of the workers' CPU for each, once all is warm.
sub rate {
	my ($b, $t, $users, $how) = @_;
	my %load = (concurrency => $users, keepalive => '', conversation => $how);

	$b->load($t, %load, requests => 10 * $users);
	my $before = $b->cpu_us($t->pids);
	my $l = $b->load($t, %load, seconds => $b->quick ? 1 : 4);
	return ($l->{rps}, ($b->cpu_us($t->pids) - $before) / ($l->{ok} || 1));
}

1;
