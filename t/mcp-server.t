# POST /mcp, byte for byte: each revision of the protocol, each way to be refused, and what is recorded.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Encode ();
use JSON::XS ();
use MIME::Base64 qw(encode_base64);
use Test::More;

use Parley::Process;
use Parley::Test;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $json = JSON::XS->new->utf8->canonical->allow_nonref;
my $MODERN = '2026-07-28';
my @LEGACY = ('2025-03-26', '2025-06-18', '2025-11-25');
my $pg = Parley::Postgres->new;
$pg->do(q{ALTER ROLE parley_worker IN DATABASE parley SET statement_timeout = '1500ms'}, 'parley');
$pg->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tools.nap(seconds numeric) RETURNS text LANGUAGE sql AS $$ SELECT 'rested' FROM pg_sleep(seconds) $$;
CREATE FUNCTION tools.raises() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tools.add_task('left over');
	RAISE EXCEPTION 'The moon is not full.';
END
$$;
CREATE FUNCTION tools.large(bytes int) RETURNS text LANGUAGE sql AS $$ SELECT repeat('x', bytes) $$;
CREATE FUNCTION tools.pair(OUT a int, OUT b text) LANGUAGE sql AS $$ SELECT 1, NULL::text $$;
CREATE FUNCTION tools.rows(n int) RETURNS TABLE (i int, t text) LANGUAGE sql AS $$ SELECT generate_series(1, n), 'x' $$;
CREATE FUNCTION tools.greet(name text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'Grüße, ' || name $$;
COMMENT ON FUNCTION tools.greet IS 'Says hello.
@read_only';
CREATE FUNCTION tools.nothing() RETURNS json LANGUAGE sql AS $$ SELECT NULL::json $$;
CREATE FUNCTION tools.done() RETURNS void LANGUAGE sql AS $$ SELECT 1 $$;
SQL
$pg->slow_tool;
my $t = Parley::Test->new(pg => $pg, workers => 2, conf => {
	'tools.max_result' => '32 KiB', 'tools.refresh' => '7 s', 'mcp.origins' => 'https://tools.example.org',
});

# Sends bytes or a message as it is.
sub post {
	my ($body, %opt) = @_;
	return $t->post('/mcp', ref $body ? $json->encode($body) : $body,
	    headers => { Accept => 'application/json, text/event-stream', %{$opt{headers} // {}} },
	    map { exists $opt{$_} ? ($_ => $opt{$_}) : () } qw(user token));
}

my $id = 0;
sub message {
	my ($method, $params) = @_;
	return { jsonrpc => '2.0', id => ++$id, method => $method, $params ? (params => $params) : () };
}

# One request as a client of that revision sends it.
sub rpc {
	my ($version, $method, $params, %opt) = @_;
	my %h;
	if ($version eq $MODERN) {
		$params = { %{$params // {}}, _meta => {
			'io.modelcontextprotocol/protocolVersion' => $version,
			'io.modelcontextprotocol/clientInfo' => { name => 'test', version => '1' },
			'io.modelcontextprotocol/clientCapabilities' => {},
		} };
		%h = ('Mcp-Method' => $method, exists $params->{name} ? ('Mcp-Name' => $params->{name}) : ());
	}
	$h{'MCP-Protocol-Version'} = $version 
	    unless $version eq '2025-03-26' || $method eq 'initialize' && $version ne $MODERN;
	my $r = post(message($method, $params), %opt, headers => { %h, %{$opt{headers} // {}} });
	is $r->{headers}{'content-type'}, 'application/json', "$version $method: JSON" if $r->{body} ne '';
	return $r;
}

# The result, where there must be one.
sub result {
	my ($version, $method, @rest) = @_;
	my $r = rpc($version, $method, @rest);
	is $r->{status}, 200, "$version $method: 200" or diag $r->{body};
	is_deeply [sort keys %{$r->{json}}], [qw(id jsonrpc result)], '... a result' or diag $r->{body};
	is $r->{json}{id}, $id, '... of that request';
	if ($version eq $MODERN) {
		is $r->{json}{result}{resultType}, 'complete', '... which is whole';
		is $r->{json}{result}{_meta}{'io.modelcontextprotocol/serverInfo'}{name}, 'parley', '... and ours';
	}
	return $r->{json}{result};
}

# A call that is answered: its result.
sub call {
	my ($version, $name, $arguments, @opt) = @_;
	return result($version, "tools/call", { name => $name, arguments => $arguments }, @opt);
}

sub refused {
	my ($r, $status, $code, $name) = @_;
	subtest $name => sub {
		is $r->{status}, $status, "HTTP $status";
		is $r->{json}{error}{code}, $code, $code or diag $r->{body};
		like $r->{json}{error}{message} // '', qr/^[A-Zia-z].+\.$/, 'a sentence';
		ok exists $r->{json}{id}, 'an id';
		ok !exists $r->{json}{result}, 'no result';
	};
	return $r->{json}{error}{data};
}

subtest 'initialize' => sub {
	for my $version (@LEGACY) {
		my $r = rpc($version, 'initialize', { protocolVersion => $version, capabilities => {},
		    clientInfo => { name => 'test', version => '1' } });
		is $r->{status}, 200, $version;
		is $r->{json}{result}{protocolVersion}, $version, '... is spoken';
		is_deeply $r->{json}{result}{capabilities}, { tools => {} }, '... tools alone';
		is $r->{json}{result}{serverInfo}{name}, 'parley', '... by parley';
		ok !exists $r->{headers}{'mcp-session-id'}, '... without a session';
		$r = post({ jsonrpc => '2.0', method => 'notifications/initialized' },
		    headers => { 'MCP-Protocol-Version' => $version });
		is "$r->{status} $r->{body}", '202 ', 'initialized';
		is_deeply result($version, 'ping'), {}, 'ping';
	}
	is result('2025-03-26', 'initialize', { protocolVersion => $_, capabilities => {} })->{protocolVersion}, '2025-11-25',
	    "$_: we offer our newest of that era" for '2024-11-05', $MODERN, '1.0';
	refused(rpc('2025-03-26', 'initialize', {}), 200, -32602, 'without a version');
};

subtest 'server/discover' => sub {
	my $r = result($MODERN, 'server/discover');
	is $r->{supportedVersions}[0], $MODERN, 'the newest first';
	is_deeply $r->{capabilities}, { tools => {} }, 'tools alone';
	is $r->{cacheScope}, 'private', 'not for shared caches';
	refused(rpc($_, 'server/discover'), 200, -32601, "$_ has none") for @LEGACY;
	refused(rpc($MODERN, $_), 404, -32601, "$_ is gone") for 'ping', 'initialize';
	refused(rpc($MODERN, 'resources/list'), 404, -32601, 'what we have not');
	refused(rpc('2025-11-25', 'resources/list'), 200, -32601, '... in the older era');
};

subtest 'tools/list' => sub {
	my %list = map { $_ => result($_, 'tools/list') } @LEGACY, $MODERN;
	for my $version (sort keys %list) {
		my @names = map { $_->{name} } @{$list{$version}{tools}};
		is_deeply \@names, [sort @names], "$version: in order";
		is scalar(grep { /^(?:add|list|update|complete|delete)_tasks?$/ } @names), 5, '... with the five';
		ok !exists $list{$version}{nextCursor}, '... on one page';
		is $list{$version}{ttlMs}, $version eq $MODERN ? 7000 : undef, '... ttlMs';
	}
	my %tool = map { $_->{name} => $_ } @{$list{$MODERN}{tools}};
	my $hints = sub { join '', map { $tool{$_[0]}{annotations}{$_} ? 1 : 0 }
	    qw(readOnlyHint destructiveHint idempotentHint openWorldHint) };
	is $hints->('list_tasks'), '1010', 'read only';
	is $hints->('add_task'), '0000', 'writes';
	is $hints->('update_task'), '0010', 'idempotent';
	is $hints->('complete_task'), '0010', 'idempotent';
	is $hints->('delete_task'), '0100', 'destructive';
	is $tool{add_task}{description}, "Adds a task to the user's list.", 'described';
	is $tool{add_task}{inputSchema}{required}[0], 'title', 'with arguments';
	is $tool{list_tasks}{outputSchema}{properties}{tasks}{items}{properties}{id}{type}, 'integer', 'and a result';
	is_deeply $tool{pair}{outputSchema}{properties}{b}, { type => ['string', 'null'] }, 'by the type of the function';
	is $tool{rows}{outputSchema}{type}, 'array', 'any type';
	ok !exists $tool{nothing}{outputSchema}, 'none where nothing is known';
	%tool = map { $_->{name} => $_ } @{$list{'2025-11-25'}{tools}};
	ok exists $tool{pair}{outputSchema}, 'an object in the older era, too';
	ok !exists $tool{rows}{outputSchema}, '... but nothing else';
	ok !exists $_->{outputSchema}, "2025-03-26 knows none: $_->{name}" for @{$list{'2025-03-26'}{tools}};
	refused(rpc($MODERN, 'tools/list', { cursor => 'x' }), 200, -32602, 'a cursor of somebody else');
};

subtest 'tools/call' => sub {
	for my $version (@LEGACY, $MODERN) {
		my $r = call($version, add_task => { title => "By $version" });
		ok !$r->{isError}, 'no error';
		my $said = $json->decode(Encode::encode_utf8($r->{content}[0]{text}));
		is $said->{title}, "By $version", 'content';
		is_deeply $r->{structuredContent}, $version eq '2025-03-26' ? undef : $said, 'structuredContent';
		is scalar @{$r->{content}}, 1, 'one block';

		$r = call($version, greet => { name => 'Ann' });
		is $r->{content}[0]{text}, 'Grüße, Ann', 'a text is said as it is';
		is $r->{structuredContent}, $version eq $MODERN ? 'Grüße, Ann' : undef, '... and structured where it may';
		$r = call($version, rows => { n => 2 });
		is $r->{content}[0]{text}, '[{"i":1,"t":"x"},{"i":2,"t":"x"}]', 'rows';
		$r = call($version, nothing => {});
		is $r->{content}[0]{text}, 'null', 'nothing';
		$r = call($version, done => {});
		is $r->{content}[0]{text}, '{"ok":true}', 'done';

		my %wrong = (
			add_task => [{}, 'Title is required.'],
			complete_task => [{ task_id => 'x' }, 'task_id must be a whole number.'],
			raises => [{}, 'The moon is not full.'], list_tasks => [{ status => 'odd' }, qr/^Status must be one of/],
			nap => [{ seconds => 9 }, qr/took too long/], large => [{ bytes => 40000 }, qr/too large/],
			greet => [{ name => 'x', more => 1 }, 'There is no argument more.'],
			update_task => [{ task_id => 99, title => 'x' }, 'There is no task 99.'],
		);
		for my $name (sort keys %wrong) {
			my ($arguments, $sentence) = @{$wrong{$name}};
			$r = call($version, $name => $arguments);
			ok $r->{isError}, "$name: isError";
			ref $sentence ? like $r->{content}[0]{text}, $sentence, '... says why'
			    : is $r->{content}[0]{text}, $sentence, '... says why';
			ok !exists $r->{structuredContent}, '... and no more';
		}
		refused(rpc($version, 'tools/call', { name => 'no_such_tool' }), 200, -32602, 'an unknown tool');
		refused(rpc($version, 'tools/call', { name => 'add_task', arguments => [] }), 200, -32602, 'a list of arguments');
		refused(rpc($version, 'tools/call', {}, headers => { 'Mcp-Name' => undef }), 200, -32602, 'no name');
	}
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE title = 'left over'}), 0, 'a tool that raises leaves nothing';
	is result('2025-11-25', 'tools/call', { name => 'done' })->{content}[0]{text}, '{"ok":true}', 'without arguments';
};

subtest 'what is recorded, for whom' => sub {
	my $rows = $pg->rows(q{SELECT * FROM parley.tool_calls 
		WHERE tool_name = 'add_task' AND NOT is_error ORDER BY executed_at});
	is scalar @$rows, 4, 'each call is a row';
	is_deeply [map { $_->{user_id} } @$rows], [('alice') x 4], '... of the user of the token';
	is_deeply [@{$rows->[0]}{qw(turn run idx pos)}], [0, 0, 0, 0], '... outside turns';
	is scalar(keys %{{ map { $_->{conversation_id} => 1 } @$rows }}), 4, '... under a key of its own';
	is $json->decode($rows->[0]{parameters})->{title}, 'By 2025-03-26', '... with what was asked';
	like $rows->[0]{result}, qr/"task_id"/, '... and what came of it';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE tool_name = 'raises' AND is_error}), 4, 'failures as well';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE tool_name = 'no_such_tool'}), 0, 'not what there is not';
	is_deeply $t->get('/api/conversations')->{json}{conversations}, [], 'no conversation comes of it';

	is_deeply call($MODERN, list_tasks => {}, user => 'bob')->{structuredContent}{tasks}, [], "bob does not see alice's";
	ok call($MODERN, delete_task => { task_id => 1 }, user => 'bob')->{isError}, '... nor reach them';
	is call($MODERN, add_task => { title => 'x', user_id => 'alice' }, user => 'bob')->{content}[0]{text}, 'access denied',
	    '... by whatever argument';
};

