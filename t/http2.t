# io/http against a real nginx over TLS: HTTP/2 shared by many exchanges, HTTP/1.1, the CA store.

use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use Test::More;
use lib "$FindBin::Bin/lib";

use Parley::Process;
use Parley::Tls;

my ($client) = grep { -x } 't/drive/http', "$FindBin::Bin/drive/http";
plan skip_all => 't/drive/http has not been built' unless $client;
my ($nginx) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
plan skip_all => 'nginx is missing (Debian: nginx-light)' unless $nginx;
plan skip_all => Parley::Tls::missing() if Parley::Tls::missing();

my $dir = Parley::Process::tempdir();
END { File::Path::remove_tree($dir) if $dir }

sub put {
	my ($name, $text) = @_;
	open my $f, '>', "$dir/$name" or die "$name: $!";
	print $f $text;
	close $f or die "$name: $!";
	Parley::Process::give("$dir/$name");
}

# -- an authority and a certificate of ours --

Parley::Tls::make($dir);

# -- a server that speaks HTTP/2 on one port and HTTP/1.1 on another --

my ($h2, $h1, $server);

sub start {
	($h2, $h1) = (Parley::Process::free_port(), Parley::Process::free_port());
	put('nginx.conf', <<"END");
daemon off;
worker_processes 1;
pid $dir/nginx.pid;
events { worker_connections 2000; }
http {
	log_format served '\$connection \$server_protocol \$status \$body_bytes_sent';
	access_log $dir/access.log served;
	client_body_temp_path $dir; proxy_temp_path $dir; fastcgi_temp_path $dir; uwsgi_temp_path $dir; scgi_temp_path $dir;
	client_max_body_size 10m;
	ssl_certificate $dir/s.pem;
	ssl_certificate_key $dir/s.key;
	root $dir;
	server { listen 127.0.0.1:$h2 ssl http2; location /slow { limit_rate 40000; } location /post { proxy_pass http://unix:$dir/s:/; } }
	server { listen 127.0.0.1:$h1 ssl; location /slow { limit_rate 40000; } location /post { proxy_pass http://unix:$dir/s:/; } }
	server { listen unix:$dir/s; location / { return 200 \$content_length; } }
}
END
	$server = Parley::Process->new(cmd => [$nginx, '-p', "$dir/", '-c', "$dir/nginx.conf", '-e', "$dir/error.log"],
	    dir => $dir, log => "$dir/error.log");
	return Parley::Process::wait_for {
		$server->running or return 'ended';
		-s "$dir/nginx.pid" && IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $h1) ? 'up' : '';
	} 20;
}

put('small', 'hello');
# Not a multiple of any buffer: the last piece must not wait for another.
put('big', 'x' x 12_000_001);
put('slow', 'x' x 120_000);
for (1 .. 5) {
	last if (start() // '') eq 'up';
}

# -- the client: one hash for each exchange --

my $opened;

sub fetch {
	my ($url, $count, %o) = @_;
	put('access.log', '');
	my @got;
	for (`$client $url $dir/@{[$o{ca} // 'ca.pem']} $count @{[$o{post} // 0]} @{[$o{slow} // 0]} @{[$o{keep} // 0]}`) {
		$opened = $1, next if /^opened (\d+)/;
		my %r;
		@r{qw(id status error bytes ms detail)} = /^(\d+) (-?\d+) (\d+) (\d+) (\d+) (.*)/ or next;
		$got[$r{id}] = \%r;
	}
	is $?, 0, "$url: the client ended well";
	return @got;
}

# What nginx says of the requests it has served, all of which it has logged.
sub served {
	my ($count) = @_;
	my @l;
	Parley::Process::wait_for {
		open my $f, '<', "$dir/access.log" or return 0;
		@l = map { my %r; @r{qw(connection protocol status bytes)} = split; \%r } <$f>;
		@l >= $count;
	} 10;
	return @l;
}

sub connections { my %seen = map { $_->{connection} => 1 } @_; return scalar keys %seen }

sub good { return scalar grep { $_->{status} == 200 && $_->{error} == 0 } @_ }

for my $way (['HTTP/2.0', "https://127.0.0.1:$h2"], ['HTTP/1.1', "https://127.0.0.1:$h1"]) {
	my ($protocol, $url) = @$way;

	is good(fetch("$url/small", 50)), 50, "$protocol: 50 at once";
	my @l = served(50);
	is scalar(grep { $_->{protocol} eq $protocol } @l), 50, '... speak it';
	# Over HTTP/1.1 a quick server and a slow client may do with one connection, one exchange after the other.
	is connections(@l), 1, '... on one connection' if $protocol eq 'HTTP/2.0';
	is $opened, 1, '... and the CA file is read once';

	# The slow one holds its connection until the others are done, and would hold it for 20 seconds.
	my @got = fetch("$url/big", 3, slow => 20_000);
	is good(@got), 3, "$protocol: a slow reader among others";
	is scalar(grep { $_->{bytes} == 12_000_001 } @got), 3, '... all get all of it';
	cmp_ok $got[$_]{ms}, '<', 20_000, '... the others do not wait for it' for 1, 2;
	my $n = connections(served(3));
	ok $protocol eq 'HTTP/2.0' ? $n == 1 : $n > 1, "... on $n connections";

	is good(fetch("$url/big", 1)), 1, "$protocol: a long body alone on its connection";
	is good(fetch("$url/post", 5, post => 900_000)), 5, "$protocol: a large request";

	fetch("$url/slow", 5, keep => 100);
	my @cut = served(5);
	is scalar(grep { $_->{bytes} < 120_000 } @cut), 5, "$protocol: closing early stops the server";

	my ($distrusted) = fetch("$url/small", 1, ca => 'other.pem');
	is "$distrusted->{status} $distrusted->{error}", '-1 1', "$protocol: an unknown authority is unreachable";
}

$server->stop;
done_testing;
