package Parley::Bench::Secure;

# A model as providers have them: over TLS and HTTP/2, its authority one of many in a bundle.
#
#	my $secure = Parley::Bench::Secure->new($model);	# a Parley::Model; skip where Parley::Tls::missing()
#	Parley::Test->new(model => $model, conf => { $secure->conf }, …)
#
# An nginx with TLS stands before the demo model, on a free port of 127.0.0.1; the bundle is the system's with the test's own
# authority behind it.

use strict;
use warnings;

use IO::Socket::INET;

use Parley::Process;
use Parley::Tls;

my $BUNDLE = '/etc/ssl/certs/ca-certificates.crt';

sub new {
	my ($class, $model) = @_;
	my $self = bless { owner => $$, dir => Parley::Process::tempdir() }, $class;

	Parley::Tls::make($self->{dir});
	$self->_write('bundle.pem', join '', map { _read($_) } grep { -r } $BUNDLE, "$self->{dir}/ca.pem");
	for (1 .. 5) {
		$self->{port} = Parley::Process::free_port();
		return $self if $self->_start($model);
	}
	die 'no TLS before the model: ' . _read("$self->{dir}/error.log");
}

sub conf {
	my ($self) = @_;
	return ('model.base_url' => "https://127.0.0.1:$self->{port}/v1", 'model.ca_file' => "$self->{dir}/bundle.pem");
}

# 128 streams on a connection are nginx's default, and what many providers allow.
sub _start {
	my ($self, $model) = @_;
	my $dir = $self->{dir};
	my ($nginx) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
	my ($limit) = `sh -c 'ulimit -Hn'` =~ /^(\d+)/;

	$limit //= 1_000_000;
	$self->_write('nginx.conf', <<"END");
daemon off;
worker_processes 2;
worker_rlimit_nofile $limit;
pid $dir/nginx.pid;
events { worker_connections $limit; }
http {
	access_log off;
	client_body_temp_path $dir; proxy_temp_path $dir; fastcgi_temp_path $dir; uwsgi_temp_path $dir; scgi_temp_path $dir;
	ssl_certificate $dir/s.pem;
	ssl_certificate_key $dir/s.key;
	upstream model { server 127.0.0.1:@{[$model->port]}; keepalive 64; }
	server {
		listen 127.0.0.1:$self->{port} ssl http2 backlog=4096;
		http2_max_concurrent_streams 128;
		keepalive_requests 1000000;
		location / {
			proxy_pass http://model;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffering off;
		}
	}
}
END
	$self->{process} = Parley::Process->new(cmd => [$nginx, '-p', "$dir/", '-c', "$dir/nginx.conf", '-e', "$dir/error.log"],
	    dir => $dir, log => "$dir/error.log");
	my $up = Parley::Process::wait_for {
		$self->{process}->running or return 'ended';
		-s "$dir/nginx.pid" && IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) ? 'up' : '';
	} 20;
	return ($up // '') eq 'up';
}

sub _write {
	my ($self, $name, $text) = @_;
	open my $fh, '>', "$self->{dir}/$name" or die "$name: $!";
	print $fh $text;
	close $fh or die "$name: $!";
	Parley::Process::give("$self->{dir}/$name");
}

sub _read {
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	return <$fh>;
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner};
	local ($?, $!, $@);
	$self->{process}->stop('TERM', 10) if $self->{process};
	require File::Path;
	File::Path::remove_tree($self->{dir});
}

1;
