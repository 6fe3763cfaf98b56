# Workers keep nothing between requests: every writable symbol of parley.fcgi
# that is our own stands in t/state.allow with the reason why it may live in memory.
use strict;
use warnings;

use Test::More;

my $program = $ENV{PARLEY_FCGI} // './parley.fcgi';
my $allow = ($0 =~ s{[^/]*$}{}r) . 'state.allow';

sub lines {
	open my $f, '-|', @_ or die "$_[0]: $!";
	my @l = <$f>;
	close $f;
	return @l;
}

my %reason;
open my $f, '<', $allow or die "$allow: $!";
while (<$f>) {
	next if /^\s*(#|$)/;
	my ($name, $why) = /^(\S+)\s+(.+)$/ or die "$allow: line $.: no reason given";
	$reason{$name} = $why;
}
close $f;

# Data (d, D) and zeroed data (b, B, C).  Tables of constant pointers are read-only once the
# program has been loaded (.data.rel.ro and its kind), names with @ are the C library's, and
# the compiler numbers those of a function's own (name.0).
my %found;
for (lines('nm', '-f', 'sysv', $program)) {
	my ($name, $type, $section) = (map { s/^\s+|\s+$//gr } split /\|/)[0, 2, 6];
	next unless defined $section && $type =~ /^[bBdDC]$/;
	next if $section !~ /^\.(?:data|bss)$/ || $name =~ /@/;
	$name =~ s/\.\d+$//;
	next if $name =~ /^(?:_|completed|data_start|edata|end$)/;
	$found{$name} = 1;
}

plan skip_all => 'a sanitizer adds its own' if grep { /asan|ubsan/ } lines('nm', $program);
ok %found > 0, 'nm sees symbols';
for (sort keys %found) {
	ok $reason{$_}, "$_ may live in memory: " . ($reason{$_} // 'NO REASON in state.allow');
}
for (sort keys %reason) {
	ok $found{$_}, "$_ is still there";
}
done_testing;
