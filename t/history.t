# What goes to the model, and what clients read: cut, ordered, paged; and how it goes away.

use strict;
use utf8;
use warnings;

use FindBin;
use JSON::XS;
use Test::More;
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::SQL;

my $pg = Parley::Postgres->new;
my $db = Parley::SQL->new($pg);
my $json = JSON::XS->new->utf8(0);

# The contents of a history, as one line.
sub contents { join ' ', map { $_->{content} } @{$_[0]{history}} }

# A conversation of $n turns: q1 a1 q2 a2 …
sub conversation {
	my ($user, $n, $id) = @_;
	for my $i (1 .. $n) {
		$id = $db->talk($user, "q$i", "a$i", conversation => $id)->{conversation_id};
	}
	return $id;
}

sub ask {
	my ($user, $id, $content, %o) = @_;
	my $turn = $db->begin($user, $content, conversation => $id, %o);
	$db->end($turn, 'done', undef) if $turn->{outcome} eq 'begun';
	# Only the reading matters here.
	$pg->psql("DELETE FROM parley.turns WHERE user_id = '$user' AND turn = $turn->{turn};"
	    . "DELETE FROM parley.messages WHERE user_id = '$user' AND turn = $turn->{turn};"
	    . "UPDATE parley.conversations SET turns = turns - 1 WHERE user_id = '$user'");
	return $turn;
}

subtest 'the cut' => sub {
	my $id = conversation('ann', 26);
	my $turn = ask('ann', $id, 'now', messages => 50);
	is scalar @{$turn->{history}}, 49, '50 messages: 24 whole turns and this one';
	is $turn->{history}[0]{content}, 'q3', '... the newest ones';
	is $turn->{history}[-1]{content}, 'now', '... in order';
	is scalar @{ask('ann', $id, 'now', messages => 51)->{history}}, 51, '51 messages: 25 whole turns and this one';
	is scalar @{ask('ann', $id, 'now', messages => 1)->{history}}, 1, 'this turn is always in';
	is scalar @{ask('ann', $id, 'x' x 8000, tokens => 100)->{history}}, 1, '... also when it is too long by itself';

	# Each of these turns counts 8 tokens for each message and a quarter of its bytes.
	is contents(ask('ann', $id, 'now', tokens => 8 + 16)), 'q26 a26 now', 'tokens for one turn and this';
	is contents(ask('ann', $id, 'now', tokens => 8 + 15)), 'now', 'a token less, a turn less';
	is contents(ask('ann', $id, 'now', tokens => 8 + 32, messages => 0)), 'q25 a25 q26 a26 now', 'tokens alone';
};

subtest 'no limit' => sub {
	my $id = conversation('bob', 60);
	is scalar @{ask('bob', $id, 'now', messages => 0, tokens => 0)->{history}}, 121, '0 and 0: all 120 messages and this';
	is scalar @{ask('bob', $id, 'now', messages => 0)->{history}}, 121, 'messages alone are not limited';
	is scalar @{ask('bob', $id, 'now', tokens => 0)->{history}}, 49, 'tokens alone are not limited';
};

subtest 'tool results count, and stay with their calls' => sub {
	my $turn = $db->begin('cat', 'q1');
	my $id = $turn->{conversation_id};
	$db->step($turn, [['list_tasks', {}], ['add_task', { title => 'Buy milk' }]], content => 'look');
	$db->run($turn, 1, $_) for 0, 1;
	$db->end($turn, 'done', 'a1');
	$db->talk('cat', 'q2', 'a2', conversation => $id);

	is contents(ask('cat', $id, 'now', messages => 7)), 'q2 a2 now', 'five messages of the first do not fit into four';
	my $all = ask('cat', $id, 'now', messages => 8);
	is contents($all), 'q1 look a1 q2 a2 now', 'they do into five';
	my $calls = $json->decode($all->{history}[1]{calls});
	is_deeply [map { $_->{tool_name} } @$calls], [qw(list_tasks add_task)], 'calls in their order';
	is $calls->[1]{call_id}, 'call_1', "with the model's id";
	is_deeply $json->decode($calls->[1]{parameters}), { title => 'Buy milk' };
	is $json->decode($calls->[1]{result})->{status}, 'created', 'and their result';
	is $all->{history}[0]{calls}, undef, 'a message without calls has none';
};

