# Model servers whose answers are made to hurt: bodies that expand, nest, never end, or consist of a million pieces.
# Each turn ends with an answer or a failure, one worker serves them all and honest users beside them, and what it has
# more at its worst has a bound.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use IO::Compress::Gzip ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Faults;
use Parley::Hurt;

my $MB = 1_000_000;
my $big = pick(20, 100);		# MB of the largest
my $OK = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
my $SSE = $OK . "Content-Type: text/event-stream\r\n";

sub delta { return "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{$_[0]}}]}\n\n" }
sub call { my ($i, $more) = @_; return qq({"index":$i,"type":"function"$more}) }

# The same again and again, until the client has enough.
sub many {
	my ($sock, $n, $piece) = @_;
	my $each = int(65536 / length $piece) + 1;
	my $block = $piece x $each;

	for (my $left = $n; $left > 0; $left -= $each) {
		sent($sock, $left < $each ? $piece x $left : $block, 60) or return 0;
	}
	return 1;
}

# name => what is sent after the request was read
my %bomb = (
	gzip => sub { my ($s) = @_;
		IO::Compress::Gzip::gzip(\(delta('"content":"' . 'a' x ($big * $MB) . '"')), \my $z);
		sent($s, $SSE . "Content-Encoding: gzip\r\n\r\n$z") },
	transfer => sub { my ($s) = @_;
		IO::Compress::Gzip::gzip(\(delta('"content":"') . 'a' x ($big * $MB) . '"'), \my $z);
		sent($s, $SSE . "Transfer-Encoding: gzip\r\n\r\n$z") },
	'transfer-twice' => sub { my ($s) = @_;
		IO::Compress::Gzip::gzip(\('a' x ($big * $MB)), \my $z);
		IO::Compress::Gzip::gzip(\$z, \my $zz);
		sent($s, $SSE . "Transfer-Encoding: gzip, gzip\r\n\r\n$zz") },
	deep => sub { sent($_[0], "$OK\r\n{\"choices\":" . '[' x (2 * $MB)) },
	'deep-event' => sub { sent($_[0], "$SSE\r\ndata: " . '{"a":' x 300_000 . "\n\n") },
	line => sub { my ($s) = @_; sent($s, "$SSE\r\ndata: ") && many($s, $big * $MB, 'x') },
	body => sub { my ($s) = @_; sent($s, "$OK\r\n{\"choices\":\"") && many($s, $big * $MB, 'x') },
	number => sub { sent($_[0], "$SSE\r\n" . delta('"content":' . '1' x $MB) . "data: [DONE]\n\n") },
	'number-body' => sub { sent($_[0], "$OK\r\n{\"choices\":[],\"n\":" . '1' x $MB . '}') },
	deltas => sub { my ($s) = @_; sent($s, "$SSE\r\n") && many($s, pick(200_000, 2_000_000), delta('"content":"a"')) &&
		sent($s, "data: [DONE]\n\n") },
	nothing => sub { my ($s) = @_; sent($s, "$SSE\r\n") && many($s, pick(300_000, 3_000_000), delta('"content":""')) },
	comments => sub { my ($s) = @_; sent($s, "$SSE\r\n") && many($s, $big * $MB / 4, ":x\n\n") },
	thoughts => sub { my ($s) = @_; sent($s, "$SSE\r\n") && many($s, pick(100_000, 1_000_000),
		delta('"reasoning_details":[{"type":"reasoning.text","index":0,"text":"a"}]')) },
	calls => sub { my ($s) = @_; sent($s, "$SSE\r\n" . join('', map {
		delta('"tool_calls":[' . call($_, qq(,"id":"c$_","function":{"name":"list_tasks","arguments":"{}"})) . ']')
		} 0 .. 4999) . "data: [DONE]\n\n") },
	pieces => sub { my ($s) = @_;
		sent($s, "$SSE\r\n" . delta('"tool_calls":[' . call(0, ',"id":"c","function":{"name":"list_tasks","arguments":"{\"a\":\""}') . ']')) &&
		    many($s, pick(100_000, 1_000_000), delta('"tool_calls":[' . call(0, ',"function":{"arguments":"a"}') . ']')) },
	name => sub { my ($s) = @_; sent($s, "$SSE\r\n") && many($s, 100,
		delta('"tool_calls":[' . call(0, ',"function":{"name":"' . 'n' x 100_000 . '"}') . ']')) },
	error => sub { my ($s) = @_; sent($s, "HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n{\"error\":\"") &&
		many($s, 50 * $MB, 'x') },
	arrays => sub { sent($_[0], "$SSE\r\n" . delta('"x":[' . '[],' x 650_000 . '[]]') . "data: [DONE]\n\n") },
	objects => sub { sent($_[0], "$OK\r\n{\"choices\":[" . '{},' x 1_350_000 . '{}]}') },
	integers => sub { sent($_[0], "$OK\r\n{\"choices\":[" . '1,' x 2_000_000 . '1]}') },
	keys => sub { sent($_[0], "$OK\r\n{\"choices\":[{\"delta\":{" . join(',', map { "\"$_\":1" } 1 .. 300_000) . '}}]}') },
	repaired => sub { sent($_[0], "$OK\r\n{'choices':[" . '{},' x 1_000_000 . '{}],}') },
	extra => sub { my ($s) = @_; my $x = '[' . '1,' x 800_000 . '1]';
		sent($s, "$SSE\r\n") && (!grep { !sent($s, delta('"tool_calls":[' . call($_,
		    qq(,"id":"c$_","extra_content":{"x":$x},"function":{"name":"list_tasks","arguments":"{}"})) . ']')) } 0 .. pick(9, 99)) },
	ids => sub { my ($s) = @_;
		sent($s, "$SSE\r\n") && (!grep { !sent($s, delta('"tool_calls":[' . call($_,
		    qq(,"id":"c$_) . 'i' x 1_500_000 . '","function":{"name":"list_tasks","arguments":"{}"}') . ']')) } 0 .. pick(39, 99)) },
	again => sub { my ($s) = @_;
		sent($s, "$SSE\r\n" . delta('"tool_calls":[' . call(0, ',"id":"c","function":{"name":"list_tasks","arguments":"[' .
		    ' ' x 900_000 . '"}') . ']')) && many($s, pick(20_000, 100_000), delta('"tool_calls":[' .
		    call(0, ',"id":"d","function":{"name":"list_tasks","arguments":""}') . ']')) },
	head => sub { my ($s) = @_; sent($s, $SSE) && many($s, 10_000, 'X-More: ' . 'h' x 1000 . "\r\n") },
	'head-line' => sub { my ($s) = @_; sent($s, "${SSE}X: ") && many($s, 10 * $MB, 'h') },
	hints => sub { my ($s) = @_; many($s, 200_000, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") },
	chunks => sub { my ($s) = @_; sent($s, $SSE . "Transfer-Encoding: chunked\r\n\r\n") &&
		many($s, pick(200_000, 2_000_000), "1\r\n:\r\n") },
	trailers => sub { my ($s) = @_; sent($s, $SSE . "Transfer-Encoding: chunked\r\n\r\n0\r\n") &&
		many($s, 200_000, 'X-More: ' . 'h' x 100 . "\r\n") },
);
my $model = server(sub {
	my ($sock, $head, $body) = @_;
	my ($name) = $body =~ /.*"bomb ([a-z-]+)/s;

	if ($body =~ /.*"content":"bomb ([a-z-]+)[^"]*"/s && $bomb{$1} && $body !~ /"role":"assistant"/) {
		$bomb{$1}->($sock);
		shutdown $sock, 1;
		# Who closes with bytes unread resets.
		IO::Select->new($sock)->can_read(2);
		return 0;
	}
	my $text = delta('"content":"Fine."') . "data: [DONE]\n\n";
	return sent($sock, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: " . length($text) . "\r\n\r\n$text");
});
my $t = faults_test(workers => 1, model => $model->url . '/v1', conf => {
	'model.retries' => 0, 'model.first_byte_timeout' => '5 s', 'model.idle_timeout' => '5 s', 'model.call_timeout' => '15 s',
	'client.max_wait' => '60 s', 'turn.deadline' => '50 s', 'limits.user_turns' => 0 });
my @pids = $t->pids;
my @only = grep { $bomb{$_} } split ' ', $ENV{PARLEY_BOMBS} // '';
my $all = Parley::Hurt->measure($t);
my $quiet = honest($t, pick(20, 100));
my $m = Parley::Hurt->measure($t);
my (@during, %figure);

for my $name (@only ? @only : sort keys %bomb) {
	$m->restart;
	my $c = $t->begin_chat("bomb-$name", "bomb $name", stream => JSON::XS::true);
	my $since = time;
	my $took = Parley::Hurt::honest_while($t, sub { !IO::Select->new($c->sock)->can_read(0.001) ||
	    !$t->pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = ? AND state NOT IN ('running', 'queued')}, "bomb-$name") });
	my $end = 'none';
	while (my $e = $c->event) {
		$end = $e->{event} . ' ' . ($e->{data}{error_code} // $e->{data}{status} // '') if $e->{event} =~ /^(?:done|error)$/;
	}
	like $end, qr/^(?:done success|error (?:model_error|model_timeout|model_unavailable|internal_error|too_many_steps))$/,
	    sprintf '%s: %s after %.1f s', $name, $end, time - $since;
	isnt $end, 'error internal_error', '... which is known';
	$m->bounded($name, 32);
	figure sprintf '%s: honest turns took %.0f ms at most', $name, $took->[-1];
	push @during, @$took;
}
compare('bombs', $quiet, [sort { $a <=> $b } @during]);
is_deeply [grep { $_ > 3000 } @during], [], 'none is held up for long';
$all->given_back('bombs', 64);
well($t, \@pids, 'bombs');
done_testing;
