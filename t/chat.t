# POST /api/chat, not streamed.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $model = Parley::Model->new(scripts => {
	slow => text_reply(1500, 'Here ', 'I am.'),
	broken => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"secret of the provider\"}}\n",
	torn => text_reply('Half ', 'an ', 'answer') =~ s/data [^\n]*finish_reason.*/reset\n/sr,
	preamble => join("---\n", text_reply('Let me look. ') =~ s/data [^\n]*finish_reason.*//sr .
	    call_reply(add_task => { title => 'One' }, list_tasks => {}), text_reply('Found ', 'it.')),
	empty_call => join("---\n", call_reply(no_such_tool => {}), text_reply('No such thing.')),
});
my $t = Parley::Test->new(model => $model, conf => { 'model.retries' => 0 });
my $pg = $t->pg;

sub turns { $pg->one('SELECT count(*) FROM parley.turns') }

subtest 'a new conversation' => sub {
	my $r = $t->chat('alice', "  Hello   there\n");
	my $b = $r->{json};

	is $r->{status}, 200, 'it is answered';
	is $r->{headers}{'content-type'}, 'application/json', 'JSON';
	like $r->{headers}{'x-request-id'}, $UUID, 'a request id';
	body_ok($b, 'a turn');
	is $b->{status}, 'success', 'status';
	is $b->{turn}, 1, 'turn';
	is_deeply $b->{tool_calls}, [], 'no calls';
	is_deeply $b->{approvals_required}, [], 'nothing to approve';
	is $b->{model}, 'demo', 'model';
	cmp_ok $b->{usage}{$_}, '>', 0, $_ for qw(input_tokens output_tokens);
	is_deeply [map { [@$_{qw(turn turn_state run role content)}] } @{$b->{messages}}],
	    [[1, 'done', 1, 'user', "Hello   there"], [1, 'done', 1, 'assistant', $b->{response}]],
	    'question (trimmed, else as it was) and answer';
	cmp_ok $b->{messages}[0]{created_at}, 'le', $b->{messages}[1]{created_at}, 'one after the other';
	cmp_ok $b->{messages}[1]{created_at}, 'le', $b->{timestamp}, 'stored before it was sent';
	ok !exists $b->{messages}[0]{model}, 'a user has no model';
	is $b->{messages}[1]{model}, 'demo', 'an answer has';

	my $next = $t->chat('alice', 'My name is Ada.', conversation_id => uc $b->{conversation_id})->{json};
	body_ok($next, 'the next turn');
	is $next->{conversation_id}, $b->{conversation_id}, 'the same conversation, in lower case';
	is $next->{turn}, 2, 'the next turn';
	is @{$next->{messages}}, 2, 'only its own messages';

	my $third = $t->chat('alice', 'What is my name?', conversation_id => $b->{conversation_id},
	    return => 'conversation')->{json};
	body_ok($third, 'return: conversation');
	like $third->{response}, qr/Ada/, 'the model was given the history';
	is_deeply [map { $_->{turn} } @{$third->{messages}}], [1, 1, 2, 2, 3, 3], 'return: conversation';
	is_deeply [@{$third->{messages}}[0 .. 3]], [@{$b->{messages}}, @{$next->{messages}}], 'each as it was given out';
	is $third->{response}, $third->{messages}[-1]{content}, 'response is the last text';

	my $page = $t->get("/api/conversations/$b->{conversation_id}")->{json};
	is_deeply $page->{messages}, $third->{messages}, 'and as it is read';
	is_deeply $t->chat('alice', 'Hello', conversation_id => undef, stream => JSON::XS::false, return => 'turn',
	    on_busy => 'reject', time_zone => undef)->{json}{turn}, 1, 'null and defaults spelled out';
};

