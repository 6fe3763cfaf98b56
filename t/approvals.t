# Questions to the user: asked, answered once, by that user alone; the effect happens once.
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

my ($true, $false) = (JSON::XS::true, JSON::XS::false);
my $JSON = JSON::XS->new->utf8->canonical;
my $ask = call_reply(delete_task => { task_id => 1 });
my %script = (
	delete => join("---\n", $ask, text_reply('So ', 'be it.')),
	speaks => join("---\n", text_call('I shall. ', list_tasks => {}, delete_task => { task_id => 1 }), text_reply('Gone.')),
	several => join("---\n", call_reply(delete_task => { task_id => 1 }, add_task => { title => 'New' },
	    delete_task => { task_id => 2 }, delete_task => { task_id => 3 }), text_reply('Seen to.')),
	twice => join("---\n", $ask, call_reply(delete_task => { task_id => 2 }), text_reply('Both.')),
	slowly => join("---\n", call_reply(erase_slowly => { seconds => 2 }), text_reply('At last.')),
	answers => join("---\n", $ask, text_reply('Half', 30000, ' an answer'), text_reply('A whole answer.')),
	wrong => join("---\n", call_reply(delete_task => {}), text_reply('Oh.')),
);
my $model = Parley::Model->new(scripts => {});
my $pg = Parley::Postgres->new;
$pg->psql(<<'SQL');
SET ROLE parley_owner;
CREATE FUNCTION tools.erase_slowly(seconds numeric) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	v_result json := tools.add_task('the effect');
BEGIN
	PERFORM pg_sleep(seconds);
	RETURN v_result;
END
$$;
COMMENT ON FUNCTION tools.erase_slowly IS E'Erases.\n@confirm';
SQL
my %conf = ('turn.lease' => '3s', 'model.retries' => 0, 'approvals.expire' => '20 s', 'approvals.yes' => 'oui',
    'approvals.no' => 'non');
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 2, conf => \%conf);
my $other = beside($t, conf => \%conf);

# A model's answer that says something and calls.
sub text_call {
	my ($text, @calls) = @_;
	return (split /(?=data [^\n]*finish_reason)/, text_reply($text))[0] . call_reply(@calls);
}

# A script is played once, so each turn has its own: the message that plays it.
my $played = 0;
sub play {
	my ($script) = @_;
	my $name = "$script-" . ++$played;
	$model->script($name, $script{$script});
	return "script:$name";
}

# A user with so many tasks, and the script's turn of his; the answer.
sub asks {
	my ($user, $script, $n, %fields) = @_;
	$t->chat($user, "add task: T$_") for 1 .. $n;
	return $t->chat($user, play($script), %fields);
}

sub begin_decide {
	my ($at, $user, $id, $approvals, %fields) = @_;
	my $key = delete $fields{key};
	return $at->begin('POST', '/api/chat', { conversation_id => $id, approvals => $approvals, %fields }, user => $user,
	    headers => { defined $key ? ('Idempotency-Key' => $key) : () });
}

sub decide { return begin_decide(@_)->response }
sub tasks { return join ',', map { $_->{title} } @{$pg->rows('SELECT title FROM tasks.tasks WHERE user_id = ? ORDER BY id', $_[0])} }
sub question { return $_[0]{json}{approvals_required}[0] }

