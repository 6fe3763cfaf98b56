# The Debian package: built, judged by lintian, installed in a clean root, used there by hand and under a
# systemd of its own, upgraded, purged.  This machine's packages, users and services are not touched.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Cwd ();
use File::Temp ();
use IO::Socket::UNIX;
use Test::More;

use Parley::Process;
use Parley::Root;
use Parley::Test;

for my $need (qw(dh dpkg-buildpackage fakeroot)) {
	plan skip_all => "$need is missing (Debian: debhelper, dpkg-dev, fakeroot)" if system("command -v $need >/dev/null") != 0;
}
my ($build) = grep { -e "$_/Makefile" } Cwd::getcwd(), Cwd::abs_path("$FindBin::Bin/..");
plan skip_all => 'there is no Makefile: ./configure first' unless $build;

my $dest = File::Temp::tempdir('parley-deb-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dest;

# Built while the base system is made, which takes half a minute the first time.
my $maker = fork // die "fork: $!";
if ($maker == 0) {
	delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};
	$ENV{DEB_DEST} = $dest;
	open STDOUT, '>', "$dest/log";
	open STDERR, '>&', \*STDOUT;
	exec 'make', '-C', $build, 'deb' or POSIX::_exit(127);
}
my $why = Parley::Root::impossible();
waitpid $maker, 0;
is $?, 0, 'make deb' or do { diag `tail -40 '$dest/log'`; done_testing; exit 1 };
my ($deb) = glob "$dest/parley_*.deb";
like $deb // '', qr{/parley_\d[\d.]*_\w+\.deb$}, 'a package';

subtest 'lintian' => sub {
	plan skip_all => 'lintian is missing (Debian: lintian)' if system('command -v lintian >/dev/null') != 0;
	my $said = `lintian --allow-root --fail-on error '$deb' 2>&1`;
	is $?, 0, 'no error' or diag $said;
	# Another version of it has other opinions: they are worth reading.
	diag $_ for grep { /^W:/ } split /^/, $said;
};

# Without a clean root: what is in the package runs as it is, from where it is unpacked.
if ($why) {
	my $x = "$dest/x";
	is system('dpkg-deb', '-x', $deb, $x), 0, 'it can be unpacked';
	is system('dpkg-deb', '-e', $deb, "$x/DEBIAN"), 0, '... and its scripts';
	is system('sh', '-n', "$x/DEBIAN/$_"), 0, "$_ is a script" for qw(postinst postrm);
	local @ENV{qw(PARLEY_FCGI PARLEYCTL PARLEY_DEMO_MODEL)} = ("$x/usr/sbin/parley.fcgi", "$x/usr/bin/parleyctl", "$x/usr/bin/parley-demo-model");
	my $t = Parley::Test->new(how => 'fd', pg => Parley::Postgres->new(schema => "$x/usr/share/parley/schema"),
	    conf => { 'agent.instructions_file' => "$x/usr/share/parley/instructions.txt" });
	like $t->chat('alice', 'Add task: Buy milk')->{json}{response} // '', qr/Buy milk/, 'schema, worker and model of the package: a turn';
	note "untested: installing, upgrading and purging it, and the units under systemd: $why";
	undef $t;
	done_testing;
	exit 0;
}

my $root = Parley::Root->new;
my $pg = Parley::Postgres->new(port => 1, migrate => 0);
my $model = Parley::Model->new(delay => 50);
my ($status, $said);

sub install {
	my ($file) = @_;
	(my $name = $file) =~ s{.*/}{/};
	system('cp', $file, $root->path($name));
	my @got = $root->run('dpkg', '--force-confold', '-i', $name);
	unlink $root->path($name);
	return @got;
}

sub mode {
	my ($path) = @_;
	my ($status, $said) = $root->run('stat', '-c', '%U:%G %a', $path);
	chomp $said;
	return $said;
}

# --- installed

