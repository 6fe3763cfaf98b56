# Retry: the last turn again, from its message, as the next run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Test;
use Parley::Turns;

my $no = "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n";
my $model = Parley::Model->new(scripts => {
	fails => join("---\n", call_reply(add_task => { title => 'Once' }), $no, text_reply('It is on your list.')),
	better => join("---\n", text_reply('Good.'), text_reply('Bet', 'ter.'), text_reply('Best.')),
	stream => join("---\n", call_reply(list_tasks => {}), text_reply('One.'), call_reply(list_tasks => {}), text_reply('Two.')),
	keyed => join("---\n", map { text_reply("Answer $_.") } 1 .. 9),
	slow => text_reply('Slow ', 1000, 'one.'),
	endless => join("---\n", text_reply('On ', map { (150, "and on $_ ") } 1 .. 200), text_reply('Short.')),
	never => $no,
});
my $t = Parley::Test->new(model => $model, workers => 1, conf => { 'model.retries' => 0 });
my $other = beside($t, conf => { 'model.retries' => 0 });
my $pg = $t->pg;
my $json = JSON::XS->new->canonical;

sub page {
	my ($user, $id, $query) = @_;
	return $t->get("/api/conversations/$id" . ($query // ''), user => $user)->{json}{messages};
}

sub told { my ($messages) = @_; return [map { "$_->{run} $_->{turn_state} $_->{content}" } @$messages] }

subtest 'a turn that failed, after it has done something' => sub {
	my $r = $t->chat('bob', 'script:fails', time_zone => 'Asia/Tokyo');
	my $id = $r->{json}{conversation_id};
	is $r->{status}, 502, 'it fails';
	$pg->do(q{UPDATE parley.messages SET created_at = '2026-01-02 03:04:05Z' WHERE user_id = 'bob' AND idx = 0});
	my $b = retry($other, 'bob', $id, 1)->{json};
	is $b->{response}, 'It is on your list.', 'the third reply is the answer';
	is_deeply [map { "$_->{run} $_->{role}" } @{$b->{messages}}], ['2 user', '2 assistant'], 'run 2 has messages of its own';
	my @asked = $model->requests;
	is scalar @asked, 3, 'the model was asked once more';
	my $shown = $json->encode($asked[-1]{body}{messages});
	like $shown, qr/add_task/, '... and shown the call of the run before';
	like $shown, qr/task_id/, '... with its result';
	is scalar(grep { $_->{role} eq 'user' && $_->{content} eq 'script:fails' } @{$asked[-1]{body}{messages}}), 1,
	    '... and the question once';
	like $shown, qr/Friday, 2026-01-02 12:04 \(Asia\/Tokyo\)/, 'date, time and zone are those of the message';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'bob'}), 1, 'nothing is done twice';

	is_deeply told(page('bob', $id)), ['2 done script:fails', '2 done It is on your list.'], 'the newest run is read';
	my $all = page('bob', $id, '?runs=all');
	message_ok($_, 'a message of ?runs=all') for @$all;
	is_deeply [map { "$_->{run} $_->{role}" } @$all], ['1 user', '1 assistant', '2 user', '2 assistant'], '?runs=all shows all';
	is scalar @{$all->[1]{tool_calls}}, 1, '... with calls';
	$model->clear;
	$t->chat('bob', 'Hello again', conversation_id => $id);
	is_deeply [map { $_->{role} } @{($model->requests)[0]{body}{messages}}], [qw(system user assistant user)],
	    'the next turn sees the newest alone';
	error_is($t->get("/api/conversations/$id?runs=some", user => 'bob'), 422, 'validation_error', 'another ?runs', field => 'runs');
};

subtest 'a turn that is done: regenerate' => sub {
	my $first = $t->chat('carl', 'script:better')->{json};
	my $id = $first->{conversation_id};
	my @r = map { retry($_, 'carl', $id, 1) } $t, $other;
	is_deeply [map { "$_->{status} $_->{json}{turn} $_->{json}{response}" } @r], ['200 1 Better.', '200 1 Best.'], 'again and again';
	is_deeply told(page('carl', $id)), ['3 done script:better', '3 done Best.'], 'the newest is read';
	is_deeply [map { $_->{content} } grep { $_->{role} eq 'assistant' } @{page('carl', $id, '?runs=all')}],
	    ['Good.', 'Better.', 'Best.'], 'all can be';
	is turn($t, 'carl', $id, 1)->{json}{response}, 'Best.', 'the turn by itself';
	my $c = $t->get("/api/conversations/$id", user => 'carl')->{json}{conversation};
	is "$c->{turns} $c->{state}", '1 idle', 'it is one turn';
};

