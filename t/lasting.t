# What the database does for turns that outlive their workers: queue, keys, leases, takeover, retry, digests.

use strict;
use warnings;

use FindBin;
use JSON::XS;
use Test::More;
use Time::HiRes qw(sleep time);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::SQL;

my $pg = Parley::Postgres->new;
my $db = Parley::SQL->new($pg);

sub failed { Parley::SQL::failed(@_) }
sub uuid { Parley::SQL::uuid() }

sub states {
	my ($user) = @_;
	return join ' ',
	    map { $_->{state} } @{$pg->rows('SELECT state FROM parley.turns WHERE user_id = ? ORDER BY conversation_id, turn', $user)};
}

sub in { my ($turn, @more) = @_; return (conversation => $turn->{conversation_id}, @more) }

# The turn that end_row or cancel has handed on.
sub handed {
	my ($turn, $row) = @_;
	return { %$turn, turn => $row->{next_turn}, run => $row->{next_run}, fence => $row->{next_fence}, next => 1 };
}

# As if its worker had not been heard of for long.
sub expire {
	my ($turn) = @_;
	$db->pulse(15000, $turn);
	$pg->psql("UPDATE parley.live SET lease_until = now() - interval '1 s' WHERE user_id = '$turn->{user}'");
}

subtest 'the queue' => sub {
	my $one = $db->begin('ann', 'one');
	my @others = map { $db->begin('ann', $_, in($one)) } qw(two three four);
	is_deeply [map { "$_->{outcome} $_->{turn}" } @others], ['queued 2', 'queued 3', 'queued 4'], 'each has its place';
	is states('ann'), 'running queued queued queued';
	is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'ann' AND state = 'queued' AND deadline = 'infinity'}), 3,
	    'their time does not run';
	is_deeply [map { $db->read($_)->[0]{ahead} } @others], [1, 2, 3], 'each knows how many are before it';
	is $db->load($others[0])->{outcome}, 'none', 'nobody can have one that waits';

	my $end = $db->end_row($one, 'done', 'first');
	is_deeply [@$end{qw(next_turn next_run next_fence)}], [2, 1, 2], 'who ends a turn has the next one';
	my $two = handed($one, $end);
	my $loaded = $db->load($two);
	is_deeply [map { $_->{content} } @{$loaded->{history}}], ['one', 'first', 'two'], 'which knows what was answered before it';
	is_deeply [@$loaded{qw(outcome turn fence left_ms)}], ['begun', 2, 2, $loaded->{left_ms}];
	cmp_ok $loaded->{left_ms}, '>', 90000, 'its time begins now';
	is_deeply $db->end_row($one, 'done', 'first'), $end, 'an end said again hands on the same';
	is states('ann'), 'done running queued queued', '... and nothing else';
	$db->pulse(15000, $two);
	is $db->end_row($one, 'done', 'first')->{next_turn}, undef, 'but not what somebody has begun with';

	$end = $db->end_row($two, 'done', 'second', next => 0);
	is $end->{next_turn}, undef, 'who cannot take it leaves it';
	is_deeply $db->expired, ['ann 3 2'], '... to anybody';
	my $three = $db->take({ %$two, turn => 3 });
	is_deeply [@$three{qw(outcome turn fence)}], ['begun', 3, 3], '... who has it at once';
	is $pg->one(q{SELECT attempts FROM parley.turns WHERE user_id = 'ann' AND turn = 3}), 1, '... as its first worker';
	is_deeply $db->expired, [];
	is handed($three, $db->end_row($three, 'failed', undef, error_code => 'model_error'))->{turn}, 4, 'also after a failure';
	is_deeply $db->end_row({ %$three, turn => 4, fence => 2, next => 1 }, 'done', 'x')->{next_turn}, undef, 'then nobody waits';
	is $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = 'ann'}), 0, 'no lease is left';
};