($status, $said) = install($deb);
is $status, 0, 'it installs' or diag $said;
is mode('/etc/parley/parley.conf'), 'root:parley 640', 'the configuration is for root and the workers';
like +($root->run('getent', 'passwd', 'parley'))[1], qr{^parley:.*:/nonexistent:/usr/sbin/nologin$}, 'a user of its own';
my @links = split /\n/, ($root->run('find', '/etc/systemd/system', '-name', 'parley*'))[1];
is_deeply \@links, [], 'nothing will be started that nobody asked for';
for my $path (qw(/usr/sbin/parley.fcgi /usr/bin/parleyctl /usr/bin/parley-demo-model /usr/share/parley/schema/001-core.sql
    /usr/share/parley/instructions.txt /usr/share/parley/web/index.html /usr/share/man/man8/parley.fcgi.8.gz
    /usr/share/doc/parley/README.Debian /lib/systemd/system/parley.socket)) {
	ok -s $root->path($path), $path;
}
is +($root->run('cat', '/usr/share/parley/web/config.json'))[1], $root->text('/etc/parley/page.json'), 'the settings of the page are in /etc';
is +($root->run('grep', '-rl', '/usr/local/', '/usr/share/doc/parley/examples'))[1], '', 'the samples name the places of the package';
is +($root->run('sh', '-c', 'logrotate -d /etc/logrotate.d/parley 2>&1 | grep -i error'))[1], '', 'logrotate understands its part';

# --- used

(my $sample = $root->text('/etc/parley/parley.conf')) =~ s/^(\[database\])$/"$1\nurl = " . $pg->tcp_url('parley_worker')/me;
$sample =~ s/^(\[auth\])$/$1\nsecret_file = token.secret/m;
$sample =~ s/^(\[model\])$/"$1\nbase_url = " . $model->url . "\nmodel = demo"/me;
$root->put('/etc/parley/parley.conf', $sample);
$root->put('/etc/parley/token.secret', "$Parley::Test::SECRET\n", 0640);
$root->run('chgrp', 'parley', '/etc/parley/token.secret');

($status, $said) = $root->run('env', 'PARLEY_DATABASE_OWNER_URL=' . $pg->tcp_url('postgres'), 'parleyctl', 'migrate');
is $status, 0, 'parleyctl migrate' or diag $said;
my @as = ('setpriv', '--reuid=parley', '--regid=parley', '--init-groups');
($status, $said) = $root->run(@as, 'parleyctl', 'check');
is $status, 0, 'parleyctl check, as the workers' or diag $said;

# What Parley::Test does with a web server, for a socket of ours.
sub front {
	my ($socket) = @_;
	return bless { owner_pid => $$, nginx => Parley::Nginx->new(sockets => [$socket], web => $root->path('/usr/share/parley/web')) }, 'Parley::Test';
}

my $id;
subtest 'a worker on descriptor 0' => sub {
	my $dir = Parley::Process::tempdir();
	my $socket = IO::Socket::UNIX->new(Local => "$dir/parley.sock", Listen => 128) or die "socket: $!";
	chmod 0666, "$dir/parley.sock";
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open STDIN, '<&', $socket;
		open STDOUT, '>', "$dest/worker.log";
		open STDERR, '>&', \*STDOUT;
		exec 'setpriv', '--pdeathsig', 'TERM', 'chroot', $root->path('/'), 'env', '-i', 'PATH=/usr/bin:/usr/sbin', @as,
		    '/usr/sbin/parley.fcgi' or POSIX::_exit(127);
	}
	my $t = front("$dir/parley.sock");
	my $r = $t->chat('alice', 'Add task: Buy milk');
	is $r->{status}, 200, 'a turn' or diag $r->{body}, `cat '$dest/worker.log'`;
	like $r->{json}{response} // '', qr/Buy milk/, '... is answered';
	$id = $r->{json}{conversation_id};
	kill 'TERM', $pid;
	my $ended = Parley::Process::wait_for { waitpid($pid, 1) == $pid } 20;
	ok $ended, 'SIGTERM ends it' or kill 'KILL', $pid;
	undef $socket;
	File::Path::remove_tree($dir);
};

