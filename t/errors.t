# Errors: each has its status, its code and its shape.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Encode qw(encode_utf8);
use JSON::XS ();
use Test::More;
use Time::HiRes qw(time);

use Parley::Client;
use Parley::Contract;
use Parley::Process;
use Parley::Test;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $error = sub { "status $_[0]\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"HUSH $_[1]\"}}\n" };
my $model = Parley::Model->new(scripts => {
	refused => $error->(400, 'bad request'),
	down => $error->(500, 'down'),
	hurried => "status 429\nheader Content-Type: application/json\nheader Retry-After: 7\nraw {\"error\":{\"message\":\"HUSH\"}}\n",
	nonsense => "header Content-Type: application/json\nraw {\"choices\":null}\n",
	silent => "hang\n",
	overflow => "status 400\nheader Content-Type: application/json\n" .
	    "raw {\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"HUSH too long\"}}\n",
	forever => call_reply(list_tasks => {}),
	wait => text_reply('Al', 1500, 'most.'),
});
my $t = Parley::Test->new(model => $model, conf => {
	'model.retries' => 0, 'model.first_byte_timeout' => '500 ms', 'agent.max_steps' => 3,
	'limits.body' => '64 KiB',
});
my $pg = $t->pg;
my $nobody = '00000000-0000-4000-8000-000000000000';

sub turns { $pg->one('SELECT count(*) FROM parley.turns') }

# A body as it is, for alice.
sub send_body {
	my ($body, %opt) = @_;
	return $t->post('/api/chat', $body, %opt);
}

subtest 'addresses and methods' => sub {
	error_is($t->get($_), 404, 'not_found', $_) for '/api', '/api/', '/api/chats', '/api/conversations/', '/api//chat',
	    '/api/alice/chat/', '/api/alice/conversations', '/api/chat/', '/API/chat', '/api/%63hat%2f',
	    "/api/conversations/$nobody/turns", "/api/conversations/$nobody/turns/1/",
	    "/api/conversations/$nobody/turns/1/event", "/api/conversations/$nobody/turns/1/cancel/", '/api/../api/health/x';
	my %allow = (
		'/api/chat' => 'POST', '/api/alice/chat' => 'POST', '/api/conversations' => 'GET, HEAD',
		"/api/conversations/$nobody" => 'GET, HEAD, PATCH, DELETE',
		"/api/conversations/$nobody/turns/1" => 'GET, HEAD', '/api/health' => 'GET, HEAD',
		"/api/conversations/$nobody/turns/1/events" => 'GET, HEAD',
		"/api/conversations/$nobody/turns/1/cancel" => 'POST', "/api/conversations/$nobody/turns/1/retry" => 'POST',
	);
	for my $path (sort keys %allow) {
		my $r = $t->request('PUT', $path, {});
		error_is($r, 405, 'method_not_allowed', "PUT $path");
		is $r->{headers}{allow}, $allow{$path}, '... Allow';
	}
	is $t->request('OPTIONS', '/api/chat')->{status}, 405, 'OPTIONS without CORS';
	my $head = $t->request('HEAD', '/api/health', undef, token => undef);
	is $head->{status}, 200, 'HEAD is like GET';
	is $head->{body}, '', '... without a body';
};

subtest 'tokens' => sub {
	my $r = $t->get('/api/conversations', token => undef);
	error_is($r, 401, 'missing_token', 'none');
	is $r->{headers}{'www-authenticate'}, 'Bearer realm="parley"', '... WWW-Authenticate';
	$r = $t->get('/api/conversations', token => 'nonsense');
	error_is($r, 401, 'invalid_token', 'nonsense');
	like $r->{headers}{'www-authenticate'}, qr/^Bearer realm="parley", error="invalid_token", error_description="[^"]+"$/,
	    '... WWW-Authenticate';
	$r = $t->get('/api/conversations', token => $t->token('alice', exp => time - 1000));
	error_is($r, 401, 'token_expired', 'expired');
	like $r->{headers}{'www-authenticate'}, qr/error="invalid_token"/, '... WWW-Authenticate';
	unlike $r->{body}, qr/alice|eyJ/, 'nothing of the token in it';
};

