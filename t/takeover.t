# Takeover: whoever dies, hangs or leaves, another worker finishes what was begun, from the last committed step.
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

my $hang = "hang\n";
my $add = call_reply(add_task => { title => 'Once' });
my $model = Parley::Model->new(scripts => {
	thinks => join("---\n", $hang, text_reply('Here I am.')),
	between => join("---\n", $add, $hang, text_reply('Added.')),
	tool => join("---\n", call_reply(add_slowly => { title => 'Once', seconds => 2.5 }, list_tasks => {}), text_reply('Done.')),
	early => join("---\n", $hang, text_reply('Not lost.')),
	poison => join("---\n", $add, text_reply('Half ', 'an ', 30000, 'answer')),
	(map { $_ => join("---\n", text_reply('I ', 30000, 'was away.'), text_reply('I am ', 'another.')) } qw(pause pause2)),
	crashed => text_reply('I ', 4500, 'never left.'),
	drained => join("---\n", $add, text_reply('Half ', 30000, 'x'), text_reply('Whole.')),
	asked => text_reply('Half ', 30000, 'x'),
	zone => join("---\n", $hang, text_reply('Good evening.'), text_reply('Good night.')),
	late => $hang,
});
my $pg = Parley::Postgres->new;
$pg->slow_tool;
my %conf = ('turn.lease' => '3s', 'model.retries' => 0);
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => \%conf);
my $other = beside($t, conf => \%conf);
my $true = JSON::XS::true;
my $json = JSON::XS->new->canonical;

sub row { return $pg->rows('SELECT * FROM parley.turns WHERE conversation_id = ? AND turn = 1', $_[0])->[0] }
sub asked { my ($script) = @_; return grep { ($_->{script} // '') eq $script } $model->requests }
sub tasks { return $pg->one('SELECT count(*) FROM tasks.tasks WHERE user_id = ?', $_[0]) }
sub asked_ok {
	my ($script, $n) = @_;
	return scalar wait_for { asked($script) >= $n } 15;
}

subtest 'killed at four places, found when the lease is out' => sub {
	my (%c, %id);
	for my $script (qw(thinks between tool)) {
		($c{$script}, $id{$script}) = begun($t, $script, "script:$script");
	}
	asked_ok('thinks', 1);
	asked_ok('between', 2);
	wait_for { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) };
	wait_for { $pg->one('SELECT count(*) FROM parley.live') >= 3 };
	my $f = follow($other, 'thinks', $id{thinks}, 1);
	($c{early}, $id{early}) = begun($t, 'early', 'script:early');
	my $since = time;
	$t->kill_worker;
	cmp_ok $_->response->{status}, '>=', 500, 'a client of the dead worker is told' for values %c;
	my $early = $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = 'early'}) ? 'after' : 'before';

	my @e = events($f);
	my $took = time - $since;
	cmp_ok $took, '>', 1.5, sprintf 'not before the lease is out: %.1f s', $took;
	cmp_ok $took, '<', 6, '... and soon after';
	is stream_ok('who followed it', @e)->{response}, 'Here I am.', '... has the answer';
	my %want = (thinks => 'Here I am.', between => 'Added.', tool => 'Done.', early => 'Not lost.');
	for my $script (sort keys %want) {
		my $r = turn($other, $script, $id{$script}, 1, 20)->{json};
		is "$r->{status} $r->{response}", "success $want{$script}", "$script: answered";
		my $row = row($id{$script});
		is "$row->{run} $row->{attempts}", '1 2', '... by the second worker';
		is_deeply [map { $_->{is_error} ? 1 : 0 } @{$r->{tool_calls}}], { between => [0], tool => [0, 0] }->{$script} // [],
		    '... its calls';
	}
	note "early: killed $early its first pulse";
	cmp_ok time - $since, '<', 9, 'all of them in time';
	is scalar asked('between'), 3, 'a committed step is not asked for again';
	is scalar asked('tool'), 2, '... nor one whose tools were running';
	is tasks($_), 1, "$_: its tool has run once" for qw(between tool);
	$t->ready;
};

subtest 'a turn that kills its workers' => sub {
	my ($c, $id) = begun($t, 'poison', 'script:poison');
	my $waits = (begun($other, 'poison', 'My name is Last', conversation_id => $id))[0];
	my $f = follow($other, 'poison', $id, 1);
	for my $n (1 .. 3) {
		# The step before is not asked for again, so its reply counts once.
		ok asked_ok('poison', 1 + $n), "worker $n asks";
		ok +(wait_for { speaks($pg, $id) } 5), '... and hears something';
		wait_for { row($id)->{attempts} == $n };
		# Whoever has it dies of it.
		$_->kill_worker for $t, $other;
		$_->ready for $t, $other;
		expire($pg, $id);
	}
	ok +(wait_for { state_of($pg, $id, 1) eq 'failed' } 5), 'then it is given up';
	my $r = turn($t, 'poison', $id, 1);
	error_is($r, 200, 'turn_abandoned', 'its client is told');
	is scalar asked('poison'), 4, 'nobody asks a fourth time';
	is row($id)->{attempts}, 3, 'three attempts';
	my @m = @{$t->get("/api/conversations/$id", user => 'poison')->{json}{messages}};
	is_deeply [map { $_->{content} } @m[1, 2]], ['', 'Half an '], 'what was said is kept';
	ok $m[2]{interrupted}, '... marked as cut off';
	is tasks('poison'), 1, 'what was done was done once';
	ok +(wait_for { state_of($pg, $id, 2) eq 'done' } 8), 'who waited behind it is served';
};

