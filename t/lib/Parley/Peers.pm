package Parley::Peers;

# A service of others' making that does what Parley does, behind the same nginx: what Parley is measured beside.
#
#	my $why = Parley::Peers::missing('fastapi') and …;	# Parley::Peers::kinds: fastapi, sqlmodel, node
#	my $t = Parley::Peers->new(kind => 'fastapi');		# a Parley::Test, with chat, stream, token, url, pids
#	$t->one('SELECT count(*) FROM turns');			# of its own database
#
# The services are in t/peers, each a process for each of Parley's workers on a socket of its own, and
# nginx asks the one with the fewest requests.  Options: pg, model, workers, nginx_workers as for Parley::Test,
# pool (connections to the database of each process).
#
# Only what Debian packages or scripts/node-packages.sh installs is run; nothing here fetches anything.

use strict;
use warnings;
use feature 'state';

use parent 'Parley::Test';

use Cwd ();
use File::Basename ();
use File::Path ();

use Parley::Model;
use Parley::Nginx;
use Parley::Node;
use Parley::Postgres;
use Parley::Process;

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');
my @PYTHON = qw(aiohttp asyncpg fastapi httptools jwt uvicorn uvloop);
my %KIND = (
	fastapi => { name => 'FastAPI + asyncpg', modules => \@PYTHON },
	sqlmodel => { name => 'FastAPI + SQLModel', modules => [@PYTHON, qw(greenlet sqlmodel)] },
	node => { name => 'Node + pg' },
);

sub kinds { return qw(fastapi sqlmodel node) }
sub name { my ($kind) = @_; return $KIND{$kind}{name} }

# Why a kind cannot be started here; undef: it can.
sub missing {
	my ($kind) = @_;
	if ($kind eq 'node') {
		my @gone = grep { !-d Parley::Node::dir() . "/node_modules/$_" } qw(jose pg undici);
		return Parley::Node::missing() // (@gone ? "the Node packages lack @gone (scripts/node-packages.sh installs them)" : undef);
	}
	return undef if _python(@{$KIND{$kind}{modules}});
	return 'the Python packages are not there (as root: ./quickstart packages peers, or apt-get install '
	    . join(' ', map { 'python3-' . $_ } @{$KIND{$kind}{modules}}) . ')';
}

# Debian's, whatever else is called python3; looked for once, as the modules take their time.
sub _python {
	my $modules = join ', ', @_;
	state %have;
	($have{$modules}) = grep { -x && !system "'$_' -c 'import $modules' 2>/dev/null" }
	    '/usr/bin/python3', map { "$_/python3" } split /:/, $ENV{PATH} unless exists $have{$modules};
	return $have{$modules};
}

