# Takeover: whoever dies, another worker finishes what was begun, from the last committed step.
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
	keyed => join("---\n", $hang, text_reply('The one answer.')),
	asked => text_reply('Half ', 30000, 'x'),
	zone => join("---\n", $hang, text_reply('Good evening.'), text_reply('Good night.')),
});
my $pg = Parley::Postgres->new;
$pg->slow_tool;
my %conf = ('turn.lease' => '3s', 'model.retries' => 0);
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => \%conf);
my $other = beside($t, conf => \%conf);
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
	# Else the one that takes it over would get the first reply.
	asked_ok('early', 1);
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

subtest 'a client that asks again with its key' => sub {
	my @keyed = ('POST', '/api/chat', { message => 'script:keyed' }, user => 'keyed', headers => { 'Idempotency-Key' => 'k' });
	my $c = $t->begin(@keyed);
	ok asked_ok('keyed', 1), 'it has begun';
	$t->kill_worker;
	cmp_ok $c->response->{status}, '>=', 500, 'its worker dies';
	my @again = map { $other->begin(@keyed) } 1 .. 2;
	expire($pg, $pg->one(q{SELECT id FROM parley.conversations WHERE user_id = 'keyed'}));
	is $_->response->{json}{response}, 'The one answer.', 'the same request finds the turn, and waits for its end' for @again;
	is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'keyed'}), 1, 'there is one turn';
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

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