subtest 'the body' => sub {
	my @h = (headers => { 'MCP-Protocol-Version' => '2025-11-25' });
	refused(post('{', @h), 400, -32700, 'no JSON');
	refused(post("{\"a\":\"\xff\"}", @h), 400, -32700, 'no UTF-8');
	refused(post('[' x 40 . ']' x 40, @h), 400, -32700, 'too deep');
	refused(post('{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', @h), 400, -32700, 'two ids');
	refused(post($_, @h), 400, -32600, "no message: $_") for '{}', '1', '"x"', '{"id":1,"method":"ping"}',
	    '{"jsonrpc":"1.0","id":1,"method":"ping"}', '{"jsonrpc":"2.0","id":null,"method":"ping"}',
	    '{"jsonrpc":"2.0","id":1.5,"method":"ping"}', '{"jsonrpc":"2.0","id":{},"method":"ping"}',
	    '{"jsonrpc":"2.0","id":1,"method":7}', '{"jsonrpc":"2.0","id":1}',
	    '{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}';
	is post('{"jsonrpc":"2.0","id":"a b","method":"ping"}', @h)->{json}{id}, 'a b', 'an id of text';
	like post('{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}', @h)->{body}, qr/"id":9007199254740993,/, '... or large';
	for ('notifications/cancelled', 'notifications/progress', 'notifications/of/ours') {
		my $r = post({ jsonrpc => '2.0', method => $_, params => { requestId => 1 } }, @h);
		is "$r->{status} $r->{body}", '202 ', $_;
	}
	is post({ jsonrpc => '2.0', id => 3, result => {} }, @h)->{status}, 202, 'an answer that nobody asked for';
	is post('x' x 70000, @h)->{status}, 413, 'too large';
	is post({}, headers => { 'Content-Type' => 'text/plain' })->{status}, 415, 'another type';
	is post(message('ping'), headers => { 'Content-Type' => 'application/json; charset=utf-8', Accept => undef })
	    ->{status}, 200, 'without Accept';
};

