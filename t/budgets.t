# Turns in a minute and tokens in a day, over HTTP: how a refusal looks, that a hundred at once are counted right,
# that nothing stays reserved whatever becomes of workers and streams.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::ChatKit;
use Parley::Contract;
use Parley::Test;
use Parley::Turns;

# It is about days: not over the end of one.
sleep 61 if time % 86400 > 86340;

my $dear = sub { $_[0] =~ s/"prompt_tokens":7/"prompt_tokens":500000/r };
my $model = Parley::Model->new(scripts => {
	short => join("---\n", (text_reply('Yes.')) x 150),
	# A script goes on with each request: one for each turn.
	(map { ("dies$_" => join("---\n", call_reply(add_task => { title => 'Once' }), "hang\n", text_reply('Here I am.'))) } 1 .. 4),
	(map { ("hangs$_" => join("---\n", "hang\n", text_reply('Here I am.'))) } 1 .. 4),
	dear => join("---\n", $dear->(call_reply(add_task => { title => 'Dear' })), text_reply('Never said.')),
	breaks => text_reply('Half an ', 'answer', 30000, 'x'),
	unsaid => text_reply('Whole.') =~ s/data [^\n]*usage[^\n]*\n//r,
	slow => text_reply('A slow ', 1500, 'one.'),
});
my $pg = Parley::Postgres->new;
my %with = (pg => $pg, model => $model);

sub usage {
	my ($user) = @_;
	return $pg->rows('SELECT reserved, spent, estimated FROM parley.usage WHERE user_id = ?', $user)->[0];
}
sub spent_ok {
	my ($user, $name) = @_;
	my $sum = $pg->one('SELECT sum(input_tokens + output_tokens) FROM parley.turns WHERE user_id = ?', $user);
	my $u = usage($user);
	is_deeply [@$u{qw(reserved spent)}], [0, $sum], "$name: what is spent is the sum of the turns, and nothing is reserved";
}
sub retry_after_ok {
	my ($r, $from, $to, $name) = @_;
	my $got = $r->{headers}{'retry-after'} // 'none';
	ok $got =~ /^\d+$/ && $got >= $from && $got <= $to, "$name: Retry-After $got";
}
sub midnight { return 86400 - time % 86400 }

subtest 'turns in a minute' => sub {
	my $t = Parley::Test->new(%with, workers => 2, conf => { 'limits.user_turns_per_minute' => 3 });
	my $first = $t->chat('ann', 'script:short');
	is $first->{status}, 200, 'the first';
	is retry($t, 'ann', $first->{json}{conversation_id}, 1)->{status}, 200, 'a retry is the second';
	my $keyed = sub { $t->begin('POST', '/api/chat', { message => 'script:short', %{$_[0] // {}} }, user => 'ann',
	    headers => { 'Idempotency-Key' => 'k' })->response };
	is $keyed->()->{status}, 200, 'the third, with a key';
	is $keyed->()->{status}, 200, 'what is known by its key is none';

	my $r = $t->chat('ann', 'script:short');
	error_is($r, 429, 'rate_limited', 'the fourth', conversation_id => undef, turn => undef);
	retry_after_ok($r, 50, 60, 'the window');
	$r = $t->begin('POST', '/api/chat', { message => 'script:short' }, user => 'ann',
	    headers => { 'Idempotency-Key' => 'refused', Accept => 'text/event-stream' })->response;
	error_is($r, 429, 'rate_limited', 'as a stream');
	retry_after_ok($r, 50, 60, '... too');
	is $pg->one(q{SELECT count(*) FROM parley.idempotency_keys WHERE user_id = 'ann' AND key = 'refused'}), 0, '... binds no key';
	$r = Parley::ChatKit->new($t, 'ann')->ask('threads.create', { input => Parley::ChatKit::input('script:short') });
	error_is($r, 429, 'rate_limited', 'by ChatKit');
	retry_after_ok($r, 50, 60, '... too');
	error_is(retry($t, 'ann', $first->{json}{conversation_id}, 1), 429, 'rate_limited', 'another retry');
	is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'ann'}), 2, 'nothing was stored of them';
	is $pg->one(q{SELECT run FROM parley.turns WHERE user_id = 'ann' AND turn = 1 ORDER BY run DESC LIMIT 1}), 2, '... no run was begun';
	is $t->chat('bob', 'script:short')->{status}, 200, 'another user';
	$r = $t->post('/mcp', { jsonrpc => '2.0', id => 1, method => 'tools/call', params => { name => 'list_tasks', arguments => {} } },
	    user => 'ann', headers => { Accept => 'application/json, text/event-stream', 'MCP-Protocol-Version' => '2025-06-18' });
	is $r->{status}, 200, 'a tool call over /mcp is no turn';
	is $t->get('/api/conversations', user => 'ann')->{status}, 200, 'nor is reading';
	is_deeply [map { @{$pg->rows("SELECT * FROM parley.$_")} } 'usage'], [], 'no budget, no row of it';
	$pg->psql(q{UPDATE parley.pace SET began = (SELECT array_agg(b - interval '58 seconds') FROM unnest(began) b) WHERE user_id = 'ann'});
	$r = $t->chat('ann', 'script:short');
	retry_after_ok($r, 1, 2, '58 seconds later');
	sleep $r->{headers}{'retry-after'};
	is $t->chat('ann', 'script:short')->{status}, 200, '... and that is when it may be done';
};

