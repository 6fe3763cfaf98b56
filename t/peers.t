# The services that Parley is measured beside do the same work; how fast is for `make bench-peers`.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use Parley::Model;
use Parley::Peers;
use Parley::Peers::Verify;
use Parley::Postgres;

my @can = grep { !Parley::Peers::missing($_) } Parley::Peers::kinds();
plan skip_all => join '; ', map { Parley::Peers::missing($_) } Parley::Peers::kinds() unless @can;

my $pg = Parley::Postgres->new;
for my $kind (Parley::Peers::kinds()) {
	subtest Parley::Peers::name($kind) => sub {
		my $why = Parley::Peers::missing($kind);
		plan skip_all => $why if $why;
		my $model = Parley::Model->new(scripts => Parley::Peers::Verify::scripts());
		my $t = Parley::Peers->new(kind => $kind, pg => $pg, model => $model);

		is $_->[1], '', $_->[0] for Parley::Peers::Verify::checks($t);
		is $t->log_text, '', 'nothing is complained of';
	};
}

done_testing;
