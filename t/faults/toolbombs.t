# MCP servers whose lists and results are made to hurt: a hundred thousand tools, schemas of 50 MB or that lead round in
# circles, pages without end, results of 100 MB or of a million small values.  They cost their tools or their call, never
# the turn or the worker.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;
use Parley::Hurt;

my $JSON = JSON::XS->new->utf8->canonical;
my $MB = 1_000_000;
my $big = pick(20, 100);
my $NONE = '{"type":"object","properties":{}}';

sub tool { my ($name, $schema) = @_; return qq({"name":"$name","description":"Does $name.","inputSchema":) . ($schema // $NONE) . '}' }
sub tools { return '"tools":[' . join(',', @_) . ']' }
sub nested { my ($n, $open, $in, $close) = @_; return $open x $n . $in . $close x $n }

# The members of a result of tools/list; several: pages.
my %list = (
	many => sub { tools(map { tool("t$_") } 1 .. 100_000) },
	some => sub { tools(map { tool("t$_") } 1 .. 15_000) },
	schema => sub { tools(tool('one', '{"type":"object","description":"' . 'd' x (50 * $MB) . '"}')) },
	large => sub { tools(map { tool("t$_", '{"type":"object","description":"' . 'd' x 15_000 . '"}') } 1 .. 120) },
	deep => sub { tools(tool('one', nested(5000, '{"type":"object","properties":{"a":', $NONE, '}}'))) },
	circle => sub { tools(tool('one', '{"type":"object","$ref":"#"}'), tool('two', '{"type":"object","$ref":"#/$defs/a","$defs":'
	    . '{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}'), tool('wide', '{"type":"object","properties":{"a":{"$ref":"#/$defs/d0"}},"$defs":{'
	    . join(',', map { my $n = $_ + 1; qq("d$_":{"allOf":[{"\$ref":"#/\$defs/d$n"},{"\$ref":"#/\$defs/d$n"}]}) } 0 .. 29)
	    . ',"d30":{"type":"string"}}}')) },
	objects => sub { tools(tool('one', '{"type":"object","enum":[' . join(',', ('{}') x 600_000) . ']}')) },
	keys => sub { tools(tool('one', '{"type":"object","properties":{' . join(',', map { "\"k$_\":{}" } 1 .. 100_000) . '}}')) },
	pattern => sub { tools(tool('one', '{"type":"object","properties":{"a":{"type":"string","pattern":"^(a+)+$"}}}')) },
	names => sub { tools(map { tool('n' x 100_000 . $_) } 1 .. 15) },
	pages => sub { my ($cursor) = @_; $cursor = ($cursor || 0) + 1; tools(tool("t$cursor")) . qq(,"nextCursor":"$cursor") },
	cursor => sub { tools(tool('one')) . ',"nextCursor":"' . 'c' x $MB . '"' },
);
my $text = sub { '"content":[' . join(',', map { qq({"type":"text","text":"$_"}) } @_) . ']' };
my %call = (
	huge => sub { $text->('z' x ($big * $MB)) },
	values => sub { '"content":[],"structuredContent":{"a":[' . '1,' x 400_000 . '1]}' },
	empties => sub { '"content":[],"structuredContent":{"a":[' . '{},' x 300_000 . '{}]}' },
	blocks => sub { $text->(('x') x 50_000) },
	inner => sub { $text->('[' . '{},' x 200_000 . '{}]') },
	stairs => sub { '"content":[],"structuredContent":' . nested(100_000, '{"a":', '1', '}') },
	fine => sub { $text->('done') },
);
my $mcp = server(sub {
	my ($sock, $head, $body) = @_;
	my ($name) = $head =~ m{^POST /(\w+)};
	my $m = eval { $JSON->decode($body) } // {};
	my $put = sub { my ($result) = @_;
		my $out = qq({"jsonrpc":"2.0","id":$m->{id},"result":{"resultType":"complete",$result}});
		sent($sock, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: "
		    . length($out) . "\r\n\r\n$out", 20); 0 };

	return sent($sock, "HTTP/1.1 202 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") && 0 unless $m->{id};
	return $put->('"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"bomb","version":"1"}')
	    if $m->{method} eq 'server/discover';
	if ($m->{method} eq 'tools/list') {
		return $put->(($name eq 'calls' ? tools(map { tool($_) } sort keys %call) : $list{$name}->($m->{params}{cursor}))
		    . ',"ttlMs":3600000,"cacheScope":"public"');
	}
	return $put->(($call{$m->{params}{name}} // $call{fine})->());
});
my $model = server(sub {
	my ($sock, $head, $body) = @_;
	my @said = @{$JSON->decode($body)->{messages}};
	my ($user) = grep { $_->{role} eq 'user' } reverse @said;
	my $delta = $said[-1]{role} eq 'user' && $user->{content} =~ /^use (\w+) with (.*)$/s
	    ? '{"tool_calls":[' . $JSON->encode({ index => 0, id => 'c1', type => 'function', function => { name => $1, arguments => $2 } }) . ']}'
	    : '{"content":"Fine."}';
	my $out = qq(data: {"choices":[{"index":0,"delta":$delta}]}\n\ndata: [DONE]\n\n);
	return sent($sock, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: " . length($out) . "\r\n\r\n$out");
});

sub with {
	my ($pg, @servers) = @_;
	return faults_test(workers => 1, $pg ? (pg => $pg) : (), model => $model->url . '/v1', conf => { 'limits.user_turns' => 0,
		'turn.deadline' => '60 s', 'client.max_wait' => '55 s', map { ("mcp.$_.url" => $mcp->url . "/$_") } @servers });
}

my $quiet = with(undef);
my $pg = $quiet->pg;
my $plain = honest($quiet, pick(20, 100));

for my $name (sort keys %list) {
	my $t = with($pg, $name);
	my @pids = $t->pids;
	my $m = Parley::Hurt->measure($t);
	my $since = time;
	my $c = $t->begin_chat("list-$name", 'hello there');
	my $took = Parley::Hurt::honest_while($t, sub { !IO::Select->new($c->sock)->can_read(0.001) });
	is $c->response->{status}, 200, sprintf 'list of %s: the turn is done after %.1f s', $name, time - $since;
	$m->bounded("list of $name", 64);
	figure sprintf 'list of %s: honest turns took %.0f ms at most', $name, $took->[-1];
	cmp_ok $took->[-1], '<', 10_000, '... nor others long';
	honest($t, 3);
	well($t, \@pids, "list of $name");
}

my $t = with($pg, 'calls');
my @pids = $t->pids;
honest($t, 3);
my $m = Parley::Hurt->measure($t);
my @during;
for my $name (sort keys %call) {
	$m->restart;
	my $since = time;
	my $c = $t->begin_chat("call-$name", "use calls_$name with {}");
	push @during, @{Parley::Hurt::honest_while($t, sub { !IO::Select->new($c->sock)->can_read(0.001) })};
	my $r = $c->response;
	is $r->{status}, 200, sprintf 'a result of %s: the turn is done after %.1f s', $name, time - $since;
	is scalar @{$r->{json}{tool_calls} // []}, 1, '... with its call';
	cmp_ok length $r->{body}, '<', 2 * $MB, '... of which no more is kept than may be';
	$m->bounded("a result of $name", 64);
}

# Arguments that a schema makes slow to look at.
my $c = with($pg, qw(circle pattern objects));
honest($c, 2);
for (['circle_one', '{"a":1}'], ['circle_two', '{"a":1}'], ['circle_wide', '{"a":"b"}'], ['circle_wide', '{"a":1}'],
    ['pattern_one', '{"a":"' . 'a' x 200 . '!"}'], ['circle_one', '[' x 1500]) {
	my ($tool, $arguments) = @$_;
	my $since = time;
	my $asked = $c->begin_chat('schemas', "use $tool with $arguments");
	my $took = Parley::Hurt::honest_while($c, sub { !IO::Select->new($asked->sock)->can_read(0.001) });
	is $asked->response->{status}, 200, sprintf '%s with %s: done after %.1f s', $tool, substr($arguments, 0, 20), time - $since;
	cmp_ok $took->[-1], '<', 3000, sprintf '... others took %.0f ms', $took->[-1];
}
compare('results', $plain, [sort { $a <=> $b } @during]);
$m->given_back('results', 64, 24);
well($t, \@pids, 'results');
done_testing;
