package Parley::Root;

# A clean Debian in a directory, thrown away at the end.
#
#	my $why = Parley::Root::impossible();	# '' or a reason
#	my $root = Parley::Root->new;
#	my ($status, $output) = $root->run('dpkg', '-i', '/tmp/x.deb');	# as its root
#	$root->put('/etc/x', 'text'); $root->text('/etc/x'); $root->path('/etc/x');
#	$root->boot(run => DIR) or …;		# systemd as its first process; DIR is its /run/parley
#	$root->inside('systemctl', …);		# beside that one
#	$root->halt;
#
# mmdebstrap makes it from the Debian sources that this machine's apt knows; the result is kept
# for the next time under ~/.cache/parley.  It has the libraries that the package depends on, and
# systemd.  Nothing of the machine is changed: what boots has namespaces and a control
# group of its own, and the machine's network.  All this takes root.

use strict;
use warnings;

use Digest::SHA ();
use File::Path ();
use File::Temp ();
use POSIX ();

use Parley::Process;

my @PACKAGES = qw(adduser ca-certificates dbus libcurl4 libevent-2.1-7 libfcgi0ldbl libinih1 libjson-c5 libjwt0
    libpq5 libseccomp2 logrotate systemd systemd-sysv);

# What systemd needs around it.  $1 root, $2 the directory for /run/parley.
my $BOOT = <<'SH';
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
# The kernel's settings are the machine's, and systemd has opinions on them.
for part in sys sysrq-trigger; do
	[ ! -e "proc/$part" ] || { mount --bind "proc/$part" "proc/$part" && mount -o remount,bind,ro "proc/$part"; }
done
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/parley
mount --bind "$2" run/parley
mount -t tmpfs tmpfs tmp
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
	mount -t cgroup2 cgroup2 sys/fs/cgroup
else
	mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
	mkdir sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=parley PATH=/usr/sbin:/usr/bin setpriv \
    --bounding-set=-sys_time,-sys_module,-sys_rawio,-net_admin,-syslog,-audit_control,-mac_admin,-wake_alarm \
    --inh-caps=-all /lib/systemd/systemd --unit=basic.target
SH

sub impossible {
	return 'only root can make a clean root' if $> != 0;
	return 'mmdebstrap is missing (Debian: mmdebstrap)' if system('command -v mmdebstrap >/dev/null') != 0;
	my $file = eval { _base() };
	return $file ? '' : 'no base system could be had: ' . ($@ || 'unknown') =~ s/\n.*//sr;
}

sub new {
	my ($class) = @_;
	my $self = bless { owner_pid => $$, dir => File::Temp::tempdir('proot-XXXXXXXX', DIR => '/tmp') }, $class;
	chmod 0755, $self->{dir};
	system('tar', 'xf', _base(), '-C', $self->{dir}) == 0 or die 'tar failed';
	return $self;
}

sub path { "$_[0]{dir}$_[1]" }

sub put {
	my ($self, $path, $text, $mode) = @_;
	open my $f, '>', $self->path($path) or die "$path: $!";
	print $f $text;
	close $f;
	chmod $mode, $self->path($path) if $mode;
}

sub text {
	my ($self, $path) = @_;
	open my $f, '<', $self->path($path) or return undef;
	local $/;
	return <$f> // '';
}

sub run {
	my ($self, @cmd) = @_;
	return _output('chroot', $self->{dir}, 'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8',
	    'DEBIAN_FRONTEND=noninteractive', @cmd);
}