subtest 'a worker that is stopped for longer than its lease' => sub {
	my ($c, $id) = begun($t, 'pause', 'script:pause');
	my ($s, $ids) = begun($t, 'pause2', 'script:pause2', stream => $true);
	wait_for { speaks($pg, $id) && speaks($pg, $ids) };
	my ($pid) = $t->pids;
	kill 'STOP', $pid;
	expire($pg, $_) for $id, $ids;
	is turn($other, 'pause', $id, 1, 10)->{json}{status}, 'success', 'another finishes its turn';
	is turn($other, 'pause2', $ids, 1, 10)->{json}{status}, 'success', '... and the other';
	my $messages = sub { $pg->rows(q{SELECT user_id, idx, content, created_at FROM parley.messages
	    WHERE user_id LIKE 'pause%' ORDER BY 1, 2}) };
	my $was = $messages->();
	my $turns = $pg->rows(q{SELECT * FROM parley.turns WHERE user_id LIKE 'pause%' ORDER BY user_id});
	kill 'CONT', $pid;
	my $since = time;
	my $r = $c->response;
	cmp_ok time - $since, '<', 3, 'it wakes up, and its client is answered';
	is $r->{status}, 200, '... well' or diag $r->{body};
	my ($text) = map { $_->{content} } grep { $_->{user_id} eq 'pause' && $_->{idx} == 1 } @$was;
	is $r->{json}{response}, $text, '... with what the other has stored';
	my @e = events($s);
	is names(@e), 'turn delta reset delta done', 'its stream goes on after a reset';
	stream_ok('its stream', @e);
	sleep 1.2;
	is_deeply $messages->(), $was, 'it has written no message';
	is_deeply $pg->rows(q{SELECT * FROM parley.turns WHERE user_id LIKE 'pause%' ORDER BY user_id}), $turns, '... and no turn';
	is $t->chat('pause', 'Hello', conversation_id => $id)->{status}, 200, 'it serves others';
};

subtest 'a drain' => sub {
	my $drains = beside($t, conf => { %conf, 'worker.drain_timeout' => '300 ms' });
	my ($c, $id) = begun($drains, 'drain', 'script:drained', stream => $true);
	asked_ok('drained', 2);
	my @e = map { $c->event } 1 .. 4;
	my $since = time;
	kill 'TERM', $drains->pids;
	push @e, events($c);
	is names(@e), 'turn tool_call tool_result delta', 'its stream ends without an end';
	my $gone = time;
	ok asked_ok('drained', 3), 'another worker has it';
	cmp_ok time - $gone, '<', 2, '... within 2 s';
	my @more = events(follow($other, 'drain', $id, 1, $e[-1]{id}));
	is said(@e, @more), 'Whole.', 'its client comes back for the rest';
	is names(@more), 'reset delta done', '... by a reset';
	my $row = row($id);
	is "$row->{state} $row->{attempts} $row->{run}", 'done 1 1', 'that was no failed attempt';
	is tasks('drain'), 1, 'its tool has run once';
};

subtest 'a database that crashes' => sub {
	my ($c, $id) = begun($t, 'crash', 'script:crashed');
	wait_for { speaks($pg, $id) };
	my $fence = row($id)->{fence};
	$pg->restart('immediate');
	my $r = $c->response;
	is $r->{json}{response}, 'I never left.', 'its worker goes on' or diag $r->{body};
	my $row = row($id);
	is "$row->{state} $row->{fence} $row->{attempts}", "done $fence 1", '... and nobody takes it over';
	is scalar asked('crashed'), 1, '... nor asks again';
};

subtest 'one that was to stop when its worker died' => sub {
	my ($c, $id) = begun($t, 'stop', 'script:asked');
	wait_for { speaks($pg, $id) };
	$t->kill_worker;
	$c->response;
	is cancel($other, 'stop', $id, 1)->{status}, 202, 'asked to stop';
	my $f = follow($other, 'stop', $id, 1);
	expire($pg, $id);
	my @e = events($f);
	is "$e[-1]{event} $e[-1]{data}{status} $e[-1]{data}{response}", 'done cancelled Half ', 'cancelled, with what was said';
	is scalar asked('asked'), 1, 'nobody asks again';
	$t->ready;
};

subtest 'date, time and zone stay' => sub {
	my ($c, $id) = begun($t, 'zone', 'script:zone', time_zone => 'Asia/Tokyo');
	asked_ok('zone', 1);
	like $json->encode((asked('zone'))[0]{body}{messages}), qr/\(Asia\/Tokyo\)/, 'the zone';
	# Else a test would have to wait for the next minute.
	$pg->do(q{UPDATE parley.messages SET created_at = '2026-01-02 03:04:05Z' WHERE user_id = 'zone'});
	$t->kill_worker;
	$c->response;
	expire($pg, $id);
	is turn($other, 'zone', $id, 1, 10)->{json}{response}, 'Good evening.', 'taken over';
	is retry($other, 'zone', $id, 1)->{json}{response}, 'Good night.', 'retried';
	like $json->encode($_->{body}{messages}), qr/Friday, 2026-01-02 12:04 \(Asia\/Tokyo\)/, '... as the message came'
	    for (asked('zone'))[1, 2];
	$t->ready;
};

subtest 'the deadline counts from the first start' => sub {
	my %hasty = (%conf, 'turn.deadline' => '4 s');
	my @t = map { beside($t, conf => \%hasty) } 1, 2;
	my ($c, $id) = begun($t[0], 'late', 'script:late');
	my $since = time;
	sleep 1;
	$t[0]->kill_worker;
	$c->response;
	expire($pg, $id);
	my $r = turn($t[1], 'late', $id, 1, 10);
	my $took = time - $since;
	error_is($r, 200, 'turn_timeout', 'it ends');
	ok $took > 3.5 && $took < 5.5, '... when it had to' or diag $took;
	is scalar asked('late'), 2, '... after two workers have asked';
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