subtest 'a question' => sub {
	my $r = asks('ann', 'delete', 2);
	my $b = $r->{json};
	my $id = $b->{conversation_id};
	body_ok($b, 'the body');
	is "$r->{status} $b->{status} $b->{turn}", '200 approval_required 1', 'the turn waits';
	is $b->{response}, 'Delete the task "T1"?', 'the question is the response';
	my $q = question($r);
	is_deeply [@$q{qw(tool_name question)}, $q->{parameters}], ['delete_task', $b->{response}, { task_id => 1 }],
	    'what is asked';
	is_deeply [@{$b->{tool_calls}[0]}{qw(id result)}], [$q->{id}, undef], 'the call has no result';
	is $b->{messages}[-1]{turn_state}, 'approval_required', '... nor has its message an answer';
	is tasks('ann'), 'T1,T2', 'nothing is deleted';
	my $c = $other->get("/api/conversations/$id", user => 'ann')->{json};
	conversation_ok($c->{conversation}, 'the conversation');
	is_deeply [@{$c->{conversation}}{qw(state live_turn)}, $c->{conversation}{approvals_required}],
	    ['approval_required', 1, [$q]], '... asks as well';
	message_ok($_, 'a message') for @{$c->{messages}};
	my $w = turn($other, 'ann', $id, 1, 5)->{json};
	body_ok($w, 'the turn');
	is_deeply [@$w{qw(status response)}, $w->{approvals_required}], [@$b{qw(status response)}, [$q]],
	    '... says the same, without waiting';
	my $listed = $t->get('/api/conversations', user => 'ann')->{json}{conversations}[0];
	is $listed->{state}, 'approval_required', 'the list shows it';
	error_is(retry($t, 'ann', $id, 1), 409, 'turn_not_retryable', 'it cannot be retried');

	$r = decide($other, 'ann', $id, { $q->{id} => $true });
	$b = $r->{json};
	body_ok($b, 'the answer');
	is "$r->{status} $b->{status} $b->{turn} $b->{response}", '200 success 1 So be it.',
	    'yes: the turn goes on, with its answer';
	is $b->{tool_calls}[0]{result}{status}, 'deleted', '... and the call has its result';
	is tasks('ann'), 'T2', '... and its effect';
	is scalar(grep { ($_->{script} // '') =~ /^delete/ } $model->requests), 2,
	    'the model is not asked again for what it said';
	error_is(decide($t, 'ann', $id, { $q->{id} => $_ }), 409, 'approval_already_decided',
	    'said again', turn => 1) for $true, $false;
	is $t->get("/api/conversations/$id", user => 'ann')->{json}{conversation}{state}, 'idle', 'nothing waits any more';
};

subtest 'no' => sub {
	$model->clear;
	my $r = asks('bob', 'delete', 1);
	my $b = decide($t, 'bob', $r->{json}{conversation_id}, { question($r)->{id} => $false })->{json};
	body_ok($b, 'the answer');
	is "$b->{status} $b->{response}", 'success So be it.', 'the turn goes on';
	my $call = $b->{tool_calls}[0];
	ok $call->{is_error}, 'the result is a no';
	like $call->{result}{error}, qr/said no/, '... that the model is told';
	my ($last) = reverse $model->requests;
	like $JSON->encode($last->{body}{messages}[-1]), qr/"role":"tool".*/, '...';
	like $last->{body}{messages}[-1]{content}, qr/said no/, '... in words';
	is tasks('bob'), 'T1', 'nothing is deleted';
};

subtest 'as a stream' => sub {
	$t->chat('cleo', "add task: T$_") for 1, 2;
	my @e = $t->stream('cleo', play('speaks'));
	my $end = stream_ok('the stream that asks', @e);
	is names(@e), 'turn delta tool_call tool_result reset delta approval done', 'what was said, what was done, what is asked';
	is $end->{status}, 'approval_required', 'it waits';
	is $end->{response}, 'I shall. ', 'the response is what the model said';
	my ($id, $q) = ($end->{conversation_id}, $end->{approvals_required}[0]);
	is_deeply [map { $_->{result} ? 1 : 0 } @{$end->{tool_calls}}], [1, 0], 'a call that nobody is asked about has run';
	for ([follow($other, 'cleo', $id, 1), 'from the beginning', names(@e)],
	    [follow($other, 'cleo', $id, 1, $e[3]{id}), 'from the result on', 'reset delta approval done'],
	    [follow($other, 'cleo', $id, 1, $e[-2]{id}), 'from the question on', 'reset delta approval done']) {
		my ($c, $where, $want) = @$_;
		my @again = events($c);
		is names(@again), $want, "attached, $where";
		is_deeply [@{$again[-1]{data}}{qw(response status)}, $again[-1]{data}{approvals_required}],
		    [@$end{qw(response status)}, [$q]], '... the same';
	}

	my $asked = $e[-2]{id};
	@e = events(begin_decide($other, 'cleo', $id, { $q->{id} => $true }, stream => $true));
	$end = stream_ok('the stream that goes on', @e);
	is names(@e), 'turn delta tool_call tool_result tool_call tool_result delta done', 'the whole turn';
	is_deeply [map { $_->{data}{tool_name} } grep { $_->{event} eq 'tool_call' } @e], [qw(list_tasks delete_task)],
	    'its calls';
	is $end->{response}, 'Gone.', 'and its answer';
	is tasks('cleo'), 'T2', 'and its effect';
	my @again = events(follow($t, 'cleo', $id, 1));
	is names(@again), names(@e), 'attached afterwards: the same';
	is names(events(follow($t, 'cleo', $id, 1, $asked))), 'tool_call tool_result delta done',
	    '... and behind the question: what came of it';
	for my $i (1 .. $#e) {
		my @rest = events(follow($t, 'cleo', $id, 1, $e[$i - 1]{id}));
		is names(@rest), names(@e[$i .. $#e]),
		    "... and behind event $i" unless $e[$i - 1]{event} eq 'delta' && $e[$i]{event} eq 'delta';
	}

	# The model says nothing: the question is what is said.
	@e = $t->stream('cleo', play('delete'));
	stream_ok('a question alone', @e);
	is names(@e), 'turn delta approval done', '... is said, and asked';
	cancel($t, 'cleo', $e[-1]{data}{conversation_id}, 1);

	# A no is told of like a call with an error.
	$t->chat('clio', 'add task: T1');
	@e = $t->stream('clio', play('delete'));
	@e = events(begin_decide($t, 'clio', $e[-1]{data}{conversation_id}, { $e[-1]{data}{approvals_required}[0]{id} => $false },
	    stream => $true));
	stream_ok('a no', @e);
	is names(@e), 'turn tool_call tool_result delta done', '... goes on as well';
	ok $e[2]{data}{is_error}, '... with an error for a result';
};

subtest 'several' => sub {
	my $r = asks('dan', 'several', 3);
	my $b = $r->{json};
	my $id = $b->{conversation_id};
	my @q = @{$b->{approvals_required}};
	is scalar @q, 3, 'three questions';
	is $b->{response}, join("\n", map { qq{Delete the task "T$_"?} } 1 .. 3), '... in words';
	is_deeply [map { defined $_->{result} ? 1 : 0 } @{$b->{tool_calls}}], [0, 1, 0, 0], 'the call that needs none has run';
	$b = decide($t, 'dan', $id, { $q[1]{id} => $true })->{json};
	body_ok($b, 'one decided');
	is_deeply [$b->{status}, map { $_->{id} } @{$b->{approvals_required}}], ['approval_required', $q[0]{id},
	    $q[2]{id}], 'two are left';
	is tasks('dan'), 'T1,T2,T3,New', 'nothing runs yet';
	my @e = events(begin_decide($other, 'dan', $id, { $q[0]{id} => $false }, stream => $true));
	stream_ok('a stream while one is missing', @e);
	is names(@e), 'turn tool_call tool_result tool_call tool_result reset delta approval done',
	    '... asks again' or diag $JSON->encode(\@e);
	error_is(decide($t, 'dan', $id, { $q[1]{id} => $false, $q[2]{id} => $false }), 409, 'approval_already_decided',
	    'one of two is decided');
	is scalar @{turn($t, 'dan', $id, 1)->{json}{approvals_required}}, 1, '... then neither is';
	@e = events(begin_decide($other, 'dan', $id, { uc $q[2]{id} => $true }, stream => $true));
	my $end = stream_ok('the last', @e);
	is names(@e), 'turn ' . 'tool_call tool_result ' x 4 . 'delta done', 'all are told of';
	is_deeply [map { $_->{is_error} ? 1 : 0 } @{$end->{tool_calls}}], [1, 0, 0, 0], '... with what was decided';
	is tasks('dan'), 'T1,New', '... and done';
	is names(events(follow($t, 'dan', $id, 1))), names(@e), 'attached afterwards: the same';
};

subtest 'two in one turn' => sub {
	my $r = asks('eva', 'twice', 2);
	my $id = $r->{json}{conversation_id};
	my $first = question($r);
	$r = decide($t, 'eva', $id, { $first->{id} => $true });
	is $r->{json}{status}, 'approval_required', 'asked again, for other arguments';
	is question($r)->{question}, 'Delete the task "T2"?', '... in a question of its own';
	is tasks('eva'), 'T2', 'the first yes was for the first call';
	error_is(decide($t, 'eva', $id, { $first->{id} => $true }), 409, 'approval_already_decided',
	    '... and is not good for the second');
	my @e = events(begin_decide($t, 'eva', $id, { question($r)->{id} => $true }, stream => $true));
	is names(@e), 'turn tool_call tool_result tool_call tool_result delta done', 'and then that';
	is tasks('eva'), '', '...';
};

subtest 'in a word' => sub {
	for ([hal => 'Yes!', 1], [heinz => ' Ja, bitte. ', 1], [hina => 'جی ہاں۔', 1], [henri => 'OUI', 1],
	    [hans => 'nein', 0], [huma => 'نہیں', 0],
	    [hugo => 'Non.', 0]) {
		my ($user, $word, $yes) = @$_;
		my $id = asks($user, 'delete', 1)->{json}{conversation_id};
		my $b = $t->chat($user, $word, conversation_id => $id)->{json};
		is "$b->{status} $b->{turn} $b->{response}", 'success 1 So be it.', "$user: part of that turn";
		is_deeply [map { $_->{role} } @{$b->{messages}}], [qw(user assistant user assistant)], '... as a message';
		is tasks($user), $yes ? '' : 'T1', '... and the answer';
	}
	asks('ida', 'delete', 1);
	my $id = $t->get('/api/conversations', user => 'ida')->{json}{conversations}[0]{id};
	my @e = events($t->begin_chat('ida', 'yes', conversation_id => $id, stream => $true));
	my $end = stream_ok('as a stream', @e);
	is names(@e), 'turn tool_call tool_result delta done', '... the turn goes on';
	is $e[0]{data}{message_id}, $end->{messages}[2]{id}, '... of the message that has come';
	is names(events(follow($other, 'ida', $id, 1))), names(@e), 'attached afterwards: the same';
	for my $i (1 .. $#e) {
		my @rest = events(follow($t, 'ida', $id, 1, $e[$i - 1]{id}));
		is names(@rest), names(@e[$i .. $#e]),
		    "... and behind event $i" unless $e[$i - 1]{event} eq 'delta' && $e[$i]{event} eq 'delta';
	}
	my $r = $t->chat('ida', 'yes', conversation_id => $id);
	is $r->{json}{turn}, 2, 'where nothing is asked it is a message';

	$id = asks('ike', 'several', 3)->{json}{conversation_id};
	$r = $t->chat('ike', 'yes', conversation_id => $id);
	is "$r->{json}{status} $r->{json}{turn}", 'success 2', 'where three things are asked as well';
	is tasks('ike'), 'T1,T2,T3,New', '... which agrees to nothing';
};

subtest 'another message' => sub {
	my $id = asks('jan', 'delete', 1)->{json}{conversation_id};
	my $r = $t->chat('jan', 'My name is Jan', conversation_id => $id);
	body_ok($r->{json}, 'the answer');
	is "$r->{json}{status} $r->{json}{turn}", 'success 2', 'is its own next turn';
	like $r->{json}{response}, qr/Jan/, '... with its own answer';
	my $first = turn($t, 'jan', $id, 1)->{json};
	is "$first->{status} $first->{response}", 'success So be it.', 'the turn that waited has ended';
	like $first->{tool_calls}[0]{result}{error}, qr/did not say yes/, '... without a yes';
	is tasks('jan'), 'T1', '... and without effect';

	$id = asks('jim', 'delete', 1)->{json}{conversation_id};
	$r = $t->chat('jim', 'My name is Jim', conversation_id => $id, on_busy => 'reject');
	is "$r->{status} $r->{json}{turn}", '200 2', 'a question is no reason to reject one';

	$r = asks('joe', 'several', 3);
	$id = $r->{json}{conversation_id};
	$r = decide($other, 'joe', $id, { question($r)->{id} => $true }, message => 'My name is Joe', key => 'both');
	is "$r->{status} $r->{json}{turn}", '200 2', 'with a decision: the answer is for the message' or diag $r->{body};
	like $r->{json}{response}, qr/Joe/, '...';
	is tasks('joe'), 'T2,T3,New', 'what was decided comes first, the rest is denied';
	my $again = decide($t, 'joe', $id, { turn($t, 'joe',
	    $id, 1)->{json}{tool_calls}[0]{id} => $true }, message => 'My name is Joe', key => 'both');
	is "$again->{status} $again->{json}{turn}", '200 2', 'with its key again: the same';
	is $pg->one('SELECT turns FROM parley.conversations WHERE id = ?', $id), 2, '... and nothing else';
};

subtest 'queued messages' => sub {
	$t->chat('kay', 'add task: T1');
	# The message comes while the turn runs, before it asks.
	$script{late} = join "---\n", (text_call('Wait', delete_task => { task_id => 1 }) =~ s/(?<=\n)(?=data [^\n]*tool_calls)/wait 500\n/r),
	    text_reply('Done.');
	my ($c, $id) = begun($t, 'kay', play('late'));
	my ($q) = begun($other, 'kay', 'My name is Kay', conversation_id => $id);
	my $r = $c->response;
	is $r->{json}{status}, 'approval_required', 'a turn asks while a message waits behind it';
	is state_of($pg, $id, 2), 'queued', '... which goes on waiting';
	is $t->chat('kay', 'yes', conversation_id => $id)->{json}{turn}, 1, 'the answer overtakes it';
	is $q->response->{json}{turn}, 2, 'then it has its turn';
};

subtest 'what is no decision' => sub {
	my $r = asks('lea', 'delete', 1);
	my ($id, $q) = ($r->{json}{conversation_id}, question($r)->{id});
	my $none = '00000000-0000-4000-8000-000000000000';
	my $bad = sub {
		my ($name, $field, %body) = @_;
		error_is($t->post('/api/chat', { conversation_id => $id, %body }, user => 'lea'), 422, 'validation_error',
		    $name, field => $field);
	};
	$bad->('no object', approvals => approvals => $_) for [$q], $q, $true, 7;
	$bad->('nothing in it', approvals => approvals => {});
	$bad->('too many', approvals => approvals => { map { sprintf('%08d-0000-4000-8000-000000000000',
	    $_) => $true } 1 .. 65 });
	$bad->('no yes or no', approvals => approvals => { $q => $_ }) for 'yes', 1, undef, {};
	$bad->('no id', approvals => approvals => { $_ => $true }) for 'x', '', "$q ";
	$bad->('one id twice', approvals => approvals => { $q => $true, uc $q => $false }) if uc $q ne $q;
	$bad->('no conversation', conversation_id => approvals => { $q => $true }, conversation_id => undef);
	$bad->('an empty message', message => approvals => { $q => $true }, message => ' ');
	$bad->('neither', message => approvals => undef);
	my $foreign = asks('leo', 'delete', 1);
	my @r = map { decide($t, 'lea', $id, { $_ => $true }) } $none, question($foreign)->{id};
	error_is($_, 404, 'not_found', 'an id that is nobody\'s, or somebody else\'s') for @r;
	delete $_->{json}{request_id} for @r;
	is_deeply $r[0]{json}, $r[1]{json}, '... look the same';
	error_is(decide($t, 'lea', $id, { $q => $true, $none => $true }), 404, 'not_found', 'one of two');
	@r = map { decide($t, 'lea', $_, { $q => $true }) } $none, $foreign->{json}{conversation_id};
	error_is($_, 404, 'conversation_not_found', 'a conversation that is nobody\'s, or somebody else\'s') for @r;
	error_is(decide($t, 'leo', $id, { $q => $true }), 404, 'conversation_not_found', 'another user');
	error_is($t->post('/api/lea/chat', { conversation_id => $id, approvals => { $q => $true } }, user => 'leo'), 403,
	    'forbidden',
	    '... by her path');
	is tasks('lea') . tasks('leo'), 'T1T1', 'nothing of all that has any effect';
	is turn($t, 'lea', $id, 1)->{json}{status}, 'approval_required', '... and the question stands';
	is $t->post('/api/lea/chat', { conversation_id => $id, approvals => { $q => $true } }, user => 'lea')->{json}{status}, 'success',
	    'by the own path';
};

subtest 'two at once' => sub {
	for my $n (1 .. 6) {
		my $r = asks("max$n", 'delete', 1);
		my ($id, $q) = ($r->{json}{conversation_id}, question($r)->{id});
		my @c = map { begin_decide($_ % 2 ? $other : $t, "max$n", $id, { $q => $_ > 1 ? $true : $false }) } 0 .. 3;
		my @s = sort map { $_->response->{status} } @c;
		is "@s", '200 409 409 409', 'one wins';
		is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id = ? AND tool_name = 'delete_task' AND result IS NOT NULL}, "max$n"),
		    1, '... with one result';
	}
};

subtest 'with a key' => sub {
	my $r = asks('nea', 'delete', 1);
	my ($id, $q) = ($r->{json}{conversation_id}, question($r)->{id});
	my @r = map { $_->response } map { begin_decide($_, 'nea', $id, { $q => $true }, key => 'k') } $t, $other;
	push @r, decide($t, 'nea', $id, { $q => $true }, key => 'k');
	is_deeply [map { "$_->{status} $_->{json}{turn} $_->{json}{response}" } @r], [('200 1 So be it.') x 3],
	    'the same decision again: its turn';
	error_is(decide($t, 'nea', $id, { $q => $false }, key => 'k'), 422, 'idempotency_mismatch', 'another with its key');
	my @e = events(begin_decide($t, 'nea', $id, { $q => $true }, key => 'k', stream => $true));
	is stream_ok('as a stream', @e)->{response}, 'So be it.', '... as well';
	error_is(decide($t, 'nea', $id, { $q => $true }, key => 'k2'), 409, 'approval_already_decided', 'without: too late');
};

subtest 'to be stopped' => sub {
	my $id = asks('ola', 'delete', 1)->{json}{conversation_id};
	is cancel($other, 'ola', $id, 1)->{status}, 202, 'cancelled';
	my $b = turn($t, 'ola', $id, 1)->{json};
	body_ok($b, 'the turn');
	is $b->{status}, 'cancelled', '... at once';
	is $b->{tool_calls}[0]{is_error}, $true, '... its call was not made';
	my $r = retry($t, 'ola', $id, 1);
	is $r->{json}{status}, 'success', 'retried' or diag $r->{body};
	my $w = asks('olf', 'delete', 1);
	$id = $w->{json}{conversation_id};
	$r = $t->chat('olf', 'My name is Olf', conversation_id => $id, on_busy => 'interrupt');
	is "$r->{json}{status} $r->{json}{turn}", 'success 2', 'interrupted';
	is turn($t, 'olf', $id, 1)->{json}{status}, 'cancelled', '...';
	error_is(decide($t, 'olf', $id, { question($w)->{id} => $true }), 409, 'approval_already_decided',
	    '... then it is too late');
	$w = asks('ole', 'delete', 1);
	$id = $w->{json}{conversation_id};
	my $f = follow($t, 'ole', $id, 1);
	is $t->delete("/api/conversations/$id", user => 'ole')->{status}, 204, 'deleted';
	error_is(decide($t, 'ole', $id, { question($w)->{id} => $true }), 404, 'conversation_not_found', '... with its question');
	is join('', map { tasks($_) } qw(ola olf ole)), 'T1T1T1', 'nothing was done';
	is asks('ola', 'wrong', 0)->{json}{response}, 'Oh.', 'wrong arguments are no question';
};

subtest 'restarts' => sub {
	my $r = asks('pia', 'delete', 1);
	my ($id, $q) = ($r->{json}{conversation_id}, question($r));
	$pg->restart;
	$t->restart_pool;
	$other->ready;
	is_deeply question(turn($t, 'pia', $id, 1)), $q, 'the question is still there';
	is decide($t, 'pia', $id, { $q->{id} => $true })->{json}{response}, 'So be it.', '... and can be answered';
	is tasks('pia'), '', '...';
};

subtest 'a worker dies' => sub {
	# Between the yes and the tool, and while the tool runs.
	my $single = beside($t, conf => \%conf);
	my $r = $single->chat('rob', play('slowly'));
	my $id = $r->{json}{conversation_id};
	is question($r)->{question}, 'Run erase_slowly with these arguments? {"seconds":2}',
	    'a tool without a question of its own';
	my $c = begin_decide($single, 'rob', $id, { question($r)->{id} => $true });
	wait_for { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) } or diag 'the tool does not run';
	$single->kill_worker;
	cmp_ok $c->response->{status}, '>=', 500, 'the client is told';
	# Between the tool and the answer.
	my $two = beside($t, conf => \%conf);
	$r = asks('roy', 'answers', 1);
	my $id2 = $r->{json}{conversation_id};
	$c = begin_decide($two, 'roy', $id2, { question($r)->{id} => $true });
	wait_for { speaks($pg, $id2) } or diag 'the model does not speak';
	is tasks('roy'), '', 'the tool has run';
	$two->kill_worker;
	$c->response;
	# Decided, and never begun: as if the worker had died in that moment.
	$r = asks('ron', 'delete', 1);
	my $id3 = $r->{json}{conversation_id};
	$pg->psql("SET ROLE parley_worker; SELECT outcome FROM parley.turn_decide('ron', '$id3', ARRAY['" . question($r)->{id} .
	    "']::uuid[], '{t}', ' x', '', '{}', 50, 24000)");
	my @b = map { turn($t, @$_, 1, 15)->{json} } ['rob', $id], ['roy', $id2], ['ron', $id3];
	is_deeply [map { "$_->{status} $_->{response}" } @b], ['success At last.', 'success A whole answer.',
	    'success So be it.'],
	    'another worker goes on' or diag $JSON->encode(\@b);
	is tasks('rob'), 'the effect', 'the effect happens once';
	is scalar(grep { ($_->{script} // '') =~ /^answers/ } $model->requests), 3, 'what was done is not done again';
	is tasks('roy') . tasks('ron'), '', '...';
};

subtest 'nobody answers' => sub {
	my $soon = beside($t, conf => { %conf, 'approvals.expire' => '1 s', 'turn.deadline' => '3 s' });
	$t->chat('sam', 'add task: T1');
	my $r = $soon->chat('sam', play('delete'));
	my ($id, $q) = ($r->{json}{conversation_id}, question($r)->{id});
	my $asked = () = $model->requests;
	ok +(wait_for { state_of($pg, $id, 1) eq 'cancelled' } 20), 'the turn ends';
	my $m = $t->get("/api/conversations/$id", user => 'sam')->{json}{messages};
	is $m->[-1]{error_code}, 'approval_expired', '... as expired';
	is scalar(() = $model->requests), $asked, '... without a model call';
	error_is(decide($t, 'sam', $id, { $q => $true }), 409, 'approval_already_decided', 'then it is too late');
	is tasks('sam'), 'T1', 'nothing is done';
	is $t->chat('sam', 'My name is Sam', conversation_id => $id)->{json}{turn}, 2, 'the conversation goes on';
	like $JSON->encode(($model->requests)[-1]{body}{messages}), qr/not answered in time/, '... and the model knows';

	# Longer than the turn's deadline.
	my $slow = beside($t, conf => { %conf, 'turn.deadline' => '2 s' });
	$r = $slow->chat('sue', play('delete'));
	sleep 2.5;
	is decide($slow, 'sue', $r->{json}{conversation_id}, { question($r)->{id} => $true })->{json}{response}, 'So be it.',
	    'the deadline does not run while the user thinks';
};

subtest 'what the configuration says' => sub {
	$t->chat('una', 'add task: T1');
	my $own = beside($t, conf => { %conf, 'tools.confirm' => 'add_task', 'tools.no_confirm' => 'delete_task' });
	is $own->chat('una', play('delete'))->{json}{status}, 'success', 'nobody is asked where it says so';
	is tasks('una'), '', '... and it is done';
	my $r = $own->chat('una', 'add task: T2');
	is $r->{json}{status}, 'approval_required', 'and where it says so, the user is';
	is question($r)->{question}, 'Run add_task with these arguments? {"title":"T2"}', '... in words of its own';
	is decide($own, 'una', $r->{json}{conversation_id}, { question($r)->{id} => $true })->{json}{status}, 'success', 'yes';
	is tasks('una'), 'T2', '... does it';
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
