# The event stream.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use POSIX ();
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;
use Parley::Turns;

my @long = map { "piece $_ of a long answer, " . 'x' x 900 . "\n" } 1 .. 900;
my $model = Parley::Model->new(scripts => {
	pieces => text_reply('Grüße, ', 100, '😀', 100, "\nline two\r\n", 100, ' end'),
	tools => join("---\n", text_reply('Let me see. ') =~ s/data [^\n]*finish_reason.*//sr .
	    call_reply(add_task => { title => 'One' }, list_tasks => {}),
	    text_reply('First ', 'look. ') =~ s/data [^\n]*finish_reason.*//sr . call_reply(nothing_like_it => {}),
	    text_reply('All ', 'done.')),
	quiet => text_reply(900, 'At ', 900, 'last.'),
	torn => text_reply('Half ', 'an answer') =~ s/data [^\n]*finish_reason.*/reset\n/sr,
	broken => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n",
	slow => text_reply('One, ', 300, 'two, ', 300, 'three, ', 300, 'four.'),
	long => text_reply(@long),
	flood => 'repeat 1500 data {"choices":[{"index":0,"delta":{"content":"' . 'y' x 8000 . "\"}}]}\n" . text_reply('end'),
	silent => "hang\n",
	eager => text_reply('Right ', 4000, 'away.'),
});
my $t = Parley::Test->new(model => $model, conf => { 'model.retries' => 0, 'client.keepalive' => '200 ms' });
my $pg = $t->pg;
my $true = JSON::XS::true;

subtest 'a plain answer' => sub {
	my $r = $t->begin_chat('alice', 'script:pieces', stream => $true);
	my $head = $r->head;
	is $head->{status}, 200, 'it is answered';
	like $head->{headers}{'content-type'}, qr{^text/event-stream}, 'Content-Type';
	is $head->{headers}{'cache-control'}, 'no-cache', 'Cache-Control';
	like $head->{headers}{'x-request-id'}, $UUID, 'a request id';
	my @e = events($r);
	is names(@e), 'turn delta done', 'events';
	my $b = stream_ok('plain', @e);
	is_deeply [map { $_->{data}{text} } @e[1 .. 4]], ['Grüße, ', '😀', "\nline two\r\n", ' end'], 'as the model gave them';
	is_deeply $e[0]{data}, { conversation_id => $b->{conversation_id}, turn => 1, message_id => $b->{messages}[0]{id} },
	    'turn names conversation, turn and message';
	is_deeply $b->{messages}, $t->get("/api/conversations/$b->{conversation_id}")->{json}{messages},
	    'done holds what was stored';
};

subtest 'with tools' => sub {
	my @e = $t->stream('alice', 'script:tools');
	is names(@e), 'turn delta tool_call tool_result tool_call tool_result delta tool_call tool_result delta done',
	    'events';
	my $b = stream_ok('tools', @e);
	is $b->{response}, 'All done.', 'response';
	my @calls = map { $_->{data} } grep { $_->{event} eq 'tool_call' } @e;
	my @results = map { $_->{data} } grep { $_->{event} eq 'tool_result' } @e;
	is_deeply \@calls, [map { { id => $_->{id}, tool_name => $_->{tool_name}, parameters => $_->{parameters} } } @{$b->{tool_calls}}],
	    'tool_call is the call';
	is_deeply \@results, [map { my %c = %$_; delete @c{qw(tool_name parameters executed_at)}; \%c } @{$b->{tool_calls}}],
	    'tool_result is its result';
	ok $results[2]{is_error}, 'also an error';
};

subtest 'the Accept header asks for it' => sub {
	for my $accept ('text/event-stream', 'Text/Event-Stream;q=0.9, */*') {
		my $r = $t->begin('POST', '/api/chat', { message => 'Hello' }, headers => { Accept => $accept });
		like $r->head->{headers}{'content-type'}, qr{^text/event-stream}, $accept;
		is $r->event->{event}, 'turn', '... events';
	}
	my $r = $t->post('/api/chat', { message => 'Hello' }, headers => { Accept => 'application/json, */*' });
	is $r->{headers}{'content-type'}, 'application/json', 'any other does not';
	my @e = (my $c = $t->begin('POST', '/api/alice/chat', { message => 'Hello', stream => $true }))->event;
	is $e[0]{event}, 'turn', 'also with the user in the path';
};

subtest 'pieces come at once, silence is filled' => sub {
	my $r = $t->begin_chat('alice', 'script:eager', stream => $true);
	is $r->event->{event}, 'turn', 'turn';
	my $since = time;
	is $r->event->{data}{text}, 'Right ', 'the first piece';
	cmp_ok time - $since, '<', 3, '... does not wait for the second';
	$r->event;
	cmp_ok time - $since, '>', 1.2, 'the second comes when it comes';
	1 while $r->event;

	$r = $t->begin_chat('alice', 'script:quiet', stream => $true);
	is $r->event->{event}, 'turn', 'turn comes before the model says anything';
	1 while $r->event;
	cmp_ok $r->comments, '>=', 4, 'comments keep the connection alive';
	cmp_ok $r->comments, '<=', 10, '... not more than asked for';
};