sub new {
	my ($class, %opt) = @_;
	my $self = bless { owner_pid => $$, workers => 2, pool => 10, %opt, dir => Parley::Process::tempdir() }, $class;

	$self->{pg} //= Parley::Postgres->new;
	$self->{model} //= Parley::Model->new;
	$self->_database;
	# Root's own folders are closed to the user that it runs servers as.
	system('cp', '-R', "$ROOT/t/peers", "$self->{dir}/peers") == 0 or die 'cp: ' . $?;
	$self->{processes} = [map { $self->_start($_) } 1 .. $self->{workers}];
	$self->{nginx} = Parley::Nginx->new(sockets => [map { $self->_socket($_) } 1 .. $self->{workers}],
	    workers => $self->{nginx_workers} // 2, settings => \&_proxy);
	$self->ready;
	return $self;
}

sub pids { map { $_->pid, $_->children } @{$_[0]{processes}} }
sub database { "peer_$_[0]{kind}" }
sub one { my ($self, $sql, @bind) = @_; return scalar $self->dbh->selectrow_array($sql, undef, @bind) }
sub dbh { $_[0]{dbh} //= $_[0]{pg}->dbh('peer', $_[0]->database) }
sub running { $_[0]->one(q{SELECT count(*) FROM turns WHERE state = 'running'}) }

sub log_text {
	my ($self) = @_;
	open my $fh, '<', "$self->{dir}/log" or return '';
	local $/;
	return <$fh> // '';
}

sub ready {
	my ($self) = @_;
	my $ok = Parley::Process::wait_for {
		die "$self->{kind} ended: " . $self->log_text if grep { !$_->running } @{$self->{processes}};
		return '' if grep { !-S $self->_socket($_) } 1 .. $self->{workers};
		my $r = eval { $self->get('/api/health', token => undef, seconds => 5) };
		$r && $r->{status} == 200;
	} 30;
	die "$self->{kind} is not ready: " . $self->log_text . $self->{nginx}->log_text unless $ok;
}

sub _socket { "$_[0]{dir}/$_[1].sock" }

# Its own database, in the same cluster; made by the first who comes.
sub _database {
	my ($self) = @_;
	my ($pg, $db) = ($self->{pg}, $self->database);

	$pg->do(q{DO $$ BEGIN IF to_regrole('peer') IS NULL THEN CREATE ROLE peer LOGIN; END IF; END $$});
	return if $pg->one('SELECT true FROM pg_database WHERE datname = ?', $db);
	$pg->do("CREATE DATABASE $db OWNER peer", 'postgres');
	open my $fh, '<', "$ROOT/t/peers/schema.sql" or die "schema.sql: $!";
	$pg->dbh('peer', $db)->do(do { local $/; <$fh> });
}

sub _start {
	my ($self, $n) = @_;
	my ($dir, $kind) = @$self{qw(dir kind)};
	my @cmd = $kind eq 'node' ? (Parley::Node::program(), "$dir/peers/node/app.mjs")
	    : (_python(@{$KIND{$kind}{modules}}), '-m', 'uvicorn', '--app-dir', "$dir/peers/$kind", 'app:app',
	    '--uds', $self->_socket($n), '--loop', 'uvloop', '--http', 'httptools', '--backlog', 4096,
	    '--timeout-keep-alive', 75, '--no-access-log', '--log-level', 'warning');

	return Parley::Process->new(cmd => \@cmd, dir => $dir, log => "$dir/log", own => $kind eq 'node', env => {
		PEER_DATABASE => $self->{pg}->url('peer', $self->database), PEER_POOL => $self->{pool},
		PEER_MODEL_URL => $self->{model}->url, PEER_MODEL => 'demo', PEER_SECRET => $Parley::Test::SECRET,
		PEER_TOOLS => "$dir/peers/tools.json", PEER_SOCKET => $self->_socket($n),
		PARLEY_NODE_DIR => Parley::Node::dir(), PYTHONPATH => "$dir/peers/shared", PYTHONDONTWRITEBYTECODE => 1,
		NODE_ENV => 'production', HOME => $dir,
		map { $_ => undef } grep { /^PG[A-Z]/ } keys %ENV,
	});
}

# conf/nginx/parley.conf for a service that speaks HTTP; the values are those that FastCGI has there.
sub _proxy {
	s{fastcgi_pass parley;}{proxy_pass http://parley;}g or die 'no fastcgi_pass';
	s{(upstream parley \{\n)}{$1\tzone parley 256k;\n\tleast_conn;\n} or die 'no upstream';
	s{(upstream parley \{.*?)\n\}}{$1\n\tkeepalive 256;\n\}}s;
	s{^(\tfastcgi_max_temp_file_size 0;\n)}{$1 . <<'END'}me or die 'no fastcgi_max_temp_file_size';
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $host;
	proxy_read_timeout 130s;
	proxy_send_timeout 30s;
	proxy_connect_timeout 5s;
	proxy_buffer_size 8k;
	proxy_buffers 32 8k;
	proxy_max_temp_file_size 0;
END
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!, $@);
	delete $self->{$_} for qw(nginx dbh);
	kill 'TERM', grep { defined } map { $_->pid } @{$self->{processes} // []};
	delete $self->{$_} for qw(processes model pg);
	File::Path::remove_tree($self->{dir}) unless $ENV{PARLEY_KEEP};
}

1;