# Each request has the fault in question and all that are looked at later.
subtest 'the order of checks' => sub {
	my $big = 'x' x 70000;
	my %bad = (token => undef, headers => { 'Content-Type' => 'text/plain' });
	my %text = (headers => { 'Content-Type' => 'text/plain' });

	error_is($t->request('PUT', '/api/nothing', $big, %bad), 404, 'not_found', 'address before method');
	error_is($t->request('PUT', '/api/bob/chat', $big, %bad), 405, 'method_not_allowed', 'method before token');
	error_is($t->post('/api/bob/chat', $big, %bad), 401, 'missing_token', 'token before user');
	error_is($t->post('/api/bob/chat', $big, %text), 403, 'forbidden', 'user before size');
	error_is(send_body($big, %text), 413, 'body_too_large', 'size before media type');
	error_is(send_body('{"message":', %text), 415, 'unsupported_media_type', 'media type before JSON');
	error_is(send_body('{"message":7,"message":"x"}'), 400, 'invalid_json', 'JSON before fields');
	error_is(send_body({ message => '', conversation_id => $nobody }), 422, 'validation_error', 'fields before rows');
	error_is($t->patch("/api/conversations/$nobody", '[]'), 400, 'invalid_json', 'also with PATCH');
	error_is($t->patch("/api/conversations/$nobody", { title => 'x' }), 404, 'conversation_not_found', 'rows at last');
};

subtest 'media types' => sub {
	my $post = sub { $t->post('/api/chat', '{"message":"Hello"}', headers => { 'Content-Type' => $_[0] })->{status} };
	is $post->($_), 200, $_ for 'application/json', 'Application/JSON', 'application/json; charset=utf-8',
	    'application/json;charset="UTF-8"', 'application/json ; x=y';
	is $post->($_ || undef), 415, $_ || 'none' for 'text/plain', 'application/x-www-form-urlencoded',
	    'application/json; charset=latin1', 'application/jsonp', 'application/json+x', '';
};