subtest 'batches' => sub {
	my $batch = [message('ping'), { jsonrpc => '2.0', method => 'notifications/initialized' }, message('nonsense'),
	    message('tools/call', { name => 'greet', arguments => { name => 'Bo' } })];
	my $r = post($batch);
	is $r->{status}, 200, '2025-03-26';
	is_deeply [map { $_->{id} } @{$r->{json}}], [$id - 2 .. $id], '... each request is answered';
	is $r->{json}[1]{error}{code}, -32601, '... by itself';
	is $r->{json}[2]{result}{content}[0]{text}, 'Grüße, Bo', '... in order';
	is post([{ jsonrpc => '2.0', method => 'notifications/initialized' }])->{status}, 202, 'nothing to say';
	refused(post([]), 400, -32600, 'an empty one');
	refused(post([map { message('ping') } 1 .. 33]), 400, -32600, 'a long one');
	is post([message('initialize', { protocolVersion => '2025-03-26' })])->{json}[0]{error}{code}, -32600,
	    'initialize is alone';
	is post([1])->{json}[0]{error}{code}, -32600, 'no message';
	refused(post($batch, headers => { 'MCP-Protocol-Version' => $_ }), 400, -32600, "$_ has none")
	    for '2025-06-18', '2025-11-25', $MODERN;
};

