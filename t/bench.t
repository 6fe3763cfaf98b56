# make bench, in small: it runs, and each figure is there.  How large they are is not asked here.
use strict;
use warnings;

use File::Temp ();
use FindBin;
use JSON::XS ();
use Test::More;

my $dir = File::Temp->newdir;
my $table = `'$^X' -w '$FindBin::Bin/bench/run' --quick --out '$dir/bench.json' 2>'$dir/err'`;
is $?, 0, 'the bench runs' or diag `cat '$dir/err'`;

open my $fh, '<', "$dir/bench.json" or BAIL_OUT("bench.json: $!");
my $j = JSON::XS::decode_json(do { local $/; <$fh> });
ok $j->{cores} > 0 && $j->{descriptors} > 0, 'it says on what machine';

my @want = (
	[qr/64 users/, qr/^turns$/, '/s'],
	[qr/64 users/, qr/^pgbench/, '/s'],
	[qr/64 users/, qr/^part of that/, '%'],
	[qr/64 users/, qr/^worker CPU per turn/, 'us'],
	[qr/256 users/, qr/^part of that/, '%'],
	[qr/TLS and HTTP\/2/, qr/^worker CPU per turn/, 'us'],
	[qr/in flight/, qr/added latency, p50/, 'ms'],
	[qr/in flight/, qr/added latency, p99/, 'ms'],
	[qr/in flight/, qr/^memory of all workers/, 'KB'],
	[qr/in flight, streaming/, qr/^memory of all workers/, 'KB'],
	[qr/conversation of 50 messages/, qr/p50/, 'ms'],
	[qr/conversation of 2,000 messages/, qr/to that of 50/, 'times'],
	[qr/list of conversations/, qr/p50/, 'ms'],
	[qr/conversations stored/, qr/^turns/, '/s'],
	[qr/conversations stored/, qr/^list of/, 'ms'],
	(map { [qr/task tools/, qr/^$_/, 'ms'] } qw(add_task list_tasks update_task complete_task delete_task)),
	[qr/100 users/, qr/plain turns/, 's'],
	[qr/100 users/, qr/turns with one tool/, 's'],
);
for (@want) {
	my ($group, $name, $unit) = @$_;
	my ($f) = grep { $_->{group} =~ $group && $_->{name} =~ $name } @{$j->{figures}};
	ok $f && $f->{unit} eq $unit && $f->{value} > 0, "$name of $group" or diag explain $f;
	like $table, qr/^\Q$f->{group}\E\n(?: {4}.*\n)*    \Q$f->{name}\E +\Q$f->{value}\E $unit/m, 'it is in the table' if $f;
}
is_deeply [grep { /answered/ } @{$j->{notes}}], [], 'every request was answered';

done_testing;
