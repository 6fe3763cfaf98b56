package Parley::Ctl;

# parleyctl as the operator runs it on a test's database.
#
#	my $ctl = Parley::Ctl->new($t->pg, 'model.price_input' => '0.15');
#	my ($status, $out, $err) = $ctl->run('stats', '--json');
#	$ctl->start('user', 'erase', '--yes', 'ann'); … my ($status, $out, $err) = $ctl->wait;
#
# It logs in as the worker's role does, and for what crosses users as the superuser; other keys override.  Its standard
# input is empty.

use strict;
use warnings;

use Parley::Pool;
use Parley::Process;
use POSIX ();

sub new {
	my ($class, $pg, %conf) = @_;
	my $self = bless { owner_pid => $$, dir => Parley::Process::tempdir(), program => Parley::Pool::program('parleyctl') }, $class;

	open my $fh, '>:encoding(UTF-8)', "$self->{dir}/parley.conf" or die "parley.conf: $!";
	print $fh Parley::Pool::conf_text({ 'database.url' => $pg->url('parley_worker'), 'database.ops_url' => $pg->url('postgres'), %conf });
	close $fh;
	chmod 0600, "$self->{dir}/parley.conf";
	return $self;
}

sub run {
	my ($self, @words) = @_;
	$self->start(@words);
	return $self->wait;
}

# Without standard output.
sub run_closed {
	my ($self, @words) = @_;
	$self->start(\undef, @words);
	return $self->wait;
}

sub start {
	my ($self, @words) = @_;
	my $closed = ref $words[0] && shift @words;
	$self->{pid} = fork // die "fork: $!";
	return if $self->{pid};
	delete $ENV{$_} for grep { /^(PARLEY_|PG|OPENAI_|OPENROUTER_|DATABASE_URL|AGENT_MODEL|BETTER_AUTH_SECRET)/ } keys %ENV;
	$ENV{PARLEY_AUTH_SECRET} = 'a secret of the tests, 32 bytes or more';
	open STDIN, '<', '/dev/null' or POSIX::_exit(127);
	open STDOUT, '>', "$self->{dir}/out" or POSIX::_exit(127);
	open STDERR, '>', "$self->{dir}/err" or POSIX::_exit(127);
	POSIX::close(1) if $closed;
	exec { $self->{program} } $self->{program}, '-c', "$self->{dir}/parley.conf", @words or POSIX::_exit(127);
}

sub wait {
	my ($self) = @_;
	waitpid delete $self->{pid}, 0;
	my $status = $?;
	return ($status & 127 ? "signal $status" : $status >> 8, map { _text("$self->{dir}/$_") } qw(out err));
}

sub _text {
	open my $fh, '<:raw', $_[0] or return '';
	local $/;
	return scalar(<$fh>) // '';
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	if ($self->{pid}) {
		kill 'KILL', $self->{pid};
		waitpid $self->{pid}, 0;
	}
	require File::Path;
	File::Path::remove_tree($self->{dir});
}

1;