subtest 'a hundred at once' => sub {
	my $t = Parley::Test->new(%with, workers => 3, conf => { 'limits.user_tokens_per_day' => 1_000_000 });
	is $t->chat('probe', 'script:short')->{status}, 200, 'one, to see';
	my $each = $pg->one(q{SELECT reserved FROM parley.turns WHERE user_id = 'probe'});
	cmp_ok $each, '>', 1000, "it reserves $each: instructions, tools, message and an answer";
	is_deeply usage('probe'), { reserved => 0, spent => 10, estimated => 0 }, 'it has spent what the model says';
	undef $t;

	my $may = 9;
	$t = Parley::Test->new(%with, workers => 3, conf => { 'limits.user_tokens_per_day' => $may * $each + 20,
	    'database.connections' => 8 });
	my @c = map { $t->begin_chat('cat', 'script:slow') } 1 .. 100;
	my (%status, @refused);
	for (map { $_->response } @c) {
		$status{$_->{status}}++;
		push @refused, $_ if $_->{status} == 429;
	}
	is_deeply \%status, { 200 => $may, 429 => 100 - $may }, "$may are done, the others refused" or diag $t->log_text;
	error_is($refused[0], 429, 'budget_exceeded', 'a refusal');
	# Turns that run may leave some: that is sooner than tomorrow.
	retry_after_ok($refused[0], 1, 100, 'when those that run are done');
	spent_ok('cat', 'after them');
	is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'cat'}), $may, 'so many turns';

	$pg->psql(q{UPDATE parley.usage SET spent = spent + 1000000 WHERE user_id = 'cat'});
	my $r = $t->chat('cat', 'script:short');
	error_is($r, 429, 'budget_exceeded', 'when it is spent');
	retry_after_ok($r, midnight() - 5, midnight() + 5, 'a new day, in UTC');
	like $r->{json}{message}, qr/midnight UTC/, '... in words';
	$r = Parley::ChatKit->new($t, 'cat')->ask('threads.create', { input => Parley::ChatKit::input('script:short') });
	error_is($r, 429, 'budget_exceeded', 'by ChatKit');
	retry_after_ok($r, midnight() - 5, midnight() + 5, '... too');
};

subtest 'killed in the middle' => sub {
	my %conf = ('limits.user_tokens_per_day' => 1_000_000, 'turn.lease' => '3s', 'model.retries' => 0);
	my $t = Parley::Test->new(%with, workers => 2, conf => \%conf);
	my @begun = map { [begun($t, $_ % 2 ? 'dan' : 'dora', "script:dies$_")], [begun($t, $_ % 2 ? 'dan' : 'dora', "script:hangs$_")] } 1 .. 4;
	wait_for { return $pg->one(q{SELECT count(*) FROM parley.turns WHERE steps > 0 AND state = 'running'}) >= 4 } 10;
	wait_for { return 12 <= grep { ($_->{script} // '') =~ /^(?:dies|hangs)/ } $model->requests } 10;
	cmp_ok usage($_)->{reserved}, '>', 4000, "$_: set aside" for qw(dan dora);
	$t->kill_worker($_) for $t->pids;
	ok scalar(wait_for { return !$pg->one(q{SELECT count(*) FROM parley.turns WHERE state = 'running'}) } 40), 'others bring them to their end';
	spent_ok($_, $_) for qw(dan dora);
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id IN ('dan', 'dora')}),
	    $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id IN ('dan', 'dora')}), 'and nothing was done twice';
};

