# Many at once: a hundred requests of one user to one conversation, and a hundred users.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep);

use Parley::Contract;
use Parley::Test;

my $N = 100;
my $t = Parley::Test->new(model => Parley::Model->new(delay => 40));
my $pg = $t->pg;

# Turn numbers without gaps; each turn is a question, and an answer that speaks of the same title.
sub in_order {
	my ($user, $id, $turns) = @_;
	my $rows = $pg->rows('SELECT m.turn, m.idx, m.role, m.content, t.state FROM parley.messages m
	    JOIN parley.turns t USING (user_id, conversation_id, turn, run)
	    WHERE m.user_id = ? AND m.conversation_id = ? ORDER BY m.turn, m.run, m.idx', $user, $id);
	my %turn;
	push @{$turn{$_->{turn}}}, $_ for @$rows;

	is_deeply [sort { $a <=> $b } keys %turn], [1 .. $turns], "$user: turns 1 to $turns, none is missing";
	my @bad = grep {
		my @m = @{$turn{$_}};
		my ($title) = $m[0]{content} =~ /(item \S+)/;
		$m[0]{role} ne 'user' || $m[-1]{role} ne 'assistant' || $m[-1]{content} !~ /\Q$title\E"/
		    || grep { $_->{state} ne 'done' || $_->{role} eq 'user' && $_->{idx} > 0 } @m;
	} keys %turn;
	is_deeply \@bad, [], "$user: each question is followed by its own answer";
}

# A hundred at once to a conversation that has one turn; the answers.
sub crowd {
	my ($user, %fields) = @_;
	my $id = $t->chat($user, "add task: item $user-0")->{json}{conversation_id};
	my @many = map { $t->begin_chat($user, "add task: item $user-$_", conversation_id => $id, %fields) } 1 .. $N;
	return ($id, map { $_->response } @many);
}

# Each client has the answer to what it asked, and no other has it too.
sub own_answers {
	my ($user, @ok) = @_;
	my %said = map { $_->{json}{turn} => $_->{json} } @ok;
	is keys %said, @ok, 'no two answers of one turn';
	my $questions = $pg->rows("SELECT turn, content FROM parley.messages WHERE user_id = ? AND role = 'user' AND turn > 1", $user);
	is scalar @$questions, @ok, 'what was answered is what was stored';
	is_deeply [grep { $said{$_->{turn}}{messages}[0]{content} ne $_->{content} } @$questions], [],
	    'each client has the answer to what it asked';
}

subtest 'on_busy reject' => sub {
	my ($id, @got) = crowd('rita', on_busy => 'reject');
	my @ok = grep { $_->{status} == 200 } @got;
	my @busy = grep { $_->{status} == 409 } @got;

	is @ok + @busy, $N, "each of $N gets 200 or 409" or diag join ' ', map { $_->{status} } @got;
	cmp_ok scalar @ok, '>=', 1, 'somebody gets through: ' . @ok;
	cmp_ok scalar @busy, '>=', 1, 'not all do: ' . @busy;
	error_is($busy[0], 409, 'conversation_busy', 'a refusal', conversation_id => $id);
	is_deeply [grep {
		$_->{json}{error_code} ne 'conversation_busy' || $_->{headers}{'retry-after'} !~ /^[1-9]\d*$/
		    || $_->{json}{turn} !~ /^\d+$/ || $_->{json}{turn} < 2 || $_->{json}{turn} > 1 + @ok
	} @busy], [], 'each refusal says when to come back, and which turn is in the way';
	own_answers('rita', @ok);
	in_order('rita', $id, 1 + @ok);
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'rita'}), 1 + @ok, 'a refused request has done nothing';
	is $t->chat('rita', 'add task: item last', conversation_id => $id)->{status}, 200, 'and the next is served';
};

subtest 'on_busy absent: they wait' => sub {
	my ($id, @got) = crowd('alice');

	is_deeply [grep { $_->{status} != 200 } @got], [], "each of $N is answered";
	own_answers('alice', @got);
	in_order('alice', $id, 1 + $N);
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'alice'}), 1 + $N, 'each has done what it was to do';
	is $pg->one(q{SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (ORDER BY turn) AS wrong FROM parley.messages
	    WHERE user_id = 'alice' AND idx = 0) x WHERE wrong}), 0, 'they ran in the order in which they came';
	is $pg->one(q{SELECT count(*) FROM (SELECT started_at < lag(ended_at) OVER (ORDER BY turn) AS wrong FROM parley.turns
	    WHERE user_id = 'alice') x WHERE wrong}), 0, '... one at a time';
};

subtest "$N users" => sub {
	my %begun = map { $_ => $t->begin_chat("user-$_", "add task: item of-$_") } 1 .. $N;
	my %got = map { $_ => $begun{$_}->response } keys %begun;

	is_deeply [grep { $got{$_}{status} != 200 } keys %got], [], 'all are served';
	is_deeply [grep { $got{$_}{json}{response} !~ /"item of-$_"/ } keys %got], [], 'each has the answer to its own question';
	is_deeply [grep { $got{$_}{json}{tool_calls}[0]{result}{task_id} != 1 } keys %got], [], 'each has a list of its own';
	is $pg->one("SELECT count(*) FROM tasks.tasks WHERE user_id ~ '^user-' AND title <> 'item of-' || substr(user_id, 6)"),
	    0, 'nothing is mixed: tasks';
	is $pg->one("SELECT count(*) FROM parley.messages WHERE user_id ~ '^user-' AND content <> ''
	    AND content !~ ('item of-' || substr(user_id, 6) || '(\$|\")')"), 0, 'nothing is mixed: messages';
};

is $pg->one("SELECT count(*) FROM parley.turns WHERE state <> 'done'"), 0, 'no turn is left over';
is $pg->one('SELECT count(*) FROM parley.live'), 0, 'no lease is left over';

done_testing;