subtest 'errors' => sub {
	my $r = $t->begin_chat('alice', 'script:torn', stream => $true);
	my @e = events($r);
	is names(@e), 'turn delta error', 'in the middle';
	stream_ok('torn', @e);
	my $error = $e[-1]{data};
	error_is({ status => $error->{status} eq 'error' ? 200 : 0, json => $error, 
	    headers => { %{$r->head->{headers}}, 'content-type' => 'application/json' } }, 200,
	    $error->{error_code}, 'the body of section 6', conversation_id => $e[0]{data}{conversation_id}, turn => 1);
	unlike $error->{error_code}, qr/internal/, '... that says why';

	@e = $t->stream('alice', 'script:broken');
	is names(@e), 'turn error', 'before any text';
	is $e[-1]{data}{error_code}, 'model_error', '... error_code';

	my ($first) = $t->stream('alice', 'Hello');
	@e = $t->stream('alice', 'Hello', conversation_id => $first->{data}{conversation_id}, return => 'conversation');
	is_deeply [map { $_->{turn} } @{$e[-1]{data}{messages}}], [1, 1, 2, 2], 'return: conversation in done';

	# Nothing has been sent yet: plain answers.
	error_is($t->post('/api/chat', { message => ' ', stream => $true }), 422, 'validation_error', 'a bad message');
	error_is($t->post('/api/chat', { message => 'x', stream => $true }, token => undef), 401, 'missing_token', 'no token');
	error_is($t->post('/api/chat', { message => 'x', stream => $true,
	    conversation_id => '00000000-0000-4000-8000-000000000000' }), 404, 'conversation_not_found', 'no conversation');
};

# Property 8: the turn outlives the socket.
subtest 'a client that goes away' => sub {
	for my $stream ($true, JSON::XS::false) {
		$model->clear;
		my $r = $t->begin_chat('gone', 'script:slow', stream => $stream);
		$stream ? $r->event && $r->event : $model->wait_requests(1);
		$r->close;
		my $row = Parley::Process::wait_for {
			$pg->rows(q{SELECT t.state, m.content, m.interrupted FROM parley.turns t
			    JOIN parley.messages m USING (user_id, conversation_id, turn)
			    WHERE user_id = 'gone' AND m.role = 'assistant'})->[0];
		} 10;
		is_deeply $row, { state => 'done', content => 'One, two, three, four.', interrupted => 0 },
		    $stream ? 'a stream: the turn ends all the same' : 'no stream: the same';
		ok !($model->requests)[0]{closed_early}, 'the model was heard to the end';
		$pg->do(q{DELETE FROM parley.conversations WHERE user_id = 'gone'; DELETE FROM parley.turns WHERE user_id = 'gone';
		    DELETE FROM parley.messages WHERE user_id = 'gone'});
	}
};

# Processor time of all workers, in seconds.
sub cpu {
	my $ticks = 0;
	for my $pid ($t->pids) {
		open my $fh, '<', "/proc/$pid/stat" or next;
		my @f = split ' ', <$fh> =~ s/.*\) //r;
		$ticks += $f[11] + $f[12];
	}
	return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

subtest 'waiting costs nothing' => sub {
	my @c = map { $t->begin_chat("idle$_", 'script:silent', stream => $true) } 1 .. 6;
	$_->event for @c;
	$_->close for @c[0 .. 2];
	sleep 0.5;
	my $before = cpu();
	sleep 1;
	cmp_ok cpu() - $before, '<', 0.3, 'clients that are gone, and clients that hear nothing';
	$pg->do(q{DELETE FROM parley.conversations WHERE user_id LIKE 'idle%'; DELETE FROM parley.turns WHERE user_id LIKE 'idle%'});
	is $_->event->{event}, 'done', 'ended from outside' for @c[3 .. 5];
};

subtest 'a client that reads slowly' => sub {
	my $r = $t->begin_chat('slow', 'script:long', stream => $true);
	my $begin = $r->event;
	is $begin->{event}, 'turn', 'it begins';
	sleep 1;
	is $t->chat('quick', 'Hello')->{status}, 200, 'others are served meanwhile' for 1 .. 4;
	my $b = stream_ok('long', $begin, events($r));
	ok $b->{response} eq join('', @long), 'and nothing is lost';
};

subtest 'a client that does not read' => sub {
	my $impatient = Parley::Test->new(pg => $pg, model => $model, workers => 1,
	    conf => { 'client.write_timeout' => '500 ms', 'model.max_answer' => '32 MiB', 'client.keepalive' => '100 ms' });
	my $r = $impatient->begin_chat('still', 'script:flood', stream => $true);
	setsockopt $r->sock, SOL_SOCKET, SO_RCVBUF, 4096;
	my $row = Parley::Process::wait_for {
		$pg->rows(q{SELECT state, length(content) AS length FROM parley.turns JOIN parley.messages USING (user_id, conversation_id, turn)
		    WHERE user_id = 'still' AND role = 'assistant'})->[0];
	} 60;
	is_deeply $row, { state => 'done', length => 1500 * 8000 + 3 }, 'its turn is not held up for longer than client.write_timeout';
	is $impatient->chat('quick', 'Hello')->{status}, 200, 'and the worker serves others';
};

is $t->pool->sickness, '', 'the workers are well';
done_testing;