subtest 'what is not reported, what is not finished' => sub {
	my $t = Parley::Test->new(%with, workers => 1, conf => { 'limits.user_tokens_per_day' => 1_000_000, 'model.retries' => 0 });
	is $t->chat('eve', 'script:unsaid')->{status}, 200, 'a model that does not say what it used';
	my $u = usage('eve');
	cmp_ok $u->{estimated}, '>', 100, '... is charged by the size of what was asked';
	is $u->{spent}, $u->{estimated}, '... and that is marked';
	spent_ok('eve', 'eve');

	my ($c, $id) = begun($t, 'fay', 'script:breaks');
	wait_for { return Parley::Turns::speaks($t->pg, $id) } 10;
	is cancel($t, 'fay', $id, 1)->{status}, 202, 'stopped in the middle of its words';
	is $c->response->{json}{status}, 'cancelled', '... it is cancelled';
	$u = usage('fay');
	cmp_ok $u->{estimated}, '>', 100, '... and charged as well';
	spent_ok('fay', 'fay');

	($c, $id) = begun($t, 'gil', 'script:breaks');
	my ($queued) = map { [begun($t, 'gil', 'script:short', conversation_id => $id)] } 1;
	wait_for { return Parley::Turns::speaks($t->pg, $id) } 10;
	my $reserved = $pg->one(q{SELECT reserved FROM parley.turns WHERE user_id = 'gil' AND state = 'running'});
	is $t->delete("/api/conversations/$id", user => 'gil')->{status}, 204, 'deleted in the middle, to be rid of the bill';
	$_->response for $c, $queued->[0];
	is_deeply usage('gil'), { reserved => 0, spent => $reserved, estimated => $reserved }, '... it comes all the same';

	($c, $id) = begun($t, 'hal', 'script:slow');
	$pg->psql(q{UPDATE parley.turns SET reserved_on = reserved_on - 1 WHERE user_id = 'hal';
		UPDATE parley.usage SET day = day - 1 WHERE user_id = 'hal'});
	is $c->response->{status}, 200, 'over midnight';
	is_deeply $pg->rows(q{SELECT reserved, spent, (now() AT TIME ZONE 'UTC')::date - day AS ago FROM parley.usage WHERE user_id = 'hal'}),
	    [{ reserved => 0, spent => 10, ago => 1 }], '... is settled on the day on which it was asked for';
};

subtest 'in the middle of a turn' => sub {
	my $t = Parley::Test->new(%with, workers => 1, conf => { 'limits.user_tokens_per_day' => 100_000 });
	my $r = $t->chat('ian', 'script:dear');
	error_is($r, 429, 'budget_exceeded', 'after a dear step', turn => 1);
	retry_after_ok($r, midnight() - 5, midnight() + 5, 'until tomorrow');
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'ian'}), 1, '... the step itself is done, its tool too';
	my $turn = turn($t, 'ian', $r->{json}{conversation_id}, 1)->{json};
	is_deeply [@$turn{qw(status error_code)}], ['error', 'budget_exceeded'], '... and it can be read so';
	is_deeply usage('ian'), { reserved => 0, spent => 500_003, estimated => 0 }, '... and is charged';
	is scalar(grep { ($_->{script} // '') eq 'dear' } $model->requests), 1, '... the model was asked once';

	$model->clear;
	my @e = $t->stream('jim', 'script:dear');
	is names(@e), 'turn tool_call tool_result error', 'as a stream';
	is stream_ok('its events', @e)->{error_code}, 'budget_exceeded', '... which says why';
	$model->clear;
	@e = Parley::ChatKit->new($t, 'kim')->say('script:dear');
	is $e[-1]{type}, 'error', 'by ChatKit';
	like $e[-1]{message}, qr/allowance .* used up for today/, '... in words';
	ok !$e[-1]{allow_retry}, '... without a button that would only fail again';

	# What it would wait for is told to whoever goes on with it, too.
	$model->clear;
	$t->pg->slow_tool;
	$model->script(later => join "---\n", $dear->(call_reply(add_slowly => { title => 'x', seconds => 2 })), text_reply('Never.'));
	my $slow = Parley::Test->new(%with, workers => 1, conf => { 'limits.user_tokens_per_day' => 100_000, 'turn.lease' => '3s' });
	my ($c, $id) = begun($slow, 'lea', 'script:later');
	wait_for { return $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'lea' AND steps = 1}) } 10;
	$slow->kill_worker;
	$c->response;
	ok scalar(wait_for { return state_of($pg, $id, 1) eq 'failed' } 20), 'a worker that takes over stops there as well';
	is $pg->one(q{SELECT error_code FROM parley.turns WHERE user_id = 'lea'}), 'budget_exceeded', '... for the same reason';
	spent_ok('lea', 'lea');
};

done_testing;
