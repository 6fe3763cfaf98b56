# nginx before Parley, with the shipped configuration.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;

use Parley::Front;
use Parley::Nginx;

my $p = Parley::Front::parts();
my $nginx = Parley::Nginx->new(sockets => [$p->pool->socket]);
Parley::Front::suite(name => 'by unix socket', url => $nginx->url, test => $p, streams => 1, page => 1,
    restart => sub { $p->pool->restart }, stop => sub { $p->pool->stop }, start => sub { $p->pool->start });
done_testing;