# Returns true when its systemd answers.
sub boot {
	my ($self, %opt) = @_;
	my @groups = map { "$_/parley-boot-$$" } -f '/sys/fs/cgroup/cgroup.controllers' ? '/sys/fs/cgroup'
	    : grep { -d } '/sys/fs/cgroup/systemd', '/sys/fs/cgroup/unified';

	$self->{groups} = [grep { mkdir } @groups];
	return 0 if @{$self->{groups}} != @groups || !@groups;
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		for (@groups) {
			open my $f, '>', "$_/cgroup.procs" or POSIX::_exit(126);
			syswrite $f, $$;
		}
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', $self->path('/boot.log');
		open STDERR, '>&', \*STDOUT;
		exec 'setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--pid', '--ipc', '--uts', '--cgroup', '--fork',
		    '--kill-child', 'bash', '-c', $BOOT, 'boot', $self->{dir}, $opt{run} or POSIX::_exit(127);
	}
	$self->{boot} = $pid;
	my $up = Parley::Process::wait_for {
		return 'no' if waitpid($pid, 1) != 0;
		open my $f, '<', "/proc/$pid/task/$pid/children" or return '';
		($self->{init}) = split ' ', scalar(<$f>) // '';
		open my $c, '<', '/proc/' . ($self->{init} // 0) . '/comm' or return '';
		return '' if scalar(<$c>) ne "systemd\n";
		my ($status) = $self->inside('systemctl', 'is-active', '--quiet', 'basic.target');
		$status == 0 ? 'yes' : '';
	} 20;
	return 1 if ($up // '') eq 'yes';
	$self->halt;
	return 0;
}

sub inside {
	my ($self, @cmd) = @_;
	return _output('timeout', '-k', '1', '60', 'nsenter', '-t', $self->{init}, '-m', '-p', '-i', '-u', '-C', @cmd);
}

sub halt {
	my ($self) = @_;
	# It is the first process of its namespace: the kernel ends all others with it.
	kill 'KILL', $self->{init} if $self->{init};
	if (my $pid = delete $self->{boot}) {
		Parley::Process::wait_for { waitpid($pid, 1) != 0 } 10 or kill 'KILL', $pid;
	}
	delete $self->{init};
	for my $group (@{delete $self->{groups} // []}) {
		Parley::Process::wait_for {
			system('find', $group, '-depth', '-type', 'd', '-exec', 'rmdir', '--ignore-fail-on-non-empty', '{}', ';');
			!-d $group;
		} 5;
	}
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->halt;
	File::Path::remove_tree($self->{dir}) unless $ENV{PARLEY_KEEP};
}

# Exit status and what was said.
sub _output {
	my (@cmd) = @_;
	my $pid = open(my $out, '-|') // die "fork: $!";
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDERR, '>&', \*STDOUT;
		exec @cmd or POSIX::_exit(127);
	}
	my $text = do { local $/; <$out> } // '';
	close $out;
	return ($? >> 8, $text);
}

# The tarball of the base system; made if it is not there.
sub _base {
	my ($suite, @lines) = _sources();
	my $dir = ($ENV{XDG_CACHE_HOME} // ($ENV{HOME} // '/root') . '/.cache') . '/parley';
	my $file = "$dir/debian-$suite-" . substr(Digest::SHA::sha1_hex("@PACKAGES"), 0, 8) . '.tar';

	return $file if -s $file;
	File::Path::make_path($dir);
	my ($status, $said) = _output('timeout', '150', 'mmdebstrap', '--quiet', '--variant=apt', '--include=' . join(',', @PACKAGES),
	    '--dpkgopt=path-exclude=/usr/share/locale/*', '--dpkgopt=path-exclude=/usr/share/man/*',
	    '--dpkgopt=path-include=/usr/share/man/man[158]/parley*', $suite, "$file.$$.tar", @lines);
	if ($status != 0) {
		unlink "$file.$$.tar";
		die "mmdebstrap: $said\n";
	}
	rename "$file.$$.tar", $file or die "$file: $!";
	return $file;
}

# The suite of this machine, and where its apt gets Debian's main part from.
sub _sources {
	my $suite = `. /etc/os-release && echo \$VERSION_CODENAME`;
	chomp $suite;
	my @lines;
	for (`apt-get indextargets --format '\$(ORIGIN)|\$(SITE)|\$(CODENAME)|\$(COMPONENT)|\$(SIGNED_BY)' 'Created-By: Packages'`) {
		chomp;
		my ($origin, $site, $name, $part, $key) = split /\|/;
		next unless $origin eq 'Debian' && $part eq 'main' && $name =~ /^\Q$suite\E/;
		push @lines, 'deb ' . ($key =~ m{^/} ? "[signed-by=$key] " : '') . "$site $name main";
	}
	my %seen;
	return ($suite, grep { !$seen{$_}++ } @lines);
}

1;
