# Idempotency-Key: the same key from the same user never makes a second turn.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Test;
use Parley::Turns;

my $no = "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n";
my $model = Parley::Model->new(scripts => {
	counted => join("---\n", map { text_reply("Answer $_.") } 1 .. 50),
	slow => text_reply('A slow ', 1000, 'one.'),
	slower => text_reply('On ', map { (200, "and on $_ ") } 1 .. 25),
	fails => join("---\n", $no, text_reply('Now it works.')),
	endless => text_reply('On ', map { (150, "and on $_ ") } 1 .. 200),
});
my $t = Parley::Test->new(model => $model, workers => 2, conf => { 'model.retries' => 0 });
my $other = beside($t, conf => { 'model.retries' => 0 });
my $pg = $t->pg;

# One request with a key; the body is a hash or text.
sub keyed {
	my ($worker, $user, $key, $body, %headers) = @_;
	return $worker->begin('POST', '/api/chat', $body, user => $user, headers => { 'Idempotency-Key' => $key, %headers });
}
sub ask { return keyed(@_)->response }
sub turns { return $pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ?', $_[0]) }
sub place { my ($r) = @_; return "$r->{status} " . join ' ', map { $_ // '-' } @{$r->{json}}{qw(conversation_id turn)} }

subtest 'the same request again' => sub {
	my $first = ask($t, 'ann', 'k1', { message => 'script:counted' });
	is $first->{json}{response}, 'Answer 1.', 'the first';
	for my $worker ($t, $other) {
		my $again = ask($worker, 'ann', 'k1', { message => 'script:counted' });
		is $again->{status}, 200, 'again';
		body_ok($again->{json}, '... answered as the first');
		is_deeply $again->{json}{messages}, $first->{json}{messages}, '... with the same turn';
	}
	my $id = $first->{json}{conversation_id};
	is place(ask($t, 'ann', 'k1', '{ "stream" : false, "message" : "script:\u0063ounted" }')), "200 $id 1", 'written in another way';
	my @e = events(keyed($other, 'ann', 'k1', { message => 'script:counted', stream => JSON::XS::true }));
	is stream_ok('as a stream', @e)->{response}, 'Answer 1.', 'the answer';
	@e = events(keyed($t, 'ann', 'k1', { message => 'script:counted' }, Accept => 'text/event-stream'));
	is $e[-1]{data}{response}, 'Answer 1.', 'by the Accept header';
	is turns('ann'), 1, 'one turn';

	my @more = (conversation_id => $id, time_zone => 'Asia/Tokyo', on_busy => 'queue');
	my $second = ask($t, 'ann', 'k2', { message => 'Hello', @more });
	is $second->{json}{turn}, 2, 'another key';
	is place(ask($other, 'ann', 'k2', qq({"time_zone":"Asia/Tokyo","on_busy":"queue","conversation_id":"$id","message":"Hello"}))),
	    "200 $id 2", 'the members in another order';
	is place($t->begin('POST', '/api/ann/chat', { message => 'Hello', @more }, user => 'ann',
	    headers => { 'Idempotency-Key' => 'k2' })->response),
	    "200 $id 2", 'with the user in the path';
	is turns('ann'), 2, 'two turns';
	is ask($t, 'bob', 'k1', { message => 'script:counted' })->{json}{response}, 'Answer 2.', 'the key of another user';
	is turns('bob'), 1, '... is another';
};

subtest 'another request with its key' => sub {
	my $body = { message => 'Hello' };
	my $id = ask($t, 'carl', 'k', $body)->{json}{conversation_id};
	for my $change ({ message => 'Hello!' }, { message => 'Hello', conversation_id => $id },
	    { message => 'Hello', time_zone => 'Asia/Tokyo' }, { message => 'Hello', on_busy => 'reject' }) {
		error_is(ask($_, 'carl', 'k', $change), 422, 'idempotency_mismatch', 'another body') for $t, $other;
	}
	error_is(ask($t, 'carl', 'k', { message => 'Hello!', stream => JSON::XS::true }), 422, 'idempotency_mismatch', 'as a stream');
	is turns('carl'), 1, 'nothing was begun';
	is ask($t, 'carl', 'k', $body)->{status}, 200, 'the first is still there';
};

subtest 'fifty at once' => sub {
	my @c = map {
		keyed($_ % 3 ? $t : $other, 'dora', 'k', { message => 'script:slow', $_ % 5 ? () : (stream => JSON::XS::true) });
	} 1 .. 50;
	my (@got, %said);
	for (1 .. 50) {
		my $b = $_ % 5 ? $c[$_ - 1]->response->{json} : (events($c[$_ - 1]))[-1]{data};
		$said{join ' ', map { $_ // '-' } @$b{qw(conversation_id turn status response)}}++;
	}
	is join('|', values %said), 50, 'all have the same answer' or diag explain \%said;
	like +(keys %said)[0], qr/ 1 success A slow one\.$/, '... the answer';
	is turns('dora'), 1, 'one turn';
	is scalar(grep { ($_->{script} // '') eq 'slow' } $model->requests), 1, 'the model was asked once';

	# The first is in the way of the others, and yet they are the same.
	my ($id) = split ' ', (keys %said)[0];
	for my $more ({ on_busy => 'reject' }, { on_busy => 'interrupt' }, {}) {
		my $how = $more->{on_busy} // 'queue';
		my @r = map { $_->response } map {
			keyed($_ % 2 ? $t : $other, 'dora', $how, { message => 'script:slow', conversation_id => $id, %$more });
		} 1 .. 12;
		my %got = map { place($_) . " $_->{json}{status}" => 1 } @r;
		is scalar keys %got, 1, "twelve in one conversation, $how: all have the same answer" or diag explain \%got;
	}
	is turns('dora'), 4, 'four turns';
};

subtest 'attached while it runs' => sub {
	my $c = keyed($t, 'eva', 'k', { message => 'script:slower' });
	wait_for { $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = 'eva' AND partial <> ''}) };
	my @stream = map { keyed($_, 'eva', 'k', { message => 'script:slower', stream => JSON::XS::true }) } $t, $other;
	my $json = keyed($other, 'eva', 'k', { message => 'script:slower' });
	my $want = $c->response->{json};
	for (@stream) {
		my @e = events($_);
		is stream_ok('a stream', @e)->{response}, $want->{response}, '... the same answer';
		cmp_ok scalar(grep { $_->{event} eq 'delta' } @e), '>', 1, '... as it comes';
	}
	is $json->response->{json}{response}, $want->{response}, 'JSON';

	my ($live, $id) = begun($t, 'eric', 'script:slow');
	my %body = (message => 'Hello', conversation_id => $id);
	my @c = map { keyed($_, 'eric', 'q', \%body) } $t, $other, $other;
	my $s = keyed($other, 'eric', 'q', { %body, stream => JSON::XS::true });
	is_deeply [map { place($_->response) } @c], [("200 $id 2") x 3], 'one that waits in the queue';
	is names(events($s)), 'turn queued delta done', '... as a stream';
	$live->response;
	is turns('eric'), 2, 'two turns';
};

subtest 'refusals do not bind a key' => sub {
	my ($live, $id) = begun($t, 'finn', 'script:endless');
	my %body = (message => 'Hello', conversation_id => $id, on_busy => 'reject');
	error_is(ask($t, 'finn', 'k1', \%body), 409, 'conversation_busy', 'a conversation that is busy');
	error_is(ask($t, 'finn', 'k2', { message => ' ' }), 422, 'validation_error', 'a message without text');
	error_is(ask($t, 'finn', 'k3', { message => 'x', conversation_id => '00000000-0000-4000-8000-000000000000' }), 404,
	    'conversation_not_found', 'no conversation');
	error_is(ask($t, 'finn', 'k4', '{'), 400, 'invalid_json', 'no JSON');
	my $few = beside($t, conf => { 'limits.user_turns' => 1 });
	my $r = ask($few, 'finn', 'k5', { message => 'Hello' });
	error_is($r, 429, 'rate_limited', 'too many turns');
	like $r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, '... Retry-After';
	my $full = beside($t, conf => { 'worker.max_turns' => 1 });
	my ($in) = begun($full, 'fred', 'script:endless');
	error_is(ask($full, 'finn', 'k6', { message => 'Hello' }), 503, 'overloaded', 'a worker that is full');
	is $pg->one(q{SELECT count(*) FROM parley.idempotency_keys WHERE user_id = 'finn'}), 0, 'none is bound';
	cancel($t, 'finn', $id, 1);
	cancel($t, 'fred', $pg->one(q{SELECT id FROM parley.conversations WHERE user_id = 'fred'}), 1);
	$_->response for $live, $in;
	is ask($t, 'finn', 'k1', \%body)->{status}, 200, 'then the same request is served';
	is ask($t, 'finn', "k$_", { message => 'Hello' })->{status}, 200, '... or another with that key' for 2 .. 6;
};

subtest 'failures are answered as they were' => sub {
	my %body = (message => 'script:fails');
	my @r = map { ask($_, 'gus', 'k', \%body) } $t, $t, $other;
	error_is($_, 502, 'model_error', 'the failure', turn => 1, conversation_id => $r[0]{json}{conversation_id}) for @r;
	is $_->{json}{message}, $r[0]{json}{message}, '... in the same words' for @r[1, 2];
	my @e = events(keyed($other, 'gus', 'k', { %body, stream => JSON::XS::true }));
	is "$e[-1]{event} $e[-1]{data}{error_code}", 'error model_error', '... as a stream';
	is turns('gus'), 1, 'one turn';
	is retry($t, 'gus', $r[0]{json}{conversation_id}, 1)->{json}{response}, 'Now it works.', 'after a retry';
	is ask($_, 'gus', 'k', \%body)->{json}{response}, 'Now it works.', '... the newest run' for $t, $other;
};

subtest 'a turn that was cancelled' => sub {
	my ($c, $id) = do {
		my $c = keyed($t, 'hal', 'k', { message => 'script:endless' });
		wait_for { $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = 'hal'}) };
		($c, $pg->one(q{SELECT id FROM parley.conversations WHERE user_id = 'hal'}));
	};
	cancel($other, 'hal', $id, 1);
	$c->response;
	my $r = ask($other, 'hal', 'k', { message => 'script:endless' });
	is "$r->{status} $r->{json}{status}", '200 cancelled', 'stays cancelled';
};

subtest 'what a key may be' => sub {
	for my $key ('', ' ', 'a b', 'x' x 256, "a\tb", 'ä', "a\x7fb") {
		my $bytes = $key;
		utf8::encode($bytes);
		my $r = ask($t, 'ida', $bytes, { message => 'Hello' });
		error_is($r, 422, 'validation_error', length $key > 9 ? 'too long' : "'$key'");
	}
	is turns('ida'), 0, 'nothing was begun';
	for my $key ('x', 'x' x 255, '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~', '"quoted"', '0') {
		my @r = map { ask($_, 'ida', $key, { message => 'Hello' }) } $t, $other;
		is place($r[1]), place($r[0]), length $key > 40 ? '255 characters' : $key;
		is $r[0]{status}, 200, '... is one';
	}
	is turns('ida'), 5, 'each is a key of its own';
	ask($t, 'ida', 'X', { message => 'Hello' });
	is turns('ida'), 6, 'upper and lower case are different';
};

subtest 'how long' => sub {
	my $first = ask($t, 'jon', 'k', { message => 'script:counted' })->{json};
	my $age = sub { $pg->do(qq{UPDATE parley.idempotency_keys SET created_at = now() - interval '$_[0]' WHERE user_id = 'jon'}) };
	$age->('23 hours 59 minutes');
	is ask($other, 'jon', 'k', { message => 'script:counted' })->{json}{response}, $first->{response}, 'for a day';
	$age->('24 hours 1 second');
	my $r = ask($other, 'jon', 'k', { message => 'Hello' });
	is $r->{status}, 200, 'then it may be used for something else';
	isnt $r->{json}{conversation_id}, $first->{conversation_id}, '... a new turn';
	is place(ask($t, 'jon', 'k', { message => 'Hello' })), place($r), '... and is bound again';
};

subtest 'a conversation that was deleted' => sub {
	my $id = ask($t, 'kim', 'k', { message => 'Hello' })->{json}{conversation_id};
	is $t->delete("/api/conversations/$id", user => 'kim')->{status}, 204, 'deleted';
	my $r = ask($other, 'kim', 'k', { message => 'Hello' });
	is $r->{status}, 404, 'its turn is not there any more' or diag $r->{body};
	is turns('kim'), 0, '... and there is no second';
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
