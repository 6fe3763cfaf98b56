# Turns that take long, workers that are full, workers that end.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;

my $model = Parley::Model->new(scripts => {
	slow => text_reply('Take ', 900, 'your ', 900, 'time.'),
	tools => join("---\n", "wait 500\n" . call_reply(add_task => { title => 'Once' }), "wait 500\n" . text_reply('Added.')),
	endless => text_reply('On ', map { (400, "and on $_ ") } 1 .. 60),
	handed => join("---\n", text_reply('Half ', 20000, 'x'), text_reply(500, 'Whole.')),
	silent => "hang\n",
});
my $pg = Parley::Postgres->new;
my $true = JSON::XS::true;

sub app { return Parley::Test->new(pg => $pg, model => $model, conf => { @_ }, workers => 2) }
sub state_of { $pg->one('SELECT state FROM parley.turns WHERE conversation_id = ? AND turn = 1', $_[0]) }

# The answer that says: it goes on, look there.
sub accepted_ok {
	my ($r, $name) = @_;

	is $r->{status}, 202, "$name: 202" or diag $r->{body};
	my $b = $r->{json};
	is_deeply [sort keys %$b], [qw(conversation_id status turn)], '... what is in it';
	is $b->{status}, 'running', '... status';
	like $b->{conversation_id}, $UUID, '... conversation_id';
	is $r->{headers}{location}, "/api/conversations/$b->{conversation_id}/turns/$b->{turn}?wait=30", '... Location';
	return $b;
}

# Follows Location as a client does.
sub follow {
	my ($t, $r, $user) = @_;
	return $t->get($r->{headers}{location}, user => $user);
}

subtest 'a client that has waited long enough' => sub {
	my $t = app('client.max_wait' => '500 ms');
	for my $script (qw(slow tools)) {
		my $since = time;
		my $r = $t->chat('alice', "script:$script");
		cmp_ok time - $since, '<', 1.5, "$script: not longer than that";
		accepted_ok($r, $script);
		my $end = follow($t, $r, 'alice');
		is $end->{status}, 200, 'Location leads to the turn';
		body_ok($end->{json}, $script);
		is $end->{json}{response}, { slow => 'Take your time.', tools => 'Added.' }->{$script}, '... that has ended';
	}
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'alice'}), 1, 'its tools ran once';

	for my $prefer ('wait=60', 'respond-async, wait=99999999999999999999', 'wait', 'wait=x', 'later=1') {
		my $since = time;
		my $r = $t->post('/api/chat', { message => 'script:slow' }, user => 'prue', headers => { Prefer => $prefer });
		is $r->{status}, 202, "Prefer: $prefer is no longer than that";
		cmp_ok time - $since, '>', 0.4, '... nor shorter';
	}
	my $patient = app();
	my $hurry = time;
	my $quick = $patient->post('/api/chat', { message => 'script:slow' }, user => 'prue', headers => { Prefer => 'respond-async, Wait=1' });
	accepted_ok($quick, 'who prefers not to wait');
	cmp_ok time - $hurry, '<', 1.7, '... does not';
	is follow($patient, $quick, 'prue')->{json}{response}, 'Take your time.', '... and finds it later';

	my @e;
	my $c = $t->begin_chat('alice', 'script:slow', stream => $true);
	while (my $e = $c->event) {
		push @e, $e;
	}
	is $e[-1]{event}, 'done', 'a stream is not sent away';

	# A connection that is kept must not mix the late end of one request with the next.
	my $r = $t->chat('alice', 'script:slow');
	is $t->chat('alice', "Hello $_")->{status}, 200, 'others are answered meanwhile' for 1 .. 4;
	is follow($t, $r, 'alice')->{json}{status}, 'success', 'and it ends well';
};

subtest 'a turn that takes too long' => sub {
	my $t = app('turn.deadline' => '1 s', 'model.retries' => 5);
	my $since = time;
	my $r = $t->chat('bob', 'script:silent');
	error_is($r, 504, 'turn_timeout', 'no answer', turn => 1);
	my $took = time - $since;
	ok $took >= 0.9 && $took < 3, '... in time' or diag $took;
	is state_of($r->{json}{conversation_id}), 'failed', '... the turn is failed';
	error_is($t->get("/api/conversations/$r->{json}{conversation_id}/turns/1", user => 'bob'), 200, 'turn_timeout',
	    '... as it is read');

	my @e = $t->stream('bob', 'script:endless');
	is $e[-1]{event}, 'error', 'a stream ends as well';
	is $e[-1]{data}{error_code}, 'turn_timeout', '... error_code';
	my $text = join '', map { $_->{data}{text} } grep { $_->{event} eq 'delta' } @e;
	my ($q, $a) = @{$t->get("/api/conversations/$e[0]{data}{conversation_id}", user => 'bob')->{json}{messages}};
	is $a->{content}, $text, '... what was said is kept';
	ok $a->{interrupted}, '... marked as interrupted';
	is $t->chat('bob', 'Hello', conversation_id => $e[0]{data}{conversation_id})->{status}, 200, 'and the conversation goes on';
};

