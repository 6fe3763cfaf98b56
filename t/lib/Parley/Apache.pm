package Parley::Apache;

# A private apache2 on a free port of 127.0.0.1, run as servers of tests are: an unprivileged user.
#
#	my $a = Parley::Apache->hosted($parts, host => 'FcgidOutputBufferSize 0');	# mod_fcgid, with a customer's home
#	my $a = Parley::Apache->own($parts, tls => 'ca.pem');				# mod_proxy_fcgi, conf/apache/parley.conf
#	$a->url; $a->workers; $a->home; $a->log_text; $a->stop; $a->start;
#
# hosted() is a host that lets .htaccess do what it likes; the customer has copied htaccess and parley.fcgi of conf/apache
# and the page into the web folder, programs and parley.env beside it.  Options: host (more lines of the host's), env (lines
# of parley.env: name => value), htaccess (sub that edits $_).  $parts is
# Parley::Front::parts(how => 'server'), whose configuration becomes parley.env; the worker's log is the pool's.
# $a->as_customer('parley/parley check') is what a command of the customer says, in the home directory.
#
# own(): options settings (sub that edits $_, the shipped file), tls (a directory of Parley::Tls).

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Copy ();
use File::Path ();
use JSON::XS ();

use parent 'Parley::Server';
use Parley::Front;
use Parley::Pool;
use Parley::Process;

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');
my @MODULES = qw(mpm_event authn_core authz_core mime dir alias headers setenvif rewrite deflate filter env);