subtest 'bounds' => sub {
	my $one = $db->begin('bob', 'one');
	$db->begin('bob', 'two', in($one));
	my $before = $pg->rows(q{SELECT * FROM parley.conversations WHERE user_id = 'bob'});
	my $full = $db->begin('bob', 'three', in($one, max_queued => 1, key => 'full', hash => 'h'));
	is_deeply [@$full{qw(outcome turn)}], ['queue_full', 1], 'no more than may wait';
	is $db->begin('bob', 'three', in($one, max_turns => 2))->{outcome}, 'rate_limited', 'no more than a user may have';
	is $db->begin('bob', 'elsewhere', max_turns => 2)->{outcome}, 'rate_limited', '... in any conversation';
	is_deeply $pg->rows(q{SELECT id, title, turns, created_at FROM parley.conversations WHERE user_id = 'bob'}),
	    [map { my %c; @c{qw(id title turns created_at)} = @$_{qw(id title turns created_at)}; \%c } @$before], 'nothing has changed';
	is states('bob'), 'running queued', '... no turn';
	is $pg->one(q{SELECT count(*) FROM parley.idempotency_keys WHERE user_id = 'bob'}), 0, '... no key';
	is $db->begin('bob', 'three', in($one, max_turns => 0, key => 'full', hash => 'h'))->{outcome}, 'queued', '0: no limit';
	is $db->begin('other', 'one', max_turns => 1)->{outcome}, 'begun', 'each user has a limit of his own';
};

subtest 'interrupt' => sub {
	my $one = $db->begin('cat', 'one');
	$db->begin('cat', $_, in($one)) for qw(two three);
	my $now = $db->begin('cat', 'now!', in($one, on_busy => 'interrupt'));
	is_deeply [@$now{qw(outcome turn)}], ['queued', 4], 'it waits for the one that is told to stop';
	is states('cat'), 'running cancelled cancelled queued', 'those before it are gone';
	is_deeply $db->pulse(15000, $one), [[1, 'cancelled']], 'its worker learns of it';
	is handed($one, $db->end_row($one, 'cancelled', undef))->{turn}, 4, 'and it is next';
	my $idle = $db->begin('cole', 'one', on_busy => 'interrupt');
	is $idle->{outcome}, 'begun', 'nothing to interrupt';
};

subtest 'keys' => sub {
	my @key = (key => 'k 1', hash => 'h1');
	my $one = $db->begin('dan', 'one', @key);
	is $one->{outcome}, 'begun', 'a new key';
	my $again = $db->begin('dan', 'one', @key);
	is_deeply [@$again{qw(outcome conversation_id turn)}], ['known', $one->{conversation_id}, 1], 'the same leads to the same turn';
	is $db->begin('dan', 'other', key => 'k 1', hash => 'h2')->{outcome}, 'mismatch', 'another request';
	is $db->begin('eve', 'one', @key)->{outcome}, 'begun', 'of another user it is another key';
	is $db->begin('dan', 'two', in($one, key => 'k 2', hash => 'h', on_busy => 'reject'))->{outcome}, 'busy', 'refused';
	is $db->begin('dan', 'two', in($one, key => 'k 2', hash => 'h'))->{outcome}, 'queued', '... which does not bind it';
	is $db->begin('dan', 'x', conversation => uuid(), key => 'k 3', hash => 'h')->{outcome}, 'not_found', 'nor does this';
	is $db->begin('dan', 'x', key => 'k 3', hash => 'other')->{outcome}, 'begun';
	is $db->begin('dan', 'two', in($one, key => 'k 2', hash => 'h'))->{turn}, 2, 'a queued turn is found';
	$pg->psql(q{UPDATE parley.idempotency_keys SET created_at = created_at - interval '24 hours'
	    WHERE user_id = 'dan' AND key = 'k 1'});
	my $late = $db->begin('dan', 'one', @key);
	is $late->{outcome}, 'begun', 'after 24 hours it is free';
	isnt $late->{conversation_id}, $one->{conversation_id};
	is $pg->one(q{SELECT count(*) FROM parley.idempotency_keys WHERE user_id = 'dan'}), 3, '... and the old row is gone';

	# Two at the same moment, the first not yet committed.
	my @dbh = map { $pg->dbh('parley_worker') } 1, 2;
	$dbh[0]->begin_work;
	my $first = $dbh[0]->selectall_arrayref($Parley::SQL::BEGIN, { Slice => {} }, Parley::SQL::begin_bind('fay', 'one', @key));
	my $second = $dbh[1]->prepare($Parley::SQL::BEGIN, { pg_async => 1 });
	$second->execute(Parley::SQL::begin_bind('fay', 'one', @key));
	sleep 0.2;
	$dbh[0]->commit;
	ok !eval { $dbh[1]->pg_result; 1 }, 'the second of two at once is undone';
	is $dbh[1]->state, 'PF003', '... and told to ask again';
	is states('fay'), 'running', '... with nothing left of it';
	is $db->begin('fay', 'one', @key)->{conversation_id}, $first->[-1]{conversation_id}, 'which leads to the first';
};