subtest 'a worker that is full' => sub {
	my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { 'worker.max_turns' => 3 });
	my $before = $pg->one('SELECT count(*) FROM parley.turns');
	my @c = map { $t->begin_chat("carl$_", 'script:slow') } 1 .. 3;
	Parley::Process::wait_for { $pg->one(q{SELECT count(*) FROM parley.turns WHERE state = 'running'}) == 3 } 20;
	for (1 .. 3) {
		my $r = $t->chat('carl', 'One too many');
		error_is($r, 503, 'overloaded', 'one too many');
		like $r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, '... Retry-After';
	}
	error_is($t->post('/api/chat', { message => 'x' x 60000 }, user => 'carl'), 503, 'overloaded', 'with a large body');
	error_is($t->chat('carl', 'x', stream => $true), 503, 'overloaded', 'or for a stream');
	is $_->response->{json}{response}, 'Take your time.', 'those who are in are served' for @c;
	is $pg->one('SELECT count(*) FROM parley.turns') - $before, 3, 'nothing else was stored';
	is $t->chat('carl', 'Hello')->{status}, 200, 'then there is room again' for 1 .. 5;
};

subtest 'a pool that drains' => sub {
	my $t = app('worker.drain_timeout' => '10 s');
	$model->clear;
	my @json = map { $t->begin_chat("dan$_", 'script:slow') } 1 .. 4;
	my $tools = $t->begin_chat('dan5', 'script:tools');
	my $stream = $t->begin_chat('dan6', 'script:slow', stream => $true);
	$model->wait_requests(6);

	my @pids = $t->pids;
	my $since = time;
	# It tells the workers; told apart, one that is quick would be replaced.
	kill 'TERM', $t->pool->parent_pid;
	my @r = map { $_->response } @json, $tools;
	cmp_ok time - $since, '<', 0.8, 'who waits is told at once';
	my @b = map { accepted_ok($_, 'a client') } @r;
	my @e;
	while (my $e = $stream->event) {
		push @e, $e;
	}
	is $e[-1]{event}, 'done', 'a stream goes on to its end';
	is $e[-1]{data}{response}, 'Take your time.', '... the whole of it';

	ok +(Parley::Process::wait_for { !grep { kill 0, $_ } @pids } 10), 'the workers end' or diag $t->log_text;
	cmp_ok time - $since, '<', 8, '... when all is done, not later';
	is state_of($_->{conversation_id}), 'done', 'a turn came to its end' for @b;
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'dan5'}), 1, 'its tool ran once';
	error_is($t->chat('dan1', 'Hello'), 503, 'overloaded', 'nobody is there: nginx says so');
	is scalar(grep { $_->{event} eq 'worker_end' } $t->log), 2, 'both have said goodbye';
	is $t->pool->sickness, '', 'the workers were well';

	my $next = app();
	is follow($next, $r[0], 'dan1')->{json}{response}, 'Take your time.', 'another pool has the answer';
};

subtest 'a drain that takes too long' => sub {
	my $t = app('worker.drain_timeout' => '300 ms');
	$model->clear;
	my $c = $t->begin_chat('eve', 'script:handed', stream => $true);
	my $id = $c->event->{data}{conversation_id};
	is $c->event->{event}, 'delta', 'it runs';
	my @pids = $t->pids;
	my $since = time;
	kill 'TERM', @pids;
	1 while $c->event;
	ok +(Parley::Process::wait_for { !grep { kill 0, $_ } @pids } 10), 'the workers end all the same';
	cmp_ok time - $since, '<', 6, '... soon';

	# multiwatch has started others; the turn was given away.
	$t->ready;
	ok +(Parley::Process::wait_for { $pg->one('SELECT fence FROM parley.turns WHERE conversation_id = ?', $id) > 2 } 20),
	    'another takes the turn';
	cmp_ok time - $since, '<', 6, '... soon';
	my $turn = $pg->rows('SELECT state, run, attempts FROM parley.turns WHERE conversation_id = ?', $id)->[0];
	is_deeply $turn, { state => 'running', run => 1, attempts => 1 }, '... which goes on, and that was no failure';
	my $r = $t->get("/api/conversations/$id/turns/1?wait=30", user => 'eve');
	is $r->{json}{response}, 'Whole.', '... to its end' or diag $r->{body};
	is $t->chat('eve', 'Hello', conversation_id => $id)->{json}{turn}, 2, 'the conversation goes on';
	is scalar @{$t->get("/api/conversations/$id", user => 'eve')->{json}{messages}}, 4, 'there is no trace of the half';
};

done_testing;
