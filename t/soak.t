# make soak, in small: each kind of load is there, nothing goes wrong, nothing is left behind.  Whether memory stays flat
# takes an hour to see; here only what a leak with each turn would do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Faults qw(sanitized);
use Parley::Soak;

my $soak = Parley::Soak->new(seconds => 20, every => 1, rate => 40, clients => 8, workers => 2, still => 1,
    margin => sanitized() ? 1000 : 50);
$soak->run;
is_deeply [$soak->complaints], [], 'nothing went wrong, nothing is left' or diag $soak->summary;
cmp_ok scalar($soak->samples), '>=', 18, 'samples were taken';
is_deeply [grep { !$soak->{done}{$_} } Parley::Soak::Client::kinds()], [], 'each kind of load was there' or diag $soak->summary;
cmp_ok $soak->{answers}{'refused 401 invalid_token'}, '>', 0, 'refusals are counted by their codes';
note $soak->summary;
done_testing;