subtest 'a beginning of unknown fate' => sub {
	my %ids = (new => uuid(), message => uuid());
	my $turn = $db->begin('gus', 'hello', %ids);
	my $again = $db->begin('gus', 'hello', %ids, again => 1);
	is_deeply [@$again{qw(outcome conversation_id turn fence next)}], ['begun', $turn->{conversation_id}, 1, 1, 1],
	    'it was stored: the same turn';
	is $again->{content}, 'hello';
	is states('gus'), 'running', '... once';
	my $conversation = $turn->{conversation_id};
	my %waits = (in($turn), message => uuid());
	$db->begin('gus', 'two', %waits);
	is_deeply [@{$db->begin('gus', 'two', %waits, again => 1)}{qw(outcome turn)}], ['queued', 2], 'one that waits';
	$db->end($turn, 'done', 'Hi');
	is_deeply [@{$db->begin('gus', 'hello', %ids, again => 1)}{qw(outcome turn)}], ['known', 1], 'one that has ended meanwhile';

	my %lost = (new => uuid(), message => uuid());
	my $first = $db->begin('hal', 'hello', %lost, again => 1);
	is $first->{outcome}, 'begun', 'it was not stored: now it is';
	is $db->begin('hal', 'hello', %lost, again => 1)->{turn}, 1;
	isnt failed(sub { $db->begin('hal', 'hello', %lost) }), '', 'should the first attempt still come, it fails';
	is states('hal'), 'running', '... and leaves nothing';
	my %late = (in($first), message => uuid());
	is $db->begin('hal', 'two', %late, again => 1)->{outcome}, 'queued';
	is failed(sub { $db->begin('hal', 'two', %late) }), 'PF003', 'the same in a conversation that was there';
	is states('hal'), 'running queued';
};

subtest 'leases' => sub {
	my $turn = $db->begin('ida', 'go');
	is_deeply [grep { /^ida/ } @{$db->expired(orphans => 1)}], [], 'a turn of this second is left alone';
	is $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = 'ida'}), 0;
	$pg->psql(q{UPDATE parley.turns SET started_at = started_at - interval '2 s' WHERE user_id = 'ida'});
	is_deeply [grep { /^ida/ } @{$db->expired(lease => 60000)}], [], 'orphans are looked for when they are asked for';
	is_deeply [grep { /^ida/ } @{$db->expired(lease => 60000, orphans => 1)}], [], 'one without a lease';
	is $pg->one(q{SELECT lease_until > now() + interval '50 s' FROM parley.live WHERE user_id = 'ida'}), 1, '... gets a full one';
	is $db->take($turn)->{outcome}, 'gone', 'which nobody can take';
	expire($turn);
	is_deeply [grep { /^ida/ } @{$db->expired}], ['ida 1 1'], 'past it, it is offered';
	is_deeply $db->pulse(60000, $turn), [], 'its worker renews it';
	is_deeply [grep { /^ida/ } @{$db->expired}], [], '... so it lives on';
	is $db->take($turn)->{outcome}, 'gone', '... and is not taken';
	$db->end($turn, 'done', 'x');
	$db->pulse(15000, $turn);
	is $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = 'ida'}), 0, 'what has ended gets no lease';
};

