# What a turn gives to the model: how much of the history, cut where, and what became of turns without an answer.
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

my $overflow = "status 400\nheader Content-Type: application/json\n"
    . 'raw {"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}' . "\n";
my $model = Parley::Model->new(scripts => {
	refuses => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"words of the provider\"}}\n",
	breaks => text_reply('Half an ', 'answer') =~ s/data [^\n]*finish_reason.*/cut\n/sr,
	lasts => text_reply('As far as ', 30000, 'this'),
	over => join("---\n", $overflow, text_reply('It fits.')),
	over2 => $overflow,
});
my $t = Parley::Test->new(model => $model, conf => { 'model.retries' => 0 });
my $pg = $t->pg;
my %with = (pg => $pg, model => $model, workers => 1);

# A conversation of $n finished turns of which each says $bytes bytes: "q1 …", "a1 …".
my $made = 0;
sub conversation {
	my ($user, $n, $bytes) = @_;
	my $id = sprintf '00000000-0000-4000-8000-%012d', ++$made;
	my $say = "rpad(%s || t || ' ', $bytes, 'x')";
	my ($q, $a) = map { sprintf $say, "'$_'" } qw(q a);

	$pg->psql(<<"SQL") eq '' or die;
INSERT INTO parley.conversations (user_id, id, title, turns, created_at, updated_at)
VALUES ('$user', '$id', 'long', $n, now(), now());
INSERT INTO parley.turns (user_id, conversation_id, turn, state, messages, tokens, started_at, deadline, ended_at, model)
SELECT '$user', '$id', t, 'done', 2, 2 * (octet_length($q) / 4 + 8), now(), now(), now(), 'demo' FROM generate_series(1, $n) t;
INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, model, created_at)
SELECT '$user', '$id', t, 1, i, gen_random_uuid(), CASE i WHEN 0 THEN 'user' ELSE 'assistant' END,
       CASE i WHEN 0 THEN $q ELSE $a END, CASE i WHEN 1 THEN 'demo' END, now() + (2 * t + i) * interval '1 ms'
  FROM generate_series(1, $n) t, generate_series(0, 1) i;
SQL
	return $id;
}

# The messages of the newest request, without the system's.
sub seen {
	my ($last) = reverse $model->requests;
	my ($system, @m) = @{$last->{body}{messages}};
	is $system->{role}, 'system', 'the instructions come first';
	return @m;
}

sub roles { join '', map { substr $_->{role}, 0, 1 } @_ }

