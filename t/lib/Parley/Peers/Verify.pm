package Parley::Peers::Verify;

# Does a peer do the same work?  Who does not is not measured.
#
#	my @checks = Parley::Peers::Verify::checks($t);	# ([name, what was wrong, or ''], …)
#
# The peer's model must have the scripts of Parley::Peers::Verify::scripts().

use strict;
use warnings;

use JSON::XS ();
use Time::HiRes qw(sleep time);

use Parley::Process;
use Parley::Test;

my $NOBODY = '00000000-0000-4000-8000-000000000000';
my $STORED = q{SELECT string_agg(role || ':' || content, '|' ORDER BY turn, idx) FROM messages WHERE conversation_id = ?};
my $STATES = q{SELECT string_agg(state, ' ' ORDER BY turn) FROM turns WHERE conversation_id = ?};

# Asked for by name: a model that thinks a while, one that fails, one that is cut off, one whose text comes slowly.
sub scripts {
	my $text = 'data {"choices":[{"index":0,"delta":{"content":"%s"}}]}' . "\n";
	my $end = 'data {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}' . "\ndone\n";
	return {
		slow => "wait 1500\n" . sprintf($text, 'late') . $end,
		fails => "status 500\nraw no\n",
		cut => sprintf($text, 'half') . "cut\n",
		drips => sprintf($text, 'one ') . "wait 700\n" . sprintf($text, 'two') . $end,
	};
}

sub checks {
	my ($t) = @_;
	my @checks = (
		['a turn is stored, then answered' => \&_turn],
		['message and turn are committed before the model is asked, no connection waits for it' => \&_waits],
		['one live turn in a conversation' => \&_busy],
		['a turn ends though its client goes away' => \&_gone],
		['the newest 50 messages reach the model' => \&_history],
		['a call is done once, in one transaction with its result' => \&_tool],
		['a call that cannot be done is told to the model' => \&_refused],
		['tokens are checked' => \&_tokens],
		['what is asked for must be there, and one\'s own' => \&_unknown],
		['bodies are checked' => \&_bodies],
		['a message stays though the model fails' => \&_fails],
		['a stream comes as it is said, and is stored' => \&_stream],
		['a stream tells of calls and of failure' => \&_events],
	);
	return map { [$_->[0], _tried($t, $_->[1])] } @checks;
}

sub _tried {
	my ($t, $code) = @_;
	my @wrong;
	eval { $code->($t, sub { my ($ok, $what) = @_; push @wrong, $what unless $ok }); 1 } or push @wrong, "died: $@";
	return join '; ', @wrong;
}