subtest 'takeover' => sub {
	my $turn = $db->begin('joe', 'go', zone => 'Asia/Tokyo');
	$db->step($turn, [['add_task', { title => 'Once' }], ['list_tasks', {}]]);
	$db->run($turn, 1, 0);
	expire({ %$turn, partial => 'half' });
	my $busy = $pg->dbh;
	$busy->begin_work;
	$busy->do(q{SELECT FROM parley.turns WHERE user_id = 'joe' FOR UPDATE});
	my $at = time;
	is $db->take($turn)->{outcome}, 'gone', 'a turn that is being written is left alone';
	cmp_ok time - $at, '<', 5, '... without waiting';
	$busy->rollback;

	my $mine = $db->take($turn);
	is_deeply [@$mine{qw(outcome turn run fence idx)}], ['begun', 1, 1, 2, 1], 'taken, after its last step';
	is $mine->{local_time}, $turn->{local_time}, 'the time is what it was';
	cmp_ok $mine->{left_ms}, '<=', 100000, 'the deadline too';
	my $calls = decode_json($mine->{calls});
	is_deeply [map { defined $_->{result} ? 1 : 0 } @$calls], [1, 0], 'one call is done, one is not';
	is $pg->one(q{SELECT partial FROM parley.live WHERE user_id = 'joe'}), undef, 'what was half said is forgotten';
	is $pg->one(q{SELECT attempts FROM parley.turns WHERE user_id = 'joe'}), 2, 'two attempts';
	is $db->take($turn)->{outcome}, 'gone', 'it is taken once';
	is_deeply $db->pulse(15000, $turn), [[1, 'fenced']], 'who had it is told';
	is failed(sub { $db->run($turn, 1, 1) }), 'PF001', '... and can do nothing any more';
	is failed(sub { $db->end($turn, 'failed', undef) }), 'PF001';
	is $db->run($mine, 1, 0)->{result}, $calls->[0]{result}, 'what was done is not done again';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'joe'}), 1;
	$db->run($mine, 1, 1);
	ok $db->end({ %$mine, next => 2 }, 'done', 'Done.'), 'who took it brings it to its end';
};

subtest 'released' => sub {
	my $turn = $db->begin('kim', 'go');
	$db->pulse(15000, $turn);
	$db->release($turn);
	is_deeply [grep { /^kim/ } @{$db->expired}], ['kim 1 2'], 'it is offered at once';
	is failed(sub { $db->end($turn, 'done', 'x') }), 'PF001', 'who gave it away cannot write it';
	is_deeply $db->pulse(15000, $turn), [[1, 'fenced']], '... and a late pulse does not get it back';
	is_deeply [grep { /^kim/ } @{$db->expired}], ['kim 1 2'];
	$db->release($turn);
	is $pg->one(q{SELECT fence FROM parley.turns WHERE user_id = 'kim'}), 2, 'twice is once';
	for my $n (1 .. 5) {
		$turn = $db->take({ %$turn, fence => 2 * $n });
		is $turn->{outcome}, 'begun', "taken $n times";
		$db->release($turn);
	}
	is $pg->one(q{SELECT attempts FROM parley.turns WHERE user_id = 'kim'}), 1, 'none of them counts';
};

