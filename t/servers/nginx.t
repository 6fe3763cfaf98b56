# nginx before Parley, with the shipped configuration: only ports, paths and what its marks switch on differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Socket::UNIX;
use Test::More;

use Parley::Contract;
use Parley::Curl;
use Parley::Front;
use Parley::Nginx;
use Parley::Process;
use Parley::Tls;

for my $why (Parley::Curl::missing(), Parley::Tls::missing()) {
	plan skip_all => $why if $why;
}
my $p = Parley::Front::parts();
my $dir = Parley::Process::tempdir();
END { File::Path::remove_tree($dir) if $dir }
Parley::Tls::make($dir);

sub by_tcp {
	my $port = Parley::Process::free_port();
	my $pool = Parley::Front::parts(pg => $p->pg, model => $p->model, how => 'listen', listen => "tcp:127.0.0.1:$port");
	return ($pool, "127.0.0.1:$port");
}

sub suite {
	my ($name, $parts, $nginx, %opt) = @_;
	Parley::Front::suite(name => $name, url => $nginx->url, test => $parts, streams => 1, page => 1,
	    restart => sub { $parts->pool->restart }, stop => sub { $parts->pool->stop }, start => sub { $parts->pool->start }, %opt);
}

my ($tcp, $address) = by_tcp();
suite('by TCP', $tcp, Parley::Nginx->new(sockets => [$address]));
undef $tcp;

my $other = Parley::Front::neighbour();
my $nginx = Parley::Nginx->new(sockets => [$p->pool->socket], tls => $dir, other => $other->url);
suite('by a Unix socket, TLS and HTTP/2, beside another application', $p, $nginx,
    ca => "$dir/ca.pem", http2 => 1, hsts => 1, neighbour => 1);

subtest 'around TLS' => sub {
	my %tls = (url => $nginx->url, ca => "$dir/ca.pem");
	my $r = Parley::Front::ask({ url => 'http://127.0.0.1:' . $nginx->http_port }, 'POST', '/api/chat?x=%41', '{}', token => undef);
	is $r->{status}, 308, 'plain http leads to TLS, method and body kept';
	is $r->{headers}{location}, $nginx->url . '/api/chat?x=%41', '... with the whole address';
	is $r->{headers}{'strict-transport-security'}, undef, '... HSTS is not said there';
	error_is(Parley::Front::ask({ url => $nginx->url =~ s/^https/http/r }, 'GET', '/api/health', undef), 400, 'bad_request',
	    'plain http on the port of TLS');
	for my $path ('/', '/no-such-page', '/api/health') {
		like Parley::Front::ask(\%tls, 'GET', $path, undef)->{headers}{'strict-transport-security'}, qr/^max-age=31536000$/,
		    "HSTS on $path, by HTTP/1.1";
	}
	my $old = system("curl -q -s -o /dev/null --cacert $dir/ca.pem --tls-max 1.1 --ciphers 'ALL:\@SECLEVEL=0' " . $nginx->url);
	is $old >> 8, 35, 'TLS 1.1 is not spoken';
	isnt system("curl -q -s -o /dev/null --cacert $dir/other.pem " . $nginx->url) >> 8, 0, 'the certificate is looked at';
};

