# Our MCP client against the official conformance suite: its stable release, and its newest with 2026-07-28.
#
# The client is parleyctl, which asks with the code of the workers.  Every check passes, but for those of
# t/conformance.md, each with the reason why it does not apply.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Path ();
use JSON::XS ();
use Test::More;

use Parley::Node;
use Parley::Pool;
use Parley::Postgres;
use Parley::Process;

my $why = Parley::Node::missing();
plan skip_all => $why if $why;

# scenario => check or "all" => reason; * at the end of a scenario's name stands for whatever follows.
my %exempt;
open my $list, '<:encoding(UTF-8)', "$FindBin::Bin/conformance.md" or die "conformance.md: $!";
my $mine = 0;
while (<$list>) {
	$mine ||= /^# The client/;
	$exempt{$1}{$2} = $3 if $mine && /^\| `([\w\/*-]+)` \| `?([\w-]+)`? \| (\S.*?) \|$/;
}
my %used;

sub exempt {
	my ($scenario, $check) = @_;
	for my $name (sort keys %exempt) {
		my $pattern = $name =~ s/([^*]+)/\Q$1\E/gr =~ s/\*/.*/gr;
		for my $entry (grep { $scenario =~ /^$pattern$/ && exists $exempt{$name}{$_} } $check) {
			$used{$name}{$entry} = 1;
			return 1;
		}
	}
	return 0;
}

delete $ENV{$_} for grep { /^(PARLEY_|PG|OPENAI_|OPENROUTER_|DATABASE_URL|AGENT_MODEL|BETTER_AUTH_SECRET)/ &&
    !/^PARLEY_NODE_DIR$/ } keys %ENV;
my $pg = Parley::Postgres->new;
my $dir = Parley::Process::tempdir();
$ENV{CTL} = Parley::Pool::program('parleyctl');
$ENV{CONF} = "$dir/parley.conf";
open my $conf, '>', $ENV{CONF} or die "conf: $!";
print $conf Parley::Pool::conf_text({ 'database.url' => $pg->url('parley_worker'), 'tools.sql' => 'no' });
close $conf;
chmod 0600, $ENV{CONF};

for my $suite ('conformance-stable', 'conformance-next') {
	my $program = Parley::Node::dir() . "/node_modules/$suite/dist/index.js";
	my (undef, $said) = Parley::Node::run($program, 'list', '--client');
	my @scenarios = $said =~ /^  - (\S+) \[(\S+)\]/mg;
	cmp_ok scalar(@scenarios), '>', 40, "$suite: scenarios";
	while (my ($scenario, $versions) = splice @scenarios, 0, 2) {
		next if exempt($scenario, 'all');
		for my $version (split /,/, $versions) {
			subtest "$suite: $scenario, $version" => sub { run_one($program, $scenario, $version) };
		}
	}
}

sub run_one {
	my ($program, $scenario, $version) = @_;
	my (undef, $said, $err) = Parley::Node::run($program, 'client', '--command', "$^X $FindBin::Bin/node/client.pl",
	    '--scenario', $scenario, $version =~ /^\d/ ? ('--spec-version', $version) : (), '--output-dir', $dir);
	my ($file) = glob "$dir/*/checks.json";
	my @checks;
	if ($file) {
		open my $fh, '<', $file or die "$file: $!";
		local $/;
		@checks = @{JSON::XS::decode_json(<$fh>)};
	}
	cmp_ok scalar(grep { $_->{status} eq 'SUCCESS' } @checks), '>', 0, 'checks that pass' or diag $said, $err;
	for my $c (grep { $_->{status} eq 'FAILURE' } @checks) {
		my $ok = exempt($scenario, $c->{name});
		ok $ok, "$scenario: $c->{name}" . ($ok ? ' does not apply' : '') or diag $c->{errorMessage} // JSON::XS::encode_json($c->{details} // {});
	}
	File::Path::remove_tree($_) for grep { -d } glob "$dir/*";
}

for my $scenario (sort keys %exempt) {
	ok $used{$scenario}{$_}, "t/conformance.md: $scenario, $_, is still so" for sort keys %{$exempt{$scenario}};
}

File::Path::remove_tree($dir);
done_testing;
