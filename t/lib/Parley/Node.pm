package Parley::Node;

# Programs of others, for trying ours against them: what scripts/node-packages.sh installs.
#
#	my $why = Parley::Node::missing and plan skip_all => $why;
#	my ($status, $out, $err) = Parley::Node::run('t/node/sdk.mjs', @words);
#	Parley::Node::bin('mcp-inspector');	# the path of a package's program
#
# ./quickstart test installs them; nothing here fetches anything.  PARLEY_NODE_DIR names the folder
# (~/.cache/parley/node), and scripts find it there.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Path ();

use Parley::Process;

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');

sub dir {
	return $ENV{PARLEY_NODE_DIR} // ($ENV{XDG_CACHE_HOME} // ($ENV{HOME} // '/nonexistent') . '/.cache') . '/parley/node';
}

# Their own node, which is newer than Debian's.
sub program {
	my ($own) = grep { -x } glob dir() . '/node_modules/node-linux-*/bin/node';
	return $own;
}

# Why tests with it cannot run; undef: they can.
sub missing {
	return 'the Node packages are not there (./quickstart test or scripts/node-packages.sh installs them)'
	    unless -e dir() . '/installed';
	my $node = program();
	return 'the Node of the Node packages does not run here' unless $node && `'$node' --version 2>/dev/null` =~ /^v/;
	return undef;
}

sub bin { dir() . "/node_modules/.bin/$_[0]" }

# A script of ours or a path, with words; (exit status, stdout, stderr).
sub run {
	my ($script, @words) = @_;
	my $dir = Parley::Process::tempdir();
	local $ENV{PARLEY_NODE_DIR} = dir();
	# What it keeps for itself is thrown away with the test.
	local $ENV{HOME} = $dir;
	my ($node, $path) = (program(), $script =~ m{^/} ? $script : "$ROOT/$script");
	my $line = join ' ', map { "'" . s/'/'\\''/gr . "'" } $node, $path, @words;
	my $out = `cd '$dir' && timeout 120 $line 2>'$dir/err' </dev/null`;
	my $status = $? >> 8;
	open my $fh, '<', "$dir/err" or die "$dir/err: $!";
	my $err = do { local $/; <$fh> };
	close $fh;
	File::Path::remove_tree($dir);
	return ($status, $out, $err);
}

1;
