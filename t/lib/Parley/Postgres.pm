package Parley::Postgres;

# A private, throw-away PostgreSQL cluster.
#
#	my $pg = Parley::Postgres->new;			# migrated, database parley
#	my $db = $pg->dbh('parley_worker');		# DBI handle of a role
#	$pg->one('SELECT count(*) FROM parley.turns');	# as the superuser
#
# It listens on a Unix socket in a private directory and nowhere else, unless
# port => 1 asks for a free TCP port on 127.0.0.1.  PostgreSQL refuses to run as
# root, so root runs it as `postgres` or `nobody`.  It is fast, not durable: settings
# => { fsync => 'on' } says otherwise.  It stops when the object leaves scope, and
# also when the test dies without saying so.
#
#	my $s = $pg->standby;		# a copy that follows it, synchronous: no commit is answered before it has it
#	$pg->stop('immediate'); $s->promote;
#	$pg->url('parley_worker', undef, $s)	# names both hosts, in this order
#
# freeze stops all its processes where they are (connections are accepted by the kernel, nobody answers), thaw lets them go on.
#
# Options: port, settings => {}, migrate => 0 (an empty database), schema => DIR, dir (where
# its private directory is made: /tmp).

use strict;
use warnings;

use Cwd ();
use DBI;
use File::Basename ();
use File::Path ();
use File::Temp ();
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');

# Signals become exits, so that DESTROY runs.
for my $sig (qw(INT TERM HUP)) {
	$SIG{$sig} //= sub { exit 1 };
}

