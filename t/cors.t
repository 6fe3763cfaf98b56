# Pages of other origins.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Contract;
use Parley::Test;

my $pg = Parley::Postgres->new;
my $model = Parley::Model->new;
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1,
    conf => { 'cors.origins' => 'https://app.example.org, http://localhost:3000' });
my @listed = ('https://app.example.org', 'http://localhost:3000');
my @unlisted = ('https://evil.example.org', 'https://app.example.org.evil.org', 'https://app.example.org:8443',
    'http://app.example.org', 'https://APP.example.org', 'https://sub.app.example.org', 'null', '*', '',
    'https://app.example.org, http://localhost:3000');

# Those headers of an answer that CORS is about.
sub cors {
	my ($r) = @_;
	return { map { $_ => $r->{headers}{$_} } grep { /^access-control-/ } keys %{$r->{headers}} };
}

sub preflight {
	my ($app, $path, $origin, %headers) = @_;
	return $app->request('OPTIONS', $path, undef, token => undef, headers => {
		Origin => $origin, 'Access-Control-Request-Method' => 'POST',
		'Access-Control-Request-Headers' => 'authorization, content-type', %headers });
}

my $expose = 'X-Request-Id, Location, Retry-After';

for my $origin (@listed) {
	my $want = { 'access-control-allow-origin' => $origin, 'access-control-expose-headers' => $expose };
	my @r = (
		['health', $t->get('/api/health', token => undef, headers => { Origin => $origin })],
		['an answer', $t->post('/api/chat', { message => 'Hello' }, headers => { Origin => $origin })],
		['a refused token', $t->get('/api/conversations', token => 'x', headers => { Origin => $origin })],
		['a bad request', $t->post('/api/chat', '', headers => { Origin => $origin })],
		['no address', $t->get('/api/nothing', headers => { Origin => $origin })],
		['a stream', $t->post('/api/chat', { message => 'Hello', stream => \1 }, headers => { Origin => $origin })],
	);
	is_deeply cors($_->[1]), $want, "$origin: $_->[0]" for @r;
	is $_->[1]{headers}{vary}, 'Origin', '... Vary' for @r;

	my %methods = ('/api/chat' => 'POST', '/api/alice/chat' => 'POST', '/api/conversations' => 'GET, HEAD',
	    '/api/conversations/x' => 'GET, HEAD, PATCH, DELETE');
	for my $path (sort keys %methods) {
		my $r = preflight($t, $path, $origin);
		is $r->{status}, 204, "preflight of $path: no token is asked for";
		is $r->{body}, '', '... no body';
		is $r->{headers}{'access-control-allow-origin'}, $origin, '... the origin';
		is $r->{headers}{'access-control-allow-methods'}, $methods{$path}, '... methods';
		like $r->{headers}{'access-control-allow-headers'}, qr/\b$_\b/i, "... $_"
		    for qw(Authorization Content-Type Accept X-Request-Id Idempotency-Key Last-Event-ID traceparent tracestate);
		like $r->{headers}{'access-control-max-age'}, qr/^\d+$/, '... for how long';
		ok !exists $r->{headers}{'access-control-allow-credentials'}, '... no cookies';
		like $r->{headers}{'x-request-id'}, $UUID, '... a request id';
	}
	error_is(preflight($t, '/api/nothing', $origin), 404, 'not_found', 'preflight of no address');
	error_is(preflight($t, '/api/chat', $origin, 'Access-Control-Request-Method' => undef), 405, 'method_not_allowed',
	    'OPTIONS that is no preflight');
}

for my $origin (@unlisted) {
	my $r = $t->get('/api/health', token => undef, headers => { Origin => $origin });
	is $r->{status}, 200, "'$origin' is answered";
	is_deeply cors($r), {}, '... and is told nothing';
	is $r->{headers}{vary}, 'Origin', '... Vary';
	$r = preflight($t, '/api/chat', $origin);
	error_is($r, 405, 'method_not_allowed', '... preflight');
	is_deeply cors($r), {}, '... is told nothing';
}
is_deeply cors($t->get('/api/health', token => undef)), {}, 'without an origin nothing is said';

# Nobody is listed by default.
my $closed = Parley::Test->new(pg => $pg, model => $model, workers => 1);
my $r = preflight($closed, '/api/chat', $listed[0]);
error_is($r, 405, 'method_not_allowed', 'no list: no preflight');
is_deeply cors($r), {}, '... no headers';
ok !exists $closed->get('/api/health', token => undef)->{headers}{vary}, '... no Vary';

is $t->pool->sickness, '', 'the workers are well';
done_testing;