# --- under systemd

# MainPIDs of the workers.
sub pids {
	return map { (split /=/)[1] } grep { /^MainPID=[1-9]/ } split /\n/,
	    ($root->inside('systemctl', 'show', '-p', 'MainPID', 'parley@1', 'parley@2', 'parley@3'))[1];
}

# How many they are, once they are as many as that: systemctl(1) waits for the job it was asked for, not for those that follow.
sub workers {
	my ($n) = @_;
	Parley::Process::wait_for { my @now = pids(); @now == $n } 20;
	my @now = pids();
	return scalar @now;
}

sub systemctl {
	my (@args) = @_;
	my ($status, $said) = $root->inside('systemctl', @args);
	is $status, 0, "systemctl @args" or diag $said, ($root->inside('journalctl', '-n', '30', '--no-pager', '-o', 'cat'))[1];
}

sub state_of { my ($s) = ($root->inside('systemctl', 'is-active', $_[0]))[1]; chomp $s; return $s }

subtest 'systemd' => sub {
	my $run = File::Temp::tempdir('prunXXXXXX', DIR => '/tmp', CLEANUP => 1);
	chmod 0755, $run;
	if (!$root->boot(run => $run)) {
		plan skip_all => 'untested: no systemd of our own can be started here: ' . ($root->text('/boot.log') // '');
	}
	isnt +($root->inside('sh', '-c', 'echo 1 > /proc/sys/vm/swappiness'))[0], 0, 'the settings of the machine are out of its reach';
	is state_of('parley.socket'), 'inactive', 'nothing of ours runs after a boot';
	systemctl('enable', '--now', 'parley.target');
	is state_of($_), 'active', "$_ runs" for qw(parley.socket parley@1 parley@2);
	is +($root->inside('stat', '-c', '%U:%G %a', '/run/parley/parley.sock'))[1], "parley:www-data 660\n", 'a socket for the web server';
	my $t = front("$run/parley.sock");
	my $r = $t->chat('alice', 'Show my tasks', conversation_id => $id);
	like $r->{json}{response} // $r->{body}, qr/Buy milk/, 'a turn, under all that is forbidden';

	my ($pid) = pids();
	my $proc = ($root->inside('cat', "/proc/$pid/status"))[1];
	like $proc, qr/^CapBnd:\s+0+$/m, 'no capability';
	like $proc, qr/^NoNewPrivs:\s+1$/m, 'no new privileges';
	like $proc, qr/^Seccomp:\s+2$/m, 'a filter of system calls';
	my $log = ($root->inside('journalctl', '-o', 'cat', '--no-pager'))[1];
	my ($held) = $log =~ /"confined":"([^"]*)"/;
	note 'what it gave up by itself: ', $held // 'nothing';
	like $held // '', qr/\bcalls\b/, 'its own filter comes on top';
	isnt +($root->inside('nsenter', '-t', $pid, '-m', 'touch', '/etc/parley/x'))[0], 0, 'the system is read-only';

	systemctl('start', 'parley@3');
	is workers(3), 3, 'one more worker';

	# One after another, while turns run and come.
	my @before = pids();
	my @begun = map { $t->begin_chat("user-$_", 'hello') } 1 .. 10;
	my $roll = fork // die "fork: $!";
	POSIX::_exit(($root->inside('systemctl', 'start', 'parley-rolling-restart'))[0]) if $roll == 0;
	my %codes;
	$codes{$t->chat("later-$_", 'hello')->{status}}++ for 1 .. 15;
	waitpid $roll, 0;
	is $?, 0, 'rolling restart';
	$codes{$_->response->{status}}++ for @begun;
	# 202: taken up elsewhere, or finished by a worker that no longer lets anybody wait (parley.fcgi(8), SIGTERM).
	is +($codes{200} // 0) + ($codes{202} // 0), 25, '... nobody is sent away' or diag explain \%codes;
	my $done = Parley::Process::wait_for { $pg->one(q{SELECT count(*) FROM parley.turns WHERE state <> 'done'}) == 0 } 20;
	ok $done, '... and every turn is done';
	my %old = map { $_ => 1 } @before;
	is scalar(grep { !$old{$_} } pids()), 3, '... by new workers';

	@before = pids();
	systemctl('reload', 'parley.target');
	my $read = Parley::Process::wait_for { (() = ($root->inside('journalctl', '-o', 'cat', '--no-pager'))[1] =~ /configuration was read again/g) >= 3 } 10;
	ok $read, '... reaches all workers';
	is_deeply [pids()], \@before, '... which stay';

	my $inode = (stat "$run/parley.sock")[1];
	$root->inside('systemctl', 'kill', '-s', 'KILL', 'parley@1');
	my $again = Parley::Process::wait_for { my @now = pids(); @now == 3 && $now[0] != $before[0] } 15;
	ok $again, 'who dies is replaced';
	systemctl('restart', 'parley.target');
	is +(stat "$run/parley.sock")[1], $inode, '... and the socket stays';
	is $t->chat('alice', 'hello')->{status}, 200, '... and serves';

	$root->put('/etc/parley/parley.conf', "$sample\n[worker]\ndrain_timeout = soon\n");
	isnt +($root->inside('systemctl', 'start', 'parley-rolling-restart'))[0], 0, 'a mistake in the configuration stops the rolling restart';
	is workers(2), 2, '... at its first worker';
	is $t->chat('alice', 'hello')->{status}, 200, '... the others serve';
	$root->put('/etc/parley/parley.conf', $sample);
	systemctl('start', 'parley.target');
	is workers(3), 3, '... and it comes back';

	# Without a worker, a request starts one.
	$root->inside('systemctl', 'stop', 'parley@1', 'parley@2', 'parley@3');
	is $t->chat('alice', 'hello')->{status}, 200, 'a request that finds no worker starts one';

	systemctl('stop', 'parley.target');
	is workers(0), 0, 'no worker is left';
	ok !-e "$run/parley.sock", '... and no socket';
	is $t->chat('alice', 'hello')->{status}, 503, '... which is 503';
	$root->halt;
	note 'untested: memory and task limits in force, a boot of a whole machine';
};

