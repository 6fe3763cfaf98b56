# parleyctl and MCP servers: the table, a call, and what check says of each.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Path ();
use JSON::XS ();
use Test::More;

use Parley::McpServer;
use Parley::Pool;
use Parley::Postgres;
use Parley::Process;

delete $ENV{$_} for grep { /^(PARLEY_|PG|OPENAI_|OPENROUTER_|DATABASE_URL|AGENT_MODEL|BETTER_AUTH_SECRET)/ && !/^PARLEYCTL$/ } keys %ENV;
my $ctl = Parley::Pool::program('parleyctl');
my $dir = Parley::Process::tempdir();
my $pg = Parley::Postgres->new;

# (exit status, stdout, stderr)
sub ctl {
	my ($conf, @words) = @_;
	put("$dir/parley.conf", Parley::Pool::conf_text({ 'database.url' => $pg->url('parley_worker'), %$conf }));
	my $line = join ' ', map { "'$_'" } '-c', "$dir/parley.conf", @words;
	my $out = `'$ctl' $line 2>'$dir/err'`;
	my $status = $? >> 8;
	open my $fh, '<', "$dir/err" or die "$dir/err: $!";
	local $/;
	# What a sanitizer says of fibers is no word of ours.
	return ($status, $out, scalar(<$fh>) =~ s/^==\d+==WARNING: ASan doesn't fully support.*\n//mr);
}

sub put {
	my ($path, $text) = @_;
	open my $fh, '>', $path or die "$path: $!";
	print $fh $text;
	close $fh;
	chmod 0600, $path;
	return $path;
}

my $new = Parley::McpServer->new;
my $old = Parley::McpServer->new(version => '2025-06-18', sessions => 1, answer => 'sse', page => 7);
my $own = Parley::McpServer->new(want => { authorization => 'Bearer the.token' });
my $nowhere = 'http://127.0.0.1:' . Parley::Process::free_port() . '/mcp';
my %conf = ('mcp.new.url' => $new->url, 'mcp.new.tools' => 'echo act fails structured destroy media again', 'mcp.new.trust' => 'yes',
    'mcp.old.url' => $old->url, 'mcp.old.timeout' => '1500ms', 'mcp.own.url' => $own->url, 'mcp.own.auth' => 'caller');
my $token = put("$dir/token", "the.token\n");

subtest 'the table' => sub {
	my ($status, $out, $err) = ctl(\%conf, 'tools');
	is "$status $err", '0 ', 'all servers answer';
	like $out, qr/^NAME +ORIGIN +RISK +CONFIRM +SCHEMA\n/, 'its head';
	like $out, qr/^add_task +sql +writes +no +\{/m, 'a tool of the database';
	like $out, qr/^new_echo +new +read_only +no +\{.*"text":\{/m, 'one of a server that is trusted';
	like $out, qr/^old_echo +old +writes +no +\{/m, '... and of one that is not';
	like $out, qr/^old_destroy +old +writes +yes /m, 'one that destroys';
	unlike $out, qr/^new_region/m, 'none that is not allowed';
	my $all = @{Parley::McpServer::usual_tools()};
	like $out, qr/^SERVER +ANSWER\nnew +\S+ speaks 2026-07-28, 7 tools\nold +\S+ speaks 2025-06-18, $all tools\n/m, 'what they answered';
	like $out, qr/^own +\S+ wants the caller's own token: .*--token-file/m, '... and who wants to know who asks';
	is $old->sessions, 0, 'no session is left open';
	($status, $out, $err) = ctl(\%conf, 'tools', '--token-file', $token);
	like $out, qr/^own_echo +own .*^own +\S+ speaks 2026-07-28, $all tools\n/ms, 'with a token';
	($status, $out) = ctl({ %conf, 'tools.sql' => 'no' }, 'tools');
	unlike $out, qr/ sql /, 'without those of the database';
	$new->set(tools => [map { { name => "t$_", inputSchema => { type => 'object' } } } 1 .. 200]);
	($status, $out) = ctl({ 'mcp.new.url' => $new->url }, 'tools');
	like $out, qr/^new .*128 tools; 72 more are not offered.*: too many tools$/m, 'a server with too many';
	$new->set(tools => undef);
	($status, $out, $err) = ctl({ 'mcp.gone.url' => $nowhere, 'mcp.new.url' => $new->url }, 'tools');
	is $status, 1, 'a server that is not there';
	like $out, qr/^new_echo .*^gone +\S+ cannot be reached \(.*\): correct mcp\.gone\.url or start the server$/ms, '... is named';
	is $err, '', '... in no other words';
};

subtest 'a server that is odd' => sub {
	my $vague = Parley::McpServer->new(version => '2025-11-25', vague => 1);
	my $unnamed = Parley::McpServer->new(unnamed => 1);
	my %odd = ('mcp.vague.url' => $vague->url, 'mcp.unnamed.url' => $unnamed->url);
	my ($status, $out) = ctl(\%odd, 'tools');
	like $out, qr/^vague +\S+ speaks 2025-11-25, \d+ tools$/m, 'one that answers whatever it does not know is asked by initialize';
	like $out, qr/^unnamed +\S+ speaks 2026-07-28, \d+ tools$/m, 'one of the new era that names no revision is none of the old';
	($status, $out) = ctl(\%odd, 'tools', 'call', 'vague_early', '--user', 'ann');
	is "$status $out", qq(0 "early done"\n), 'a stream that ends early is gone on with';
	is_deeply [map { $_->faults } $vague, $unnamed], [], '... not too soon; nor is anything else amiss';

	# Words of 2020-12 that nobody here understands are the model's to read.
	my $schema = { '$schema' => 'https://json-schema.org/draft/2020-12/schema', type => 'object', '$defs' => { a => {
	    '$anchor' => 'anchor', type => 'string' } }, properties => { x => { '$ref' => '#/$defs/a' } }, additionalProperties => JSON::XS::false,
	    allOf => [{ anyOf => [{ required => ['x'] }] }], if => { required => ['x'] }, then => {}, else => {} };
	$unnamed->set(tools => [{ name => 'rich', inputSchema => $schema }]);
	($status, $out) = ctl(\%odd, 'tools');
	my ($got) = $out =~ /^unnamed_rich .*?(\{.*\})$/m;
	is_deeply JSON::XS::decode_json($got // '{}'), $schema, 'a schema is kept as it came';
};

subtest 'a call' => sub {
	my $call = sub { ctl(\%conf, 'tools', 'call', @_, '--user', 'ann') };
	my ($status, $out, $err) = $call->('new_echo', '{"text":"grüße"}');
	is "$status $out", qq(0 "gr\xc3\xbc\xc3\x9fe"\n), 'of the new era' or diag $err;
	($status, $out) = $call->('old_echo', '{"text":"a"}');
	is "$status $out", qq(0 "a"\n), 'of the old one';
	is $pg->one(q{SELECT count(*) FROM parley.mcp_sessions WHERE user_id = 'ann' AND server = 'old'}), 1, '... with the session of that user';
	($status, $out) = $call->('new_fails');
	is $status, 1, 'an error';
	like $out, qr/It is broken/, '... with its words';
	($status, $out) = $call->('new_echo', '{"text":7}');
	is $status, 1, 'wrong arguments';
	like $out, qr/^\{"error": ?".*text/, '... are refused here';
	is_deeply [grep { $_ eq 'tools/call' } $new->methods], [('tools/call') x 2], '... and not sent';
	($status, $out) = $call->('old_slow');
	is $status, 1, 'one that does not answer';
	like $out, qr/did not answer in time.*unknown/, '... may have been done';
	($status, $out, $err) = $call->('new_region');
	is "$status $out", '1 ', 'one that is not allowed';
	like $err, qr/no tool new_region/, '... is not there';
	($status, $out, $err) = $call->('own_echo', '{"text":"a"}');
	is "$status $out", '1 ', 'without the token that is wanted';
	like $err, qr/own token: give one with --token-file FILE/, '... it says so';
	($status, $out) = $call->('own_echo', '{"text":"a"}', '--token-file', $token);
	is "$status $out", qq(0 "a"\n), 'with it';
	is $pg->one(q{SELECT count(*) FROM parley.mcp_sessions s WHERE s::text ~ 'the\.token'}), 0, '... which is kept nowhere';
	for my $bad ('', "two words\n", "two\nlines\n") {
		($status, $out, $err) = $call->('own_echo', '{}', '--token-file', put("$dir/bad", $bad));
		is "$status $out", '1 ', 'a file without a token';
		like $err, qr/not one token/, '... is refused';
	}
	($status, $out, $err) = $call->('own_echo', '{}', '--token-file', "$dir/nowhere");
	like $err, qr/nowhere: No such file/, 'no file';
	($status, $out, $err) = ctl({ 'mcp.gone.url' => $nowhere }, 'tools', 'call', 'gone_x', '--user', 'ann');
	is "$status $out", '1 ', 'a server that is not there';
	like $err, qr/server gone cannot be reached .*: correct/, '... is named';
	($status, $out) = $call->('add_task', '{"title":"Call mum"}');
	is $status, 0, 'a tool of the database all the same';
	($status, $out, $err) = ctl({ %conf, 'tools.sql' => 'no' }, 'tools', 'call', 'add_task', '{"title":"x"}', '--user', 'ann');
	is "$status $err", "1 parleyctl: there is no tool add_task\n", '... unless they are switched off';
};

subtest 'check' => sub {
	my $check = sub { my ($status, $out, $err) = ctl({ @_ }, 'check', '--schema', "$FindBin::Bin/../schema"); is $err, '', 'no other words';
	    return join '', grep { /mcp: / } split /^/, $out };
	my $out = $check->(%conf);
	like $out, qr/^ok   mcp: \[new\] \S+ speaks 2026-07-28, 7 tools \(0 left out\)$/m, 'the new era';
	like $out, qr/^ok   mcp: \[old\] \S+ speaks 2025-06-18, \d+ tools/m, 'the old one';
	like $out, qr/^ok   mcp: \[own\] \S+ is there, and wants the token of a user$/m, 'one with the user\'s token';
	like $check->('mcp.gone.url' => $nowhere), qr/^FAIL mcp: \[gone\] \S+ cannot be reached \(.*\): correct/m, 'one that is down';
	like $check->('mcp.own.url' => $own->url), qr/^FAIL mcp: \[own\] .*does not let us in \(401\): set mcp\.own\.auth/m, 'one that wants a key';
	like $check->('mcp.own.url' => $own->url, 'mcp.own.key_file' => put("$dir/key", 'wrong')),
	    qr/^FAIL mcp: \[own\] .*does not let us in \(401\): correct mcp\.own\.key_file/m, '... another key';
	$new->set(list => 'redirect');
	like $check->('mcp.new.url' => $new->url), qr/^FAIL mcp: \[new\] .*another address \(307\)/m, 'a redirect';
	$new->set(list => 'html');
	like $check->('mcp.new.url' => $new->url), qr/^FAIL mcp: \[new\] .*no answer that could be used/m, 'a page';
	$new->set(list => undef);
	like $check->('mcp.new.url' => $new->url, 'database.url' => 'host=/nowhere dbname=x'),
	    qr/^ok   mcp: \[new\] .*speaks 2026-07-28/m, 'without the database: asked all the same';
};

File::Path::remove_tree($dir);
done_testing;