subtest 'JSON' => sub {
	my $before = turns();
	my $nested = sub { '{"message":"Hello","x":' . '[' x ($_[0] - 1) . ']' x ($_[0] - 1) . '}' };
	my @bad = (
		['empty', ''], ['blank', " \n\t"], ['tru', 'tru'], ['an array', '["message"]'], ['a string', '"message"'],
		['null', 'null'], ['a number', '1'], ['cut off', '{"message":"Hello"'], ['trailing bytes', '{"message":"Hello"} x'],
		['two objects', '{"message":"Hello"}{"message":"Hello"}'], ['a trailing comma', '{"message":"Hello",}'],
		['a comment', '{"message":"Hello"/* x */}'], ['single quotes', q({'message':'Hello'})],
		['no quotes', '{message:"Hello"}'], ['a byte order mark', "\xef\xbb\xbf{\"message\":\"Hello\"}"],
		['invalid UTF-8', "{\"message\":\"Hello \xff\"}"], ['overlong UTF-8', "{\"message\":\"\xc0\xaf\"}"],
		['a surrogate in UTF-8', "{\"message\":\"\xed\xa0\x80\"}"], ['past U+10FFFF', "{\"message\":\"\xf4\x90\x80\x80\"}"],
		['a raw NUL', "{\"message\":\"a\0b\"}"], ['an escaped NUL', '{"message":"a\u0000b"}'],
		['an escaped NUL in a name', '{"message":"Hello","a\u0000":1}'],
		['a NUL after the object', "{\"message\":\"Hello\"}\0"],
		['a line break in a string', "{\"message\":\"a\nb\"}"], ['a wrong escape', '{"message":"\x41"}'],
		['a lone high surrogate', '{"message":"\ud800"}'], ['a lone low surrogate', '{"message":"\udc00 x"}'],
		['a name twice', '{"message":"a","message":"b"}'], ['a name twice, once escaped', '{"message":"a","mess\u0061ge":"b"}'],
		['a name twice, deep inside', '{"message":"Hello","x":[{"a":1,"a":2}]}'], ['depth 33', $nested->(33)],
		['depth 30000', $nested->(30000)], ['a leading zero', '{"message":"Hello","x":01}'],
		['NaN', '{"message":"Hello","x":NaN}'], ['a number out of bounds', '{"message":"Hello","x":' . '9' x 400 . '}'],
		['an exponent out of bounds', '{"message":"Hello","x":1e99999}'], ['a lone minus', '{"message":"Hello","x":-}'],
	);
	error_is(send_body($_->[1]), 400, 'invalid_json', $_->[0]) for @bad;
	is turns(), $before, 'nothing was stored';

	my @good = (
		['depth 32', $nested->(32)], ['blanks around', " \r\n{ \"message\" : \"Hello\" }\t\n"],
		['a surrogate pair', '{"message":"\ud83d\ude00"}'], ['a large number elsewhere', '{"message":"Hello","x":1e400,"y":' . '9' x 40 . '}'],
		['fields that are unknown', '{"message":"Hello","user_id":"bob","":{}}'],
		['the same name in two objects', '{"message":"Hello","x":{"message":1}}'],
	);
	is send_body($_->[1])->{status}, 200, $_->[0] for @good;
	is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'bob'}), 0, 'a field chooses no user';
};

subtest 'size' => sub {
	my $sized = sub {
		my $head = '{"message":"Hello","x":"';
		return $head . 'y' x ($_[0] - length($head) - 2) . '"}';
	};
	is send_body($sized->(65535))->{status}, 200, '64 KiB - 1';
	is send_body($sized->(65536))->{status}, 200, '64 KiB';
	error_is(send_body($sized->(65537)), 413, 'body_too_large', '64 KiB + 1');
	error_is(send_body($sized->(120_000)), 413, 'body_too_large', '120 kB');
	error_is(send_body($sized->(2_000_000)), 413, 'body_too_large', '2 MB (nginx refuses it)');

	# Without a length in front.
	my $chunked = sub {
		my $body = $sized->($_[0]);
		my $c = Parley::Client->connect($t->nginx->port, 20);
		$c->write("POST /api/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n" .
		    'Authorization: Bearer ' . $t->token('alice') . "\r\nTransfer-Encoding: chunked\r\n\r\n" .
		    sprintf("%x\r\n%s\r\n0\r\n\r\n", length $body, $body));
		return $c->response;
	};
	is $chunked->(65536)->{status}, 200, '64 KiB in chunks';
	error_is($chunked->(65537), 413, 'body_too_large', '... and one more');
};