subtest 'a turn that kills' => sub {
	my $turn = $db->begin('leo', 'go');
	$db->begin('leo', 'next', in($turn));
	for my $n (2, 3) {
		expire($turn);
		$turn = $db->take($turn);
		is $turn->{outcome}, 'begun', "attempt $n";
	}
	$db->step($turn, [['add_task', { title => 'x' }]]);
	expire({ %$turn, partial => 'half a ' });
	my $end = $db->take($turn);
	is_deeply [@$end{qw(outcome turn run fence)}], ['ended', 2, 1, 2], 'the third was the last; the next in the queue is handed on';
	is_deeply $pg->rows(q{SELECT state, error_code, open_calls FROM parley.turns WHERE user_id = 'leo' AND turn = 1}),
	    [{ state => 'failed', error_code => 'turn_abandoned', open_calls => 0 }];
	is_deeply $pg->rows(q{SELECT idx, content, interrupted FROM parley.messages WHERE user_id = 'leo' AND turn = 1 AND idx > 1}),
	    [{ idx => 2, content => 'half a ', interrupted => 1 }], 'what was half said is kept';
	like $pg->one(q{SELECT result FROM parley.tool_calls WHERE user_id = 'leo'}), qr/was not done/, 'its call says so';

	my $asked = $db->begin('lea', 'go');
	is $db->cancel($asked)->{outcome}, 'running', 'one that was to stop when its worker died';
	expire($asked);
	is $db->take($asked)->{outcome}, 'ended', '... is not begun again';
	is states('lea'), 'cancelled', '... but cancelled';
};

subtest 'cancel' => sub {
	my $one = $db->begin('mia', 'one');
	my ($two, $three) = map { $db->begin('mia', $_, in($one)) } qw(two three);
	is $db->cancel($two)->{outcome}, 'cancelled', 'one that waits';
	is $db->cancel($two)->{outcome}, 'ended', 'twice';
	is $db->cancel($one)->{outcome}, 'running', 'one that runs';
	my $when = $pg->one(q{SELECT cancel_requested_at FROM parley.turns WHERE user_id = 'mia' AND turn = 1});
	is $db->cancel($one)->{outcome}, 'running', 'twice';
	is $pg->one(q{SELECT cancel_requested_at FROM parley.turns WHERE user_id = 'mia' AND turn = 1}), $when, '... the first counts';
	is_deeply $db->pulse(15000, $one), [[1, 'cancelled']], 'its worker is told';
	is $db->end_row($one, 'cancelled', 'half', interrupted => 1)->{next_turn}, 3, 'what was cancelled in the queue is passed over';
	is $db->cancel($one)->{outcome}, 'ended', 'it has ended';
	is $db->cancel({ %$one, turn => 9 })->{outcome}, 'not_found', 'there is none';
	is $db->cancel({ %$one, conversation_id => uuid() })->{outcome}, 'not_found', '... nor such a conversation';
};

