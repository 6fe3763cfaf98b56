# A hundred messages at once to one conversation, which wait in line: all are stored, all are answered, in the order of
# their turns, in seconds.  The line has an end: past 128 the next is refused with queue_full, and none of those in it is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(time);

use Parley::Contract;
use Parley::Faults;

my $t = faults_test(workers => 3, scripts => { long => text_reply('Just ', 2500, 'a moment.') });
my $pg = $t->pg;
my $o = Parley::Observer->new($t, patience => 30);

# Each turn began after the one before had ended, and answers its own question.
sub in_order {
	my ($user) = @_;
	is $pg->one(q{SELECT count(*) FROM (SELECT started_at,
	    lag(ended_at) OVER (PARTITION BY conversation_id ORDER BY turn) AS before
	    FROM parley.turns WHERE user_id = ? AND state = 'done') x WHERE before > started_at}, $user), 0,
	    'each began after the one before had ended';
	is $pg->one(q{SELECT count(*) FROM parley.messages q JOIN parley.messages a USING (user_id, conversation_id, turn, run)
	    WHERE user_id = ? AND q.role = 'user' AND a.role = 'assistant' AND a.calls = 0 AND q.content ~ '^add task'
	      AND a.content !~ substring(q.content, 'item \S+')}, $user), 0, 'each answers its own question';
}

for my $round (1 .. pick(1, 5)) {
	my $user = "alice-$round";
	my $first = $o->say(user => $user, text => "hello $round");
	is scalar($o->finish(10)), 0, 'a conversation';
	my $since = time;
	my @m = map { $o->say(user => $user, conversation_id => $first->{conversation_id}, text => "add task: item $round-$_",
	    stream => $_ % 3 == 0 ? 1 : 0, $_ % 2 ? (on_busy => 'queue') : (), $_ % 5 ? () : (key => "$round-$_")) } 1 .. 100;
	is scalar($o->finish(40)), 0, 'a hundred at once: all have an end';
	my $took = time - $since;
	is_deeply [map { "$_->{end} " . ($_->{code} // '') } grep { $_->{end} ne 'done' } @m], [], '... a good one';
	my @turns = sort { $a <=> $b } map { $_->{turn} // 0 } @m;
	is_deeply \@turns, [2 .. 101], '... each a turn of its own';
	in_order($user);
	cmp_ok $took, '<', 20, sprintf '... in seconds: %.1f', $took;
	figure sprintf 'a hundred messages to one conversation: all answered after %.1f s', $took;
}

subtest 'the line is full' => sub {
	my $first = $o->say(user => 'bob', text => 'script:long please');
	ok $o->run(sub { $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'bob'}) }, 5), 'one that takes long';
	my $id = $pg->one(q{SELECT id FROM parley.conversations WHERE user_id = 'bob'});
	my @m = map { $o->say(user => 'bob', conversation_id => $id, text => "add task: item $_", stream => $_ % 2) } 1 .. 150;
	is scalar($o->finish(40)), 0, 'a hundred and fifty behind it: all have an end';
	my @full = grep { $_->{end} eq 'refused' } @m;
	is @full, 22, '... 22 of them a refusal';
	is_deeply [grep { $_->{code} ne 'queue_full' } @full], [], '... queue_full';
	is grep({ $_->{end} eq 'done' } @m), 128, '... and the 128 in the line an answer';
	in_order('bob');
	is $pg->one(q{SELECT turns FROM parley.conversations WHERE user_id = 'bob'}), 129, 'nothing else was stored';
};

subtest 'clients that leave the line' => sub {
	my $first = $o->say(user => 'carol', text => 'hello');
	is scalar($o->finish(10)), 0, 'a conversation';
	my @gone = map { $t->begin_chat('carol', "add task: item $_", conversation_id => $first->{conversation_id}) } 1 .. 20;
	ok wait_for(sub { $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'carol'}) == 21 }, 10),
	    'twenty are stored';
	$_->close for @gone;
	ok wait_for(sub { $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'carol' AND state = 'done'}) == 21 },
	    10), 'all are answered without them';
	in_order('carol');
};

quiet_ok($o, $pg, 'in line', 5);
is $t->pool->sickness, '', 'the workers were well';
done_testing;
