package Parley::Faults;

# What the tests in t/faults share.
#
#	use Parley::Faults;
#	my $kills = pick(15, 200);		# the short form, and the long one
#	my $t = faults_test(scripts => {…}, workers => 3, conf => {…});
#	my $o = Parley::Observer->new($t);
#	quiet_ok($o, $t->pg, 'after the kills', 12);	# all have their end in time, and the rows agree
#
# PARLEY_FAULTS=long asks for the long form (make check-faults); the suite runs the short one.

use strict;
use warnings;

use Exporter 'import';
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Audit;
use Parley::Contract;
use Parley::Observer;
use Parley::Process;
use Parley::Test;

our @EXPORT = qw(faults_test figure mixed pick quiet_ok sanitized wait_for $LEASE);

our $LEASE = 3;			# seconds: the shortest that the configuration takes

sub pick { return ($ENV{PARLEY_FAULTS} // 'short') eq 'long' ? $_[1] : $_[0] }

sub wait_for { &Parley::Process::wait_for }

sub figure { note 'figure: ', @_ }

# Parley with the counting tool, the slow tool and scripts; pg => options of Parley::Postgres, or one that is there.
sub faults_test {
	my (%opt) = @_;
	my $pg = delete $opt{pg} // {};
	my $scripts = delete $opt{scripts} // {};

	if (ref $pg eq 'HASH') {
		$pg = Parley::Postgres->new(%$pg);
		Parley::Audit::counting_tool($pg);
	}
	$opt{model} //= Parley::Model->new(scripts => {
		slow => text_reply('This ', 300, 'takes ', 300, 'its ', 300, 'time, ', 300, 'and ', 300, 'ends.'),
		%$scripts,
	});
	return Parley::Test->new(%opt, pg => $pg, conf => {
		'turn.lease' => "$LEASE s", 'client.max_wait' => '8 s', 'model.retry_base' => '50 ms', %{$opt{conf} // {}},
	});
}

# The n-th message of a mixed load: plain, with tools that count, with a slow model; streamed or not, with a key or not.
sub mixed {
	my ($n, %more) = @_;
	my @texts = (
		"bench $n please",
		qq(bench:call count_once {"label":"n$n"}),
		"script:slow number $n",
		"add task: thing $n",
		qq(bench:call count_once {"label":"n$n","seconds":0.4}),
		"hello, this is number $n",
	);
	return (
		user => 'user-' . $n % 40,
		text => $texts[$n % @texts],
		stream => $n % 4 < 2 ? 1 : 0,
		$n % 5 ? (key => "key-$n") : (),
		$n % 7 == 0 && $n % 4 < 2 ? (drop => 2) : (),
		%more,
	);
}

# Whether the workers have a sanitizer in them: their memory says little then.
sub sanitized {
	open my $f, '<:raw', Parley::Pool::program('parley.fcgi') or die "parley.fcgi: $!";
	local $/;
	return <$f> =~ /__[at]san_init/;
}

sub quiet_ok {
	my ($o, $pg, $name, $seconds) = @_;
	my $since = time;
	my @left = $o->finish($seconds);

	is_deeply [map { "$_->{number} $_->{text}" } @left], [], "$name: everybody has an end within $seconds s";
	my $took = time - $since;
	# Those whose clients are gone end as well.
	wait_for(sub { !$pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}) }, $seconds);
	my @bad = $o->compare($pg);
	is_deeply \@bad, [], "$name: what was told is what is there" or diag join "\n", @bad;
	figure "$name: ", $o->summary, sprintf '; quiet after %.1f s, the slowest answer took %.1f s', $took, $o->slowest;
	return $took;
}

1;
