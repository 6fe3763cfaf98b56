# Workers that are killed in the middle: what was said stays, nothing is done by half, the conversation goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;

sub wait_for { &Parley::Process::wait_for }

my $pg = Parley::Postgres->new;
$pg->slow_tool;
my $model = Parley::Model->new(scripts => {
	slow => text_reply(20000, 'Late.'),
	begun => text_reply('Half a word', 20000, ' and the rest.'),
	tool => join("---\n", call_reply(add_slowly => { title => 'kept', seconds => 2 }, list_tasks => {}), text_reply('Done.')),
	killed => join("---\n", call_reply(add_slowly => { title => 'gone', seconds => 30 }, add_task => { title => 'never' }),
	    text_reply('Done.')),
	longer => join("---\n", call_reply(add_slowly => { title => 'longer', seconds => 6 }), text_reply('Done.')),
});
my %conf = ('turn.lease' => '3s');
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => \%conf);

sub turn_row {
	my ($id, $turn) = @_;
	return $pg->rows('SELECT * FROM parley.turns WHERE conversation_id = ? AND turn = ?', $id, $turn)->[0];
}

# Begins a turn, kills its worker when the code says so; returns the conversation and when that was.
sub crash {
	my ($user, $message, $when) = @_;
	my $c = $t->begin_chat($user, $message);
	ok wait_for($when, 10), "the turn of $user has begun" or diag $t->log_text;
	my ($pid) = $t->pids;
	$t->kill_worker($pid);
	my $at = time;
	my $r = $c->response;
	cmp_ok $r->{status}, '>=', 500, 'its client is told: ' . $r->{status};
	ok $r->{json} && $r->{json}{error_code}, '... in the shape of an error' or diag $r->{body};
	ok wait_for(sub { my ($now) = $t->pids; $now && $now != $pid }, 10), 'multiwatch brings a new worker';
	$t->ready;
	my $id = $pg->one('SELECT id FROM parley.conversations WHERE user_id = ?', $user);
	return ($id, $at);
}

# Asks until the conversation is free; until then every answer must be a 409 that names turn 1.
sub ask_until_free {
	my ($user, $id, $seconds) = @_;
	my ($until, $busy) = (time + $seconds, 0);

	while (1) {
		my $r = $t->chat($user, 'hello again', conversation_id => $id);
		if ($r->{status} != 409) {
			is $r->{status}, 200, "then the conversation works ($busy times busy)" or diag $r->{body};
			is $r->{json}{turn}, 2, '... with the next turn';
			return $busy;
		}
		$busy++;
		if ($r->{json}{turn} != 1 || time > $until) {
			fail 'busy with turn 1, but not for ever';
			return;
		}
		sleep 0.1;
	}
}

sub abandoned {
	my ($id) = @_;
	my $turn = turn_row($id, 1);

	is $turn->{state}, 'failed', 'the turn has failed';
	is $turn->{error_code}, 'turn_abandoned', '... as turn_abandoned';
	is $turn->{open_calls}, 0, '... and leaves no call open';
	is $pg->one('SELECT count(*) FROM parley.tool_calls WHERE conversation_id = ? AND result IS NULL', $id), 0, '... nor without result';
}

subtest 'while the model thinks' => sub {
	my ($id, $at) = crash('alice', 'script:slow please', sub { $pg->one("SELECT count(*) FROM parley.live WHERE user_id = 'alice'") });
	is $pg->one('SELECT content FROM parley.messages WHERE conversation_id = ?', $id), 'script:slow please', 'the message stays';
	is turn_row($id, 1)->{state}, 'running', 'the turn is live';
	cmp_ok ask_until_free('alice', $id, 8), '>', 0, 'it was busy at first';
	cmp_ok time - $at, '>=', 1.5, 'until the lease was out';
	cmp_ok time - $at, '<', 7, '... and not much longer';
	abandoned($id);
	my $r = $t->get("/api/conversations/$id/turns/1", user => 'alice');
	is $r->{json}{error_code}, 'turn_abandoned', 'its client can read what became of it';
	my ($last) = reverse grep { !defined $_->{script} } $model->requests;
	like $last->{body}{messages}[2]{content}, qr/failed/, 'and the model is told';
};

subtest 'before its first pulse' => sub {
	my ($id, $at) = crash('bob', 'script:slow please', sub { $pg->one("SELECT count(*) FROM parley.turns WHERE user_id = 'bob'") });
	cmp_ok ask_until_free('bob', $id, 8), '>', 0, 'it was busy at first';
	cmp_ok time - $at, '>=', 2.5, 'a full lease from the first who asked';
	abandoned($id);
};

subtest 'in a SQL tool, which goes on in the database' => sub {
	my ($id) = crash('carol', 'script:tool please', sub { $pg->one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") });
	ask_until_free('carol', $id, 10);
	abandoned($id);
	my $calls = $pg->rows('SELECT tool_name, is_error, result FROM parley.tool_calls WHERE conversation_id = ? ORDER BY pos', $id);
	is $pg->one("SELECT count(*) FROM tasks.tasks WHERE user_id = 'carol'"), 1, 'its effect is there, once';
	is $calls->[0]{is_error}, 0, '... with its result' or diag explain $calls;
	like $calls->[0]{result}, qr/"kept"/, '... which speaks of it';
	is $calls->[1]{is_error}, 1, 'the call after it was not made';
	like $calls->[1]{result}, qr/not done/, '... and says so';
};

subtest 'in a SQL tool, and the database gives up too' => sub {
	my $sleeping = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
	my ($id) = crash('dave', 'script:killed please', sub { $pg->one("SELECT count(*) $sleeping") });
	$pg->one("SELECT pg_terminate_backend(pid) $sleeping");
	ask_until_free('dave', $id, 10);
	abandoned($id);
	is $pg->one("SELECT count(*) FROM tasks.tasks WHERE user_id = 'dave'"), 0, 'no effect';
	my $calls = $pg->rows('SELECT is_error, result FROM parley.tool_calls WHERE conversation_id = ? ORDER BY pos', $id);
	is_deeply [map { $_->{is_error} } @$calls], [1, 1], 'two results that say so';
	my ($last) = reverse grep { !defined $_->{script} } $model->requests;
	my @roles = map { $_->{role} } @{$last->{body}{messages}};
	is "@roles", 'system user assistant tool tool assistant user', 'the model sees each call with its result';
};

subtest 'in a SQL tool that outlives the lease' => sub {
	my ($id) = crash('erin', 'script:longer please', sub { $pg->one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") });
	ask_until_free('erin', $id, 15);
	abandoned($id);
	is $pg->one("SELECT count(*) FROM tasks.tasks WHERE user_id = 'erin'"),
	    $pg->one("SELECT count(*) FROM parley.tool_calls WHERE user_id = 'erin' AND tool_name = 'add_slowly' AND NOT is_error"),
	    'effect and result, or neither';
};

done_testing;
