package Parley::Server;

# What private web servers have in common: a directory, a free port of 127.0.0.1, a process that listens there.
#
# Who inherits has _write (the configuration, for {port} and {http_port}) and _process (a Parley::Process that has just begun);
# and where there is more to wait for, _answers.

use strict;
use warnings;

use File::Path ();
use IO::Socket::INET;

use Parley::Process;

sub new {
	my ($class, %opt) = @_;
	return $class->_made(%opt)->_begin;
}

# What it needs in its directory may be put there between these two.
sub _made {
	my ($class, %opt) = @_;
	return bless { owner_pid => $$, %opt, dir => Parley::Process::tempdir() }, $class;
}

sub _begin {
	my ($self) = @_;
	# Another test may take the port between the look and the bind: look again.
	for (1 .. 5) {
		$self->{$_} = Parley::Process::free_port() for qw(port http_port);
		$self->_write;
		return $self if $self->start;
	}
	die ref($self) . ' did not start: ' . $self->log_text;
}

sub dir { $_[0]{dir} }
sub port { $_[0]{port} }
sub http_port { $_[0]{http_port} }
sub url { ($_[0]{tls} ? 'https' : 'http') . "://127.0.0.1:$_[0]{port}" }
sub pid { $_[0]{process}->pid }

sub start {
	my ($self) = @_;
	$self->{process} = $self->_process;
	my $up = Parley::Process::wait_for {
		$self->{process}->running or return 'ended';
		$self->_answers ? 'up' : '';
	} 20;
	return ($up // '') eq 'up';
}

sub stop { $_[0]{process}->stop($_[1] // 'TERM', 20) }

sub log_text {
	my ($self) = @_;
	open my $fh, '<', $self->log_file or return '';
	local $/;
	return <$fh> // '';
}

sub _answers { return defined IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $_[0]{port}) }

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->stop if $self->{process};
	File::Path::remove_tree($self->{dir}) unless $ENV{PARLEY_KEEP};
}

1;