subtest 'tools' => sub {
	my $b = $t->chat('bob', 'Add task: Buy groceries')->{json};

	body_ok($b, 'a turn');
	is_deeply [map { $_->{role} } @{$b->{messages}}], [qw(user assistant assistant)], 'question, call, answer';
	is @{$b->{tool_calls}}, 1, 'one call';
	my $c = $b->{tool_calls}[0];
	is $c->{tool_name}, 'add_task', 'tool_name';
	is_deeply $c->{parameters}, { title => 'Buy groceries' }, 'parameters';
	is_deeply [@{$c->{result}}{qw(task_id status title)}], [1, 'created', 'Buy groceries'], 'result';
	ok !$c->{is_error}, 'is_error';
	is_deeply $b->{messages}[1]{tool_calls}, [$c], 'the call is attached to its message';
	is_deeply $b->{messages}[2]{tool_calls}, [], 'and to no other';
	like $b->{response}, qr/Buy groceries/, 'response';

	$b = $t->chat('bob', 'script:preamble')->{json};
	body_ok($b, 'text before calls');
	is $b->{messages}[1]{content}, 'Let me look. ', 'text before the calls is kept';
	is $b->{response}, 'Found it.', 'response is the last text alone';
	is_deeply [map { $_->{tool_name} } @{$b->{tool_calls}}], [qw(add_task list_tasks)], 'in the order of the model';
	is_deeply $b->{usage}, { input_tokens => 14, output_tokens => 6 }, 'usage of all steps';

	$b = $t->chat('bob', 'script:empty_call')->{json};
	ok $b->{tool_calls}[0]{is_error}, 'an unknown tool is an error of the call';
	ok length $b->{tool_calls}[0]{result}{error}, '... with a sentence';
	is $b->{response}, 'No such thing.', '... and the turn goes on';
};

subtest 'the user in the path' => sub {
	my %path = (
		'alice' => 'alice', 'auth0|42/x y' => 'auth0%7C42%2Fx%20y', 'conversations' => 'conversations',
		'chat' => 'chat', 'Zoë' => 'Zo%C3%AB', '日本' => '%e6%97%a5%E6%9C%AC', '100%' => '100%25', 'a+b' => 'a+b',
	);

	for my $user (sort keys %path) {
		my $r = $t->post("/api/$path{$user}/chat", { message => 'Hello' }, user => $user);
		is $r->{status}, 200, "$path{$user} is the token's user" or diag $r->{body};
		is $pg->one('SELECT user_id FROM parley.conversations WHERE id = ?', $r->{json}{conversation_id}), $user,
		    '... and the row belongs to it';
	}
	my $before = turns();
	error_is($t->post("/api/$_->[0]/chat", { message => 'Hello' }, user => $_->[1]), 403, 'forbidden',
	    "$_->[0] is not $_->[1]") for ['bob', 'alice'], ['Alice', 'alice'], ['alice%20', 'alice'], ['a%2Bb', 'a b'],
	    ['conversations', 'alice'], ['a%20b', 'a+b'];
	error_is($t->post("/api/$_/chat", { message => 'Hello' }), 404, 'not_found', "$_ is no user")
	    for '%ff', '%C3', '%ed%a0%80', 'alice/bob', '';
	is turns(), $before, 'nothing was stored';
};

subtest 'titles' => sub {
	my $title = sub {
		my $r = $t->chat('tina', $_[0])->{json} or return undef;
		return $t->get("/api/conversations/$r->{conversation_id}", user => 'tina')->{json}{conversation}{title};
	};
	is $title->('Plan the trip'), 'Plan the trip', 'the first message';
	is $title->("\n Plan\t the\r\n  trip "), 'Plan the trip', 'white space is one space';
	is $title->('ü' x 100), 'ü' x 80, '80 characters, not bytes';
	is $title->('😀' x 100), '😀' x 80, '... also outside the BMP';
};

subtest 'date, time and zone reach the model' => sub {
	my $prompt = sub {
		$model->clear;
		$t->chat('zoe', 'Hello', @_)->{status} == 200 or return '';
		return join "\n", map { $_->{content} } grep { $_->{role} =~ /system|developer/ }
		    @{($model->requests)[0]{body}{messages}};
	};
	my $utc = $prompt->();
	my @now = gmtime;
	my $today = sprintf '%04d-%02d-%02d', $now[5] + 1900, $now[4] + 1, $now[3];
	like $utc, qr/\Q$today\E \d\d:\d\d \(UTC\)/, 'UTC when absent';
	# Zones that are 14 hours ahead and 11 behind never have the same date.
	my ($east) = $prompt->(time_zone => 'Pacific/Kiritimati') =~ /(\d{4}-\d\d-\d\d \d\d:\d\d) \(Pacific\/Kiritimati\)/;
	my ($west) = $prompt->(time_zone => 'Pacific/Pago_Pago') =~ /(\d{4}-\d\d-\d\d \d\d:\d\d) \(Pacific\/Pago_Pago\)/;
	ok $east && $west && substr($east, 0, 10) gt substr($west, 0, 10), 'the date of the zone' or diag "$east $west";
	is $pg->one(q{SELECT time_zone FROM parley.turns WHERE time_zone IS NOT NULL ORDER BY started_at DESC LIMIT 1}),
	    'Pacific/Pago_Pago', 'kept with the turn';
	is $t->chat('zoe', 'Hello', time_zone => $_)->{status}, 200, "a zone: $_"
	    for 'Europe/Berlin', 'America/Argentina/Buenos_Aires', 'UTC', 'Etc/GMT+5', 'EST5EDT';
	error_is($t->chat('zoe', 'Hello', time_zone => $_), 422, 'validation_error', "no zone: $_", field => 'time_zone')
	    for 'Mars/Olympus', '', '../../etc/passwd', '+02:00', 'Europe', 'localtime', 'leapseconds', 'UTC; DROP', 'posix/UTC';
};