# Each call of an assistant is followed by its results, and no result stands alone.
sub paired {
	my ($name, @m) = @_;
	my $bad = '';
	while (my $m = shift @m) {
		$bad .= 'a result without its call; ' if $m->{role} eq 'tool';
		for my $call (@{$m->{tool_calls} // []}) {
			my $result = shift @m;
			$bad .= 'a call without its result; ' if !$result || ($result->{tool_call_id} // '') ne $call->{id};
		}
	}
	is $bad, '', $name;
}

subtest 'fifty messages' => sub {
	my $id = conversation('alice', 60, 20);
	is $t->chat('alice', 'now', conversation_id => $id)->{json}{turn}, 61, 'turn 61';
	my @m = seen();
	is @m, 49, '24 whole turns and this message';
	is roles(@m), 'ua' x 24 . 'u', 'in order';
	like $m[0]{content}, qr/^q37 /, 'the newest ones';
	is $m[-1]{content}, 'now', 'this one last';
};

subtest 'a token budget' => sub {
	my $t = Parley::Test->new(%with, conf => { 'turn.history_tokens' => 2000, 'turn.history_messages' => 0 });
	my $id = conversation('alice', 60, 800);
	is $t->chat('alice', 'now', conversation_id => $id)->{status}, 200, 'answered';
	my @m = seen();
	is @m, 9, 'four turns of 416 tokens and this message';
	like $m[0]{content}, qr/^q57 /, 'the newest ones';
	$t->chat('alice', 'y' x 2000, conversation_id => $id);
	@m = seen();
	like $m[0]{content}, qr/^q58 /, 'a longer message leaves room for one less';
	my $small = Parley::Test->new(%with, conf => { 'turn.history_tokens' => 10 });
	is $small->chat('alice', 'z' x 1000, conversation_id => $id)->{status}, 200, 'a message larger than all of it';
	is_deeply [map { $_->{content} } seen()], ['z' x 1000], '... goes alone';
};

my $whole = Parley::Test->new(%with, conf => { 'turn.history_tokens' => 0, 'turn.history_messages' => 0, 'model.retries' => 0 });

subtest 'no limit' => sub {
	my $id = conversation('alice', 60, 2000);
	is $whole->chat('alice', 'now', conversation_id => $id)->{status}, 200, 'answered';
	my @m = seen();
	is @m, 121, 'all 120 messages and this one';
	like $m[0]{content}, qr/^q1 /, 'from the first';
	is length $m[0]{content}, 2000, '... whole';
};

subtest 'never between a call and its result' => sub {
	my $t = Parley::Test->new(%with, conf => { 'turn.history_messages' => 10 });
	my $id = $t->chat('bob', 'add task: number 0')->{json}{conversation_id};
	for my $i (1 .. 5) {
		# Turns of four and of two messages, so that the cut falls everywhere.
		$t->chat('bob', $i % 2 ? "add task: number $i" : 'hello', conversation_id => $id);
		my ($first) = reverse grep { $_->{body}{messages}[-1]{role} eq 'user' } $model->requests;
		my (undef, @m) = @{$first->{body}{messages}};
		cmp_ok scalar @m, '<=', 10, "turn $i: at most ten: " . roles(@m);
		is $m[0]{role}, 'user', '... from the beginning of a turn';
		paired('... calls and results together', @m);
	}
	$whole->chat('bob', 'delete number 1', conversation_id => $id);
	paired('the whole conversation', seen());
};

subtest 'turns without an answer' => sub {
	my $id = $t->chat('carol', 'script:refuses me')->{json}{conversation_id};
	my @last = @{$t->get("/api/conversations/$id", user => 'carol')->{json}{messages}};
	is_deeply [map { $_->{role} } @last], ['user'], 'a failed call stores no answer';

	my @events = $t->stream('carol', 'script:breaks off', conversation_id => $id);
	is $events[-1]{event}, 'error', 'a model that breaks off';
	my $told = $events[-1]{data}{message};
	my ($half) = grep { $_->{interrupted} } @{$t->get("/api/conversations/$id", user => 'carol')->{json}{messages}};
	is $half->{content}, 'Half an answer', 'what was streamed is kept, marked as interrupted';

	my $c = $t->begin_chat('carol', 'script:lasts long', conversation_id => $id);
	ok Parley::Process::wait_for(sub { $pg->one(q{SELECT partial FROM parley.live WHERE user_id = 'carol' AND partial <> ''}) }), 'the pulse stores what is being said';
	$pg->one(q{UPDATE parley.turns SET cancel_requested_at = now() WHERE user_id = 'carol' AND state = 'running' RETURNING 1});
	my $r = $c->response;
	is "$r->{status} $r->{json}{status} $r->{json}{response}", '200 cancelled As far as ', 'a turn that is stopped keeps what it has';

	$t->chat('carol', 'what now?', conversation_id => $id);
	my @m = seen();
	is roles(@m), 'uauauau', 'the model sees a question and an answer for each';
	like $m[1]{content}, qr/failed.*told/, 'what the user was told';
	unlike $m[1]{content}, qr/provider/, '... not what the provider said';
	like $m[3]{content}, qr/^Half an answer\s.*failed.*\Q$told\E/s, 'what was said, and that it broke off';
	like $m[5]{content}, qr/^As far as.*stopped/s, 'what was said, and that it was stopped';
};

subtest 'too much for the model' => sub {
	my $id = conversation('dave', 10, 400);
	my $r = $t->chat('dave', 'script:over it goes', conversation_id => $id);
	is "$r->{status} $r->{json}{response}", '200 It fits.', 'it is cut once, and fits' or diag $r->{body};
	my ($first, $second) = grep { ($_->{script} // '') eq 'over' } $model->requests;
	my ($all, $less) = map { scalar @{$_->{body}{messages}} } $first, $second;
	is $all, 22, 'first the whole of it';
	cmp_ok $less, '<', $all, 'then less';
	is $second->{body}{messages}[0]{role} . $second->{body}{messages}[1]{role}, 'systemuser', '... in whole turns';
	is $second->{body}{messages}[-1]{content}, 'script:over it goes', '... with this message';

	error_is($t->chat('dave', 'script:over2 again', conversation_id => $id), 422, 'context_too_long', 'what never fits');
	is scalar(grep { ($_->{script} // '') eq 'over2' } $model->requests), 2, '... is tried twice';
	is $t->chat('dave', 'hello', conversation_id => $id)->{status}, 200, '... and the next turn works';
	my $alone = $t->chat('dave', 'script:over2 alone');
	error_is($alone, 422, 'context_too_long', 'where there is nothing to cut');
	is scalar(grep { ($_->{script} // '') eq 'over2' } $model->requests), 3, '... it is tried once';
};

subtest 'two thousand messages' => sub {
	my $id = conversation('erin', 1000, 300);
	my $r = $t->chat('erin', 'now', conversation_id => $id);
	is "$r->{status} $r->{json}{turn}", '200 1001', 'a turn' or diag $r->{body};
	is scalar(seen()), 49, 'the model sees the newest';
	is $whole->chat('erin', 'again', conversation_id => $id)->{status}, 200, 'without limit';
	is scalar(seen()), 2003, '... it sees them all';
	my ($cursor, @all, $pages);
	do {
		my $page = $t->get("/api/conversations/$id?limit=100" . ($cursor ? "&cursor=$cursor" : ''), user => 'erin')->{json};
		unshift @all, @{$page->{messages}};
		$cursor = $page->{next_cursor};
	} while ($cursor && ++$pages < 30);
	is @all, 2004, 'all can be read, page by page';
	is_deeply [map { $_->{turn} } @all], [map { ($_, $_) } 1 .. 1002], '... each once, in order';
	is $t->chat('erin', 'hello', conversation_id => $id, return => 'conversation')->{json}{messages}[-2]{content}, 'hello',
	    'the newest page with an answer';
	is $t->delete("/api/conversations/$id", user => 'erin')->{status}, 204, 'it can be deleted';
	is $pg->one("SELECT count(*) FROM parley.messages WHERE conversation_id = '$id'"), 0, '... with all that was in it';
};

done_testing;
