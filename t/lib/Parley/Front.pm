package Parley::Front;

# The set of requests that every web server before Parley is put through, by curl.
#
#	my $p = Parley::Front::parts(conf => {…}, workers => 2);	# database, model and workers, without a web server
#	… start the web server on $p->pool->socket …
#	Parley::Front::suite(name => 'nginx, TLS', url => "https://127.0.0.1:$port", test => $p, ca => "$dir/ca.pem",
#	    http2 => 1, streams => 1, restart => sub { $p->pool->restart });
#
# What suite() takes besides name, url and test (parts(), or anything with pg, model and pool whose model and
# configuration came from scripts() and conf()):
#	ca, http2	TLS: trust this file; the protocol is HTTP/2
#	streams		deltas must arrive as they are made (0: at the end is good enough)
#	restart		sub that replaces all workers and returns when the old ones have gone; absent: not asked for
#	stop, start	subs that take the workers away (what is answered then?) and bring them back; absent: not asked for
#	neighbour	1: the server was told to hand the rest of /api/ to Parley::Front::neighbour
#	page		1: the page is at /
#	hsts		1: Strict-Transport-Security is set
#	chunked		0: the server cannot take a body whose length is not told; 1: only by HTTP/1.1; (2)
#	slash		0: the server refuses an escaped slash in a path
#	own		what the server's own errors lack: 'id' (no request_id), 'retry' (503 without Retry-After),
#			'early' (no shape where the request could not be read),
#			'reset' (the stream may be reset in place of a 413)
#	gone		status that the server gives while no worker is there (503)
#
# neighbour(): another application, started; ->url, ->port.
# marks_ok($file, qw(tls other)): the commands at the head of a sample switch on what waits there behind marks.
# told($listen): takes a request that a server makes to a worker, and breaks off; { name => [value, …] } of its parameters.
# ask($front, $method, $path, $body, user => …, headers => {}) is one request; begin() does not wait.

use strict;
use warnings;

use File::Copy ();
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep);

use Parley::Contract;
use Parley::Curl;
use Parley::Model;
use Parley::Pool;
use Parley::Postgres;
use Parley::Process;
use Parley::Test;

my $JSON = JSON::XS->new->utf8->canonical;
my $ORIGIN = 'https://app.example.org';
my $users = 0;

sub wait_for(&;$) { goto &Parley::Process::wait_for }

# What the model answers to 'script:NAME'.  held: one delta and then nothing, until somebody cancels.
sub scripts {
	my $delta = 'data {"choices":[{"index":0,"delta":{"content":"The first. "}}]}';
	return {
		held => "$delta\nhang\n",
		pieces => text_reply(map { ("piece $_ ", 200) } 1 .. 5),
		slow => text_reply('Slowly, ', 1500, 'but surely.'),
		plain => text_reply('Hello, ', 'world.'),
	};
}

sub conf {
	my ($pg, $model) = @_;
	return (
		'database.url' => $pg->url('parley_worker'),
		'model.base_url' => $model->url,
		'model.model' => 'demo',
		'worker.drain_timeout' => '2s',
		'cors.origins' => $ORIGIN,
	);
}

sub env { return (PARLEY_AUTH_SECRET => $Parley::Test::SECRET, PARLEY_LOG_USER_KEY => 'tests') }