subtest 'as a stream' => sub {
	my $id = $t->chat('dora', 'script:stream')->{json}{conversation_id};
	my $c = begin_retry($t, 'dora', $id, 1, stream => 1);
	like $c->head->{headers}{'content-type'}, qr{^text/event-stream}, 'Content-Type';
	my @e = events($c);
	is names(@e), 'turn tool_call tool_result delta done', 'events';
	my $b = stream_ok('the stream of a retry', @e);
	is $b->{response}, 'Two.', 'response';
	is $e[0]{data}{turn}, 1, 'turn';
	is_deeply [map { $_->{run} } @{$b->{messages}}], [2, 2, 2], 'run';
	$c = $t->begin('POST', "/api/conversations/$id/turns/1/retry", undef, user => 'dora',
	    headers => { Accept => 'text/event-stream', 'Content-Length' => 0 });
	is +($c->event // {})->{event}, 'turn', 'or as the Accept header asks';
	events($c);
};

subtest 'a turn that was cancelled' => sub {
	my ($c, $id) = begun($t, 'eva', 'script:endless');
	wait_for { speaks($pg, $id) };
	cancel($t, 'eva', $id, 1);
	is $c->response->{json}{status}, 'cancelled', 'cancelled';
	my $b = retry($other, 'eva', $id, 1)->{json};
	is "$b->{status} $b->{response}", 'success Short.', 'again';
	is scalar @{$b->{messages}}, 2, 'what was half said is not in the new run';
};

subtest 'Idempotency-Key' => sub {
	my $id = $t->chat('finn', 'script:keyed')->{json}{conversation_id};
	my @r = map { $_->response } map { begin_retry($_ % 2 ? $t : $other, 'finn', $id, 1, key => 'again', stream => 0) } 1 .. 6;
	is_deeply [map { "$_->{status} " . ($_->{json}{response} // $_->{body}) } @r], [('200 Answer 2.') x 6],
	    'the same request six times at once';
	is $pg->one(q{SELECT run FROM parley.turns WHERE user_id = 'finn'}), 2, '... is one run';
	is retry($t, 'finn', $id, 1, key => 'again')->{json}{response}, 'Answer 2.', '... later as well';
	is +(events(begin_retry($other, 'finn', $id, 1, key => 'again', stream => 1)))[-1]{data}{response}, 'Answer 2.',
	    '... as a stream too';
	is retry($t, 'finn', $id, 1, key => 'another')->{json}{response}, 'Answer 3.', 'another key is another run';
	is retry($t, 'finn', $id, 1, key => 'again')->{json}{response}, 'Answer 3.', 'the first key leads to the newest run';
	error_is($t->request('POST', '/api/chat', { message => 'x' }, user => 'finn', headers => { 'Idempotency-Key' => 'again' }),
	    422, 'idempotency_mismatch', 'the key of a retry is not one of a message');
	error_is(retry($t, 'finn', $id, 1, key => 'x' x 256), 422, 'validation_error', 'a key that is too long');
};

subtest 'not now' => sub {
	my ($c, $id) = begun($t, 'gus', 'script:slow');
	error_is(retry($_, 'gus', $id, 1), 409, 'turn_not_retryable', 'while it runs', conversation_id => $id, turn => 1) for $t, $other;
	my ($queued) = begun($t, 'gus', 'Hello', conversation_id => $id);
	error_is(retry($t, 'gus', $id, 2), 409, 'turn_not_retryable', 'one that waits');
	is $c->response->{status}, 200, 'the first ends';
	error_is(retry($t, 'gus', $id, 1), 409, 'turn_not_retryable', 'when there is a later one');
	is $queued->response->{status}, 200, '... and when that has ended';
	error_is(retry($t, 'gus', $id, 1, stream => 1), 409, 'turn_not_retryable', '... for a stream too');
	my @r = (retry($t, 'mallory', $id, 2), retry($t, 'gus', '00000000-0000-4000-8000-000000000000', 2));
	error_is($_, 404, $r[0]{json}{error_code}, 'not there') for @r;
	delete @{$_->{json}}{qw(request_id conversation_id turn)} for @r;
	is_deeply $r[0]{json}, $r[1]{json}, 'unknown and foreign look the same';
	error_is(retry($t, 'gus', $id, 7), 404, 'turn_not_found', 'no such turn');
	is $pg->one(q{SELECT max(run) FROM parley.turns WHERE user_id = 'gus'}), 1, 'nothing was begun';
};

subtest 'two at once' => sub {
	my $id = $t->chat('hal', 'script:slow')->{json}{conversation_id};
	my @r = map { $_->response } map { begin_retry($_, 'hal', $id, 1) } $t, $other;
	is join(' ', sort map { $_->{status} } @r), '200 409', 'one wins';
	my ($lost) = grep { $_->{status} == 409 } @r;
	error_is($lost, 409, 'turn_not_retryable', 'the other is told');
	is $pg->one(q{SELECT run FROM parley.turns WHERE user_id = 'hal'}), 2, 'one run';
};

subtest 'one that fails again' => sub {
	my $id = $t->chat('ida', 'script:never')->{json}{conversation_id};
	error_is(retry($other, 'ida', $id, 1), 502, 'model_error', 'the same failure', conversation_id => $id, turn => 1);
	is +(events(begin_retry($t, 'ida', $id, 1, stream => 1)))[-1]{event}, 'error', 'as a stream';
	is_deeply told(page('ida', $id)), ['3 failed script:never'], 'the newest run is read';
	my ($c) = begun($t, 'ida', 'script:slow', conversation_id => $id);
	is $c->response->{json}{turn}, 2, 'the conversation goes on';
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