subtest 'the message is committed before the model is asked' => sub {
	$model->clear;
	my $c = $t->begin_chat('alice', 'script:slow');
	my @asked = $model->wait_requests(1);
	is @asked, 1, 'the model is thinking';
	my $row = $pg->rows(q{SELECT m.role, m.content, t.state, t.turn FROM parley.messages m
	    JOIN parley.turns t USING (user_id, conversation_id, turn) WHERE m.content = 'script:slow'});
	is_deeply $row, [{ role => 'user', content => 'script:slow', state => 'running', turn => 1 }],
	    'message and turn are there';
	is $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'parley_worker' AND state <> 'idle'
	    AND xact_start IS NOT NULL AND query NOT LIKE '%pulse%'}), 0, 'no connection is held meanwhile';
	is $c->response->{json}{response}, 'Here I am.', 'then the answer';
};

subtest 'a model call that fails' => sub {
	my $r = $t->chat('eve', 'script:broken');
	error_is($r, 502, 'model_error', 'the error', turn => 1);
	unlike $r->{body}, qr/secret of the provider/, 'nothing of the provider in it';
	my $id = $r->{json}{conversation_id};
	like $id, $UUID, 'it names the conversation';
	is_deeply $pg->rows('SELECT role, content FROM parley.messages WHERE conversation_id = ?', $id),
	    [{ role => 'user', content => 'script:broken' }], 'the question stays, no answer is made up';
	is $pg->one('SELECT state FROM parley.turns WHERE conversation_id = ?', $id), 'failed', 'the turn is failed';
	is $t->chat('eve', 'Hello', conversation_id => $id)->{status}, 200, 'the conversation goes on';

	$r = $t->chat('eve', 'script:torn');
	cmp_ok $r->{status}, '>=', 500, 'the model goes away in the middle';
	my $page = $t->get("/api/conversations/$r->{json}{conversation_id}", user => 'eve')->{json};
	message_ok($_, 'a message') for @{$page->{messages}};
	my $half = $page->{messages}[1];
	is $half->{content}, 'Half an answer', 'what was given out is kept';
	ok $half->{interrupted}, '... marked as interrupted';
	is $half->{turn_state}, 'failed', '... of a failed turn';
	is $half->{error_code}, $r->{json}{error_code}, '... which says why';
};

# The first turn of a worker also reads the table of tools; the pulse beats and the worker looks
# for turns that nobody runs, whether there are turns or not.
subtest 'a turn without tools is two statements and two commits' => sub {
	$pg->do(q{ALTER ROLE parley_worker SET log_statement = 'all'});
	my $alone = Parley::Test->new(pg => $pg, model => $model, workers => 1);
	my $one = $alone->chat('count', 'Hello')->{json};
	my $mark = -s $pg->log;
	my $turns = 5;
	is $alone->chat('count', "Hello $_", conversation_id => $one->{conversation_id})->{status}, 200, "turn $_"
	    for 1 .. $turns;
	sleep 0.1;
	open my $log, '<', $pg->log or die $!;
	seek $log, $mark, 0;
	my @said = map { /(?:statement|execute [^:]*): (.*)/ ? $1 : () } grep { / parley_worker LOG: / } <$log>;
	my @turn = grep { !/parley\.(?:pulse|turns_expired)\b/ } @said;
	is @turn, 2 * $turns, 'statements' or diag explain \@said;
	is scalar(grep { /turn_begin/ } @turn), $turns, 'one begins a turn';
	is scalar(grep { /turn_end/ } @turn), $turns, 'one ends it';
	ok !(grep { /^\s*(BEGIN|COMMIT|SET|START)/i } @said), 'no transaction around them: each is one commit';
	$pg->do('ALTER ROLE parley_worker RESET log_statement');
};

is $t->pool->sickness, '', 'the workers are well';
done_testing;