subtest 'versions and headers' => sub {
	for my $version ('1900-01-01', 'x', '2024-11-05', '2027-01-01') {
		my $data = refused(rpc($version, 'tools/list'), 400, -32022, "header $version");
		is $data->{requested}, $version, '... named';
		is_deeply [sort @{$data->{supported}}], [@LEGACY, $MODERN], '... with what is served';
		refused(rpc($MODERN, 'tools/list', undef, headers => { 'MCP-Protocol-Version' => $version }), 400, -32020,
		    'header and body differ');
		my $m = message('tools/list', { _meta => { 'io.modelcontextprotocol/protocolVersion' => $version } });
		refused(post($m, headers => { 'MCP-Protocol-Version' => $version }), 400, -32022, 'both');
	}
	my %h = ('MCP-Protocol-Version' => $MODERN, 'Mcp-Method' => 'tools/list');
	refused(post(message('tools/list'), headers => \%h), 400, -32602, 'no _meta');
	refused(post(message('tools/list', { _meta => {} }), headers => \%h), 400, -32602, 'an empty _meta');
	refused(post(message('tools/list', { _meta => { 'io.modelcontextprotocol/protocolVersion' => 7 } }), headers => \%h),
	    400, -32602, 'a version that is no text');
	refused(post(message('tools/list', { _meta => { 'io.modelcontextprotocol/protocolVersion' => $MODERN } }),
	    headers => \%h), 400, -32602, 'no capabilities');
	my @call = ($MODERN, 'tools/call', { name => 'greet', arguments => { name => 'x' } });
	refused(rpc(@call, headers => { $_->[0] => $_->[1] }), 400, -32020, "$_->[0]: " . ($_->[1] // 'none')) for
	    ['MCP-Protocol-Version', undef], ['Mcp-Method', undef], ['Mcp-Method', 'tools/list'], ['Mcp-Method', 'TOOLS/CALL'],
	    ['Mcp-Name', undef], ['Mcp-Name', 'add_task'], ['Mcp-Name', '=?base64?!?='], ['Mcp-Name', '=?base64?Z3JlZX=?='],
	    ['Mcp-Name', '=?base64?' . encode_base64('greeT', '') . '?='];
	is rpc(@call, headers => { 'Mcp-Name' => '=?base64?' . encode_base64('greet', '') . '?=' })->{status}, 200, 'encoded';
	is rpc(@call, headers => { 'Mcp-Session-Id' => 'x', 'Last-Event-ID' => '1' })->{status}, 200, 'what is gone is ignored';
	is post({ jsonrpc => '2.0', method => 'notifications/cancelled', params => { requestId => 1 } },
	    headers => { 'MCP-Protocol-Version' => $MODERN })->{status}, 202, 'a notification needs none of it';
};

subtest 'who may ask' => sub {
	my $r = post(message('ping'), token => undef);
	is $r->{status}, 401, 'no token';
	like $r->{headers}{'www-authenticate'}, qr/^Bearer /, '... the challenge';
	is $r->{json}{error_code}, 'missing_token', '... and why';
	is post(message('ping'), token => $t->token('alice', exp => time - 100))->{json}{error_code}, 'token_expired',
	    'an old one';
	for my $method (qw(GET DELETE PUT HEAD OPTIONS)) {
		$r = $t->request($method, '/mcp', undef);
		is $r->{status}, 405, $method;
		is $r->{headers}{allow}, 'POST', '... Allow';
	}
	is $t->post('/mcp/', {})->{status}, 404, 'no other address';
	is post(message('ping'), headers => { Origin => $_ })->{status}, 403, "Origin $_"
	    for 'https://evil.example', 'null', 'https://tools.example.org.evil.example', 'http://tools.example.org';
	$r = post(message('ping'), headers => { Origin => 'https://tools.example.org' });
	is $r->{status}, 200, 'an origin of the list';
	is $r->{headers}{'access-control-allow-origin'}, 'https://tools.example.org', '... whose browser may read it';
	$r = $t->request('OPTIONS', '/mcp', undef, headers => { Origin => 'https://tools.example.org',
	    'Access-Control-Request-Method' => 'POST' });
	is $r->{status}, 204, 'a preflight';
	like $r->{headers}{'access-control-allow-headers'}, qr/MCP-Protocol-Version, Mcp-Method, Mcp-Name/,
	    '... with the headers';
	is $t->post('/api/chat', { message => 'x' }, headers => { Origin => 'https://tools.example.org' })
	    ->{headers}{'access-control-allow-origin'}, undef, 'which may not chat';
};

subtest 'the log' => sub {
	my ($line) = grep { ($_->{event} // '') eq 'mcp' && ($_->{tool} // '') eq 'greet' } $t->log;
	is $line->{method}, 'tools/call', 'has a line for each call';
	unlike $t->log_text, qr/moon|Grüße|no_such_tool|nonsense/, 'and none of its words';
};

subtest 'what a pool serves' => sub {
	my %status = (all => '200 200 200', chat => '404 200 200', mcp => '200 404 200');
	for my $serve (sort keys %status) {
		$t->restart_pool('api.serve' => $serve, 'mcp.hosts' => 'localhost tools.example.org:444');
		is join(' ', post(message('ping'), headers => { Host => 'localhost:8080' })->{status},
		    $t->get('/api/conversations')->{status}, $t->get('/api/health')->{status}), $status{$serve}, $serve;
	}
	my %host = ('localhost' => 200, 'LocalHost:1' => 200, 'tools.example.org:444' => 200, 'tools.example.org' => 403,
	    'localhost.evil.example' => 403, 'localhost:x' => 403, 'evil.example' => 403, '127.0.0.1' => 403);
	is post(message('ping'), headers => { Host => $_ })->{status}, $host{$_}, "Host: $_" for sort keys %host;
	$t->restart_pool('api.serve' => 'all', 'mcp.hosts' => undef, 'tools.enabled' => 'no');
	is_deeply result($MODERN, 'tools/list')->{tools}, [], 'tools switched off are off for all';
	refused(rpc($MODERN, 'tools/call', { name => 'greet' }), 200, -32602, '... and not called');
};

subtest 'many calls of one user' => sub {
	$t->restart_pool('tools.enabled' => 'yes', 'limits.user_turns' => 2);
	my $begin = sub {
		my ($user) = @_;
		return $t->begin('POST', '/mcp', message('tools/call', { name => 'nap', arguments => { seconds => 1 } }),
		    user => $user, headers => { 'MCP-Protocol-Version' => '2025-11-25' });
	};
	# Each worker counts its own.
	my @r = map { $_->response } map { $begin->('alice') } 1 .. 8;
	my @refused = grep { $_->{status} == 429 } @r;
	cmp_ok scalar @refused, '>=', 4, 'some are refused';
	cmp_ok scalar @refused, '<', 8, '... and some are not';
	is $refused[0]{json}{error}{data}{error_code}, 'rate_limited', '... and told so';
	cmp_ok $refused[0]{headers}{'retry-after'}, '>', 0, '... and when to come back';
	is $begin->('alice')->response->{status}, 200, 'later there is room again';
};

subtest 'a lost connection to the database' => sub {
	my $r = $t->begin('POST', '/mcp', message('tools/call', { name => 'add_slowly',
	    arguments => { title => 'slowly', seconds => 0.7 } }), headers => { 'MCP-Protocol-Version' => '2025-11-25' });
	ok Parley::Process::wait_for(sub { $pg->one(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE usename = 'parley_worker' AND state = 'active' AND query LIKE '%tool_call(%'}) }, 10), 'is cut in the middle';
	ok !$r->response->{json}{result}{isError}, '... and the call is done all the same';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE title = 'slowly'}), 1, '... once';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE tool_name = 'add_slowly'}), 1, '... and recorded once';
};

subtest 'without a database' => sub {
	$t->restart_pool('database.wait' => '300ms', 'database.connect_timeout' => '300ms');
	is_deeply result('2025-11-25', 'ping'), {}, 'ready';
	$pg->stop;
	my $r = rpc($MODERN, 'tools/call', { name => 'greet', arguments => { name => 'x' } });
	is refused($r, 503, -32603, 'a call')->{error_code}, 'database_unavailable', '... says what is missing';
	cmp_ok $r->{headers}{'retry-after'}, '>', 0, '... and when to come back';
	is_deeply result('2025-11-25', 'ping'), {}, 'what needs none goes on';
	$pg->start;
};

done_testing;
