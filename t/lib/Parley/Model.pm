# Parley::Model -- a demo model of the test's own, on a free port.
#
#	my $model = Parley::Model->new(delay => 200,
#	    scripts => { slow => "wait 500\ndata {...}\ndone\n" });
#	$model->url;                    # http://127.0.0.1:PORT/v1
#	$model->requests;               # what it was asked, oldest first
#	$model->clear;                  # forget them; scripts begin anew
#
# scripts is a folder or a hash of name => text; it may be left out.  The
# program is the one that PARLEY_DEMO_MODEL names, else the one of the build
# tree.  It is stopped by its process id when the object goes.
package Parley::Model;
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use HTTP::Tiny;
use JSON::XS;
use Time::HiRes qw(sleep time);

my $READY_SECONDS = 20;

sub new {
	my ($class, %o) = @_;
	my $dir = tempdir('parley-model-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = bless { dir => $dir, owner => $$ }, $class;

	$self->{scripts} = ref $o{scripts} ? "$dir/scripts" : $o{scripts};
	mkdir $self->{scripts} if ref $o{scripts};
	$self->script($_, $o{scripts}{$_}) for ref $o{scripts} ? keys %{ $o{scripts} } : ();

	$self->_start(_program(),
	    '--listen', '127.0.0.1:' . ($o{port} // 0),
	    '--port-file', "$dir/port",
	    (defined $o{delay}  ? ('--delay',  $o{delay})  : ()),
	    (defined $o{pieces} ? ('--pieces', $o{pieces}) : ()),
	    (defined $self->{scripts} ? ('--scripts', $self->{scripts}) : ()));
	return $self;
}

sub port { $_[0]{port} }
sub pid  { $_[0]{pid} }
sub root { "http://127.0.0.1:$_[0]{port}" }
sub url  { $_[0]->root . '/v1' }

# Writes or replaces a script while the model runs.
sub script {
	my ($self, $name, $text) = @_;

	open my $f, '>:raw', "$self->{scripts}/$name.script.new" or die "$name.script: $!";
	print $f utf8::is_utf8($text) ? do { my $t = $text; utf8::encode($t); $t } : $text;
	close $f or die "$name.script: $!";
	rename "$self->{scripts}/$name.script.new", "$self->{scripts}/$name.script" or die $!;
}

sub requests {
	my ($self) = @_;
	my $res = HTTP::Tiny->new(timeout => 20)->get($self->root . '/_requests');

	die "requests: $res->{status} $res->{content}" unless $res->{success};
	my $all = decode_json($res->{content});
	return wantarray ? @$all : $all;
}

sub clear {
	my ($self) = @_;
	my $res = HTTP::Tiny->new(timeout => 20)->delete($self->root . '/_requests');

	die "clear: $res->{status} $res->{content}" unless $res->{success};
}

# Waits until at least that many requests have come; they are returned.
sub wait_requests {
	my ($self, $n, $seconds) = @_;
	my $end = time + ($seconds // 10);

	while (1) {
		my @r = $self->requests;
		return @r if @r >= $n || time > $end;
		sleep 0.02;
	}
}

sub stop {
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	my $end = time + 10;

	kill TERM => $pid;
	while (waitpid($pid, 1) == 0) {
		kill KILL => $pid if time > $end;
		sleep 0.01;
	}
	return $self->{status} = $?;
}

sub DESTROY {
	my ($self) = @_;

	local ($?, $@, $!);
	# A forked child of the test has a copy of the object, not the process.
	$self->stop if $self->{owner} == $$;
}

sub _program {
	my $top = dirname(__FILE__) . '/../../..';

	for my $p (grep { defined } $ENV{PARLEY_DEMO_MODEL},
	    './parley-demo-model', "$top/parley-demo-model") {
		return abs_path($p) if -x $p;
	}
	die "parley-demo-model is not built (make parley-demo-model)";
}

sub _start {
	my ($self, @command) = @_;
	my $end = time + $READY_SECONDS;

	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0) {
		no warnings "exec";	## no critic (ProhibitNoWarnings): what cannot be run is said below
		exec { $command[0] } @command;
		print STDERR "$command[0]: $!\n";
		require POSIX;
		POSIX::_exit(127);
	}
	until (-s "$self->{dir}/port") {
		if (waitpid($self->{pid}, 1) != 0) {
			delete $self->{pid};
			die "@command ended with $?";
		}
		die "@command is not ready after $READY_SECONDS s" if time > $end;
		sleep 0.01;
	}
	open my $f, '<', "$self->{dir}/port" or die $!;
	($self->{port} = <$f>) =~ s/\s+//;
	close $f;
}

1;
