# Workers keep nothing between requests: every writable symbol of parley.fcgi
# that is our own stands in t/state.allow with the reason why it may live in memory.
use strict;
use warnings;

use FindBin;
use Test::More;
use lib "$FindBin::Bin/lib";

use Parley::Pool;

my $allow = "$FindBin::Bin/state.allow";
my $program = Parley::Pool::program('parley.fcgi');

# Constant tables of pointers (.data.rel.ro) are written by the linker alone, before main().
my $WRITABLE = qr/\.t?data|\.t?bss/;

plan skip_all => 'objdump is missing (Debian: binutils)' if system('objdump --version >/dev/null 2>&1') != 0;
open my $dump, '-|', 'objdump', '-t', $program or die "objdump: $!";
my @lines = <$dump>;
close $dump;
plan skip_all => 'a sanitizer adds its own' if grep { /__[at]san|__ubsan/ } @lines;

my %reason;
open my $f, '<', $allow or die "$allow: $!";
while (<$f>) {
	next if /^\s*(#|$)/;
	my ($name, $why) = /^(\S+\.c:\w+)\s+(\S.*)$/ or die "$allow: line $.: not a name and a reason";
	$reason{$name} = $why;
}
close $f;

# The locals of a file follow its name; what the C library and the start-up code put there is not ours.
my ($file, %found) = ('');
for (@lines) {
	$file = $1 if /\sdf \*ABS\*\s+\S+\s+(\S+)/;
	$file = '' if /\sdf \*ABS\*\s+\S+\s*$/;
	my ($scope, $name) = /^\S+ (.).{5}O $WRITABLE\s+\S+\s+(?:\.hidden )?(\S+)$/ or next;
	next if $file eq 'crtstuff.c' && $scope eq 'l' || $name =~ /\@|^__/;
	# The compiler numbers those of a function's own.
	$name =~ s/\.\d+$//;
	$found{$scope eq 'l' ? "$file:$name" : "global.c:$name"} = 1;
}

ok %found > 5, 'objdump sees symbols';
for (sort keys %found) {
	ok $reason{$_}, "$_ may live in memory: " . ($reason{$_} // 'NO REASON in state.allow');
}
for (sort keys %reason) {
	ok $found{$_}, "$_ is still there";
}
done_testing;
