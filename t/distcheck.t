# The tarball builds, installs and uninstalls from itself, with warnings as errors: make distcheck, in its short form.
#
# Without the tests, which run here already. The build is one of its own, so that other tests are not in its way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Cwd ();
use Test::More;

use Parley::Process;

my $root = Cwd::abs_path("$FindBin::Bin/..");
# In a tarball there is no tarball to be made of: it would not end.
plan skip_all => 'not in a checkout' unless -e "$root/.git";
plan skip_all => 'git is not there' unless grep { -x "$_/git" } split /:/, $ENV{PATH};

my $dir = Parley::Process::tempdir();
my $jobs = qx{nproc} + 0 || 2;

# What is committed, and what has been changed since; nothing that was built.
sub sh {
	my ($name, $command) = @_;
	my $out = qx{($command) 2>&1 </dev/null};
	my $good = is $?, 0, $name;
	diag join '', (split /^/, $out)[-30 .. -1] unless $good;
	return $good;
}

local @ENV{qw(MAKEFLAGS MAKEOVERRIDES MFLAGS TESTS VERBOSE)};
delete @ENV{qw(MAKEFLAGS MAKEOVERRIDES MFLAGS TESTS VERBOSE)};
sh('the sources', "cd '$root' && git -c safe.directory='$root' ls-files -z | xargs -0 tar cf - 2>/dev/null | tar xf - -C '$dir'")
    && sh('./bootstrap and ./configure', "cd '$dir' && ./bootstrap && ./configure -q")
    && sh('make distcheck', "cd '$dir' && make -s -j$jobs distcheck TESTS=");

done_testing;