sub _turn {
	my ($t, $ok) = @_;
	my $r = $t->chat('alice', '  bench  ');
	my $j = $r->{json} // {};

	$ok->($r->{status} == 200, "status $r->{status} $r->{body}");
	$ok->(join(' ', sort keys %$j) eq join(' ', sort qw(status conversation_id turn response tool_calls approvals_required
	    messages usage model timestamp)), 'members: ' . join ' ', sort keys %$j);
	$ok->($j->{status} eq 'success' && $j->{turn} == 1 && $j->{response} =~ /^ok, this is/, 'the answer');
	$ok->("@{[map { $_->{role} } @{$j->{messages}}]}" eq 'user assistant', 'its messages');
	$ok->($j->{usage}{input_tokens} > 0 && $j->{usage}{output_tokens} > 0, 'its usage');
	$ok->(length($r->{headers}{'x-request-id'} // ''), 'X-Request-Id');
	$ok->($t->one($STORED, $j->{conversation_id}) eq "user:bench|assistant:$j->{response}", 'what is stored');
	$ok->($t->one($STATES, $j->{conversation_id}) eq 'done', 'the turn\'s state');
}

# A turn that waits for the model: the request, its conversation.
sub _begun {
	my ($t, $user, $message, %fields) = @_;
	my $c = $t->begin_chat($user, $message, %fields);
	my $id = Parley::Process::wait_for {
		$t->one(q{SELECT c.id FROM conversations c JOIN turns ON conversation_id = c.id WHERE user_id = ? AND state = 'running'}, $user);
	} 10 or die 'the turn was not stored';
	return ($c, $id);
}

sub _waits {
	my ($t, $ok) = @_;
	my ($c, $id) = _begun($t, 'bob', 'script:slow');

	$ok->($t->one($STORED, $id) eq 'user:script:slow', 'the message is not there');
	# The model has been asked by now, and says nothing yet.
	sleep 0.5;
	my $held = $t->one(q{SELECT string_agg(query, ' ') FROM pg_stat_activity
	    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'});
	$ok->(!defined $held, 'a connection is held: ' . ($held // ''));
	$ok->($t->one($STATES, $id) eq 'running', 'it does not run');
	my $r = $c->response;
	$ok->($r->{status} == 200 && $r->{json}{response} eq 'late', "the answer: $r->{status}");
}

sub _busy {
	my ($t, $ok) = @_;
	my ($c, $id) = _begun($t, 'carol', 'script:slow');
	my $r = $t->chat('carol', 'bench', conversation_id => $id);

	_is_error($ok, $r, 409, 'conversation_busy');
	$ok->($r->{headers}{'retry-after'}, 'Retry-After');
	$c->response;
	$r = $t->chat('carol', 'bench', conversation_id => $id);
	$ok->($r->{status} == 200 && $r->{json}{turn} == 2, 'it cannot be gone on with');
}

sub _gone {
	my ($t, $ok) = @_;
	for my $stream (JSON::XS::false, JSON::XS::true) {
		my ($c, $id) = _begun($t, 'dave', 'script:slow', stream => $stream);
		$c->close;
		Parley::Process::wait_for { $t->one($STATES, $id) ne 'running' } 10;
		$ok->($t->one($STORED, $id) eq 'user:script:slow|assistant:late', ($stream ? 'a stream' : 'a request') . ' was lost');
	}
}

sub _history {
	my ($t, $ok) = @_;
	my $id = $t->chat('erin', 'bench first')->{json}{conversation_id};

	$t->dbh->do(q{INSERT INTO turns (conversation_id, turn, state) SELECT ?::uuid, n, 'done' FROM generate_series(2, 40) n}, undef, $id);
	$t->dbh->do(q{INSERT INTO messages (conversation_id, turn, idx, id, role, content)
	    SELECT ?::uuid, n, i, gen_random_uuid(), CASE i WHEN 0 THEN 'user' ELSE 'assistant' END, 'said ' || n || '.' || i
	      FROM generate_series(2, 40) n, generate_series(0, 1) i}, undef, $id);
	$t->dbh->do('UPDATE conversations SET turns = 40 WHERE id = ?', undef, $id);
	$t->model->clear;
	my $r = $t->chat('erin', 'bench newest', conversation_id => $id);
	my ($system, @said) = @{($t->model->requests)[-1]{body}{messages}};
	my @want = map { my $n = $_; map { "said $n.$_" } 0, 1 } 16 .. 40;

	shift @want;
	$ok->($r->{json}{turn} == 41, 'the turn\'s number');
	$ok->($system->{role} eq 'system', 'the instructions');
	$ok->("@{[map { $_->{content} } @said]}" eq "@want bench newest", 'the history: ' . join '|', map { $_->{content} } @said);
	$ok->(!(grep { $said[$_]{role} ne ($_ % 2 ? 'user' : 'assistant') } 0 .. $#said), 'its roles');
}

sub _tool {
	my ($t, $ok) = @_;
	$t->model->clear;
	my $r = $t->chat('frank', 'add task: Buy milk');
	my @calls = @{$r->{json}{tool_calls}};
	my @asked = $t->model->requests;

	$ok->(@calls == 1 && $calls[0]{tool_name} eq 'add_task' && !$calls[0]{is_error}, 'the call');
	$ok->($calls[0]{result}{status} eq 'created' && $calls[0]{result}{task}{title} eq 'Buy milk', 'its result');
	$ok->($t->one(q{SELECT string_agg(title, '|') FROM tasks WHERE user_id = 'frank'}) eq 'Buy milk', 'its effect');
	$ok->(@asked == 2, 'requests to the model');
	$ok->(@{$asked[0]{body}{tools}} == 5, 'the tools it is offered');
	$ok->(join(' ', map { $_->{role} } @{$asked[1]{body}{messages}}) eq 'system user assistant tool', 'what it is told');
	$ok->($asked[1]{body}{messages}[3]{content} =~ /"created"/, 'the result it is told');
	$ok->($t->one(q{SELECT bool_and(t.xmin = m.xmin) FROM tasks t, messages m
	    WHERE t.user_id = 'frank' AND conversation_id = ? AND idx BETWEEN 1 AND 2}, $r->{json}{conversation_id}), 'several transactions');
	$r = $t->chat('frank', 'show my tasks', conversation_id => $r->{json}{conversation_id});
	$ok->($r->{json}{response} =~ /Buy milk/, 'it is not listed');
	my @said = @{($t->model->requests)[2]{body}{messages}};
	$ok->(join(' ', map { $_->{role} } @said) eq 'system user assistant tool assistant user', 'the stored call as history');
	$ok->($said[3]{tool_call_id} eq $said[2]{tool_calls}[0]{id}, 'the ids of calls');
	$r = $t->chat('frank', 'bench:tool');
	$ok->($r->{json}{response} eq 'ok' && @{$r->{json}{tool_calls}} == 1, 'the bench\'s call');
}

sub _refused {
	my ($t, $ok) = @_;
	$t->chat('gina', 'add task: Hers');
	my $hers = $t->one(q{SELECT id FROM tasks WHERE user_id = 'gina'});

	# The second is somebody else's.
	for my $id (999_999, $hers) {
		my $r = $t->chat('heidi', qq(bench:call delete_task {"task_id":$id}));
		$ok->($r->{status} == 200 && $r->{json}{tool_calls}[0]{is_error}, "task $id: $r->{body}");
	}
	$ok->($t->one('SELECT count(*) FROM tasks WHERE id = ?', $hers) == 1, 'somebody else\'s task is gone');
}

sub _is_error {
	my ($ok, $r, $status, $code) = @_;
	my $j = $r->{json} // {};

	$ok->($r->{status} == $status, "$r->{status}, not $status");
	$ok->(($j->{status} // '') eq 'error' && ($j->{error_code} // '') eq $code, "not $code: $r->{body}");
	$ok->(!(grep { !length($j->{$_} // '') } qw(error message request_id)), "shape: $r->{body}");
}

sub _tokens {
	my ($t, $ok) = @_;
	my $claims = { sub => 'alice', exp => int(time) + 600 };
	my %bad = (
		missing_token => [undef],
		token_expired => [$t->token('alice', exp => int(time) - 600)],
		invalid_token => ['x.y.z', Parley::Test::jwt({ alg => 'HS256' }, $claims, 'another secret'),
		    Parley::Test::jwt({ alg => 'none' }, $claims, ''), $t->token('alice', sub => undef)],
	);
	my $before = $t->one('SELECT count(*) FROM messages');

	for my $code (sort keys %bad) {
		for my $token (@{$bad{$code}}) {
			my $r = $t->post('/api/chat', { message => 'bench' }, token => $token);
			_is_error($ok, $r, 401, $code);
			$ok->(($r->{headers}{'www-authenticate'} // '') =~ /^Bearer/, 'WWW-Authenticate');
		}
	}
	$ok->($t->one('SELECT count(*) FROM messages') == $before, 'something was stored');
}

sub _unknown {
	my ($t, $ok) = @_;
	my $id = $t->chat('alice', 'bench')->{json}{conversation_id};

	_is_error($ok, $t->chat('mallory', 'bench', conversation_id => $_), 404, 'conversation_not_found') for $id, $NOBODY;
	_is_error($ok, $t->get('/api/nothing'), 404, 'not_found');
	$ok->($t->one($STATES, $id) eq 'done', 'somebody else\'s conversation was changed');
}

sub _bodies {
	my ($t, $ok) = @_;
	my @bad = ([{}, 'message'], [{ message => 5 }, 'message'], [{ message => " \n" }, 'message'], [{ message => 'x' x 2001 }, 'message'],
	    [{ message => 'bench', conversation_id => 'x' }, 'conversation_id']);

	for (@bad) {
		my ($body, $field) = @$_;
		my $r = $t->post('/api/chat', $body);
		_is_error($ok, $r, 422, 'validation_error');
		$ok->(($r->{json}{field} // '') eq $field, "field: $r->{body}");
	}
	_is_error($ok, $t->post('/api/chat', '{"message":'), 400, 'invalid_json');
}

sub _fails {
	my ($t, $ok) = @_;
	for my $script (qw(fails cut)) {
		my $r = $t->chat('ivan', "script:$script");
		my $id = $r->{json}{conversation_id} // '';

		$ok->($r->{status} =~ /^50[23]$/ && ($r->{json}{error_code} // '') =~ /^model_/, "$script: $r->{status} $r->{body}");
		$ok->($r->{json}{turn} == 1 && length $id, "$script: no turn is named");
		$ok->($t->one($STORED, $id) eq "user:script:$script", "$script: what is stored");
		$ok->($t->one($STATES, $id) eq 'failed', "$script: its state");
		$r = $t->chat('ivan', 'bench', conversation_id => $id);
		$ok->($r->{status} == 200, "$script: the conversation cannot be gone on with");
	}
}

sub _stream {
	my ($t, $ok) = @_;
	my $c = $t->begin_chat('judy', 'script:drips', stream => JSON::XS::true);
	my (@events, %at);

	while (my $e = $c->event) {
		push @events, $e;
		$at{$e->{event}} //= time;
	}
	$ok->($c->head->{headers}{'content-type'} =~ m{^text/event-stream}, 'its type');
	$ok->("@{[map { $_->{event} } @events]}" eq 'turn delta delta done', "events: @{[map { $_->{event} } @events]}");
	$ok->(!(grep { !length($_->{id} // '') } @events), 'events without id');
	$ok->(join('', map { $_->{data}{text} // '' } @events) eq 'one two', 'its text');
	$ok->($events[-1]{data}{response} eq 'one two', 'the answer');
	$ok->($at{done} - $at{delta} > 0.5, 'it is held back');
	$ok->($t->one($STORED, $events[0]{data}{conversation_id}) eq 'user:script:drips|assistant:one two', 'what is stored');
}

sub _events {
	my ($t, $ok) = @_;
	my @events = $t->stream('kate', 'add task: Buy bread');
	my $names = join(' ', map { $_->{event} } @events) =~ s/delta(?: delta)+/delta/gr;

	$ok->($names eq 'turn tool_call tool_result delta done', "events: $names");
	$ok->($events[2]{data}{result}{status} eq 'created', 'the result');
	@events = $t->stream('kate', 'script:fails');
	$ok->($events[-1]{event} eq 'error' && $events[-1]{data}{error_code} =~ /^model_/, 'no event error');
}

1;
