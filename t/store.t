# chat/store and chat/pulse against a real database that also goes away.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(sleep);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;

my ($walk) = grep { -x } 't/unit/store_walk', "$FindBin::Bin/unit/store_walk";
plan skip_all => 't/unit/store_walk has not been built' unless $walk;

my $pg = Parley::Postgres->new;

my %do = (
	leases => sub {
		is $pg->one(q{SELECT count(*) FROM parley.live WHERE lease_until > now() + interval '10 s'}), 2,
		    'the pulse has given both a lease';
		is $pg->one(q{SELECT partial FROM parley.live WHERE partial IS NOT NULL}), 'half "a" ',
		    '... and kept the text, without half a character';
	},
	fence => sub {
		$pg->psql(q{UPDATE parley.turns SET fence = fence + 1 WHERE state = 'running'});
	},
	restart => sub { $pg->stop; sleep 1; $pg->start },
	stop => sub { $pg->stop },
);

open my $from, '-|', $walk, $pg->url('parley_worker') or die "$walk: $!";
my ($n, $planned) = (0, 0);
while (my $line = <$from>) {
	chomp $line;
	if ($line =~ /^say (\w+)$/) {
		$do{$1}->();
	} elsif ($line =~ /^(not )?ok \d+ - (.*)$/) {
		ok !$1, $2;
		$n++;
	} elsif ($line =~ /^1\.\.(\d+)$/) {
		$planned = $1;
	} else {
		diag $line;
	}
}
close $from;
is $?, 0, 'it ended well';
is $n, $planned, 'all of it';
done_testing;
