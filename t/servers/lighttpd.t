# lighttpd before Parley, with the shipped configuration: only ports, paths and what its marks switch on differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Select;
use IO::Socket::UNIX;
use Test::More;

use Parley::Client;
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
	my $front = { url => $l->url, ca => "$dir/ca.pem" };
	my @slow = map { Parley::Front::begin_slow($front, "rolling-$_") } 1 .. 6;
	Parley::Process::wait_for { $own->pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id LIKE 'rolling-%'}) == 6 } 20;
	kill 'TERM', $workers[0];
	my %status;
	$status{Parley::Front::ask($front, 'GET', '/api/health', undef, token => undef)->{status}}++ while Parley::Process::lives($workers[0]);
	cmp_ok $status{200}, '>', 2, 'while one drains the others answer';
	is_deeply [keys %status], [200], '... and nobody is lost at its socket';
	like $_->response->{status}, qr/^20[02]$/, '... nor at work' for @slow;
	ok +(Parley::Process::wait_for { my @now = $l->children; @now == 3 && !grep { $_ == $workers[0] } @now } 20), '... and another takes its place';
	@workers = $l->children;
	$l->stop;
	ok +(Parley::Process::wait_for { !grep { Parley::Process::lives($_) } @workers } 20), 'they end with it';
};
undef $l;

my $port = Parley::Process::free_port();
my $tcp = Parley::Front::parts(pg => $p->pg, model => $p->model, how => 'listen', listen => "tcp:127.0.0.1:$port");
$l = Parley::Lighttpd->new(socket => "127.0.0.1:$port");
suite('by TCP', $tcp, $l, restart => sub { $tcp->pool->restart });
undef $tcp;
undef $l;

subtest 'what a worker is told, and when it is lost' => sub {
	my $listen = IO::Socket::UNIX->new(Local => "$dir/told.sock", Listen => 5) or die "$dir/told.sock: $!";
	chmod 0777, "$dir/told.sock";
	$l = Parley::Lighttpd->new(socket => "$dir/told.sock", tls => $dir);
	for my $http2 (0, 1) {
		my $r = Parley::Front::told_ok({ url => $l->url, ca => "$dir/ca.pem", http2 => $http2 }, $listen);
		is $r->{status}, 500, 'an answer';
		is $r->{json}{error_code}, 'internal_error', '... in the shape of all errors';
		is $r->{headers}{'retry-after'}, undef, '... not to be sent again blindly';
		ok !IO::Select->new($listen)->can_read(0.5), '... nor by lighttpd';
	}
};

subtest 'what lighttpd says itself' => sub {
	$l = Parley::Lighttpd->new(socket => "$dir/nobody.sock");
	is $l->doubts, '', 'no doubts of the file as it is';
	Parley::Front::marks_ok("$FindBin::Bin/../../conf/lighttpd/parley.conf", qw(own tls other gzip));
	my $http = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
	for (["nonsense\r\n\r\n", 400, 'bad_request'], ["GET / ${http}A: " . 'a' x 40000 . "\r\n\r\n", 431, 'bad_request'],
	    ["GET /nothing $http\r\n", 404, 'not_found'],
	    ["POST / ${http}\r\n", 411, 'length_required'], ["PUT / ${http}Content-Length: 0\r\n\r\n", 501, 'not_implemented'],
	    ["GET /api/health $http\r\n", 503, 'overloaded']) {
		my ($bytes, $status, $code) = @$_;
		my $c = Parley::Client->connect($l->port, 20);
		$c->write($bytes);
		my $r = $c->response;
		is $r->{status}, $status, substr($bytes, 0, 12) =~ s/\r.*//sr;
		is $r->{json}{error_code}, $code, "... $code" or diag $r->{body};
	}
};
done_testing;