sub _program { return (grep { -x } map { "$_/apache2" } split(/:/, $ENV{PATH} // ''), '/usr/sbin', '/usr/local/sbin')[0] }
sub _module { my ($name) = @_; return "/usr/lib/apache2/modules/mod_$name.so" }

# What is not installed; '' where all is there.
sub missing {
	my (@modules) = @_;
	return 'apache2 is missing (Debian: apache2)' unless _program();
	for (@MODULES, @modules) {
		return "mod_$_ is missing (Debian: " . (/fcgid/ ? 'libapache2-mod-fcgid' : 'apache2') . ')' unless -e _module($_);
	}
	return '';
}

sub hosted {
	my ($class, $parts, %opt) = @_;
	my $self = $class->_made(parts => $parts, modules => ['fcgid'], %opt);

	$self->_move_in;
	return $self->_begin;
}

sub own {
	my ($class, $parts, %opt) = @_;
	return $class->_made(parts => $parts, own => 1, modules => [qw(proxy proxy_fcgi proxy_http ssl http2 socache_shmcb)], %opt)->_begin;
}

sub home { "$_[0]{dir}/home" }
sub web { "$_[0]{dir}/home/public_html" }
sub log_file { "$_[0]{dir}/error.log" }

# The processes that mod_fcgid has started.
sub workers {
	my ($self) = @_;
	my $program = $self->home . '/parley/sbin/parley.fcgi';
	# Where the program is is nobody's business but root's (worker.confine), how it was called is everybody's.
	return grep { _read("/proc/$_/cmdline") eq "$program\0" } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# What Parley::Page asks of a site.
sub token { my ($self, $user) = @_; return Parley::Front::token($user) }
sub get { my ($self, $path, %opt) = @_; return Parley::Front::ask({ url => $self->url }, 'GET', $path, undef, %opt) }

# (exit status, all that was said)
sub as_customer {
	my ($self, $command) = @_;
	my ($uid, $gid) = (stat $self->web)[4, 5];
	my $as = $> == 0 ? "setpriv --reuid=$uid --regid=$gid --clear-groups " : '';
	my $said = `cd \Q${\$self->home}\E && $as sh -c '$command' 2>&1`;
	return ($? >> 8, $said);
}

sub _process {
	my ($self) = @_;
	return Parley::Process->new(
		cmd => [_program(), '-d', $self->{dir}, '-f', "$self->{dir}/httpd.conf", '-DFOREGROUND'],
		dir => $self->{dir}, log => $self->log_file, env => { map { $_ => undef } grep { /^PARLEY_/ } keys %ENV });
}

sub _read {
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	return <$fh> // '';
}

sub _put {
	my ($path, $text, $mode) = @_;
	open my $fh, '>', $path or die "$path: $!";
	print $fh $text;
	close $fh or die "$path: $!";
	chmod $mode // 0644, $path;
	Parley::Process::give($path);
}

# A shipped file as it is, but for what the sub does to $_.
sub _shipped {
	my ($name, $sub) = @_;
	local $_ = _read("$ROOT/conf/apache/$name");
	$sub->() if $sub;
	return $_;
}

sub _write {
	my ($self) = @_;
	my $load = join '', map { "LoadModule ${_}_module " . _module($_) . "\n" } @MODULES, @{$self->{modules}};
	_put("$self->{dir}/httpd.conf", $load . $self->_frame . ($self->{own} ? $self->_own_host : $self->_shared_host));
}

sub _frame {
	my ($self) = @_;
	return <<~"END";
		ServerName 127.0.0.1
		Listen 127.0.0.1:$self->{port}
		DefaultRuntimeDir $self->{dir}
		PidFile $self->{dir}/pid
		ErrorLog $self->{dir}/error.log
		TypesConfig /etc/mime.types
		StartServers 1
		ThreadsPerChild 64
		MaxRequestWorkers 128
		GracefulShutdownTimeout 1
		END
}

# What a host has: mod_fcgid with its defaults, and customers who may write .htaccess.
sub _shared_host {
	my ($self) = @_;
	return <<~"END" . ($self->{host} // '') . "\n";
		ServerTokens Prod
		FcgidIPCDir $self->{dir}/fcgid
		FcgidProcessTableFile $self->{dir}/fcgid.shm
		DocumentRoot @{[$self->web]}
		<Directory @{[$self->web]}>
			Require all granted
			Options SymLinksIfOwnerMatch
			AllowOverride All
		</Directory>
		END
}

sub _own_host {
	my ($self) = @_;
	my ($ip, $tls) = ('127.0.0.1', $self->{tls});
	return _shipped('parley.conf', sub {
		s{<VirtualHost \*:80>.*?</VirtualHost>\n}{}s or die 'no :80';
		s{VirtualHost \*:443}{VirtualHost $ip:$self->{port}} or die 'no :443';
		s{ServerName chat\.example\.org}{ServerName $ip} or die 'no name';
		s{/etc/letsencrypt/live/chat\.example\.org/fullchain\.pem}{$tls/s.pem} or die 'no certificate';
		s{/etc/letsencrypt/live/chat\.example\.org/privkey\.pem}{$tls/s.key} or die 'no key';
		s{/run/parley/parley\.sock}{$self->{parts}->pool->socket}ge == 2 or die 'no socket';
		s{/usr/local/share/parley/web}{$ROOT/web}g or die 'no page';
		$self->{settings}->() if $self->{settings};
	});
}

# The customer: what parley-hosting(7) says, done.
sub _move_in {
	my ($self) = @_;
	my ($home, $web) = ($self->home, $self->web);
	my $parley = "$home/parley";

	File::Path::make_path($web, map { "$parley/$_" } qw(sbin bin share));
	system('cp', '-r', "$ROOT/web/.", $web) == 0 or die 'cp';
	for (['parley.fcgi', "$parley/sbin"], ['parleyctl', "$parley/bin"]) {
		my ($name, $to) = @$_;
		File::Copy::copy(Parley::Pool::program($name), "$to/$name") or die "$name: $!";
		chmod 0755, "$to/$name";
	}
	mkdir "$parley/share/parley";
	File::Copy::copy("$ROOT/conf/instructions.txt", "$parley/share/parley/instructions.txt") or die $!;
	system('cp', '-r', "$ROOT/schema", "$parley/share/parley/schema") == 0 or die 'cp';
	_put("$web/.htaccess", _shipped('htaccess', $self->{htaccess}));
	_put($_, _shipped('parley.fcgi'), 0755) for "$web/parley.fcgi", "$parley/parley";
	$self->settings(%{$self->{env} // {}});
	system('chmod', '-R', 'go+rX', $home) == 0 or die 'chmod';
	chmod 0600, "$parley/parley.env";
	# Root gives it all to the user that servers run as.
	require File::Find;
	File::Find::find(sub { Parley::Process::give($_) }, $home);
	mkdir "$self->{dir}/fcgid";
	Parley::Process::give("$self->{dir}/fcgid");
}

# config.json of the page, with what is given.
sub page {
	my ($self, $more) = @_;
	my $shipped = JSON::XS::decode_json(_read("$ROOT/web/config.json"));
	_put($self->web . '/config.json', JSON::XS->new->canonical->encode({ %$shipped, %$more }));
}

# parley.env: the configuration of the pool but for what the starter says, and what is given.
sub settings {
	my ($self, %more) = @_;
	my $pool = $self->{parts}->pool;
	my %conf = %{$pool->{conf}};
	my %env = $pool->environment;

	delete $conf{$_} for qw(worker.drain_timeout);
	delete $env{PARLEY_CONF};
	$env{'PARLEY_' . uc s/[.-]/_/gr} = $conf{$_} for keys %conf;
	%env = (%env, PARLEY_LOG_FILE => $pool->log_file, PARLEY_LOG_LEVEL => 'info', %more);
	_put($self->home . '/parley/parley.env', "# of a test\n\n" . join('', map { "$_=$env{$_}\n" } sort grep { defined $env{$_} } keys %env), 0600);
}

1;
