package Parley::Process;

# A server that a test started and will stop.
#
#	my $p = Parley::Process->new(cmd => ['nginx', ...], log => "$dir/log",
#	    env => { PARLEY_CONF => "$dir/parley.conf" });
#	$p->pid; $p->children; $p->stop;
#
# Root starts it as an unprivileged user: nothing of ours needs to be root, and PostgreSQL
# refuses to.  It gets SIGTERM when the object leaves scope and also, by way of
# the kernel, when the test is killed.  own => 1: it runs as whoever we are, for programs that lie where only
# we can look.

use strict;
use warnings;

use File::Path ();
use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(sleep time);

# Signals become exits, so that DESTROY runs.
for my $sig (qw(INT TERM HUP)) {
	$SIG{$sig} //= sub { exit 1 };
}

my ($UID, $GID);
if ($> == 0) {
	my ($user) = grep { defined getpwnam $_ } qw(www-data nobody);
	($UID, $GID) = (getpwnam $user)[2, 3];
}

# A private directory of that user.  Short: a socket's path has at most 107 bytes.
sub tempdir {
	my $dir = File::Temp::tempdir('parley-XXXXXXXX', DIR => '/tmp');
	give($dir);
	chmod 0711, $dir;
	return $dir;
}

# Hands files over to the user that servers run as.
sub give {
	chown $UID, $GID, @_ if defined $UID;
}

sub free_port {
	my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "socket: $!";
	return $sock->sockport;
}

# Calls the function until it returns something true, which is returned; undef past the time.
sub wait_for(&;$) {
	my ($code, $seconds) = @_;
	my $until = time + ($seconds // 30);

	while (1) {
		my $got = $code->();
		return $got if $got;
		return undef if time > $until;
		sleep 0.02;
	}
}

sub new {
	my ($class, %opt) = @_;
	my $self = bless { owner_pid => $$, %opt }, $class;
	my @as = ('setpriv', '--pdeathsig', 'TERM');

	open my $log, q(>>), $opt{log} or die "$opt{log}: $!";
	give($opt{log});
	push @as, "--reuid=$UID", "--regid=$GID", '--clear-groups' if defined $UID && !$opt{own};
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, ">&", $log;
		open STDERR, '>&', \*STDOUT;
		chdir $opt{dir} if defined $opt{dir};
		my $env = $opt{env} // {};
		for (keys %$env) {
			defined $env->{$_} ? $ENV{$_} = $env->{$_} : delete $ENV{$_};
		}
		exec @as, @{$opt{cmd}} or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	return $self;
}

sub pid { $_[0]{pid} }

sub running {
	my ($self) = @_;
	return 0 unless $self->{pid};
	return 1 if waitpid($self->{pid}, 1) == 0;
	delete $self->{pid};
	return 0;
}

# Pids of its living children.
sub children {
	my ($self) = @_;
	my $pid = $self->{pid} or return;
	open my $fh, '<', "/proc/$pid/task/$pid/children" or return;
	return grep { lives($_) } split ' ', scalar(<$fh>) // '';
}

# Waits for its end; after the seconds it is killed.  Returns the wait status.
sub stop {
	my ($self, $signal, $seconds) = @_;
	my $pid = $self->{pid} or return;
	my @children = $self->children;

	kill $signal // 'TERM', $pid;
	my $ended = wait_for { waitpid($pid, 1) == $pid } $seconds // 30;
	my $status = $?;
	if (!$ended) {
		kill 'KILL', $pid, @children;
		waitpid $pid, 0;
		$status = 9;
	}
	# Orphans are of no use to anyone; those that drain are given the same time.
	wait_for { !grep { lives($_) } @children } $seconds // 30
	    or kill 'KILL', @children;
	delete $self->{pid};
	return $status;
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->stop('TERM', 5);
}

# Is there such a process, other than one that has ended and was not yet waited for?
sub lives {
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/stat" or return 0;
	return (scalar(<$fh>) // ') Z') !~ /\) Z/;
}

1;