subtest 'retry' => sub {
	my $turn = $db->begin('ned', 'go', zone => 'Asia/Tokyo');
	is $db->retry($turn)->{outcome}, 'not_retryable', 'not while it runs';
	$db->step($turn, [['add_task', { title => 'Once' }]], content => 'look');
	$db->run($turn, 1, 0);
	$db->end($turn, 'failed', 'half', error_code => 'model_error', interrupted => 1);
	my @key = (key => 'r', hash => 'h');
	is $db->retry($turn, @key, max_turns => 1)->{outcome}, 'begun', 'when it has ended';
	my $known = $db->retry($turn, @key);
	is_deeply [@$known{qw(outcome turn)}], ['known', 1], 'the same request again';
	is $db->retry($turn, key => 'r', hash => 'i')->{outcome}, 'mismatch', 'another with its key';
	is $db->retry($turn)->{outcome}, 'not_retryable', 'one alone runs';
	is_deeply $pg->rows(q{SELECT state, run, fence, attempts, steps, messages, error_code, ended_at,
	    cancel_requested_at FROM parley.turns WHERE user_id = 'ned'}),
	    [{ state => 'running', run => 2, fence => 2, attempts => 1, steps => 0, messages => 1, error_code => undef,
	        ended_at => undef, cancel_requested_at => undef }], 'the turn begins anew';
	my $mine = $db->load({ %$turn, fence => 2 });
	is_deeply [map { "$_->{run}.$_->{idx} $_->{content}" } @{$mine->{history}}], ['1.1 look', '2.0 go'],
	    'with what the run before did, not with what it said';
	like $mine->{history}[0]{calls}, qr/Once/, '... and the result of its calls';
	is $mine->{local_time}, $turn->{local_time}, 'the time is that of the message';
	is failed(sub { $db->end($turn, 'done', 'x') }), 'PF001', 'the run before can write nothing';
	$db->end({ %$mine, next => 1 }, 'done', 'better');
	is_deeply [map { $_->{content} } @{$db->read($turn)}], ['go', 'better'], 'the newest run is read';

	my $next = $db->begin('ned', 'next', in($turn));
	is_deeply [map { $_->{content} } @{$next->{history}}], ['go', 'better', 'next'], '... and is the history';
	is $db->retry($turn)->{outcome}, 'not_retryable', 'not when there is a later one';
	my $later = $db->begin('ned', 'later', in($turn));
	$db->end_row($next, 'done', 'x', next => 0);
	is $db->retry($next)->{outcome}, 'not_retryable', '... a queued one included';
	is $db->retry({ %$turn, turn => 9 })->{outcome}, 'turn_not_found';
	my $own = $db->talk('nora', 'one', 'x');
	$db->begin('nora', 'elsewhere');
	is $db->retry($own, max_turns => 1)->{outcome}, 'rate_limited', 'no more than a user may have';
};

subtest 'digests' => sub {
	my $turn = $db->begin('oda', 'go');
	my $waits = $db->begin('oda', 'later', in($turn));
	my $seen = sub {
		my ($which, $text) = @_;
		return { %$which, text => $text ? 't' : 'f', seen => $db->read($which, $text)->[0]{digest} };
	};
	my @both = ($seen->($turn, 1), $seen->($turn, 0));
	is_deeply $db->watch(@both), [], 'nothing new';
	is_deeply [map { $_->[0] } @{$db->watch($turn, $waits)}], [1, 2], 'to one who knows nothing all is new';
	$db->pulse(15000, { %$turn, partial => 'half' });
	my $told = $db->watch(@both);
	is_deeply [map { $_->[0] } @$told], [1], 'more text: for those who read it';
	my $rows = $db->read($turn, 1);
	is $rows->[0]{digest}, $told->[0][1], '... which is read with it';
	is_deeply [@{$rows->[-1]}{qw(idx content)}], [1, 'half'], '... as a message to be';
	is scalar @{$db->read($turn, 0)}, 1, '... for nobody else';
	@both = ($seen->($turn, 1), $seen->($turn, 0), $seen->($waits, 0));
	is_deeply $db->watch(@both), [];
	$db->step($turn, [['list_tasks', {}]], content => 'half of it');
	is_deeply [map { $_->[0] } @{$db->watch(@both)}], [1, 2], 'a step: for all';
	is scalar @{$db->read($turn, 1)}, 2, 'and what was half is whole';
	@both = ($seen->($turn, 1), $seen->($turn, 0), $seen->($waits, 0));
	$db->run($turn, 1, 0);
	is_deeply [map { $_->[0] } @{$db->watch(@both)}], [1, 2], 'a result';
	$db->end($turn, 'done', 'x');
	is_deeply [map { $_->[0] } @{$db->watch(@both)}], [1, 2, 3], 'an end: also for those who wait';
	is $db->one('SELECT parley.conversation_delete(?, ?)', 'oda', $turn->{conversation_id}), 1;
	is_deeply $db->watch(@both), [map { [$_, 'gone'] } 1 .. 3], 'deleted';
};

done_testing;
