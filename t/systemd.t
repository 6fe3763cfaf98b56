# The units: what systemd says of them, and a worker started as they start it.  How they behave under a
# systemd that runs is in t/deb.t, where they are installed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp ();
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM);
use Test::More;

use Parley::Process;
use Parley::Test;

my $conf = "$FindBin::Bin/../conf/systemd";
my %program = map { my $name = $_; $name => (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/bin')[0] }
    qw(systemd-analyze systemd-socket-activate strace);

sub text {
	open my $f, '<', $_[0] or die "$_[0]: $!";
	local $/;
	return <$f>;
}

# The units as `make install` would put them, with programs that are there.
my $dir = File::Temp::tempdir(CLEANUP => 1);
for my $file (glob "$conf/parley*") {
	my $text = text($file);
	my ($name) = $file =~ m{([^/]+?)(?:\.in)?$};
	next if $file !~ /\.in$/ && -e "$file.in";
	$text =~ s{\@sbindir\@/parley\.fcgi}{Parley::Pool::program('parley.fcgi')}ge;
	$text =~ s{\@pkglibexecdir\@}{Cwd::abs_path($conf)}ge;
	open my $f, '>', "$dir/$name" or die $!;
	print $f $text;
	close $f;
}
ok !(grep { /@(?!\.service|\d|[({\w]*\.)\w+@/ } map { text($_) } glob "$dir/parley*"), 'nothing is left to be filled in';

subtest 'systemd-analyze verify' => sub {
	plan skip_all => 'systemd-analyze is missing (Debian: systemd)' unless $program{'systemd-analyze'};
	symlink "$dir/parley\@.service", "$dir/parley\@$_.service" for 1, 2;
	for my $unit ('parley.socket', 'parley.target', 'parley@1.service', 'parley-rolling-restart.service') {
		my $said = `SYSTEMD_UNIT_PATH='$dir:' '$program{'systemd-analyze'}' verify --man=no '$dir/$unit' 2>&1`;
		is $?, 0, "$unit is right";
		is join('', grep { /parley/ } split /^/, $said), '', '... without a complaint';
	}
};

subtest 'systemd-analyze security' => sub {
	plan skip_all => 'systemd-analyze is missing (Debian: systemd)' unless $program{'systemd-analyze'};
	# In tenths, the less the better; what is open is the network, which a worker is for.
	my $said = `'$program{'systemd-analyze'}' security --offline=true --threshold=13 --no-pager '$dir/parley\@1.service' 2>&1`;
	plan skip_all => "it cannot look at a file here: $said" if $said =~ /unrecognized option|Failed to/;
	is $?, 0, 'exposure is 1.3 or less' or diag $said;
	like $said, qr/Overall exposure level/, '... as it says';
};

# As systemd does it with StandardInput=socket and Type=notify.
sub notices {
	my ($sock, $want) = @_;
	my $got = '';
	Parley::Process::wait_for {
		my $fds = '';
		vec($fds, fileno $sock, 1) = 1;
		$got .= "$_\n" if select($fds, undef, undef, 0.1) && defined recv($sock, $_, 4096, 0);
		$got =~ $want;
	} 15;
	return $got;
}

subtest 'a worker on the socket of systemd-socket-activate' => sub {
	plan skip_all => 'systemd-socket-activate is missing (Debian: systemd)' unless $program{'systemd-socket-activate'};
	my $t = Parley::Test->new(how => 'fd', workers => 1);
	my $place = Parley::Process::tempdir();
	my $notify = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$place/notify") or die "notify: $!";
	chmod 0777, "$place/notify";
	my %env = (PARLEY_CONF => $t->pool->conf_file, PARLEY_AUTH_SECRET => $Parley::Test::SECRET,
	    NOTIFY_SOCKET => "$place/notify", WATCHDOG_USEC => 300_000);
	my $p = Parley::Process->new(log => "$place/log", dir => $place, env => \%env,
	    cmd => [$program{'systemd-socket-activate'}, (map { ('-E', $_) } sort keys %env),
	        '--inetd', '-l', "$place/parley.sock", $t->pool->{program}]);
	Parley::Process::wait_for { -S "$place/parley.sock" } 10;
	my $nginx = Parley::Nginx->new(sockets => ["$place/parley.sock"]);

	local $t->{nginx} = $nginx;
	my $r = $t->chat('alice', 'Add task: Buy milk');
	is $r->{status}, 200, 'a turn, with the request that started it' or diag text("$place/log");
	like $r->{json}{response} // '', qr/Buy milk/, '... is answered';

	like notices($notify, qr/READY=1/), qr/READY=1/, 'it says when it is ready';
	like notices($notify, qr/(?:WATCHDOG=1\s+){2}/), qr/WATCHDOG=1/, '... that it lives, again and again';
	kill 'HUP', $p->pid;
	like notices($notify, qr/RELOADING=1.*READY=1/s), qr/RELOADING=1\nMONOTONIC_USEC=\d+\n(?:WATCHDOG=1\n)*READY=1/, '... when it rereads its configuration';
	kill 'TERM', $p->pid;
	like notices($notify, qr/STOPPING=1/), qr/STOPPING=1/, '... and when it ends';
	Parley::Process::wait_for { !$p->running } 10;
	File::Path::remove_tree($place);
};

# What the worker asks of the kernel stands in SystemCallFilter.
subtest 'system calls' => sub {
	plan skip_all => 'systemd-analyze or strace is missing' unless $program{'systemd-analyze'} && $program{strace};
	plan skip_all => 'a sanitizer makes calls of its own' if text(Parley::Pool::program('parley.fcgi')) =~ /__asan_init/;
	my %allowed;
	my $set;
	$set = sub {
		my ($name) = @_;
		return $name unless $name =~ /^@/;
		return map { $set->($_) } grep { !/^#/ && !/^\Q$name\E$/ } map { s/^\s+|\s+$//gr }
		    split /\n/, `'$program{'systemd-analyze'}' syscall-filter '$name' 2>/dev/null`;
	};
	for (text("$conf/parley\@.service.in") =~ /^SystemCallFilter=(.*)/mg) {
		my $take = s/^~//;
		for my $call (map { $set->($_) } split) {
			$take ? delete $allowed{$call} : ($allowed{$call} = 1);
		}
	}
	cmp_ok scalar(keys %allowed), '>', 100, 'the filter is known';

	my $dir = Parley::Process::tempdir();
	my $t = Parley::Test->new(how => 'fd', workers => 1, wait => 0);
	my ($pid) = $t->pids;
	my $trace = Parley::Process->new(log => "$dir/log", dir => $dir,
	    cmd => [$program{strace}, '-f', '-qq', '-o', "$dir/calls", '-p', $pid]);
	my $seen = Parley::Process::wait_for { !$trace->running ? 'no' : -s "$dir/calls" ? 'yes' : '' } 10;
	plan skip_all => 'strace may not look at processes here' if ($seen // 'no') eq 'no';
	$t->ready;
	$t->chat('alice', 'Add task: Buy milk');
	$t->stream('alice', 'show my tasks');
	$t->pool->reload;
	$t->log_wait(sub { $_->{event} eq 'conf' });
	$t->pool->stop;
	Parley::Process::wait_for { !$trace->running } 10;
	my %called = map { $_ => 1 } text("$dir/calls") =~ /^\d+\s+(\w+)\(/mg;
	cmp_ok scalar(keys %called), '>', 15, 'calls were seen';
	is_deeply [grep { !$allowed{$_} } sort keys %called], [], 'all of them are allowed';
	File::Path::remove_tree($dir);
};

note 'untested: MemoryMax, TasksMax and IPC limits in force (they need control groups of their own), network-online.target at a real boot';

done_testing;
