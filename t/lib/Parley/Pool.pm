package Parley::Pool;

# Workers as users start them: spawn-fcgi, multiwatch, parley.fcgi on a Unix socket.
#
#	my $pool = Parley::Pool->new(conf => { 'database.url' => …, … }, workers => 2);
#	$pool->socket; $pool->pids; $pool->log; $pool->restart; $pool->stop;
#
# Options: conf (section.key => value; "model.NAME.key" for a fallback), workers (2),
# env, how ('spawn', or 'listen': parley.fcgi --listen --workers by itself, or 'fd': one
# worker with a socket of Perl's on descriptor 0, or 'server': a web server starts them, as
# ->worker with ->environment, and their log is where it puts it),
# listen (with 'listen': 'tcp:127.0.0.1:PORT' instead of the Unix socket).
#
# The program is PARLEY_FCGI of the environment, else the one in the build directory.
# Root copies it first, as the user that it runs as may not reach the build directory.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Copy ();
use File::Path ();
use JSON::XS ();

use Parley::Process;

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');

# A program of the build: the environment's word, the build directory's, the source's.
sub program {
	my ($name) = @_;
	(my $var = uc $name) =~ tr/A-Z0-9/_/c;
	my ($path) = grep { defined && -x && !-d } $ENV{$var}, Cwd::getcwd() . "/$name", "$ROOT/$name";
	die "$name has not been built\n" unless $path;
	return Cwd::abs_path($path);
}

# The text of a parley.conf.
sub conf_text {
	my ($conf) = @_;
	my %section;

	for my $name (keys %$conf) {
		next unless defined $conf->{$name};
		my ($section, $key) = $name =~ /^(.+)\.([^.]+)$/ or die "conf: $name has no section";
		$section{$section}{$key} = $conf->{$name};
	}
	my $text = '';
	for my $section (sort keys %section) {
		$text .= "[$section]\n";
		$text .= "$_ = $section{$section}{$_}\n" for sort keys %{$section{$section}};
	}
	return $text;
}

sub new {
	my ($class, %opt) = @_;
	my $self = bless {
		owner_pid => $$, workers => 2, how => 'spawn', conf => {}, %opt,
		dir => Parley::Process::tempdir(),
	}, $class;

	$self->{program} = program('parley.fcgi');
	if ($> == 0) {
		File::Copy::copy($self->{program}, "$self->{dir}/parley.fcgi") or die "copy: $!";
		chmod 0755, "$self->{dir}/parley.fcgi";
		$self->{program} = "$self->{dir}/parley.fcgi";
	}
	$self->write_conf;
	$self->start;
	return $self;
}

sub dir { $_[0]{dir} }
sub socket { $_[0]{listen} ? $_[0]{listen} =~ s/^tcp://r : "$_[0]{dir}/parley.sock" }
sub conf_file { "$_[0]{dir}/parley.conf" }
sub log_file { "$_[0]{dir}/log" }

# The configuration with changes; they count from the next restart, or from reload for keys that can.
sub write_conf {
	my ($self, %change) = @_;
	$self->{conf} = { %{$self->{conf}}, %change };
	open my $fh, '>', $self->conf_file or die $self->conf_file . ": $!";
	binmode $fh, ':encoding(UTF-8)';
	print $fh conf_text($self->{conf});
	close $fh;
	Parley::Process::give($self->conf_file);
	chmod 0600, $self->conf_file;
}

# The program, as the user that servers run as can reach it.
sub worker { $_[0]{program} }

# What a worker finds in its environment; undef: what it must not find there.
sub environment {
	my ($self) = @_;
	return (
		(map { $_ => undef } grep { /^(PARLEY_|PG|OPENAI_|OPENROUTER_|DATABASE_URL|AGENT_MODEL|BETTER_AUTH_SECRET)/ } keys %ENV),
		PARLEY_CONF => $self->conf_file,
		# A worker that a sanitizer stops must not look like one that was asked to.
		ASAN_OPTIONS => $ENV{ASAN_OPTIONS} // 'abort_on_error=1:detect_leaks=0',
		UBSAN_OPTIONS => $ENV{UBSAN_OPTIONS} // 'print_stacktrace=1',
		%{$self->{env} // {}},
	);
}

sub start {
	my ($self) = @_;
	return if $self->{how} eq 'server';
	my $socket = "$self->{dir}/parley.sock";
	my @worker = ($self->{program});
	my @cmd;

	if ($self->{how} eq 'listen') {
		@cmd = (@worker, '--listen', $self->{listen} // "unix:$socket", '--workers', $self->{workers});
	} elsif ($self->{how} eq 'fd') {
		unlink $socket;
		@cmd = ($^X, '-MIO::Socket::UNIX', '-e', 'umask 0;
		    my $s = IO::Socket::UNIX->new(Local => shift, Listen => 4096) or die "socket: $!";
		    open STDIN, "<&", $s or die "dup: $!"; exec @ARGV; die "exec: $!"', $socket, @worker);
	} else {
		unlink $socket;
		# Tests kill more workers than multiwatch would put up with.
		@cmd = ('spawn-fcgi', '-n', '-b', 32768, '-M', '0666', '-s', $socket, '--',
		    _which('multiwatch'), '-r', 1000, '-f', $self->{workers}, '--', @worker);
	}
	$self->{process} = Parley::Process->new(cmd => \@cmd, dir => $self->{dir}, log => $self->log_file,
	    env => { $self->environment });
}

sub stop { $_[0]{process}->stop($_[1], $_[2]) }

# spawn-fcgi does not look along PATH.
sub _which {
	my ($name) = @_;
	my ($path) = grep { -x } map { "$_/$name" } split /:/, $ENV{PATH};
	return $path // die "$name is missing (Debian: $name)\n";
}

# Stops (SIGTERM: drains) and starts again, with what write_conf has changed.
sub restart {
	my ($self, $signal) = @_;
	$self->stop($signal);
	$self->start;
}

sub parent_pid { $_[0]{process}->pid }

sub pids {
	my ($self) = @_;
	return $self->{process}->pid if $self->{how} eq 'fd';
	return $self->{process}->children;
}

# SIGHUP to each worker.
sub reload { kill 'HUP', $_[0]->pids }

sub log_text {
	my ($self) = @_;
	open my $fh, '<', $self->log_file or return '';
	local $/;
	return <$fh> // '';
}

# The lines that are JSON objects, parsed.
sub log {
	my ($self) = @_;
	return grep { ref eq 'HASH' } map { eval { JSON::XS::decode_json($_) } } grep { /^\{/ }
	    split /\n/, $self->log_text;
}

# What a sanitizer said, or a crash; '' is good.
sub sickness {
	my ($self) = @_;
	my @bad = grep {
		/ERROR: \w+Sanitizer|runtime error:|Assertion .* failed|stack smashing|"event": ?"crash"/
	} split /\n/, $self->log_text;
	return join "\n", @bad;
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->stop('TERM', 15) if $self->{process};
	# A crash that no test looked for must still be seen.
	my $bad = $self->sickness;
	if ($bad ne '') {
		print STDERR "# workers were not well:\n", map { "# $_\n" } split /\n/, $self->log_text =~ s/.*?(?=^=+\d+=+ERROR|.*runtime error)//msr;
		$? = 1;
		our $sick = 1;
	}
	File::Path::remove_tree($self->{dir}) unless $ENV{PARLEY_KEEP};
}

# A test whose workers crashed or were stopped by a sanitizer does not pass.
our $sick;
END { $? ||= 70 if $sick }

1;