subtest 'several upstreams, one of them dead' => sub {
	my ($second, $where) = by_tcp();
	my $gone = Parley::Process::free_port();
	my $many = Parley::Nginx->new(sockets => ["127.0.0.1:$gone", $p->pool->socket, "$dir/no.sock", $where]);
	my %f = (url => $many->url);

	ok Parley::Front::ready(\%f), 'the server answers';
	is_deeply [map { Parley::Front::chat(\%f, 'many', 'script:plain')->{status} } 1 .. 12], [(200) x 12], 'none of 12 turns meets the dead';
	is $p->pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ?', 'many'), 12, '... and each was made once';
	ok scalar(grep { ($_->{route} // '') eq '/api/chat' } $_->pool->log), '... both that live had some' for $p, $second;

	# A POST that a worker has read is never sent to another one.
	my $listen = IO::Socket::UNIX->new(Local => "$dir/die.sock", Listen => 5) or die "$dir/die.sock: $!";
	chmod 0777, "$dir/die.sock";
	$many = Parley::Nginx->new(sockets => ["$dir/die.sock", $p->pool->socket], settings => sub {
		s/(die\.sock);/$1 weight=100;/ or die 'no upstream';
	});
	my $c = Parley::Front::begin({ url => $many->url }, 'POST', '/api/chat', { message => 'script:plain' }, user => 'once');
	Parley::Front::told($listen);
	error_is($c->response, 500, 'internal_error', 'a worker lost in the middle of a POST');
	is $p->pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ?', 'once'), 0, '... no other was asked';
	$many = Parley::Nginx->new(sockets => ["$dir/die.sock", $p->pool->socket], settings => sub {
		s/(die\.sock);/$1 weight=100;/ or die 'no upstream';
	});
	$c = Parley::Front::begin({ url => $many->url }, 'GET', '/api/conversations', undef, user => 'once');
	Parley::Front::told($listen);
	is $c->response->{status}, 200, 'a GET goes on to the next';
};

subtest 'what a worker is told' => sub {
	my $listen = IO::Socket::UNIX->new(Local => "$dir/told.sock", Listen => 5) or die "$dir/told.sock: $!";
	chmod 0777, "$dir/told.sock";
	my $n = Parley::Nginx->new(sockets => ["$dir/told.sock"], tls => $dir);
	for my $http2 (0, 1) {
		my $r = Parley::Front::told_ok({ url => $n->url, ca => "$dir/ca.pem", http2 => $http2 }, $listen);
		error_is($r, 500, 'internal_error', 'a worker lost in the middle');
	}
};

subtest 'limits' => sub {
	my $n = Parley::Nginx->new(sockets => [$p->pool->socket], limit => 1);
	my %f = (url => $n->url);
	ok Parley::Front::ready(\%f), 'the server answers';
	my @c = map { Parley::Front::begin(\%f, 'POST', '/api/chat', { message => 'script:plain' }, user => 'eager') } 1 .. 40;
	my @r = map { $_->response } @c;
	my ($refused) = grep { $_->{status} == 429 } @r;
	ok scalar(grep { $_->{status} == 200 } @r) >= 20, 'a burst is served';
	error_is($refused, 429, 'rate_limited', 'more than that is not');
	is $refused->{headers}{'retry-after'}, 1, '... Retry-After';
	is_deeply [map { Parley::Front::ask(\%f, 'GET', '/api/health', undef)->{status} } 1 .. 5], [(200) x 5], 'reading is not counted';

	my @held = map { Parley::Client->connect($n->port) } 1 .. 60;
	$_->write("PATCH /api/conversations/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n") for @held;
	Parley::Process::wait_for { ($refused = Parley::Front::ask(\%f, 'GET', '/api/health', undef))->{status} == 429 } 10;
	error_is($refused, 429, 'rate_limited', 'too many at once from one address');
	$_->close for @held;
	ok Parley::Front::ready(\%f), '... and when they have gone, served again';
};

subtest 'nginx takes every form of the file' => sub {
	Parley::Front::marks_ok("$FindBin::Bin/../../conf/nginx/parley.conf", qw(tls limit other));
	my ($program) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
	for my $form ({}, { tls => $dir }, { limit => 1 }, { other => $other->url }, { tls => $dir, limit => 1, other => $other->url }) {
		my $n = Parley::Nginx->new(sockets => [$p->pool->socket], %$form);
		my $said = `$program -t -p @{[$n->dir]}/ -c @{[$n->dir]}/nginx.conf -e stderr 2>&1`;
		is $?, 0, join(' ', 'nginx -t:', sort keys %$form) or diag $said;
		unlike $said, qr/\[warn\]/, '... without a warning' or diag $said;
	}
};
done_testing;
