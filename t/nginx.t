# The errors that nginx makes by itself have the shape of all others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::UNIX;
use Test::More;

use Parley::Client;
use Parley::Nginx;
use Parley::Process;

my $dir = Parley::Process::tempdir();
my $socket = "$dir/parley.sock";
my $nginx = Parley::Nginx->new(sockets => [$socket], web => "$dir/web");

# Sends bytes, reads the answer.
sub ask {
	my ($bytes) = @_;
	my $c = Parley::Client->connect($nginx->port, 20);
	$c->write($bytes);
	return $c->response;
}

# status and error_code, and everything that contract and page rely on
sub is_error {
	my ($r, $status, $code, $name) = @_;
	my $j = $r->{json} // {};

	subtest $name => sub {
		is $r->{status}, $status, 'status';
		is $r->{headers}{'content-type'}, 'application/json', 'JSON';
		is $j->{status}, 'error', 'status of the body';
		is $j->{error_code}, $code, 'error_code';
		ok length($j->{error} // '') && length($j->{message} // ''), 'reason and message';
		is $j->{request_id}, $r->{headers}{'x-request-id'}, 'the same request id in head and body';
	};
}

my $http = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
is_error(ask("nonsense\r\n\r\n"), 400, 'bad_request', 'not HTTP');
is_error(ask("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), 400, 'bad_request', 'no Host');
is_error(ask("GET / ${http}A: " . 'a' x 20000 . "\r\n\r\n"), 400, 'bad_request', 'a header of 20 kB');
is_error(ask("GET /nothing $http\r\n"), 404, 'not_found', 'no such page');
is_error(ask("GET /_parley/error $http\r\n"), 404, 'not_found', 'the address of the errors is no page');
is_error(ask("TRACE / $http\r\n"), 405, 'method_not_allowed', 'TRACE');
is_error(ask("POST /api/chat ${http}Content-Length: 300000\r\n\r\n"), 413, 'body_too_large', 'a body of 300 kB');
is_error(ask('GET /' . 'a' x 20000 . " $http\r\n"), 414, 'uri_too_long', 'an address of 20 kB');

my $post = "POST /api/chat ${http}Content-Length: 2\r\n";
my $r = ask("$post\r\n{}");
is_error($r, 503, 'overloaded', 'no workers');
is $r->{headers}{'retry-after'}, 1, '... Retry-After';
is ask("${post}X-Request-Id: my.id-1\r\n\r\n{}")->{headers}{'x-request-id'}, 'my.id-1', 'the own request id comes back';
isnt ask("${post}X-Request-Id: not \"sane\r\n\r\n{}")->{headers}{'x-request-id'}, 'not "sane', '... unless it is not sane';

# A worker that takes the request and dies: what it did is unknown.
my $listen = IO::Socket::UNIX->new(Local => $socket, Listen => 5) or die "$socket: $!";
chmod 0777, $socket;
my $c = Parley::Client->connect($nginx->port, 20);
$c->write("$post\r\n{}");
my $conn = $listen->accept;
sysread $conn, my $params, 65536;
close $conn;
$r = $c->response;
is_error($r, 500, 'internal_error', 'a worker lost in the middle');
is $r->{headers}{'retry-after'}, undef, '... without Retry-After';

# What the worker is told.
for my $name (qw(REQUEST_URI REQUEST_METHOD QUERY_STRING CONTENT_TYPE CONTENT_LENGTH REMOTE_ADDR SERVER_NAME)) {
	like $params, qr/$name/, "$name is passed";
}
$c = Parley::Client->connect($nginx->port, 20);
$c->write("GET /api/a%2Fb%20c/chat?x=%41 ${http}Authorization: Bearer t\r\nIdempotency-Key: k\r\nLast-Event-ID: 7\r\n\r\n");
$conn = $listen->accept;
sysread $conn, $params, 65536;
like $params, qr{REQUEST_URI/api/a%2Fb%20c/chat\?x=%41}, 'the address arrives as it was sent';
like $params, qr/HTTP_AUTHORIZATIONBearer t/, 'the token arrives';
like $params, qr/HTTP_IDEMPOTENCY_KEYk/, 'Idempotency-Key arrives';
like $params, qr/HTTP_LAST_EVENT_ID7/, 'Last-Event-ID arrives';
close $conn;

# The page's folder is served when there is one.
mkdir "$dir/web";
open my $fh, '>', "$dir/web/index.html" or die;
print $fh '<!doctype html>';
close $fh;
$r = Parley::Client->new($nginx->port, 'GET', '/')->response;
is $r->{status}, 200, 'the page';
like $r->{headers}{'content-type'}, qr{^text/html}, '... as HTML';
like $r->{headers}{'content-security-policy'}, qr/default-src 'none'; script-src 'self';/, '... with a content security policy';

undef $nginx;
system 'rm', '-rf', $dir;
done_testing;