subtest 'failed and cancelled turns' => sub {
	my $turn = $db->begin('dan', 'q1');
	$db->end($turn, 'failed', 'half an ans', error_code => 'model_timeout', sentence => 'Too slow.', interrupted => 1);
	my $id = $turn->{conversation_id};
	$turn = $db->begin('dan', 'q2', conversation => $id);
	$db->end($turn, 'cancelled', undef);
	my $all = ask('dan', $id, 'now');
	is contents($all), 'q1 half an ans q2 now';
	is_deeply [map { $_->{turn_state} } @{$all->{history}}], [qw(failed failed cancelled running)];
	is $all->{history}[1]{error_code}, 'model_timeout';
	is $all->{history}[1]{interrupted}, 1;
};

subtest 'the newest run alone' => sub {
	my $id = conversation('eve', 2);
	$pg->psql(q{UPDATE parley.turns SET run = 2 WHERE user_id = 'eve' AND turn = 2;
		INSERT INTO parley.messages SELECT user_id, conversation_id, turn, 2, idx, gen_random_uuid(), role,
		    'again ' || content, raw, source, model, calls, interrupted, created_at
		  FROM parley.messages WHERE user_id = 'eve' AND turn = 2});
	is contents(ask('eve', $id, 'now')), 'q1 a1 again q2 again a2 now';
	my $page = $db->rows('SELECT * FROM parley.conversation_read(?, ?, 10, NULL, NULL, NULL, false)', 'eve', $id)->[0];
	is_deeply [map { $_->{content} } @{$json->decode($page->{messages})}], ['q1', 'a1', 'again q2', 'again a2'];
	my $all = $db->rows('SELECT * FROM parley.conversation_read(?, ?, 10, NULL, NULL, NULL, true)', 'eve', $id)->[0];
	is_deeply [map { "$_->{run} $_->{content}" } @{$json->decode($all->{messages})}],
	    ['1 q1', '1 a1', '1 q2', '1 a2', '2 again q2', '2 again a2'], 'unless all are asked for';
};

subtest 'a long conversation' => sub {
	$pg->psql(q{
		INSERT INTO parley.conversations VALUES ('long', '00000000-0000-4000-8000-000000000001', 't', 1000, now(), now());
		INSERT INTO parley.turns (user_id, conversation_id, turn, state, messages, tokens, started_at, deadline, ended_at)
		SELECT 'long', '00000000-0000-4000-8000-000000000001', g, 'done', 2, 20, now(), now(), now()
		  FROM generate_series(1, 1000) g;
		INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, created_at)
		SELECT 'long', '00000000-0000-4000-8000-000000000001', g, 1, i, gen_random_uuid(),
		    CASE i WHEN 0 THEN 'user' ELSE 'assistant' END, g || '.' || i, now()
		  FROM generate_series(1, 1000) g, generate_series(0, 1) i});
	my $id = '00000000-0000-4000-8000-000000000001';
	is scalar @{ask('long', $id, 'now')->{history}}, 49, 'of 2,000 messages the last 50 are read';
	is scalar @{ask('long', $id, 'now', messages => 0, tokens => 0)->{history}}, 2001, 'or all of them';

	my ($seen, @place) = (0, (undef) x 3);
	my $pages = 0;
	do {
		my $page = $db->rows('SELECT * FROM parley.conversation_read(?, ?, 300, ?, ?, ?, false)', 'long', $id, @place)->[0];
		my $messages = $json->decode($page->{messages});
		is $messages->[-1]{content}, sprintf('%d.1', 1000 - $seen / 2), "page $pages begins where the last one ended";
		$seen += @$messages;
		@place = defined $page->{cursor} ? split(/,/, $page->{cursor}) : ();
		$pages++;
	} while @place && $pages < 10;
	is $seen, 2000, 'the pages hold every message';
	is $pages, 7;
};