subtest 'fields' => sub {
	my $before = turns();
	my $bad = sub {
		my ($name, $field, %body) = @_;
		error_is(send_body({ message => 'Hello', %body }), 422, 'validation_error', $name, field => $field);
	};
	error_is(send_body('{}'), 422, 'validation_error', 'no message', field => 'message');
	$bad->("message: $_->[0]", message => message => $_->[1]) for ['null', undef], ['a number', 7], ['a list', ['x']],
	    ['an object', {}], ['true', JSON::XS::true], ['empty', ''], ['blank', " \t\r\n"],
	    ['blank in Unicode', "\x{a0}\x{2003}\x{3000}\x{2028}"], ['2,001 characters', 'x' x 2001],
	    ['2,001 emoji', '😀' x 2001];
	$bad->("conversation_id: $_->[0]", conversation_id => conversation_id => $_->[1]) for ['text', 'x'], ['empty', ''],
	    ['a number', 7], ['no hyphens', $nobody =~ s/-//gr], ['braces', "{$nobody}"], ['a blank after it', "$nobody "],
	    ['a list', [$nobody]], ['true', JSON::XS::true];
	$bad->("stream: $_->[0]", stream => stream => $_->[1]) for ['text', 'true'], ['a number', 1], ['a list', []];
	$bad->("on_busy: $_->[0]", on_busy => on_busy => $_->[1]) for ['unknown', 'wait'], ['empty', ''], ['a number', 1],
	    ['upper case', 'REJECT'];
	$bad->("return: $_->[0]", return => return => $_->[1]) for ['unknown', 'all'], ['true', JSON::XS::true];
	$bad->("time_zone: $_->[0]", time_zone => time_zone => $_->[1]) for ['a number', 1], ['unknown', 'Nowhere/City'];
	$bad->('approvals', approvals => approvals => { nobody => JSON::XS::true });
	is turns(), $before, 'nothing was stored';

	for (['2,000 characters', 'x' x 2000], ['2,000 emoji', '😀' x 2000], ['2,000 after trimming', ' ' x 500 . 'ü' x 2000 . "\n" x 500],
	    ['control characters', "a\x{1}b\x{1f}\x{7f}\x{85}c"], ['a zero width joiner', "\x{1F468}\x{200d}\x{1F469}"],
	    ['right to left', "\x{202e}abc"], ['U+FFFF', "a\x{10FFFF}"], ['SQL', q{'); DROP TABLE parley.turns; --}]) {
		my ($name, $text) = @$_;
		my $r = send_body({ message => $text });
		is $r->{status}, 200, $name or diag substr $r->{body}, 0, 300;
		is $r->{json}{messages}[0]{content}, $text =~ s/^\s+|\s+$//gr, '... and comes back as it was';
	}
};

subtest 'request ids' => sub {
	my $id = sub { $t->get('/api/health', token => undef, headers => { 'X-Request-Id' => $_[0] })->{headers}{'x-request-id'} };
	is $id->($_), $_, 'taken over: ' . substr $_, 0, 20 for 'a', 'My.id_1-2', 'x' x 128, '-', '42';
	like $id->($_), $UUID, 'replaced: ' . substr $_, 0, 20 for 'x' x 129, 'a b', 'a"b', 'a,b', 'ü', 'a/b', "a\tb", 'a:b';
	my $r = $t->get('/nothing', headers => { 'X-Request-Id' => 'of-nginx.1' });
	error_is($r, 404, 'not_found', 'an error of nginx', request_id => 'of-nginx.1');

	$r = $t->post('/api/chat', { message => 'script:refused' }, headers => { 'X-Request-Id' => 'find.me' });
	error_is($r, 502, 'model_error', 'a turn that fails', request_id => 'find.me');
	my @lines = grep { ($_->{request_id} // '') eq 'find.me' } $t->log;
	cmp_ok scalar(@lines), '>=', 2, 'the id is in the lines of its request';
	ok scalar(grep { $_->{event} eq 'request' && $_->{error_code} eq 'model_error' && $_->{status} == 502 } @lines),
	    '... with status and error_code';
};

subtest 'what a turn can end with' => sub {
	my %want = (
		refused => [502, 'model_error'], nonsense => [502, 'model_error'], down => [503, 'model_unavailable'],
		silent => [504, 'model_timeout'], overflow => [422, 'context_too_long'], forever => [500, 'too_many_steps'],
	);
	for my $script (sort keys %want) {
		my $r = $t->chat('carol', "script:$script");
		error_is($r, @{$want{$script}}, $script, turn => 1);
		like $r->{json}{conversation_id}, $UUID, '... conversation_id';
		unlike $r->{body}, qr/HUSH/, '... nothing of the provider';
		is !!$r->{headers}{'retry-after'}, $want{$script}[0] == 503, '... Retry-After';
		my $row = $pg->rows('SELECT state, error_code FROM parley.turns WHERE conversation_id = ?', $r->{json}{conversation_id});
		is_deeply $row, [{ state => 'failed', error_code => $want{$script}[1] }], '... and the row says the same';
		my $next = $t->chat('carol', 'Hello', conversation_id => $r->{json}{conversation_id});
		is $next->{status}, 200, '... the next turn works' or diag $next->{body};
	}
	is $pg->one('SELECT count(*) FROM parley.tool_calls WHERE result IS NULL'), 0, 'no call without its result';

	my $r = $t->chat('carol', 'script:hurried');
	error_is($r, 503, 'model_unavailable', 'the provider wants us to wait');
	my $after = $r->{headers}{'retry-after'} // 0;
	ok $after >= 5 && $after <= 10, '... Retry-After is its own' or diag $after;
	$pg->do('DELETE FROM parley.facts');
};

subtest 'conversations' => sub {
	my $r = $t->chat('dave', 'Hello');
	my $id = $r->{json}{conversation_id};
	error_is($t->chat('dave', 'Hello', conversation_id => $nobody), 404, 'conversation_not_found', 'unknown');
	my ($other, $none) = map { my $e = $t->chat('alice', 'Hello', conversation_id => $_); delete $e->{json}{request_id}; $e } $id, $nobody;
	is_deeply $other->{json}, $none->{json}, 'unknown and someone else\'s look the same';
	is_deeply [$other->{status}, sort keys %{$other->{headers}}], [$none->{status}, sort keys %{$none->{headers}}],
	    '... to the last header';

	my $c = $t->begin_chat('dave', 'script:wait', conversation_id => $id);
	Parley::Process::wait_for { $pg->one(q{SELECT count(*) FROM parley.turns WHERE state = 'running'}) } 20;
	for my $body ({ on_busy => 'reject' }, { on_busy => 'reject', stream => JSON::XS::true }) {
		$r = $t->chat('dave', 'Too soon', conversation_id => $id, %$body);
		error_is($r, 409, 'conversation_busy', join(' ', 'busy', %$body), conversation_id => $id, turn => 2);
		like $r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, '... Retry-After';
	}
	is $c->response->{json}{response}, 'Almost.', 'the first is not disturbed';
	is $pg->one('SELECT count(*) FROM parley.messages WHERE conversation_id = ?', $id), 4, 'and nothing else was stored';
	is $t->chat('dave', 'Hello', conversation_id => $id)->{json}{turn}, 3, 'then the next';
};

subtest 'unknown_conversation = create' => sub {
	my $forgiving = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { 'api.unknown_conversation' => 'create' });
	my $theirs = $t->chat('dave', 'Mine alone')->{json}{conversation_id};
	my %seen = ($theirs => 1);
	for my $id ($nobody, $theirs, 'x', '', 7, JSON::XS::true, [], {}) {
		my $r = $forgiving->chat('frank', 'Hello', conversation_id => $id);
		is $r->{status}, 200, JSON::XS->new->allow_nonref->encode($id) . ' begins a new one' or diag $r->{body};
		is $r->{json}{turn}, 1, '... with its first turn';
		ok !$seen{$r->{json}{conversation_id}}++, '... and an id of its own';
	}
	is $pg->one('SELECT count(*) FROM parley.turns WHERE conversation_id = ?', $theirs), 1, 'someone else\'s is left alone';
	my ($mine) = grep { $_ ne $theirs } keys %seen;
	is $forgiving->chat('frank', 'Hello', conversation_id => $mine)->{json}{turn}, 2, 'one\'s own goes on';
	error_is($forgiving->get("/api/conversations/$theirs", user => 'frank'), 404, 'conversation_not_found', 'reading is as strict as ever');
};

is $t->pool->sickness, '', 'the workers are well';
unlike $t->log_text, qr/HUSH|Too soon|eyJ/, 'nothing private in the log';
done_testing;
