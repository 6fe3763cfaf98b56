# Workers that are killed in the middle, and come back alone: what was said stays, nothing is done by half, what
# was begun is finished.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;
use Parley::Turns ();

sub wait_for { &Parley::Process::wait_for }

my $pg = Parley::Postgres->new;
$pg->slow_tool;
my $model = Parley::Model->new(scripts => {
	(map { $_ => join("---\n", text_reply('Half a word', 20000, ' and the rest.'), text_reply('Here I am.')) } qw(slow early)),
	killed => join("---\n", call_reply(add_slowly => { title => 'gone', seconds => 1.5 }, add_task => { title => 'next' }),
	    text_reply('Done.')),
	longer => join("---\n", call_reply(add_slowly => { title => 'longer', seconds => 3 }), text_reply('Done.')),
});
my $sleeping = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
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

# The turn as it ends, and how long that took.
sub finished {
	my ($user, $id, $response, $since) = @_;
	ok wait_for(sub { turn_row($id, 1)->{state} ne 'running' }, 15), 'its turn comes to an end';
	my $took = time - $since;
	my $turn = turn_row($id, 1);

	is $turn->{state}, 'done', '... a good one' or diag $turn->{error_code};
	is $turn->{attempts}, 2, '... by a second worker';
	is $turn->{open_calls}, 0, '... and leaves no call open';
	my $r = $t->get("/api/conversations/$id/turns/1", user => $user);
	is $r->{json}{response}, $response, 'its client can read the answer';
	is $t->chat($user, 'hello again', conversation_id => $id)->{json}{turn}, 2, 'the conversation goes on';
	return $took;
}

subtest 'while the model speaks' => sub {
	my ($id, $at) = crash('alice', 'script:slow please',
	    sub { $pg->one("SELECT count(*) FROM parley.live WHERE user_id = 'alice' AND bytes > 0") });
	is $pg->one('SELECT content FROM parley.messages WHERE conversation_id = ?', $id), 'script:slow please', 'the message stays';
	is turn_row($id, 1)->{state}, 'running', 'the turn is live';
	my $r = $t->chat('alice', 'hello?', conversation_id => $id, on_busy => 'reject');
	error_is($r, 409, 'conversation_busy', 'until then the conversation is busy', turn => 1);
	my $took = finished('alice', $id, 'Here I am.', $at);
	ok $took >= 1.5 && $took < 7, '... when the lease is out' or diag $took;
	is $pg->one('SELECT count(*) FROM parley.messages WHERE conversation_id = ? AND turn = 1', $id), 2,
	    'half a word is not an answer';
};

subtest 'before its first pulse' => sub {
	my ($id, $at) = crash('bob', 'script:early please', sub { $pg->one("SELECT count(*) FROM parley.turns WHERE user_id = 'bob'") });
	my $took = finished('bob', $id, 'Here I am.', $at);
	ok $took >= 2.5 && $took < 9, 'it gets a full lease first' or diag $took;
};

subtest 'in a SQL tool, and the database gives up too' => sub {
	my ($id, $at) = crash('dave', 'script:killed please', sub { $pg->one("SELECT count(*) $sleeping") });
	$pg->one("SELECT pg_terminate_backend(pid) $sleeping");
	Parley::Turns::expire($pg, $id);
	is $pg->one("SELECT count(*) FROM tasks.tasks WHERE user_id = 'dave'"), 0, 'no effect';
	finished('dave', $id, 'Done.', $at);
	is_deeply [map { $_->{title} } @{$pg->rows("SELECT title FROM tasks.tasks WHERE user_id = 'dave' ORDER BY id")}],
	    ['gone', 'next'], 'it is done for the first time, and then the next';
	my ($last) = reverse grep { !defined $_->{script} } $model->requests;
	my @roles = map { $_->{role} } @{$last->{body}{messages}};
	is "@roles", 'system user assistant tool tool assistant user', 'the model sees each call with its result';
};

subtest 'in a SQL tool that outlives the lease' => sub {
	my ($id, $at) = crash('erin', 'script:longer please', sub { $pg->one("SELECT count(*) $sleeping") });
	Parley::Turns::expire($pg, $id);
	finished('erin', $id, 'Done.', $at);
	is $pg->one("SELECT count(*) FROM tasks.tasks WHERE user_id = 'erin'"), 1, 'its effect is there, once';
	is $pg->one("SELECT count(*) FROM parley.tool_calls WHERE user_id = 'erin' AND NOT is_error AND result IS NOT NULL"), 1,
	    '... with its result';
};

done_testing;
