# The page's Markdown on texts that nobody would write, by fast-check: nothing but what is allowed comes of any text,
# plain text stays, pieces make the whole, and long texts take time in proportion.  PARLEY_DIFFERENTIAL: how many texts.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Cwd ();
use JSON::XS ();
use Test::More;

use Parley::Node;

my $missing = Parley::Node::missing();
plan skip_all => $missing if $missing;
binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $web = Cwd::abs_path("$FindBin::Bin/../web");
my ($status, $out, $err) = Parley::Node::run('t/node/markdown.mjs', $web, $ENV{PARLEY_DIFFERENTIAL} // 1500, $ENV{PARLEY_SEED} // 20261121);
is $status, 0, 'node came to its end' or diag $err;
for (split /\n/, $out) {
	my $r = JSON::XS->new->utf8->decode($_);
	ok $r->{ok}, $r->{name} or diag $r->{detail};
}
done_testing;
