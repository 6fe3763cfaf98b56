# Two at once: what comes while a turn is live waits, is refused, or interrupts; whoever dies or leaves meanwhile.
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

my $model = Parley::Model->new(scripts => {
	short => text_reply('A short ', 700, 'one.'),
	longer => text_reply('A longer ', 1600, 'one.'),
	long => text_reply('On ', map { (200, "and on $_ ") } 1 .. 100),
	dies => join("---\n", text_reply('Half ', 20000, 'an answer.'), text_reply('A whole answer.')),
});
my $t = Parley::Test->new(model => $model, workers => 1, conf => { 'turn.lease' => '3s' });
my $other = beside($t, conf => { 'turn.lease' => '3s', 'limits.queue' => 2 });
my $pg = $t->pg;
my $true = JSON::XS::true;

sub waiting { return $pg->one(q{SELECT count(*) FROM parley.turns WHERE conversation_id = ? AND state = 'queued'}, $_[0]) }

sub states {
	return join ' ',
	    map { $_->{state} } @{$pg->rows('SELECT state FROM parley.turns WHERE conversation_id = ? ORDER BY turn', $_[0])};
}

# What the model was shown, when it was asked about this message.
sub shown {
	my ($message) = @_;
	my ($asked) = grep { $_->{body}{messages}[-1]{content} eq $message } $model->requests;
	return map { $_->{content} // '' } @{$asked->{body}{messages}};
}

subtest 'in the order of arrival, whichever worker they came to' => sub {
	my $second = beside($t);
	my ($live, $id) = begun($t, 'alice', 'script:short');
	my @waiting = map { (begun($_ % 2 ? $second : $t, 'alice', "My name is N$_", conversation_id => $id))[0] } 1 .. 4;

	my $c = $second->get("/api/conversations/$id")->{json};
	conversation_ok($c->{conversation}, 'the conversation');
	is_deeply [@{$c->{conversation}}{qw(state live_turn queued turns)}], ['running', 1, 4, 5], '... shows who waits';
	message_ok($_, 'a message') for @{$c->{messages}};
	is_deeply [map { "$_->{turn} $_->{turn_state} $_->{content}" } @{$c->{messages}}],
	    ['1 running script:short', map { $_ + 1 . " queued My name is N$_" } 1 .. 4], 'what waits can be read';
	my ($of_list) = grep { $_->{id} eq $id } @{$t->get('/api/conversations')->{json}{conversations}};
	is $of_list->{queued}, 4, 'the list shows it as well';
	my $r = turn($t, 'alice', $id, 3);
	body_ok($r->{json}, 'a turn that waits has the shape of any');
	is "$r->{status} $r->{json}{status}", '200 queued', '... and says so';

	is $live->response->{json}{response}, 'A short one.', 'the first';
	my @got = map { $_->response } @waiting;
	body_ok($got[0]{json}, 'an answer');
	is_deeply [map { "$_->{status} $_->{json}{turn} $_->{json}{status}" } @got], [map { "200 $_ success" } 2 .. 5],
	    'each has its own answer';
	is_deeply [map { $_->{json}{messages}[0]{content} } @got], [map { "My name is N$_" } 1 .. 4], '... to what it asked';
	my $at = $pg->rows('SELECT turn, started_at, lag(ended_at) OVER (ORDER BY turn) AS before
	    FROM parley.turns WHERE conversation_id = ?', $id);
	is_deeply [grep { defined $_->{before} && $_->{started_at} lt $_->{before} } @$at], [], 'one after the other';
	my @shown = shown('My name is N4');
	my $want = join '|', map { quotemeta } 'script:short', 'A short one.',
	    map { ("My name is N$_", $got[$_ - 1]{json}{response}) } 1 .. 3;
	like join('|', @shown), qr/$want/, 'the last was told what was answered before it' or diag explain \@shown;
};

subtest 'events' => sub {
	my ($live, $id) = begun($t, 'bob', 'script:short');
	my @c = map { (begun($t, 'bob', $_, conversation_id => $id, stream => $true))[0] } 'script:short', 'My name is Bob';
	my @e = map { [events($_)] } @c;
	is names(@{$e[0]}), 'turn queued delta done', 'the first in the queue';
	is names(@{$e[1]}) =~ s/queued(?: queued)+/queued/r, 'turn queued delta done', 'the second';
	is_deeply [map { $_->{data}{position} } grep { $_->{event} eq 'queued' } @{$e[0]}], [1], 'one is before it';
	my @at = map { $_->{data}{position} } grep { $_->{event} eq 'queued' } @{$e[1]};
	is "@at", '2 1', 'the second moves up';
	stream_ok('a stream that waited', @$_) for @e;
	is $e[0][0]{data}{turn}, 2, 'turn names the turn';
	$live->response;
};

subtest 'a client that has waited long enough' => sub {
	my ($live, $id) = begun($t, 'carl', 'script:longer');
	my $hasty = beside($t, conf => { 'client.max_wait' => '900 ms' });
	my $since = time;
	my $r = $hasty->chat('carl', 'My name is Carl', conversation_id => $id);
	is $r->{status}, 202, 'it is told to come back';
	is_deeply $r->{json}, { status => 'queued', conversation_id => $id, turn => 2 }, '... that it waits';
	is $r->{headers}{location}, "/api/conversations/$id/turns/2?wait=30", '... and where to ask';
	my $end = $other->get($r->{headers}{location}, user => 'carl');
	like $end->{json}{response}, qr/Carl/, 'there it is answered';
	cmp_ok time - $since, '<', 4, '... without delay';
	$live->response;
};

subtest 'clients that leave: a hundred turns' => sub {
	my ($live, $id) = begun($t, 'dora', 'script:longer');
	my $second = beside($t);
	my @c = map { ($_ % 2 ? $second : $t)->begin_chat('dora', "add task: item $_", conversation_id => $id) } 1 .. 100;
	ok +(wait_for { waiting($id) == 100 } 15), 'a hundred wait' or diag waiting($id);
	$_->close for @c;
	$live->response;
	my $since = time;
	ok +(wait_for { !waiting($id) && states($id) !~ /running/ } 20), 'all have run';
	my $took = time - $since;
	cmp_ok $took, '<', 10, sprintf '... in seconds: %.1f', $took;
	is states($id), join(' ', ('done') x 101), '... to their end';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'dora'}), 100, '... once';
	is $pg->one(q{SELECT count(*) FROM parley.live WHERE conversation_id = ?}, $id), 0, 'no lease is left';
};