subtest 'reading' => sub {
	my $turn = $db->begin('fay', 'Grüße, 100% _sure_');
	my $id = $turn->{conversation_id};
	my $read = sub { $db->rows('SELECT * FROM parley.conversation_read(?, ?, 50, NULL, NULL, NULL, false)', 'fay', $id)->[0] };
	my $c = $json->decode($read->()->{conversation});
	is_deeply [sort keys %$c],
	    [qw(approvals_required created_at id live_turn queued state title turns updated_at)], 'the fields of a conversation';
	is_deeply [@$c{qw(state live_turn turns)}], ['running', 1, 1], 'while a turn runs';
	$db->step($turn, [['add_task', { title => 'x' }]], content => 'look');
	$db->run($turn, 1, 0);
	$db->end($turn, 'failed', 'half', error_code => 'model_error', interrupted => 1);

	my $page = $read->();
	is $json->decode($page->{conversation})->{state}, 'idle';
	is $page->{cursor}, undef, 'no older page';
	my ($user, $look, $half) = @{$json->decode($page->{messages})};
	is_deeply [sort keys %$user], [qw(content created_at error_code id role run tool_calls turn turn_state)];
	is_deeply $user->{tool_calls}, [];
	is $user->{content}, 'Grüße, 100% _sure_';
	is_deeply [sort keys %{$look->{tool_calls}[0]}],
	    [qw(duration_ms executed_at id is_error parameters result tool_name)], 'the fields of a call';
	is $look->{tool_calls}[0]{result}{task}{description}, '', 'nothing is stripped from a result';
	is $look->{model}, 'model', "the model's name, not where it is";
	ok $half->{interrupted}, 'interrupted text says so';

	is_deeply [map { $_->{idx} } @{$db->rows('SELECT * FROM parley.turn_read(?, ?, 1, false)', 'fay', $id)}], [0, 1, 2], 'a turn';
	is_deeply $db->rows('SELECT * FROM parley.turn_read(?, ?, 2, false)', 'fay', $id), [], 'no such turn';

	my $list = sub { [map { $json->decode($_->{conversation})->{title} }
	    @{$db->rows('SELECT * FROM parley.conversation_list(?, 10, NULL, NULL, ?)', 'fay', $_[0])}] };
	$db->talk('fay', 'another', 'a');
	is_deeply $list->(undef), ['another', 'Grüße, 100% _sure_'], 'newest activity first';
	is_deeply $list->('GRÜSSE'), [];
	is_deeply $list->('GRÜßE'), ['Grüße, 100% _sure_'], 'a filter in any case';
	is_deeply $list->('0% _S'), ['Grüße, 100% _sure_'], 'per cent and underscore mean themselves';
	is_deeply $list->('%'), ['Grüße, 100% _sure_'];
	is_deeply $list->('\\'), [];
	$db->talk('fay', 'more', 'a', conversation => $id);
	is $list->(undef)[0], 'Grüße, 100% _sure_', 'activity moves it up';
	my $renamed = $json->decode($db->one('SELECT parley.conversation_rename(?, ?, ?)', 'fay', $id, 'New "name"'));
	is $renamed->{title}, 'New "name"', 'renamed';

	my $first = $db->rows('SELECT * FROM parley.conversation_list(?, 1, NULL, NULL, NULL)', 'fay')->[0];
	my $next = $db->rows('SELECT * FROM parley.conversation_list(?, 1, ?, ?, NULL)', 'fay', split /,/, $first->{cursor});
	is $json->decode($next->[0]{conversation})->{title}, 'another', 'the place leads to the next';
};

subtest 'deleting' => sub {
	my $turn = $db->begin('gus', 'go');
	$db->step($turn, [['add_task', { title => 'x' }]]);
	$db->pulse(15000, $turn);
	is $db->one('SELECT parley.conversation_delete(?, ?)', 'gus', $turn->{conversation_id}), 1;
	for my $table (qw(conversations turns messages tool_calls live)) {
		is $pg->one("SELECT count(*) FROM parley.$table WHERE user_id = 'gus'"), 0, "nothing is left in $table";
	}
	is $db->one('SELECT parley.conversation_delete(?, ?)', 'gus', $turn->{conversation_id}), 0, 'it is gone';
	is Parley::SQL::failed(sub { $db->run($turn, 1, 0) }), 'PF002', 'a turn of it can write nothing';
	is Parley::SQL::failed(sub { $db->end($turn, 'failed', undef) }), 'PF002';
	is $pg->one(q{SELECT count(*) FROM parley.messages WHERE user_id = 'gus'}), 0;
};

done_testing;
