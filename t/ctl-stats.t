# parleyctl stats, and what parleyctl check tries.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep);

use Parley::Contract;
use Parley::Ctl;
use Parley::SQL;
use Parley::Test;

my $model = Parley::Model->new(scripts => {
	slow => text_reply('Al', 60_000, 'most.'),
	refused => "status 400\nraw {}\n",
	mute => text_reply('I will.'),
	broken => qq(data {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"add_task","arguments":"oh no"}}]}}]}\n)
	    . qq(data {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\ndone\n),
});
my $t = Parley::Test->new(model => $model);
my $pg = $t->pg;
my %model = ('model.base_url' => $model->url, 'model.model' => 'demo');

sub stats {
	my ($conf, @more) = @_;
	my ($status, $out, $err) = Parley::Ctl->new($pg, %$conf)->run('stats', @more);
	is $status, 0, "stats @more" or diag $err;
	return $out;
}
sub json { return JSON::XS::decode_json(stats($_[0], '--json', @_[1 .. $#_])) }

subtest 'the command line' => sub {
	my $ctl = Parley::Ctl->new($pg);
	for my $words (['x'], ['--since'], ['--since', '0s'], ['--since', '5'], ['--since', '5 weeks'], ['--since', '-1d'],
	    ['--since', '99999999999999999d'], ['--json', 'x']) {
		my ($status, $out, $err) = $ctl->run('stats', @$words);
		is "$status $out", '2 ', "'@$words' is refused";
		like $err, qr/^usage: parleyctl stats/m, '... with the usage';
		like $err, qr/^parleyctl: a time is a whole number and s, min, h or d.*: \Q$words->[1]\E$/m, '... and what a time is' if @$words == 2 && $words->[0] eq '--since';
	}
};

subtest 'nothing has happened' => sub {
	like stats({}), qr/^queued +0\n.*^running +0\n.*^approval_required +0\n.*^done +0\n/ms, 'zeros';
	is_deeply json({})->{usage}, [], 'and nobody';
};

my $id = $t->chat('ann', 'Add task: Buy milk')->{json}{conversation_id};
$t->chat('ann', 'show my tasks', conversation_id => $id);
$t->chat("b\x{f6}b", 'hello');
$t->chat('ann', 'script:refused');
$t->chat('ann', 'delete buy milk', conversation_id => $id);
my $slow = $t->begin_chat('ann', 'script:slow', stream => JSON::XS::true);
my $busy = $slow->event->{data}{conversation_id};
$t->begin_chat('ann', 'hello', conversation_id => $busy, stream => JSON::XS::true)->event;

subtest 'what has happened' => sub {
	my $s = json({ %model, 'model.price_input' => '0.5', 'model.price_output' => '20' });
	is_deeply { map { $_->{state} => $_->{turns} } @{$s->{live}} }, { queued => 1, running => 1, approval_required => 1 }, 'live';
	ok !(grep { !defined $_->{oldest_seconds} } @{$s->{live}}), '... since when';
	is_deeply { map { $_->{state} => $_->{turns} } @{$s->{ended}} }, { done => 3, failed => 1, cancelled => 0 }, 'ended';
	cmp_ok $s->{turn_ms}{p50}, '>', 0, 'how long it took';
	cmp_ok $s->{turn_ms}{p99}, '>=', $s->{turn_ms}{p50}, '... in order';
	is_deeply $s->{errors}, [{ code => 'model_error', turns => 1 }], 'errors';
	is_deeply { map { $_->{tool} => "$_->{calls} $_->{errors}" } @{$s->{tools}} }, { add_task => '1 0', list_tasks => '1 0' }, 'tools';
	is_deeply [sort map { "$_->{user} $_->{model} $_->{turns}" } @{$s->{usage}}],
	    ['ann demo 3', "b\x{f6}b demo 1"], 'by user and model, the name as it is';
	for my $u (grep { defined $_->{model} } @{$s->{usage}}) {
		my $sum = $pg->rows(q{SELECT sum(input_tokens) AS i, sum(output_tokens) AS o FROM parley.turns
		    WHERE user_id = ? AND model = 'demo' AND ended_at IS NOT NULL}, $u->{user})->[0];
		is $u->{input_tokens}, $sum->{i}, 'tokens';
		is sprintf('%.6f', $u->{cost}), sprintf('%.6f', ($sum->{i} * 0.5 + $sum->{o} * 20) / 1e6), '... and what they cost';
		is $u->{day}, $pg->one(q{SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')}), '... the day is UTC';
	}
	$pg->do(q{UPDATE parley.turns SET model = 'unheard of' WHERE state = 'failed'});
	my $text = stats({ %model, 'model.price_input' => '0.5' });
	like $text, qr/^model_error +1$/m, 'for a person: errors';
	like $text, qr/^\d{4}-\d\d-\d\d  all users .* 4 +\d+ +\d+ +0\.\d{4}\+$/m, '... a day; a model without a price has a plus';
	like $text, qr/^\d{4}-\d\d-\d\d  ann +demo +2 +\d+ +\d+ +0\.\d{4} $/m, '... a user';
	like $text, qr/^running +1 +\d+\.\d s$/m, '... the oldest';
	unlike stats({}), qr/COST/, 'without a price there is no cost';
	unlike $text, qr/milk|hello/i, 'no text';
};

subtest 'which price' => sub {
	my %fallbacks = ('model.fallbacks' => 'long other', 'model.long.model' => 'demo-mini', 'model.long.price_input' => '3',
	    'model.other.model' => 'else');
	my $cost = sub {
		my ($name, %conf) = @_;
		$pg->dbh->do('UPDATE parley.turns SET model = ?, input_tokens = 1000000, output_tokens = 0 WHERE model IS NOT NULL', undef, $name);
		my ($u) = grep { ($_->{model} // '') eq $name && $_->{user} ne 'ann' } @{json({ %model, %conf })->{usage}};
		return $u->{cost};
	};
	is 0 + $cost->('demo', 'model.price_input' => '2'), 2, 'the name that was asked for';
	is 0 + $cost->('demo-2026-01-01', 'model.price_input' => '2'), 2, '... and what a server makes of it';
	is $cost->('demolition', 'model.price_input' => '2'), undef, 'another that begins alike';
	is 0 + $cost->('demo-mini-2026', 'model.price_input' => '2', %fallbacks), 3, 'the longest that fits';
	is $cost->('else', 'model.price_input' => '2', %fallbacks), undef, 'a fallback does not have the price of the first';
};

subtest 'since when' => sub {
	$pg->do(q{UPDATE parley.turns SET ended_at = ended_at - interval '2 days' WHERE state = 'failed'});
	is json({})->{errors}[0], undef, 'a day';
	is json({}, '--since', '3d')->{errors}[0]{turns}, 1, 'three';
	is json({}, '--since', '72 h')->{errors}[0]{turns}, 1, '... in hours';
};

subtest 'who may' => sub {
	$pg->do('CREATE ROLE watcher LOGIN');
	my ($status, $out, $err) = Parley::Ctl->new($pg, 'database.ops_url' => $pg->url('watcher'))->run('stats');
	is "$status $out", '1 ', 'a role of nobody';
	like $err, qr/watcher may not look across users: .* member of parley_ops/, '... is told what it lacks';
	$pg->do('GRANT parley_ops TO watcher');
	($status) = Parley::Ctl->new($pg, 'database.ops_url' => $pg->url('watcher'))->run('stats');
	is $status, 0, 'a member';
	($status, $out, $err) = Parley::Ctl->new($pg, 'database.ops_url' => $pg->url('parley_worker'))->run('stats');
	is $status, 1, 'the worker is none';
	unlike $err, qr/TO parley_worker/, '... and nobody is told to make it one';
	for my $call ('stats(now())', 'user_rows(\'ann\', \'parley.messages\')', 'user_stop(\'ann\')', 'prune_find(now(), \'\', gen_random_uuid(), 1)') {
		is Parley::SQL::failed(sub { Parley::SQL->new($pg)->rows("SELECT parley.$call") }), '42501', "... nor runs $call";
	}
	my $dbh = $pg->dbh('watcher');
	$dbh->do('SET ROLE parley_ops');
	for my $sql ('SELECT content FROM parley.messages', 'SELECT result FROM parley.tool_calls', 'SELECT title FROM parley.conversations',
	    'SELECT sentence FROM parley.turns', 'SELECT partial FROM parley.live', 'SELECT session FROM parley.mcp_sessions',
	    'SELECT title FROM tasks.tasks', 'DELETE FROM parley.turns', 'UPDATE parley.turns SET fence = 1') {
		ok !eval { $dbh->do($sql) } && $dbh->state eq '42501', "its role may not $sql";
	}
	my $empty = Parley::Postgres->new(migrate => 0);
	($status, $out, $err) = Parley::Ctl->new($empty)->run('stats');
	like "$status $err", qr/^1 .*run `parleyctl migrate`/, 'a database without the schema';
};

subtest 'check: the model' => sub {
	my $check = sub { my (%conf) = @_; return (Parley::Ctl->new($pg, %model, %conf)->run('check', '--schema', "$FindBin::Bin/../schema",
	    @{delete $conf{more} // []}))[1] };
	$model->clear;
	like $check->(), qr/^ok   model: \[model\] demo of http:\S+ calls tools \(/m, 'one that can call tools';
	my ($asked) = grep { ref $_->{body} } @{$model->requests};
	ok $asked->{body}{stream}, '... streamed';
	is $asked->{body}{max_tokens}, 512, '... and not for much';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE title LIKE '%Check%'}), 0, '... and nothing is done';
	like $check->('model.model' => 'script:mute'), qr/^FAIL model: .* did not call the tool/m, 'one that only says so';
	like $check->('model.model' => 'script:refused'), qr/^FAIL model: .* gives no answer \(model_error/m, 'one that refuses';
	like $check->('model.model' => 'script:broken'), qr/^FAIL model: .*no JSON/m, 'one that calls with what is no JSON';
	$model->clear;
	my (undef, $out) = Parley::Ctl->new($pg, %model)->run('check', '--no-model', '--schema', "$FindBin::Bin/../schema");
	like $out, qr/^ok   model: .* answers \(not asked/m, '--no-model';
	is scalar(grep { ref $_->{body} } @{$model->requests}), 0, '... asks nothing';
	my $other = Parley::Model->new(scripts => { x => text_reply('x') });
	$out = $check->('model.fallbacks' => 'b', 'model.b.base_url' => $other->url, 'model.b.model' => 'script:x');
	like $out, qr/^ok   model: \[model\].*^FAIL model: \[b\]/ms, 'each is asked by itself';
};

subtest 'check: what holds' => sub {
	my $check = sub { (Parley::Ctl->new($pg, %model, @_)->run('check', '--no-model', '--schema', "$FindBin::Bin/../schema"))[1] };
	my $out = $check->();
	unlike $out, qr/^FAIL/m, 'all is well' or diag $out;
	like $out, qr/^ok   database: tried: no row/m, 'walls were tried';
	like $out, qr/^ok   database: its clock agrees/m, 'the clock';
	like $out, qr/^ok   database: it grants \d+ connections, which is enough for \d+ workers of 9 each/m, 'connections';
	like $check->('database.connections' => 400), qr/^FAIL database: it grants \d+ connections, and one worker may take 401/m, 'too many';
	like $check->('worker.max_turns' => 30000), qr/^(?:FAIL limits: \d+ open files|ok   limits:)/m, 'open files';

	# Forced, and yet open: only trying shows it.
	$pg->psql('CREATE POLICY careless ON parley.messages FOR SELECT TO parley_worker USING (true)');
	like $check->(), qr/^FAIL database: without parley\.user_id rows of parley\.messages are seen/m, 'a policy that lets everybody in';
	$pg->psql('DROP POLICY careless ON parley.messages');
	$pg->psql(q{CREATE POLICY careless ON parley.turns FOR SELECT TO parley_worker USING (current_setting('parley.user_id', true) <> '')});
	like $check->(), qr/^FAIL database: as a user there never was rows of parley\.turns are seen/m, '... any user';
	$pg->psql('DROP POLICY careless ON parley.turns');
	$pg->psql(q{CREATE TABLE tasks.notes (user_id text, note text); INSERT INTO tasks.notes VALUES ('ann', 'x');
	    GRANT SELECT ON tasks.notes TO parley_tool});
	like $check->(), qr/^FAIL database: by a tool without parley\.user_id rows of tasks\.notes are seen/m, "a tool author's table";
	$pg->psql('DROP TABLE tasks.notes');
	$pg->psql('GRANT SELECT (content) ON parley.messages TO parley_pulse');
	like $check->(), qr/^FAIL database: .*parley_pulse reads messages\.content/m, 'a pulse that could read';
	$pg->psql('REVOKE SELECT (content) ON parley.messages FROM parley_pulse');
	unlike $check->(), qr/^FAIL/m, 'all is well again';
};

$t->post("/api/conversations/$busy/turns/$_/cancel", undef, user => 'ann') for 2, 1;
done_testing;