subtest 'a worker that dies' => sub {
	my ($live, $id) = begun($t, 'erin', 'script:dies');
	my @c = map { (begun($t, 'erin', "My name is E$_", conversation_id => $id))[0] } 1 .. 2;
	wait_for { speaks($pg, $id) };
	$t->kill_worker;
	my $since = time;
	cmp_ok $_->response->{status}, '>=', 500, 'its clients are told' for $live, @c;
	$t->ready;
	expire($pg, $id);
	my $r = turn($other, 'erin', $id, 3, 30);
	is $r->{json}{status}, 'success', 'another answers them all' or diag $r->{body};
	cmp_ok time - $since, '<', 5, '... when its lease is out';
	is states($id), 'done done done', '... the one that ran, and those that waited';
	is turn($other, 'erin', $id, 1)->{json}{response}, 'A whole answer.', '... from its beginning';
};

subtest 'a bound' => sub {
	my ($live, $id) = begun($t, 'finn', 'script:short');
	my @c = map { (begun($t, 'finn', "My name is F$_", conversation_id => $id))[0] } 1 .. 2;
	my $was = $t->get("/api/conversations/$id", user => 'finn')->{json};
	for my $stream (0, 1) {
		my $r = $other->chat('finn', 'One too many', conversation_id => $id, stream => $stream ? $true : JSON::XS::false);
		error_is($r, 409, 'queue_full', 'one too many', conversation_id => $id);
	}
	is_deeply $t->get("/api/conversations/$id", user => 'finn')->{json}, $was, 'nothing of it is stored';
	$_->response for $live, @c;
	is $other->chat('finn', 'My name is Finn', conversation_id => $id)->{json}{turn}, 4, 'then there is room, and no gap';
};

subtest 'reject' => sub {
	my ($live, $id) = begun($t, 'gina', 'script:short');
	my $was = $t->get("/api/conversations/$id", user => 'gina')->{json};
	for my $worker ($t, $other) {
		my $r = $worker->chat('gina', 'Hello', conversation_id => $id, on_busy => 'reject');
		error_is($r, 409, 'conversation_busy', 'refused', conversation_id => $id, turn => 1);
		like $r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'Retry-After';
	}
	is_deeply $t->get("/api/conversations/$id", user => 'gina')->{json}, $was, 'nothing of it is stored';
	$live->response;
	is $other->chat('gina', 'Hello', conversation_id => $id, on_busy => 'reject')->{json}{turn}, 2, 'when nothing runs, it runs';
	error_is($t->chat('gina', 'Hello', conversation_id => $id, on_busy => 'wait'), 422, 'validation_error',
	    'any other word', field => 'on_busy');
};

for my $case (['the same worker', $t], ['another worker', $other]) {
	my ($where, $worker) = @$case;
	subtest "interrupt, on $where" => sub {
		my $user = $where =~ s/ /-/gr;
		my ($live, $id) = begun($t, $user, 'script:long', stream => $true);
		my @c = map { (begun($t, $user, "My name is $_", conversation_id => $id))[0] } qw(I J);
		my @e = map { $live->event } 1 .. 3;
		my $since = time;
		my $r = $worker->chat($user, 'My name is Ida', conversation_id => $id, on_busy => 'interrupt');
		is "$r->{status} $r->{json}{turn}", '200 4', 'it is answered' or diag $r->{body};
		like $r->{json}{response}, qr/Ida/, '... with its own answer';
		cmp_ok time - $since, '<', 3, '... soon';
		is states($id), 'cancelled cancelled cancelled done', 'what was before it is cancelled';
		push @e, events($live);
		my $end = stream_ok('the stream of the first', @e);
		is $end->{status}, 'cancelled', '... ends as cancelled';
		like $end->{response}, qr/^On and on 1 /, '... with what was said';
		for ($c[0]->response, $c[1]->response) {
			is "$_->{status} $_->{json}{status} '$_->{json}{response}'", "200 cancelled ''", 'who waited is told';
			body_ok($_->{json}, '... in the shape of any');
		}
	};
}

subtest 'ten interrupts at once' => sub {
	my ($live, $id) = begun($t, 'jim', 'script:long');
	my @c = map {
		($_ % 2 ? $t : $other)->begin_chat('jim', "My name is J$_", conversation_id => $id, on_busy => 'interrupt');
	} 1 .. 10;
	my %got = map { $_->{json}{turn} => "$_->{status} $_->{json}{status}" } map { $_->response } $live, @c;
	my @got = map { $got{$_} } sort { $a <=> $b } keys %got;
	is "$got[0], $got[-1]", '200 cancelled, 200 success', 'the last one is answered, the first cancelled';
	# One of those between may be through before the next comes to interrupt it.
	is scalar(grep { /^200 (?:cancelled|success)$/ } @got), 11, '... and the others are one or the other';
	is states($id), join(' ', map { /success/ ? 'done' : 'cancelled' } @got), '... as they were told' or diag "@got";
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
