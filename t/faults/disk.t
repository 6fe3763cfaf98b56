# The disk of PostgreSQL is full: what cannot be stored is refused in words, nothing that was acknowledged is lost,
# reads go on, and when there is space again everything heals.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use File::Temp ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Faults;

# A disk of its own, as small as a cluster can be.
plan skip_all => 'only root can mount a small disk' if $> != 0;
my $dir = File::Temp::tempdir('pdiskXXXXXXXX', DIR => '/tmp');
my $out = `mount -t tmpfs -o size=160m,mode=0755 tmpfs '$dir' 2>&1`;
if ($?) {
	rmdir $dir;
	chomp $out;
	plan skip_all => "no small disk can be mounted here: $out";
}
my $test = $$;
END { if ($test && $$ == $test) { local $?; system 'umount', '-l', $dir; rmdir $dir } }

my $pg = Parley::Postgres->new(dir => $dir, settings => {
	max_wal_size => '32MB', min_wal_size => '32MB', wal_recycle => 'off', checkpoint_timeout => '30s',
	    shared_buffers => '16MB' });
Parley::Audit::counting_tool($pg);
my $t = faults_test(pg => $pg, workers => 2);
my $o = Parley::Observer->new($t, patience => 40);
my $n = 0;
my $load = sub { $o->say(mixed($n++, text => "bench $n " . 'x' x 1500)) while $o->waiting < 12; return 0 };

for my $round (1 .. pick(1, 4)) {
	my $first = $o->say(user => 'reader', text => "hello number $round");
	$o->run(sub { $first->{end} }, 10);
	$o->run($load, 1);

	# All that is left is taken, to the last page.
	open my $fh, '>', "$dir/ballast" or die "ballast: $!";
	my $block = "\0" x (1 << 20);
	while (length $block >= 4096) {
		syswrite($fh, $block) // ($block = substr $block, 0, length($block) / 2);
	}
	close $fh;
	my $since = time;
	my $refused = sub { scalar grep { @{$_->{refusals} // []} && $_->{refusals}[-1] && $_->{began} > $since } $o->messages };
	ok $o->run(sub { $load->(); $refused->() > 3 }, 15), 'the disk is full: messages are refused';
	$o->run($load, pick(1, 5));
	my %codes = map { map { join(' ', @{$_}[0, 1]) => 1 } @{$_->{refusals} // []} } $o->messages;
	is_deeply [grep { !/^503 (database_unavailable|overloaded)$/ } keys %codes], [], '... as 503, in words'
	    or diag explain \%codes;

	unlink "$dir/ballast";
	my $healed = time;
	my $m;
	ok $o->run(sub {
		$m = $o->say(user => 'healed', text => "hello again $n " . time) if !$m || $m->{end} && $m->{end} ne 'done';
		return ($m->{end} // '') eq 'done';
	}, 20), 'there is space again: messages are taken';
	figure sprintf 'the disk was full for %.1f s; served again %.1f s after there was space', $healed - $since,
	    time - $healed;
}
quiet_ok($o, $pg, 'a full disk', $LEASE + 10);
is $t->pool->sickness, '', 'the workers were well';
undef $t;
undef $pg;
done_testing;
