# Stop: within two seconds wherever the turn runs; what was said and done stays.
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

my $json = JSON::XS->new->canonical;
my $endless = text_reply('On ', map { (150, "and on $_ ") } 1 .. 200);
my $model = Parley::Model->new(delay => 40, scripts => {
	silent => "hang\n",
	short => text_reply('A short ', 1500, 'one.'),
	endless => $endless,
	# Each conversation of its own: a script's replies are counted.
	(map { ("step$_" => join("---\n", call_reply(add_task => { title => 'Kept' }), $endless)) } 1 .. 4),
	(map { ("tool$_" => join("---\n", call_reply(add_task => { title => 'Kept' },
	    add_slowly => { title => 'Undone', seconds => 30 }, add_task => { title => 'Never' }), text_reply('Done.'))) } 1 .. 4),
});
my $pg = Parley::Postgres->new;
$pg->slow_tool;
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1);
my $other = beside($t);
my $true = JSON::XS::true;
my %stream = (plain => [], stream => [stream => $true]);

# The answer of one whose turn was cancelled, and when it came, counted from the wish.
sub stopped {
	my ($c, $how, $since) = @_;
	my ($body, @e);

	if ($how eq 'stream') {
		@e = events($c);
		is $e[-1]{event}, 'done', 'the stream ends with done';
		$body = $e[-1]{data};
	} else {
		my $r = $c->response;
		is $r->{status}, 200, 'the client that waits gets 200' or diag $r->{body};
		$body = $r->{json};
	}
	cmp_ok time - $since, '<', 2, '... within 2 s';
	body_ok($body, '... the whole body');
	is $body->{status}, 'cancelled', '... cancelled';
	return ($body, @e);
}

my $n = 0;
for my $case (['plain', $t], ['stream', $t], ['plain', $other], ['stream', $other]) {
	my ($how, $worker) = @$case;
	my $where = $worker == $t ? 'the same worker' : 'another worker';
	my $user = 'ann-' . ++$n;

	subtest "$how, from $where" => sub {
		$model->clear;
		my ($c, $id) = begun($t, $user, "script:step$n", @{$stream{$how}});
		wait_for { speaks($pg, $id) } or diag 'it does not speak';
		my $since = time;
		my $r = cancel($worker, $user, $id, 1);
		is $r->{status}, 202, 'accepted' or diag $r->{body};
		my ($b, @e) = stopped($c, $how, $since);
		like $b->{response}, qr/^On and on 1 /, 'the text so far is the response';
		is scalar @{$b->{tool_calls}}, 1, '... with the calls so far';
		is_deeply [map { $_->{interrupted} ? 1 : 0 } @{$b->{messages}}], [0, 0, 1], '... marked as cut off';
		if (@e) {
			is said(@e), $b->{response}, 'the deltas are the response';
		}
		my $page = $t->get("/api/conversations/$id", user => $user)->{json};
		is_deeply $page->{messages}, $b->{messages}, 'it is stored like that';
		is $page->{messages}[-1]{turn_state}, 'cancelled', '... cancelled';
		is $page->{conversation}{state}, 'idle', 'the conversation is idle';
		ok +(wait_for { (grep { $_->{closed_early} } $model->requests) == 1 } 20), q(the model's request is closed);
		is $pg->one('SELECT count(*) FROM tasks.tasks WHERE user_id = ?', $user), 1, 'what was done stays';

		$model->clear;
		is $worker->chat($user, 'Hello again', conversation_id => $id)->{json}{turn}, 2, 'the next turn';
		my $shown = $json->encode(($model->requests)[0]{body}{messages});
		like $shown, qr/\QOn and on 1 \E/, '... shows the model what was said';
		like $shown, qr/stopped|cancelled/i, '... and that it was stopped' or diag $shown;
		like $shown, qr/Kept/, '... and what was done';
	};
}

$n = 0;
for my $case (['plain', $t], ['stream', $other]) {
	my ($how, $worker) = @$case;
	my $user = 'tom-' . ++$n;
	subtest "while a tool runs, $how" => sub {
		my ($c, $id) = begun($t, $user, "script:tool$n", @{$stream{$how}});
		wait_for { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) } or diag 'it does not run';
		my $since = time;
		is cancel($worker, $user, $id, 1)->{status}, 202, 'accepted';
		my ($b, @e) = stopped($c, $how, $since);
		stream_ok('the stream', @e) if @e;
		is_deeply [map { $_->{is_error} ? 1 : 0 } @{$b->{tool_calls}}], [0, 1, 1], 'done, stopped, not begun';
		like(JSON::XS->new->allow_nonref->encode($_->{result}), qr/error/,
		    '... and their results say so') for @{$b->{tool_calls}}[1, 2];
		is_deeply $pg->rows('SELECT title FROM tasks.tasks WHERE user_id = ?', $user), [{ title => 'Kept' }],
		    'what was not finished is undone';
		ok +(wait_for { !$pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) } 20),
		    'the database works no more for it';
		is state_of($pg, $id, 1), 'cancelled', 'the turn';
	};
}

