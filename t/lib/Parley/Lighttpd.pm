package Parley::Lighttpd;

# A private lighttpd on the files of conf/lighttpd, on a free port of 127.0.0.1.
#
#	my $lighttpd = Parley::Lighttpd->new(socket => $pool->socket);
#	$lighttpd->url;
#
# Options: socket (a path, or tcp host:port), web (the page's folder), settings => sub { edit $_, the text of
# parley.conf }; what waits behind marks there:
#	own	a Parley::Pool of how => 'server', whose workers lighttpd starts: three of them
#	tls	the directory of Parley::Tls::make; then url is https, and http_port leads there
#	other	the URL of another application

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Copy ();
use File::Path ();

use parent 'Parley::Server';

use Parley::Process;

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');

sub program {
	my ($path) = grep { -x } map { "$_/lighttpd" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
	return $path;
}

sub missing { return program() ? '' : 'lighttpd is missing (Debian: lighttpd, lighttpd-mod-openssl)' }

sub children { $_[0]{process}->children }
sub log_file { $_[0]{own} ? $_[0]{own}->log_file : "$_[0]{dir}/log" }

sub _process {
	my ($self) = @_;

	return Parley::Process->new(cmd => [program(), '-D', '-f', "$self->{dir}/lighttpd.conf"],
	    dir => $self->{dir}, log => $self->log_file, $self->{own} ? (env => { $self->{own}->environment }) : ());
}

# What the program says of its configuration; '' is good.
sub doubts {
	my ($self) = @_;
	my $said = join '', grep { !/^(?:Syntax OK|.*\(server\.c\.\d+\) server (?:started|stopped))/ } `@{[program()]} -tt -f $self->{dir}/lighttpd.conf 2>&1`;
	return $? ? "$? $said" : $said;
}

sub _marks {
	my ($self) = @_;

	if (my $own = $self->{own}) {
		s/#own //g;
		s{/usr/local/sbin/parley\.fcgi}{$own->worker}e or die 'no program';
		s{/etc/parley/parley\.conf}{$own->conf_file}e or die 'no configuration';
		s{"max-procs" => 4}{"max-procs" => 3} or die 'no max-procs';
	}
	if (my $dir = $self->{tls}) {
		s/#tls //g;
		s/^.*# without TLS\n//m or die 'no line without TLS';
		s/":443"/"127.0.0.1:$self->{port}"/ or die 'no socket of TLS';
		s/^server\.port = 80$/server.port = $self->{http_port}/m or die 'no port';
		s/\$\{url\.authority\}/127.0.0.1:$self->{port}/ or die 'no redirect';
		s{/etc/letsencrypt/live/chat.example.org/fullchain.pem}{$dir/s.pem} or die 'no certificate';
		s{/etc/letsencrypt/live/chat.example.org/privkey.pem}{$dir/s.key} or die 'no key';
	} else {
		s/^server\.port = 80\b/server.port = $self->{port}/m or die 'no port';
	}
	if ($self->{other}) {
		s/#other //g;
		s/^.*# without another application\n//m or die 'no line without another application';
		my ($port) = $self->{other} =~ /:(\d+)$/;
		s{"port" => 3000}{"port" => $port} or die 'no port of another application';
	}
}

sub _write {
	my ($self) = @_;
	my $web = $self->{web} // "$ROOT/web";
	my $socket = $self->{own} ? $self->{own}->socket : $self->{socket};
	my $limit = (split ' ', `sh -c 'ulimit -Hn'`)[0];

	# Root's checkout may be out of reach for the user that servers run as.
	File::Path::make_path("$self->{dir}/errors");
	File::Copy::copy($_, "$self->{dir}/errors") or die "$_: $!" for glob("$ROOT/conf/lighttpd/errors/*");
	for my $name (qw(lighttpd.conf parley.conf)) {
		open my $in, '<', "$ROOT/conf/lighttpd/$name" or die "$name: $!";
		local $_ = do { local $/; <$in> };
		if ($name eq 'parley.conf') {
			$self->_marks;
			s{"socket" => "/run/parley/parley\.sock"}{$socket =~ m{^/} ? qq("socket" => "$socket") : $socket =~ s{^(.*):(\d+)$}{"host" => "$1", "port" => $2}r}e
			    or die 'no socket';
			s{/usr/local/share/doc/parley/examples/lighttpd/errors}{$self->{dir}/errors} or die 'no errors';
			s{/usr/local/share/parley/web}{$web} or die 'no page';
			$self->{settings}->() if $self->{settings};
		} else {
			s/(server\.max-fds\s*=) 32768/$1 $limit/ if $limit =~ /^\d+$/ && $limit < 32768;
			s/(server\.max-connections\s*=) 16384/$1 @{[int $limit \/ 2]}/ if $limit =~ /^\d+$/ && $limit < 32768;
			$_ = qq(server.bind = "127.0.0.1"\n) . $_;
		}
		open my $out, '>', "$self->{dir}/$name" or die "$self->{dir}/$name: $!";
		print $out $_;
	}
}

1;