sub new {
	my ($class, %opt) = @_;
	my $self = bless {
		owner_pid => $$,
		schema => $opt{schema} // "$ROOT/schema",
		bin => _bindir(),
		port => $opt{port} ? _free_port() : 5432,
		tcp => $opt{port} ? 1 : 0,
	}, $class;

	$self->_dirs($opt{dir});
	$self->_init($opt{settings} // {});
	$self->start;
	$self->do('CREATE DATABASE parley', 'postgres');
	$self->migrate unless exists $opt{migrate} && !$opt{migrate};
	return $self;
}

# A streaming, synchronous standby of this cluster; it is there, and in step, when this returns.
sub standby {
	my ($self) = @_;
	my $s = bless {
		owner_pid => $$, schema => $self->{schema}, bin => $self->{bin}, port => 5432, tcp => 0,
	}, ref $self;

	$s->_dirs;
	$s->_run("$s->{bin}/pg_basebackup", '-D', "$s->{dir}/data", '-h', $self->socket_dir, '-p', $self->{port},
	    '-U', 'postgres', '-X', 'stream', '-c', 'fast', '--no-sync');
	$s->_run('touch', "$s->{dir}/data/standby.signal");
	$s->_set(listen_addresses => '', port => $s->{port}, unix_socket_directories => $s->socket_dir,
	    primary_conninfo => "host=''" . $self->socket_dir . "'' port=$self->{port} user=postgres application_name=standby");
	$s->start;
	$self->do(q{ALTER SYSTEM SET synchronous_standby_names = 'standby'});
	$self->do('SELECT pg_reload_conf()');
	my $until = time + 30;
	until ($self->one(q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'})) {
		die 'the standby does not follow: ' . `tail -5 '$s->{dir}/log'` if time > $until;
		sleep 0.02;
	}
	return $s;
}

# Returns when it can be written to.
sub promote {
	my ($self) = @_;
	return $self->one('SELECT pg_promote(true, 30)');
}

sub freeze { $_[0]->_signal('STOP') }
sub thaw { $_[0]->_signal('CONT') }

sub _signal {
	my ($self, $signal) = @_;
	my $pid = $self->{pid} or return;
	open my $fh, '<', "/proc/$pid/task/$pid/children" or return;
	# The postmaster first: it must not start others meanwhile.
	kill $signal, $pid, split ' ', scalar(<$fh>) // '';
}

sub _dirs {
	my ($self, $where) = @_;

	# Short: the path of a socket has at most 107 bytes.  Others may pass
	# through (workers run as somebody else) but not look around.
	$self->{dir} = File::Temp::tempdir('ppgXXXXXXXX', DIR => $where // '/tmp');
	chmod 0711, $self->{dir};
	mkdir "$self->{dir}/s" or die "mkdir: $!";
	chmod 0711, "$self->{dir}/s";
	if ($> == 0) {
		my $user = defined getpwnam('postgres') ? 'postgres' : 'nobody';
		@$self{qw(uid gid)} = (getpwnam $user)[2, 3];
		chown @$self{qw(uid gid)}, $self->{dir}, "$self->{dir}/s";
	}
}

sub dir { $_[0]{dir} }
sub port { $_[0]{port} }
sub pid { $_[0]{pid} }
sub log { "$_[0]{dir}/log" }
sub bindir { $_[0]{bin} }
sub socket_dir { "$_[0]{dir}/s" }

# A connection string that libpq and parley.conf take; more clusters, or directories of sockets, may follow.
sub url {
	my ($self, $role, $db, @more) = @_;
	return sprintf 'postgresql://%s@/%s?host=%s&port=%s', $role // 'postgres', $db // 'parley',
	    join(',', map { ref ? $_->socket_dir : $_ } $self, @more), join(',', map { ref ? $_->{port} : 5432 } $self, @more);
}

# The same over TCP (needs port => 1).
sub tcp_url {
	my ($self, $role, $db) = @_;
	return sprintf 'postgresql://%s@127.0.0.1:%d/%s',
	    $role // 'postgres', $self->{port}, $db // 'parley';
}

sub dbh {
	my ($self, $role, $db) = @_;
	return DBI->connect(sprintf('dbi:Pg:dbname=%s;host=%s;port=%d',
	    $db // 'parley', $self->socket_dir, $self->{port}), $role // 'postgres', '',
	    { AutoCommit => 1, RaiseError => 1, PrintError => 0, pg_enable_utf8 => 1,
	      pg_server_prepare => 0, AutoInactiveDestroy => 1 });
}

# As the superuser; bind values follow the statement.
sub one {
	my ($self, $sql, @bind) = @_;
	return scalar $self->_super->selectrow_array($sql, undef, @bind);
}

sub rows {
	my ($self, $sql, @bind) = @_;
	return $self->_super->selectall_arrayref($sql, { Slice => {} }, @bind);
}

sub do {
	my ($self, $sql, $db) = @_;
	return $self->dbh('postgres', $db)->do($sql);
}

# Text through psql as a role; returns (exit status, output with errors).
sub psql {
	my ($self, $sql, $role) = @_;
	my $file = File::Temp->new;
	binmode $file, ':encoding(UTF-8)';
	print $file $sql;
	close $file;
	my $url = $self->url($role);
	my $out = `'$self->{bin}/psql' -XAtq -v ON_ERROR_STOP=1 -d '$url' -f '$file' 2>&1`;
	return wantarray ? ($? >> 8, $out) : $out;
}

# add_slowly(title, seconds): an add_task that can be interrupted between its effect and its result.
sub slow_tool {
	my ($self) = @_;
	$self->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tools.add_slowly(title text, seconds numeric) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	v_result json := tools.add_task(title);
BEGIN
	PERFORM pg_sleep(seconds);
	RETURN v_result;
END
$$;
SQL
}

# Through parleyctl where it has been built, else all files in one transaction, as it does.
sub migrate {
	my ($self, $db) = @_;
	my ($ctl) = grep { defined && -x } $ENV{PARLEYCTL}, './parleyctl', "$ROOT/parleyctl";

	if ($ctl) {
		local $ENV{PARLEY_DATABASE_OWNER_URL} = $self->url('postgres', $db);
		local $ENV{PARLEY_DATABASE_URL} = $self->url('parley_worker', $db);
		my $out = `'$ctl' migrate --schema '$self->{schema}' 2>&1`;
		die "parleyctl migrate: $out" if $?;
		return $out;
	}
	my $url = $self->url('postgres', $db);
	my $files = join ' ', map { "-f '$_'" } grep { !m{/citus\.sql$} } sort glob "$self->{schema}/*.sql";
	my $out = `'$self->{bin}/psql' -Xq1 -v ON_ERROR_STOP=1 -d '$url' $files 2>&1 >/dev/null`;
	die "$self->{schema}: $out" if $?;
	return '';
}

sub start {
	my ($self) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->log;
		open STDERR, '>&', \*STDOUT;
		# Should the test be killed, its cluster goes down with it.
		exec 'setpriv', '--pdeathsig', 'INT', $self->_as_user,
		    "$self->{bin}/postgres", '-D', "$self->{dir}/data";
		exit 127;
	}
	$self->{pid} = $pid;
	$self->_wait_ready;
}

# fast (default) or immediate (as a crash does: unlogged tables are emptied) or smart
sub stop {
	my ($self, $mode) = @_;
	my $sig = { fast => 'INT', immediate => 'QUIT', smart => 'TERM' }->{$mode // 'fast'};

	delete $self->{dbh};
	$self->thaw;
	my $pid = delete $self->{pid} or return;
	kill $sig, $pid;
	my $until = time + 30;
	while (waitpid($pid, 1) == 0) {
		kill 'QUIT', $pid if time > $until;
		sleep 0.02;
	}
}

sub restart {
	my ($self, $mode) = @_;
	$self->stop($mode);
	$self->start;
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->stop('immediate');
	File::Path::remove_tree($self->{dir}) if $self->{dir};
}

sub _super {
	my ($self) = @_;
	# A handle must not be shared with a forked child.
	delete $self->{dbh} if $self->{dbh} && ($self->{dbh_pid} != $$ || !$self->{dbh}->ping);
	$self->{dbh_pid} = $$;
	return $self->{dbh} //= $self->dbh;
}

sub _bindir {
	my ($bin) = grep { -x "$_/initdb" } sort {
		($b =~ m{/(\d+)/bin})[0] <=> ($a =~ m{/(\d+)/bin})[0]
	} glob '/usr/lib/postgresql/*/bin';
	return $bin if $bin;
	chomp(my $dir = `pg_config --bindir`);
	return $dir if -x "$dir/initdb";
	die "PostgreSQL's server programs are missing (Debian: postgresql)\n";
}

sub _free_port {
	my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "socket: $!";
	return $sock->sockport;
}

sub _as_user {
	my ($self) = @_;
	return () unless defined $self->{uid};
	return ("--reuid=$self->{uid}", "--regid=$self->{gid}", '--clear-groups');
}

sub _init {
	my ($self, $settings) = @_;
	my $data = "$self->{dir}/data";
	$self->_run("$self->{bin}/initdb", '-D', $data, '-U', 'postgres',
	    '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync', '--no-instructions');

	$self->_set(
		listen_addresses => $self->{tcp} ? '127.0.0.1' : '',
		port => $self->{port},
		unix_socket_directories => $self->socket_dir,
		unix_socket_permissions => '0777',
		max_connections => 250,
		shared_buffers => '64MB',
		fsync => 'off',
		full_page_writes => 'off',
		autovacuum => 'on',
		# Neither UTC nor ours: nothing may depend on it.
		timezone => 'Asia/Kolkata',
		log_line_prefix => '%m [%p] %u ',
		%$settings,
	);
	open my $hba, '>', "$data/pg_hba.conf" or die "pg_hba.conf: $!";
	print $hba "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 trust\n";
	close $hba;
}

sub _set {
	my ($self, %set) = @_;
	open my $conf, '>>', "$self->{dir}/data/postgresql.conf" or die "postgresql.conf: $!";
	print $conf "$_ = '$set{$_}'\n" for sort keys %set;
	close $conf;
}

# A command as the user of the cluster.
sub _run {
	my ($self, @cmd) = @_;
	unshift @cmd, 'setpriv', $self->_as_user if defined $self->{uid};
	my $cmd = join ' ', map { "'$_'" } @cmd;
	my $out = `cd / && $cmd 2>&1`;
	die "$cmd: $out" if $?;
}

sub _wait_ready {
	my ($self) = @_;
	my $until = time + 60;
	while (time < $until) {
		my $db = eval { $self->dbh('postgres', 'postgres') };
		return if $db;
		die 'PostgreSQL did not start: ' . `tail -5 '$self->{dir}/log'`
		    if waitpid($self->{pid}, 1) == $self->{pid};
		sleep 0.05;
	}
	die 'PostgreSQL is not ready: ' . `tail -5 '$self->{dir}/log'`;
}

1;
