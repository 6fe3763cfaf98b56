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

for my $on_busy ('reject', undef) {
	my $how = $on_busy // 'absent';
	my $user = "alice-$how";
	my $id = $t->chat($user, "add task: item $how-0")->{json}{conversation_id};
	my @many = map {
		$t->begin_chat($user, "add task: item $how-$_", conversation_id => $id,
		    defined $on_busy ? (on_busy => $on_busy) : ());
	} 1 .. $N;
	my @got = map { $_->response } @many;
	my @ok = grep { $_->{status} == 200 } @got;
	my @busy = grep { $_->{status} == 409 } @got;

	is @ok + @busy, $N, "on_busy $how: each of $N gets 200 or 409" or diag join ' ', map { $_->{status} } @got;
	cmp_ok scalar @ok, '>=', 1, 'somebody gets through: ' . @ok;
	cmp_ok scalar @busy, '>=', 1, 'not all do: ' . @busy;
	error_is($busy[0], 409, 'conversation_busy', 'a refusal', conversation_id => $id);
	is_deeply [grep {
		$_->{json}{error_code} ne 'conversation_busy' || $_->{headers}{'retry-after'} !~ /^[1-9]\d*$/
		    || $_->{json}{turn} !~ /^\d+$/ || $_->{json}{turn} < 2 || $_->{json}{turn} > 1 + @ok
	} @busy], [], 'each refusal says when to come back, and which turn is in the way';

	my %said = map { $_->{json}{turn} => $_->{json} } @ok;
	is keys %said, @ok, 'no two answers of one turn';
	in_order($user, $id, 1 + @ok);
	my $questions = $pg->rows("SELECT turn, content FROM parley.messages WHERE user_id = ? AND role = 'user' AND turn > 1", $user);
	is_deeply [grep { $said{$_->{turn}}{messages}[0]{content} ne $_->{content} } @$questions], [],
	    'each client has the answer to what it asked';
	is $pg->one('SELECT count(*) FROM tasks.tasks WHERE user_id = ?', $user), 1 + @ok, 'a refused request has done nothing';
	is $t->chat($user, "add task: item $how-last", conversation_id => $id)->{status}, 200, 'and the next is served';
}

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
