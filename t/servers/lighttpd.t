# lighttpd before Parley, with the shipped configuration: only ports, paths and what its marks switch on differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Select;
use IO::Socket::UNIX;
use Test::More;

use Parley::Contract;
use Parley::Curl;
use Parley::Front;
use Parley::Lighttpd;
use Parley::Process;
use Parley::Tls;

for my $why (Parley::Lighttpd::missing(), Parley::Curl::missing(), Parley::Tls::missing()) {
	plan skip_all => $why if $why;
}
my $p = Parley::Front::parts();
my $dir = Parley::Process::tempdir();
END { File::Path::remove_tree($dir) if $dir }
Parley::Tls::make($dir);

sub suite {
	my ($name, $parts, $front, %opt) = @_;
	Parley::Front::suite(name => $name, url => $front->url, test => $parts, streams => 1, page => 1, own => 'id retry', chunked => 1, %opt);
}

my $other = Parley::Front::neighbour();
my $l = Parley::Lighttpd->new(socket => $p->pool->socket, tls => $dir, other => $other->url);
is $l->doubts, '', 'no doubts of TLS and another application';
suite('an external socket, TLS and HTTP/2, beside another application', $p, $l,
    ca => "$dir/ca.pem", http2 => 1, hsts => 1, neighbour => 1,
    restart => sub { $p->pool->restart }, stop => sub { $p->pool->stop }, start => sub { $p->pool->start });

subtest 'around TLS' => sub {
	my $r = Parley::Front::ask({ url => 'http://127.0.0.1:' . $l->http_port }, 'POST', '/api/chat?x=%41', '{}', token => undef);
	is $r->{status}, 308, 'plain http leads to TLS, method and body kept';
	is $r->{headers}{location}, $l->url . '/api/chat?x=A', '... with the whole address';
	is $r->{headers}{'strict-transport-security'}, undef, '... HSTS is not said there';
	for my $path ('/', '/no-such-page', '/api/health', '/api/auth/session') {
		like Parley::Front::ask({ url => $l->url, ca => "$dir/ca.pem" }, 'GET', $path, undef)->{headers}{'strict-transport-security'},
		    qr/^max-age=31536000$/, "HSTS on $path, by HTTP/1.1";
	}
	my $old = system("curl -q -s -o /dev/null --cacert $dir/ca.pem --tls-max 1.1 --ciphers 'ALL:\@SECLEVEL=0' " . $l->url);
	is $old >> 8, 35, 'TLS 1.1 is not spoken';
};
undef $l;

# Its workers are nobody else's: what they log is in lighttpd's log.
my $own = Parley::Front::parts(pg => $p->pg, model => $p->model, how => 'server');
$l = Parley::Lighttpd->new(own => $own->pool, tls => $dir);
is $l->doubts, '', 'no doubts of its own workers';
suite('its own process manager, TLS', $own, $l, ca => "$dir/ca.pem", hsts => 1, restart => sub {
	my @old = $l->children;
	kill 'TERM', @old;
	Parley::Process::wait_for { !grep { Parley::Process::lives($_) } @old } 30;
});
subtest 'its own workers' => sub {
	my @workers = $l->children;
	is scalar @workers, 3, 'as many as max-procs says';
	$l->stop;
	is_deeply [grep { Parley::Process::lives($_) } @workers], [], 'they end with it';
};
undef $l;

my $port = Parley::Process::free_port();
my $tcp = Parley::Front::parts(pg => $p->pg, model => $p->model, how => 'listen', listen => "tcp:127.0.0.1:$port");
$l = Parley::Lighttpd->new(socket => "127.0.0.1:$port");
suite('by TCP', $tcp, $l, restart => sub { $tcp->pool->restart });
undef $tcp;
undef $l;

# What the worker is told, and what is not said twice.
subtest 'a worker lost in the middle' => sub {
	my $listen = IO::Socket::UNIX->new(Local => "$dir/die.sock", Listen => 5) or die "$dir/die.sock: $!";
	chmod 0777, "$dir/die.sock";
	$l = Parley::Lighttpd->new(socket => "$dir/die.sock");
	my %f = (url => $l->url);
	my $c = Parley::Front::begin(\%f, 'POST', '/api/a%2Fb%20c/chat?x=%41', { message => 'Hello' }, token => 't',
	    headers => { Cookie => 'c=1', Proxy => 'http://192.0.2.1/', 'Idempotency-Key' => 'k', 'Last-Event-ID' => 7 });
	my $conn = $listen->accept;
	sysread $conn, my $params, 65536;
	close $conn;
	my $r = $c->response;
	is $r->{status}, 500, 'an answer';
	is $r->{json}{error_code}, 'internal_error', '... in the shape of all errors';
	is $r->{headers}{'retry-after'}, undef, '... not to be sent again blindly';
	ok !IO::Select->new($listen)->can_read(1), '... nor by lighttpd';

	like $params, qr{REQUEST_URI/api/a%2Fb%20c/chat\?x=%41}, 'the address as it was sent: an escaped slash stays one';
	like $params, qr/HTTP_AUTHORIZATIONBearer t/, 'the token arrives';
	like $params, qr/HTTP_IDEMPOTENCY_KEYk/, 'Idempotency-Key arrives';
	like $params, qr/HTTP_LAST_EVENT_ID7/, 'Last-Event-ID arrives';
	like $params, qr/REMOTE_ADDR127\.0\.0\.1/, 'the address of the client is lighttpd\'s word';
	unlike $params, qr/c=1/, 'cookies do not';
	unlike $params, qr/192\.0\.2\.1/, 'nor does Proxy';
};
done_testing;
