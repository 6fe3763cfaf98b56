# /mcp against the official conformance suite: its stable release, and its newest with 2026-07-28.
#
# Every check passes, but for those of t/conformance.md, each with the reason why it does not apply.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

use Parley::Node;
use Parley::Process;
use Parley::Test;

my $why = Parley::Node::missing();
plan skip_all => $why if $why;

# scenario => check or "all" => reason
my %exempt;
open my $list, '<:encoding(UTF-8)', "$FindBin::Bin/conformance.md" or die "conformance.md: $!";
while (<$list>) {
	last if /^# The client/;
	$exempt{$1}{$2} = $3 if /^\| `([\w-]+)` \| `?([\w-]+)`? \| (\S.*?) \|$/;
}
cmp_ok scalar(keys %exempt), '>', 20, 'the list of what does not apply';

# The suite brings no tokens, so nginx does; and it calls tools of its own.
my $token = Parley::Test::jwt({ alg => 'HS256', typ => 'JWT' }, { sub => 'suite', exp => time + 3600 }, $Parley::Test::SECRET);
my $pg = Parley::Postgres->new;
$pg->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tools.test_simple_text() RETURNS text LANGUAGE sql STABLE AS $$
	SELECT 'This is a simple text response for testing.'
$$;
COMMENT ON FUNCTION tools.test_simple_text IS 'Says a text.
@read_only';
CREATE FUNCTION tools.test_error_handling() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'This tool intentionally returns an error for testing';
END
$$;
COMMENT ON FUNCTION tools.test_error_handling IS 'Fails.';
SQL
my $t = Parley::Test->new(pg => $pg, settings => sub {
	s{(fastcgi_param GATEWAY_INTERFACE.*\n)}{$1\tfastcgi_param HTTP_AUTHORIZATION "Bearer $token";\n} or die 'no params';
});
my $here = 'localhost:' . $t->nginx->port;
$t->restart_pool('mcp.hosts' => $here, 'mcp.origins' => "http://$here");

# All checks of a run: [scenario, name, status, message].
sub checks {
	my ($suite, @words) = @_;
	my $out = Parley::Process::tempdir();
	my ($status, $said, $err) = Parley::Node::run(Parley::Node::dir() . "/node_modules/$suite/dist/index.js",
	    'server', '--url', "http://$here/mcp", '--output-dir', $out, @words);
	my @checks;
	for my $file (glob "$out/*/checks.json") {
		my ($scenario) = $file =~ m{/server-([\w-]+)-\d{4}-\d\d-\d\dT[^/]*/checks\.json$} or die "whose is $file?";
		open my $fh, '<', $file or die "$file: $!";
		local $/;
		push @checks, map { [$scenario, @$_{qw(name status errorMessage)}] } @{JSON::XS::decode_json(<$fh>)};
	}
	File::Path::remove_tree($out);
	diag $said, $err unless @checks;
	return @checks;
}

my %used;
for my $run (['conformance-stable', '--suite', 'all'], ['conformance-next', '--requirements', '2025-11-25'],
    ['conformance-next', '--spec-version', '2025-06-18', '--suite', 'all'],
    ['conformance-next', '--requirements', '2026-07-28'], ['conformance-next', '--suite', 'all']) {
	subtest "@$run" => sub {
		my @checks = checks(@$run);
		cmp_ok scalar(grep { $_->[2] eq 'SUCCESS' } @checks), '>', 5, 'checks that pass';
		for my $c (grep { $_->[2] eq 'FAILURE' } @checks) {
			my ($scenario, $name, undef, $message) = @$c;
			# That what is said has the protocol's shape applies always.
			my ($entry) = grep { exists $exempt{$scenario}{$_} } $name, $name =~ /^wire/i ? () : 'all';
			$used{$scenario}{$entry} = 1 if defined $entry;
			ok defined $entry, "$scenario: $name" . ($entry ? ' does not apply' : '') or diag $message;
		}
	};
}
for my $scenario (sort keys %exempt) {
	ok $used{$scenario}{$_}, "t/conformance.md: $scenario, $_, is still so" for sort keys %{$exempt{$scenario}};
}

done_testing;