subtest 'before the model has said anything' => sub {
	for my $worker ($t, $other) {
		my ($c, $id) = begun($t, 'bea', 'script:silent');
		my $since = time;
		is cancel($worker, 'bea', $id, 1)->{status}, 202, 'accepted';
		my ($b) = stopped($c, 'plain', $since);
		is $b->{response}, '', 'nothing was said';
		is scalar @{$b->{messages}}, 1, '... so there is no message of it';
	}
};

subtest 'one that waits' => sub {
	my ($live, $id) = begun($t, 'carl', 'script:short');
	my @c = map { (begun($t, 'carl', "My name is C$_", conversation_id => $id, $_ == 2 ? (stream => $true) : ()))[0] } 1 .. 3;
	for my $n (1, 2) {
		my $since = time;
		is cancel($other, 'carl', $id, $n + 1)->{status}, 202, 'accepted';
		is state_of($pg, $id, $n + 1), 'cancelled', '... and done at once';
		my ($b, @e) = stopped($c[$n - 1], $n == 2 ? 'stream' : 'plain', $since);
		is $b->{response}, '', 'nothing was said';
		is names(@e), 'turn queued done', 'as a stream shows' if @e;
	}
	is state_of($pg, $id, 1), 'running', 'the one before it goes on';
	is $live->response->{json}{response}, 'A short one.', '... to its end';
	my $r = $c[2]->response->{json};
	is "$r->{turn} $r->{status}", '4 success', '... and the one after it runs';
};

# Whoever is faster, the client is told what is stored.
subtest 'in the moment in which it ends' => sub {
	my %how;
	for my $n (1 .. 24) {
		my ($c, $id) = begun($t, "gil$n", 'Hello');
		sleep rand 0.06;
		my $r = cancel($n % 2 ? $t : $other, "gil$n", $id, 1);
		my $b = $c->response->{json};
		my $is = state_of($pg, $id, 1);
		$how{"$r->{status} $b->{status} $is"}++;
		$how{'not as it is stored'}++ if $json->encode($b->{messages})
		    ne $json->encode($t->get("/api/conversations/$id", user => "gil$n")->{json}{messages});
	}
	is_deeply [grep { !/^(?:202 cancelled cancelled|(?:202|409) success done)$/ } keys %how], [],
	    join ', ', map { "$how{$_} times $_" } sort keys %how;
};

subtest 'twice' => sub {
	my ($c, $id) = begun($t, 'dan', 'script:endless');
	wait_for { speaks($pg, $id) };
	my @r = map { $_->response } map {
		$_->begin('POST', "/api/conversations/$id/turns/1/cancel", undef, user => 'dan', headers => { 'Content-Length' => 0 })
	} $t, $other, $t;
	ok +(grep { $_->{status} == 202 } @r), 'one of those that come together';
	is_deeply [grep { $_->{status} != 202 && ($_->{json}{error_code} // '') ne 'turn_not_running' } @r], [], 'more do no harm';
	stopped($c, 'plain', time);
	error_is(cancel($_, 'dan', $id, 1), 409, 'turn_not_running',
	    'when it has ended', conversation_id => $id, turn => 1) for $t, $other;
};

subtest 'what cannot be stopped' => sub {
	my $id = $t->chat('eva', 'Hello')->{json}{conversation_id};
	error_is(cancel($t, 'eva', $id, 1), 409, 'turn_not_running', 'a turn that is done');
	my @r = (cancel($t, 'mallory', $id, 1), cancel($t, 'eva', '00000000-0000-4000-8000-000000000000', 1));
	error_is($_, 404, $r[0]{json}{error_code}, 'not there') for @r;
	like $r[0]{json}{error_code}, qr/^(?:turn|conversation)_not_found$/, '... which it says';
	delete @{$_->{json}}{qw(request_id conversation_id turn)} for @r;
	is_deeply $r[0]{json}, $r[1]{json}, 'unknown and foreign look the same';
	is cancel($t, 'eva', $id, $_)->{status}, 404, "turn $_" for 2, 0, -1, 'x', '1x', '99999999999999999999';
	is cancel($t, 'eva', 'x', 1)->{status}, 404, 'no id';
	my $r = $t->get("/api/conversations/$id/turns/1/cancel", user => 'eva');
	error_is($r, 405, 'method_not_allowed', 'GET');
	is $r->{headers}{allow}, 'POST', '... Allow';
	error_is($t->post("/api/conversations/$id/turns/1/cancel", undef, token => undef, headers => { 'Content-Length' => 0 }),
	    401, 'missing_token', 'no token');
	is $t->post("/api/conversations/$id/turns/1/cancel", {}, user => 'eva')->{status}, 409, 'a body does no harm';
	is $t->get("/api/conversations/$id", user => 'eva')->{json}{messages}[-1]{turn_state}, 'done', 'nothing has changed';
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
