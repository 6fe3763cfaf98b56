package Parley::PgBouncer;

# PgBouncer in front of a private cluster, with the sample of conf/pgbouncer: only paths, ports and the password are other.
#
#	my $b = Parley::PgBouncer->new($pg, default_pool_size => 3);	# what follows replaces the sample's words
#	$b->url('parley_worker');	# a database.url that leads through it
#	$b->stop; $b->start;
#
# The clients' password is SECRET, whoever they are.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Path ();
use IO::Socket::UNIX;

use Parley::Process;

our $SECRET = 'let-me-through';
my $CONF = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..') . '/conf/pgbouncer';
my ($PROGRAM) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';

# What is not installed; '' where it is.
sub missing { return $PROGRAM ? '' : 'pgbouncer is missing (Debian: pgbouncer)' }

sub new {
	my ($class, $pg, %set) = @_;
	my $dir = Parley::Process::tempdir();
	my $self = bless { owner_pid => $$, dir => $dir, port => Parley::Process::free_port() }, $class;
	my %word = (unix_socket_dir => $dir, listen_port => $self->{port}, auth_file => "$dir/userlist.txt",
	    logfile => "$dir/log", pidfile => "$dir/pid", %set);
	my $text = _read("$CONF/parley.ini");

	$text =~ s/^(parley = host=)\S+ port=\d+/$1@{[$pg->socket_dir]} port=@{[$pg->port]}/m or die 'parley.ini has another database';
	for my $key (sort keys %word) {
		$text =~ s/^(\Q$key\E = ).*/$1$word{$key}/m or $text .= "$key = $word{$key}\n";
	}
	my $users = _read("$CONF/userlist.txt") =~ s/"PASSWORD"/"$SECRET"/r or die 'userlist.txt has no password';
	_write("$dir/parley.ini", $text);
	_write("$dir/userlist.txt", qq{$users"postgres" "$SECRET"\n});
	Parley::Process::give("$dir/parley.ini", "$dir/userlist.txt");
	$self->start;
	return $self;
}

sub start {
	my ($self) = @_;
	$self->{process} = Parley::Process->new(cmd => [$PROGRAM, "$self->{dir}/parley.ini"], dir => $self->{dir},
	    log => "$self->{dir}/said");
	Parley::Process::wait_for {
		$self->{process}->running or die 'pgbouncer ended: ' . $self->log_text;
		IO::Socket::UNIX->new("$self->{dir}/.s.PGSQL.$self->{port}");
	} 10 or die 'pgbouncer is not ready: ' . $self->log_text;
}

sub stop { $_[0]{process}->stop($_[1]) }
sub pid { $_[0]{process}->pid }
sub log_text { return _read("$_[0]{dir}/said") . (-e "$_[0]{dir}/log" ? _read("$_[0]{dir}/log") : '') }

sub url {
	my ($self, $role, $db) = @_;
	return sprintf 'postgresql://%s:%s@/%s?host=%s&port=%d', $role, $SECRET, $db // 'parley', $self->{dir}, $self->{port};
}

sub dbh {
	my ($self, $role, $db) = @_;
	return DBI->connect("dbi:Pg:dbname=" . ($db // 'parley') . ";host=$self->{dir};port=$self->{port}", $role, $SECRET,
	    { RaiseError => 1, PrintError => 0, pg_server_prepare => 0, AutoInactiveDestroy => 1 });
}

sub _read { open my $f, '<', $_[0] or die "$_[0]: $!"; local $/; return <$f> // '' }
sub _write { open my $f, '>', $_[0] or die "$_[0]: $!"; print $f $_[1]; close $f or die "$_[0]: $!" }

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->stop if $self->{process};
	File::Path::remove_tree($self->{dir});
}

1;
