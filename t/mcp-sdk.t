# /mcp against clients that others wrote: the official SDK of both eras, and the Inspector.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

use Parley::Node;
use Parley::Test;

my $why = Parley::Node::missing();
plan skip_all => $why if $why;
binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $pg = Parley::Postgres->new;
$pg->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tools.pair(OUT a int, OUT b text) LANGUAGE sql AS $$ SELECT 1, NULL::text $$;
CREATE FUNCTION tools.rows(n int) RETURNS TABLE (i int, t text) LANGUAGE sql AS $$ SELECT generate_series(1, n), 'x' $$;
CREATE FUNCTION tools.greet(name text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'Hello, ' || name $$;
SQL
my $t = Parley::Test->new(pg => $pg);
my $json = JSON::XS->new->utf8;
my $url = $t->url . '/mcp';

my %version = (v1 => qr/^2025-11-25$/, legacy => qr/^2025-11-25$/, auto => qr/^2026-07-28$/, modern => qr/^2026-07-28$/);
for my $mode (qw(v1 legacy auto modern)) {
	subtest "the SDK, $mode" => sub {
		my ($status, $out, $err) = Parley::Node::run('t/node/sdk.mjs', $url, $t->token($mode), $mode);
		is $status, 0, 'it is content' or diag $out, $err;
		my %said = map { my $l = $json->decode($_); ($l->{what} => $l->{value}) } split /\n/, $out;
		is $said{server}{name}, 'parley', 'it knows us';
		like $said{version} // 'unknown', $version{$mode}, 'in that era';
		my %tool = map { $_->{name} => $_ } @{$said{tools}};
		is scalar(keys %tool), 8, 'it sees the tools';
		ok $tool{delete_task}{annotations}{destructiveHint}, '... with annotations';
		is exists $tool{rows}{outputSchema} ? 1 : 0, $version{$mode} =~ /2026/ ? 1 : 0, '... and schemas of its era';
		is $said{added}{structuredContent}{title}, "By $mode", 'it calls one';
		is_deeply [map { $_->{title} } @{$said{listed}{structuredContent}{tasks}}], ["By $mode"], '... and reads another';
		is $said{pair}{structuredContent}{a}, 1, '... whose result fits its schema';
		ok $said{wrong}{isError}, 'what is wrong with an argument';
		is $said{wrong}{content}[0]{text}, 'Title is required.', '... is a sentence';
		is $said{unknown}{refused}, -32602, 'an unknown tool' or diag $json->encode($said{unknown});
		is_deeply $said{many}, [map { "Hello, $_" } 1 .. 8], 'many at a time';
		is $pg->one('SELECT count(*) FROM parley.tool_calls WHERE user_id = ?', $mode), 12, 'all are recorded';
	};
}

subtest 'the Inspector' => sub {
	my @to = ('--cli', $url, '--transport', 'http', '--header', 'Authorization: Bearer ' . $t->token('eve'));
	my ($status, $out, $err) = Parley::Node::run(Parley::Node::bin('mcp-inspector'), @to, '--method', 'tools/list');
	is $status, 0, 'it lists the tools' or diag $out, $err;
	my ($add) = grep { $_->{name} eq 'add_task' } @{(eval { $json->decode($out) } // {})->{tools} // []};
	is_deeply $add->{inputSchema}{required}, ['title'], '... with their schemas';
	($status, $out, $err) = Parley::Node::run(Parley::Node::bin('mcp-inspector'), @to, '--method', 'tools/call',
	    '--tool-name', 'add_task', '--tool-arg', 'title=By the Inspector');
	is $status, 0, 'it calls one' or diag $out, $err;
	is $pg->one(q{SELECT title FROM tasks.tasks WHERE user_id = 'eve'}), 'By the Inspector', '... which is done';
	($status, $out, $err) = Parley::Node::run(Parley::Node::bin('mcp-inspector'), '--cli', $url, '--transport', 'http',
	    '--method', 'tools/list');
	isnt $status, 0, 'without a token it is told so';
	like "$out$err", qr/auth/, '... which it takes for what it is';
};

done_testing;