sub parts {
	my (%opt) = @_;
	my $self = bless { owner_pid => $$ }, 'Parley::Front::Parts';

	$self->{pg} = $opt{pg} // Parley::Postgres->new;
	$self->{model} = $opt{model} // Parley::Model->new(scripts => scripts());
	$self->{pool} = Parley::Pool->new(
		conf => { conf($self->{pg}, $self->{model}), %{$opt{conf} // {}} },
		env => { env(), %{$opt{env} // {}} },
		map { exists $opt{$_} ? ($_ => $opt{$_}) : () } qw(workers how listen));
	return $self;
}

sub token {
	my ($user, %claims) = @_;
	return Parley::Test::jwt({ alg => 'HS256', typ => 'JWT' }, { sub => $user, exp => time + 3600, %claims }, $Parley::Test::SECRET);
}

sub begin {
	my ($f, $method, $path, $body, %opt) = @_;
	my $token = exists $opt{token} ? $opt{token} : token($opt{user} // 'alice');

	return Parley::Curl->new($f->{url} . $path, method => $method, body => ref $body ? $JSON->encode($body) : $body,
	    headers => { defined $token ? (Authorization => "Bearer $token") : (), %{$opt{headers} // {}} },
	    ca => $f->{ca}, http2 => $f->{http2}, chunked => $opt{chunked}, seconds => $opt{seconds});
}

sub ask { return begin(@_)->response }

sub chat {
	my ($f, $user, $message, %fields) = @_;
	return ask($f, 'POST', '/api/chat', { message => $message, %fields }, user => $user);
}

# Until the first worker answers through the server.
sub ready {
	my ($f) = @_;
	return wait_for { ask($f, 'GET', '/api/health', undef, token => undef, seconds => 5)->{status} == 200 } 40;
}

# A user that nobody else is.
sub _user { return "front-$$-" . ++$users }

sub suite {
	my (%f) = @_;
	my $f = { chunked => 2, slash => 1, own => '', gone => 503, %f };

	subtest $f->{name} => sub {
		ok ready($f), 'the server answers' or return;
		for my $part (qw(turn stream waiting tokens paths sizes bodies headers cors head page away restart gone)) {
			my $code = Parley::Front->can("_$part");
			subtest $part => sub { $code->($f); done_testing };
		}
		is $f->{test}->pool->sickness, '', 'the workers are well';
		done_testing;
	};
}

# The server's own errors have the shape of all others.
sub _own_error {
	my ($f, $r, $status, $code, $name) = @_;
	return error_is($r, $status, $code, $name) unless $f->{own} =~ /id/;
	my $j = $r->{json} // {};

	is $r->{status}, $status, "$name: status";
	is $j->{status}, 'error', '... JSON of the shape';
	is $j->{error_code}, $code, '... error_code';
	ok length($j->{error} // '') && length($j->{message} // ''), '... reason and sentence';
}

sub _turn {
	my ($f) = @_;
	my $user = _user();
	my $r = chat($f, $user, 'add task: Buy milk');

	is $r->{status}, 200, 'a turn' or diag $r->{body};
	is $r->{protocol}, $f->{http2} ? 'HTTP/2' : 'HTTP/1.1', '... by this protocol';
	body_ok($r->{json}, 'its answer');
	is $r->{json}{tool_calls}[0]{tool_name}, 'add_task', '... with its call';
	my $id = $r->{json}{conversation_id};
	is ask($f, 'POST', "/api/$user/chat", { message => 'show my tasks', conversation_id => $id }, user => $user)->{json}{turn}, 2,
	    'the next, under the address that names the user';
	is ask($f, 'GET', '/api/conversations?q=Buy%20milk', undef, user => $user)->{json}{conversations}[0]{id}, $id, 'a search';
	is ask($f, 'PATCH', "/api/conversations/$id", { title => 'Café & more' }, user => $user)->{status}, 200, 'PATCH';
	is ask($f, 'DELETE', "/api/conversations/$id", undef, user => $user)->{status}, 204, 'DELETE: 204 without a body';
}

# A buffer anywhere would keep the one delta for ever: the model says nothing more until the turn is cancelled.
sub _stream {
	my ($f) = @_;
	my $user = _user();
	my $c = begin($f, 'POST', '/api/chat', { message => 'script:pieces', stream => JSON::XS::true }, user => $user);
	my @e;

	while (my $e = $c->event) {
		push @e, $e;
	}
	is $c->head->{status}, 200, 'a stream';
	like $c->head->{headers}{'content-type'}, qr{^text/event-stream}, '... of events';
	is join('', map { $_->{data}{text} } grep { $_->{event} eq 'delta' } @e), join('', map { "piece $_ " } 1 .. 5), '... whole';
	is $e[-1]{event}, 'done', '... to its end';
	is ask($f, 'GET', "/api/conversations/$e[0]{data}{conversation_id}/turns/1/events", undef, user => $user,
	    headers => { 'Last-Event-ID' => $e[-2]{id} })->{body} =~ /^event: done$/m, 1, 'attached to again by Last-Event-ID';
	return unless $f->{streams};

	$c = begin($f, 'POST', '/api/chat', { message => 'script:held', stream => JSON::XS::true }, user => $user);
	my $first = $c->event;
	is $first->{event}, 'turn', 'unbuffered: turn';
	my $delta = $c->event;
	is "$delta->{event} $delta->{data}{text}", 'delta The first. ', '... and a delta, while the model holds back the next';
	my $at = "/api/conversations/$first->{data}{conversation_id}/turns/$first->{data}{turn}";
	is ask($f, 'GET', $at, undef, user => $user)->{json}{status}, 'running', '... the turn is at work';
	is ask($f, 'POST', "$at/cancel", undef, user => $user, headers => { 'Content-Length' => 0 })->{status}, 202, '... it is cancelled';
	my $last;
	while (my $e = $c->event) {
		$last = $e;
	}
	is "$last->{event} $last->{data}{status}", 'done cancelled', '... and the stream says so';
}

# A turn that is not waited for, and ?wait=.
sub _waiting {
	my ($f) = @_;
	my $user = _user();
	my $c = begin($f, 'POST', '/api/chat', { message => 'script:slow' }, user => $user);
	my $id;

	wait_for { $id = ask($f, 'GET', '/api/conversations', undef, user => $user)->{json}{conversations}[0]{id} } 20;
	my $r = ask($f, 'GET', "/api/conversations/$id/turns/1?wait=20", undef, user => $user);
	is $r->{json}{status}, 'success', '?wait= comes back when the turn has ended';
	is $r->{json}{response}, 'Slowly, but surely.', '... with its answer';
	is $c->response->{json}{response}, 'Slowly, but surely.', '... as did the first';
}

sub _tokens {
	my ($f) = @_;
	my $r = ask($f, 'GET', '/api/conversations', undef, token => undef);

	error_is($r, 401, 'missing_token', 'no token');
	like $r->{headers}{'www-authenticate'}, qr/^Bearer realm="parley"$/, '... WWW-Authenticate';
	error_is(ask($f, 'GET', '/api/conversations', undef, token => 'x.y.z'), 401, 'invalid_token', 'a bad one');
	error_is(ask($f, 'POST', '/api/somebody/chat', { message => 'Hello' }), 403, 'forbidden', 'the path of another user');
	my $long = token('alice', pad => 'x' x 5900);
	cmp_ok length $long, '>', 7900, 'a token of nearly 8 KiB';
	is ask($f, 'GET', '/api/conversations', undef, token => $long)->{status}, 200, '... arrives';
}

sub _paths {
	my ($f) = @_;

	error_is(ask($f, 'GET', '/api/conversations/x'), 404, 'conversation_not_found', 'an id that is none');
	my $r = ask($f, 'PUT', '/api/chat', '{}');
	error_is($r, 405, 'method_not_allowed', 'PUT');
	is $r->{headers}{allow}, 'POST', '... Allow';
	if ($f->{slash}) {
		my $slash = ask($f, 'POST', '/api/a%2Fb%20c%C3%BC/chat', { message => 'script:plain' }, user => "a/b c\xfc");
		is $slash->{status}, 200, 'a user with a slash, a space and an umlaut in the path' or diag $slash->{body};
	}
	error_is(ask($f, 'GET', '/mcp', undef, token => undef), 405, 'method_not_allowed', '/mcp is ours');

	if (!$f->{neighbour}) {
		error_is(ask($f, 'GET', '/api/nothing', undef), 404, 'not_found', 'no such address');
		error_is(ask($f, 'GET', '/api/auth/session', undef), 404, 'not_found', 'nor this');
		return;
	}
	for my $path ('/api/auth/session?x=%2B', '/api/auth/callback/a%20b', '/api/chatter', '/api/conversation') {
		my $r = ask($f, 'GET', $path, undef, headers => { Cookie => 'c=1' });
		is $r->{status}, 200, "$path is another application's" or diag $r->{body};
		is $r->{json}{path}, $path, '... which sees it as it is';
		is $r->{json}{cookie}, 'c=1', '... with its cookies';
	}
	is ask($f, 'POST', '/api/auth/sign-in', { name => 'alice' }, token => undef)->{json}{body}, '{"name":"alice"}', 'it gets bodies';
	is ask($f, 'GET', '/api/auth/missing', undef)->{body}, 'no such page over here', 'its errors are its own';
}

# A body that is refused before all of it was sent: a reset may overtake the answer, on any way with TLS. Nothing was done; asked again.
sub _refused {
	my ($f, @ask) = @_;
	for (1 .. 10) {
		my $r = ask($f, @ask);
		return $r if $r->{status} != 599 || $_ == 10;
	}
}

sub _sizes {
	my ($f) = @_;

	error_is(_refused($f, 'POST', '/api/chat', { message => 'x' x 70_000 }), 413, 'body_too_large', '70 kB: the worker says so');
	# The answer comes before all was sent: by HTTP/2 curl 7.88 may lose it, by TLS a reset may overtake it, but for
	# a body that fits into the buffers on the way.
	my $far = _refused({ %$f, http2 => 0 }, 'POST', '/api/chat', { message => 'x' x 140_000 });
	if ($f->{own} =~ /reset/ && $far->{status} == 599) {
		pass '140 kB: the server breaks off';
	} else {
		_own_error($f, $far, 413, 'body_too_large', '140 kB: the server does');
	}
	is chat($f, _user(), "script:plain " . "\x{1f600}" x 1900)->{status}, 200, 'a long message';
}

sub _bodies {
	my ($f) = @_;

	error_is(ask($f, 'POST', '/api/chat', '{"message":'), 400, 'invalid_json', 'half a body');
	error_is(ask($f, 'POST', '/api/chat', 'message=Hello', headers => { 'Content-Type' => 'application/x-www-form-urlencoded' }),
	    415, 'unsupported_media_type', 'a form');
	error_is(ask($f, 'POST', '/api/chat', { message => ' ' }), 422, 'validation_error', 'an empty message', field => 'message');
	return unless $f->{chunked};
	my $r = ask({ %$f, $f->{chunked} == 1 ? (http2 => 0) : () }, 'POST', '/api/chat', { message => 'script:plain' },
	    user => _user(), chunked => 1);
	is $r->{status}, 200, 'a body whose length is not told' or diag $r->{body};
	is $r->{json}{response}, 'Hello, world.', '... arrives';
}

# Nothing that a client sends becomes a parameter that only the server may set.
sub _headers {
	my ($f) = @_;
	my $user = _user();
	my $r = ask($f, 'POST', '/api/chat', { message => 'script:plain' }, user => $user, headers => { lies() });

	is $r->{status}, 200, 'headers named as parameters change nothing' or diag $r->{body};
	is_deeply [$f->{test}->pg->one('SELECT count(*) FROM parley.conversations WHERE user_id = ?', $user)], [1], '... the turn is its user\'s';
	error_is(ask($f, 'GET', '/api/conversations', undef, token => undef,
	    headers => { 'Http-Authorization' => 'Bearer ' . token('alice'), HTTP_AUTHORIZATION => 'Bearer ' . token('alice') }),
	    401, 'missing_token', '... nor is such a header a token');

	is ask($f, 'GET', '/api/metrics', undef, token => undef)->{status}, 200, 'metrics, for this machine';
	is ask($f, 'GET', '/api/metrics', undef, token => undef, headers => { 'X-Forwarded-For' => '127.0.0.1' })->{status}, 404,
	    '... not for one who says that he is on it';

	is ask($f, 'GET', '/api/health', undef, headers => { 'X-Request-Id' => 'my.id-1' })->{headers}{'x-request-id'}, 'my.id-1',
	    'the request id of the client';
	$r = ask($f, 'GET', '/api/health', undef, headers => { 'X-Request-Id' => 'not sane' });
	like $r->{headers}{'x-request-id'}, $UUID, '... unless it is not sane';
	is $r->{headers}{'x-content-type-options'}, 'nosniff', 'nosniff, once';
	is $r->{headers}{'cache-control'}, 'no-store', 'Cache-Control, once';
	unlike $r->{headers}{server} // '', qr/\d/, 'no version of the server';
	is $r->{headers}{'x-powered-by'}, undef, '... nor of anything else';
	like $r->{headers}{'strict-transport-security'} // '', qr/^max-age=\d{8}/, 'Strict-Transport-Security' if $f->{hsts};
}

sub _cors {
	my ($f) = @_;
	my $r = ask($f, 'OPTIONS', '/api/chat', undef, token => undef, headers => { Origin => $ORIGIN,
		'Access-Control-Request-Method' => 'POST', 'Access-Control-Request-Headers' => 'authorization, content-type' });

	is $r->{status}, 204, 'a preflight needs no token';
	is $r->{headers}{'access-control-allow-origin'}, $ORIGIN, '... the origin';
	is $r->{headers}{'access-control-allow-methods'}, 'POST', '... the method';
	$r = ask($f, 'GET', '/api/health', undef, headers => { Origin => $ORIGIN });
	is $r->{headers}{'access-control-expose-headers'}, 'X-Request-Id, Location, Retry-After', 'what a page may read';
	is $r->{headers}{'access-control-allow-origin'}, $ORIGIN, '... once';
	is ask($f, 'GET', '/api/health', undef, headers => { Origin => 'https://evil.example.org' })->{headers}{'access-control-allow-origin'},
	    undef, 'another origin is told nothing';
}

sub _head {
	my ($f) = @_;
	my $r = ask($f, 'HEAD', '/api/health', undef, token => undef);

	is $r->{status}, 200, 'HEAD';
	is $r->{body}, '', '... without a body';
	is $r->{headers}{'content-type'}, 'application/json', '... with the head of GET';
	error_is(ask($f, 'GET', '/api/conversations', undef, token => undef), 401, 'missing_token', '... GET after it');
}

sub _page {
	my ($f) = @_;
	plan skip_all => 'the page is not served here' unless $f->{page};
	my $r = ask($f, 'GET', '/', undef, token => undef);

	is $r->{status}, 200, 'the page';
	like $r->{headers}{'content-type'}, qr{^text/html}, '... as HTML';
	like $r->{headers}{'content-security-policy'}, qr/^default-src 'none'; script-src 'self';.*trusted-types 'none'$/, '... its policy';
	is $r->{headers}{'x-content-type-options'}, 'nosniff', '... nosniff';
	is $r->{headers}{'referrer-policy'}, 'no-referrer', '... no referrer';
	is $r->{headers}{'cross-origin-opener-policy'}, 'same-origin', '... by itself';
	is $r->{headers}{'cross-origin-resource-policy'}, 'same-origin', '... for itself';
	like $r->{headers}{'permissions-policy'}, qr/camera=\(\)/, '... without a camera';
	is $r->{headers}{'cache-control'}, 'no-cache', '... and asked for anew';
	my ($script) = $r->{body} =~ /<script[^>]*src="([^"]+)"/;
	my $js = ask($f, 'GET', "/$script", undef, token => undef);
	is $js->{status}, 200, "its $script";
	like $js->{headers}{'content-type'}, qr{^text/javascript}, '... as JavaScript';
	like $js->{headers}{'content-security-policy'} // '', qr/default-src 'none'/, '... with the policy';
	_own_error($f, ask($f, 'GET', '/no-such-page', undef, token => undef), 404, 'not_found', 'no such page');
	my $up = ask($f, 'GET', '/../../etc/passwd', undef, token => undef);
	like "$up->{status} $up->{body}", $f->{own} =~ /early/ ? qr/^40[04] / : qr/^40[04] \{/, 'nothing above it';
}

# The client goes: the turn ends all the same.
sub _away {
	my ($f) = @_;
	for my $stream (JSON::XS::false, $f->{streams} ? JSON::XS::true : ()) {
		my $user = _user();
		my $c = begin($f, 'POST', '/api/chat', { message => 'script:slow', stream => $stream }, user => $user);
		my $id;

		$c->event && $c->event if $stream;
		wait_for { $id = ask($f, 'GET', '/api/conversations', undef, user => $user)->{json}{conversations}[0]{id} } 20;
		$c->close;
		my $r = ask($f, 'GET', "/api/conversations/$id/turns/1?wait=20", undef, user => $user);
		is "$r->{json}{status}: $r->{json}{response}", 'success: Slowly, but surely.', $stream ? 'a stream' : 'an answer';
	}
}

# A client as it should be: 202 leads on, what broke is sent again with the same key.
sub _settle {
	my ($f, $user, $r) = @_;

	for (1 .. 200) {
		return $r->{json} if $r->{status} == 200 && !$r->{cut} && $r->{json}{status} eq 'success';
		if (my $id = $r->{json}{conversation_id}) {
			my $turn = $r->{json}{turn} // 1;
			$r = ask($f, 'GET', "/api/conversations/$id/turns/$turn?wait=10", undef, user => $user);
		} elsif ($r->{status} >= 500) {
			sleep 0.1;
			$r = begin_slow($f, $user)->response;
		} else {
			last;
		}
	}
	return $r;
}

sub begin_slow {
	my ($f, $user) = @_;
	return begin($f, 'POST', '/api/chat', { message => 'script:slow' }, user => $user, headers => { 'Idempotency-Key' => "key-$user" });
}

sub _restart {
	my ($f) = @_;
	plan skip_all => 'the server keeps the workers' unless $f->{restart};
	my @clients = map { my $user = _user(); { user => $user, c => begin_slow($f, $user) } } 1 .. 8;

	my $stored = sub { $f->{test}->pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ANY(?)', [map { $_->{user} } @clients]) };
	wait_for { $stored->() >= 4 } 20;
	$f->{restart}->();
	ok ready($f), 'the server answers again';
	for my $k (@clients) {
		my $j = _settle($f, $k->{user}, $k->{c}->response);
		is $j->{response}, 'Slowly, but surely.', "$k->{user} has the answer" or diag $JSON->encode($j);
	}
	is $stored->(), 8, 'one turn for each, nothing twice';
}

sub _gone {
	my ($f) = @_;
	plan skip_all => 'the workers cannot be taken away' unless $f->{stop};
	$f->{stop}->();
	my $r = chat($f, _user(), 'Hello');

	_own_error($f, $r, $f->{gone}, 'overloaded', 'no workers');
	like $r->{headers}{'retry-after'}, qr/^\d+$/, '... Retry-After' unless $f->{own} =~ /retry/;
	is ask($f, 'GET', '/', undef, token => undef)->{status}, 200, '... the page is there' if $f->{page};
	$f->{start}->();
	ok ready($f), '... and they come back';
	is chat($f, _user(), 'script:plain')->{status}, 200, '... to work';
}

# Of one FCGI_PARAMS record (FastCGI 1.0, section 3.4), and a connection that is closed in the middle.
sub told {
	my ($listen) = @_;
	my $conn = $listen->accept;
	my ($in, %told) = ('');

	while (1) {
		sysread $conn, $in, 65536, length $in or die 'no parameters';
		next if length $in < 24;
		my ($type, $n) = unpack 'x17 C x2 n', $in;
		die "a record of type $type" if $type != 4;
		next if length $in < 24 + $n;
		my $params = substr $in, 24, $n;
		while (length $params) {
			my ($name, $value) = map { _told_length(\$params) } 1, 2;
			push @{$told{substr $params, 0, $name, ''}}, substr $params, 0, $value, '';
		}
		close $conn;
		return \%told;
	}
}

# One byte, or four with the highest bit set.
sub _told_length {
	my ($params) = @_;
	my $n = unpack 'C', $$params;
	return $n < 128 ? unpack('C', substr $$params, 0, 1, '') : unpack('N', substr $$params, 0, 4, '') & 0x7fffffff;
}

# Headers that would be parameters of the server's own, were their names taken as they are.
sub lies {
	return ('Request-Uri' => '/api/nothing', 'Request-Method' => 'DELETE', 'Remote-Addr' => '192.0.2.1',
	    'Remote-User' => 'mallory', 'Script-Name' => '/x', 'Https' => 'on', 'Proxy' => 'http://192.0.2.1/', 'Status' => '500',
	    REQUEST_URI => '/api/nothing', REMOTE_ADDR => '192.0.2.1', CONTENT_LENGTH => 2, HTTP_AUTHORIZATION => 'Bearer x',
	    'Http-Authorization' => 'Bearer x', 'Server-Protocol' => 'HTTP/0.9', 'Gateway-Interface' => 'x', 'Fcgi-Role' => 'FILTER');
}

# A POST with a path of many signs and such headers, as a worker is told of it; the client's answer besides.
sub told_ok {
	my ($f, $listen) = @_;
	my $c = begin($f, 'POST', '/api/a%2Fb%20c/chat?x=%41', { message => 'Hello' }, token => 't',
	    headers => { lies(), Cookie => 'c=1', 'Idempotency-Key' => 'k', 'Last-Event-ID' => 7 });
	my $told = told($listen);

	my %want = (REQUEST_URI => '/api/a%2Fb%20c/chat?x=%41', REQUEST_METHOD => 'POST', REMOTE_ADDR => '127.0.0.1',
	    CONTENT_LENGTH => 19, CONTENT_TYPE => 'application/json', HTTP_AUTHORIZATION => 'Bearer t', HTTP_IDEMPOTENCY_KEY => 'k',
	    HTTP_LAST_EVENT_ID => 7);
	is_deeply $told->{$_}, [$want{$_}], "$_, once" for sort keys %want;
	is_deeply [grep { defined && /192\.0\.2\.1|mallory|nothing|DELETE/ } map { @{$told->{$_}} } grep { !/^HTTP_/ } sort keys %$told], [],
	    'what is not a header has nothing of a header';
	ok !exists $told->{$_}, "no $_" for qw(HTTP_COOKIE HTTP_PROXY REMOTE_USER STATUS);
	return $c->response;
}

sub marks_ok {
	my ($file, @marks) = @_;
	my $dir = File::Temp->newdir;

	File::Copy::copy($file, "$dir/parley.conf") or die "$file: $!";
	open my $fh, '<', $file or die "$file: $!";
	my @lines = <$fh>;
	for my $mark (@marks) {
		ok scalar(grep { /^\s*#$mark / } @lines), "$mark: there is something behind the mark";
		my ($command) = grep { /sed -i .*s\/#$mark / } @lines;
		is system("cd $dir && " . $command =~ s/^#\s*//r), 0, "... $command";
	}
	open $fh, '<', "$dir/parley.conf" or die "$dir/parley.conf: $!";
	is_deeply [grep { /^\s*#[a-z]+ \S|^[^#].*# without / } <$fh>], [], '... and nothing is left behind marks';
}

# Another application on the same host: tells what it was asked.
sub neighbour {
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, ReuseAddr => 1) or die "socket: $!";
	my $owner = $$;
	my $pid = fork // die "fork: $!";

	if ($pid == 0) {
		$SIG{TERM} = 'DEFAULT';
		while (getppid == $owner) {
			IO::Select->new($listen)->can_read(1) or next;
			my $conn = $listen->accept or next;
			_neighbour_answer($conn);
			close $conn;
		}
		POSIX::_exit(0);
	}
	return bless { pid => $pid, owner_pid => $$, url => 'http://127.0.0.1:' . $listen->sockport, port => $listen->sockport },
	    'Parley::Front::Neighbour';
}

sub _neighbour_answer {
	my ($conn) = @_;
	my ($head, %h, $body) = ('');

	while (defined(my $line = <$conn>)) {
		last if $line =~ /^\r?\n/;
		$head = $line, next if $head eq '';
		$h{lc $1} = $2 if $line =~ /^([^:]+): *(.*?)\r?\n/;
	}
	read $conn, $body, $h{'content-length'} if $h{'content-length'};
	my ($method, $path) = split / /, $head;
	my $missing = ($path // '') =~ m{/missing};
	my $text = $missing ? 'no such page over here'
	    : $JSON->encode({ path => $path, method => $method, cookie => $h{cookie}, host => $h{host}, body => $body });
	print $conn 'HTTP/1.1 ' . ($missing ? '404 Not Found' : '200 OK') . "\r\nContent-Type: " .
	    ($missing ? 'text/plain' : 'application/json') . "\r\nContent-Length: " . length($text) . "\r\nConnection: close\r\n\r\n$text";
}

package Parley::Front::Neighbour;

sub url { $_[0]{url} }
sub port { $_[0]{port} }

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	local ($?, $!);
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
}

package Parley::Front::Parts;

sub pg { $_[0]{pg} }
sub model { $_[0]{model} }
sub pool { $_[0]{pool} }

# In this order: workers complain of a lost database.
sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid};
	delete $self->{$_} for qw(pool model pg);
}

1;