# --- upgraded

# The same package with the next version, and another sample.
subtest 'upgrade' => sub {
	my $tree = "$dest/next";
	system("dpkg-deb -R '$deb' '$tree'") == 0 or die 'dpkg-deb';
	system('sed', '-i', 's/^Version: .*/&+next/', "$tree/DEBIAN/control");
	open my $f, '>>', "$tree/etc/parley/parley.conf" or die $!;
	print $f "# a new line in the sample\n";
	close $f;
	system("dpkg-deb --root-owner-group -b '$tree' '$dest/next.deb' >/dev/null") == 0 or die 'dpkg-deb';
	my ($status, $said) = install("$dest/next.deb");
	is $status, 0, 'it upgrades' or diag $said;
	is $root->text('/etc/parley/parley.conf'), $sample, 'the configuration that was edited stays';
	is mode('/etc/parley/parley.conf'), 'root:parley 640', '... and who may read it';
	is $root->text('/etc/parley/token.secret'), "$Parley::Test::SECRET\n", '... and the keys beside it';
	is +($root->run(@as, 'parleyctl', 'check'))[0], 0, 'it works as before';
};

# --- removed

($status, $said) = $root->run('dpkg', '-r', 'parley');
is $status, 0, 'it goes' or diag $said;
ok -e $root->path('/etc/parley/parley.conf'), 'the configuration stays';
($status, $said) = $root->run('dpkg', '-P', 'parley');
is $status, 0, 'purge' or diag $said;
is +($root->run('sh', '-c', 'find / -xdev -path "*parley*" | grep -v ^/var/log/journal'))[1], '', '... leaves no file';
like +($root->run('getent', 'passwd', 'parley'))[1], qr/^parley:/, '... but the user, as is the custom';

done_testing;
