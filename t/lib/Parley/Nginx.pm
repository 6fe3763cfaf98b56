package Parley::Nginx;

# A private nginx on the files of conf/nginx, on a free port of 127.0.0.1.
#
#	my $nginx = Parley::Nginx->new(sockets => [$pool->socket]);
#	$nginx->url;		# http://127.0.0.1:PORT
#
# Options: sockets (upstream addresses: paths, or tcp host:port), web (the page's
# folder), workers (2), settings => sub { edit $_, the text of parley.conf }; what waits behind marks there:
#	tls	the directory of Parley::Tls::make; then url is https, and http_port leads there
#	limit	1
#	other	the URL of another application

use strict;
use warnings;

use Cwd ();
use File::Basename ();

use parent 'Parley::Server';

use Parley::Process;

my $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..');

sub log_file { "$_[0]{dir}/nginx.log" }

sub _process {
	my ($self) = @_;
	my ($nginx) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
	die "nginx is missing (Debian: nginx-light)\n" unless $nginx;

	return Parley::Process->new(
		cmd => [$nginx, '-p', "$self->{dir}/", '-c', "$self->{dir}/nginx.conf",
		    '-e', "$self->{dir}/nginx.log"],
		dir => $self->{dir}, log => "$self->{dir}/nginx.log");
}

# Who gives it a signal must find its pid.
sub _answers { return -s "$_[0]{dir}/nginx.pid" && $_[0]->SUPER::_answers }

# Switches on what is asked for, as the file says.
sub _marks {
	my ($self) = @_;

	if (my $dir = $self->{tls}) {
		s/#tls //g;
		s/^\tlisten 80;\t# without TLS\n//m or die 'no line without TLS';
		s/^\tlisten \[::\]:.*\n//mg;
		s/listen 443 ssl/listen 127.0.0.1:$self->{port} ssl/ or die 'no listen 443';
		s/listen 80;/listen 127.0.0.1:$self->{http_port};/ or die 'no listen 80';
		s/\$host\$request_uri/\$host:$self->{port}\$request_uri/;
		s{/etc/letsencrypt/live/chat.example.org/fullchain.pem}{$dir/s.pem} or die 'no certificate';
		s{/etc/letsencrypt/live/chat.example.org/privkey.pem}{$dir/s.key} or die 'no key';
	}
	s/#limit //g if $self->{limit};
	if ($self->{other}) {
		s/#other //g;
		s/^.*# without another application\n//m or die 'no line without another application';
		s{http://127.0.0.1:3000}{$self->{other}} or die 'no address of another application';
	}
}

sub _write {
	my ($self) = @_;
	my @servers = map { m{^/} ? "server unix:$_;" : "server $_;" } @{$self->{sockets}};
	my $web = $self->{web} // "$ROOT/web";
	my $workers = $self->{workers} // 2;

	for my $name (qw(nginx.conf parley.conf)) {
		open my $in, '<', "$ROOT/conf/nginx/$name" or die "$name: $!";
		local $_ = do { local $/; <$in> };
		if ($name eq 'parley.conf') {
			s{server unix:/run/parley/parley\.sock;}{join "\n\t", @servers}e or die 'no upstream';
			$self->_marks;
			s{listen 80;}{listen 127.0.0.1:$self->{port} backlog=4096;} || $self->{tls} or die 'no listen';
			s{/usr/local/share/parley/web}{$web} or die 'no root';
			$self->{settings}->() if $self->{settings};
		} else {
			s/daemon on;/daemon off;/ or die 'no daemon';
			s/worker_processes auto;/worker_processes $workers;/ or die 'no worker_processes';
			my $limit = (split ' ', `sh -c 'ulimit -Hn'`)[0];
			s/(worker_rlimit_nofile) \d+;/$1 $limit;/ if $limit =~ /^\d+$/ && $limit < 32768;
		}
		open my $out, '>', "$self->{dir}/$name" or die "$self->{dir}/$name: $!";
		print $out $_;
	}
}

1;
