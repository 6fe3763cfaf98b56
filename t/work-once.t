# parleyctl work --once: where no worker lives, cron takes up what is left to do.
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
my @many = map { "many$_" } 1 .. 6;
my $model = Parley::Model->new(scripts => {
	crashed => join("---\n", call_reply(add_task => { title => 'Once' }), $hang, text_reply('Added.')),
	ask => call_reply(delete_task => { task_id => 1 }),
	slow => join("---\n", $hang, text_reply('Well, ', 20000, 'x'), text_reply('At last.')),
	beside => join("---\n", $hang, text_reply('Beside others.')),
	map { $_ => join("---\n", $hang, text_reply('One ', 300, 'answer.')) } @many,
});
my $t = Parley::Test->new(model => $model, how => 'fd',
    conf => { 'turn.lease' => '3s', 'model.retries' => 0, 'worker.drain_timeout' => '100 ms', 'approvals.expire' => '1 s' });
my $pg = $t->pg;
my $ctl = Parley::Pool::program('parleyctl');
delete $ENV{$_} for grep { /^(PARLEY_|PG|OPENAI_|OPENROUTER_|DATABASE_URL|AGENT_MODEL|BETTER_AUTH_SECRET)/ } keys %ENV;
my %env = (PARLEY_CONF => $t->pool->conf_file, PARLEY_AUTH_SECRET => $Parley::Test::SECRET);

# A pipe from the program; its end is (exit status, what it said on both).
sub begin_work {
	my ($env, @words) = @_;
	local %ENV = (%ENV, %env, %$env);
	my $line = join ' ', map { "'$_'" } @words;
	open my $pipe, '-|', "exec '$ctl' work $line 2>&1" or die "$ctl: $!";
	return $pipe;
}

sub end_work {
	my ($pipe) = @_;
	my $said = do { local $/; <$pipe> } // '';
	close $pipe;
	return ($? >> 8, $said);
}

sub work { return end_work(begin_work({}, @_)) }

sub row { return $pg->rows('SELECT * FROM parley.turns WHERE conversation_id = ? AND turn = ?', $_[0], $_[1] // 1)->[0] }
sub last_said { return $pg->one('SELECT content FROM parley.messages WHERE conversation_id = ? ORDER BY turn DESC, run DESC, idx DESC LIMIT 1', $_[0]) }
sub asked { my ($script) = @_; return scalar grep { ($_->{script} // '') eq $script } $model->requests }

# The worker as a host kills it.
sub gone { my ($signal) = @_; $t->pool->stop($signal, 20) }

subtest 'the command line' => sub {
	for my $words ([], ['--seconds', 5], ['--once', '--seconds', 0], ['--once', '--seconds', 'x'], ['--once', 'x']) {
		my ($status, $said) = work(@$words);
		is $status, 2, "'@$words' is refused";
		like $said, qr/usage: parleyctl work/, '... with the usage';
	}
	is_deeply [work('--once')], [0, "0 turns were taken up\n"], 'nothing to do';
};

subtest 'killed in the middle' => sub {
	my (undef, $id) = begun($t, 'carl', 'script:crashed');
	wait_for { asked('crashed') == 2 } or die 'not asked';
	my (undef, undef, $queued) = begun($t, 'carl', 'My name is Carl', conversation_id => $id);
	is $queued, 2, 'a second message waits';
	$t->chat('paula', 'add task: Apples');
	my $asks = $t->chat('paula', 'script:ask')->{json};
	is $asks->{status}, 'approval_required', 'a question waits for an answer';
	gone('KILL');
	sleep 1.1;
	my ($status, $said) = work('--once');
	is "$status $said", "0 1 turn was taken up\n", 'one whose lease lasts is left alone, a question that expired is not';
	is row($asks->{conversation_id})->{error_code}, 'approval_expired', '... it has ended';
	expire($pg, $id);
	($status, $said) = work('--once');
	is "$status $said", "0 2 turns were taken up\n", 'when it is out the turn is taken up, and the one behind it';
	is row($id, $_)->{state}, 'done', "turn $_ is done" for 1, 2;
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'carl'}), 1, 'what a tool had done is not done again';
	is asked('crashed'), 3, '... and it went on where it had stopped';
	is_deeply [work('--once')], [0, "0 turns were taken up\n"], 'then nothing is left';
};

subtest 'released, and two of them at once' => sub {
	$t->pool->start;
	$t->ready;
	my %id = map { $_ => (begun($t, $_, "script:$_"))[1] } @many;
	wait_for { !grep { asked($_) == 0 } @many } or die 'not asked';
	gone('TERM');
	is row($_)->{state}, 'running', 'released' for values %id;
	my @pipes = map { begin_work({}, '--once') } 1, 2;
	my $taken = 0;
	for (@pipes) {
		my ($status, $said) = end_work($_);
		is $status, 0, 'it ends well';
		like $said, qr/^(\d+) turns? w(?:as|ere) taken up$/, '... and tells';
		$taken += $said =~ /^(\d+)/ ? $1 : 0;
	}
	is $taken, @many, 'each turn was taken up by one of them';
	for (@many) {
		is last_said($id{$_}), 'One answer.', "$_ has the answer";
		is asked($_), 2, '... once';
	}
};

subtest 'its time is over' => sub {
	$t->pool->start;
	$t->ready;
	my (undef, $id) = begun($t, 'sven', 'script:slow');
	wait_for { asked('slow') == 1 } or die 'not asked';
	gone('TERM');
	my $before = row($id)->{attempts};
	my $since = time;
	my ($status, $said) = work('--once', '--seconds', 1);
	is "$status $said", "0 1 turn was taken up, 1 given back when the time was over\n", 'what still runs is given back';
	cmp_ok time - $since, '<', 5, '... in time';
	is row($id)->{attempts}, $before, '... which is no failed attempt';
	my $pipe = begin_work({}, '--once');
	is_deeply [end_work($pipe)], [0, "1 turn was taken up\n"], 'the next goes on with it';
	is last_said($id), 'At last.', '... to its end';
};

subtest 'beside a worker' => sub {
	$t->pool->start;
	$t->ready;
	my (undef, $id) = begun($t, 'berta', 'script:beside');
	wait_for { asked('beside') == 1 } or die 'not asked';
	gone('TERM');
	$t->pool->start;
	my ($status) = work('--once');
	is $status, 0, 'both look for it';
	ok wait_for { row($id)->{state} eq 'done' } 10;
	is last_said($id), 'Beside others.', 'it has one answer';
	is asked('beside'), 2, '... once';
};

subtest 'what is wrong is said' => sub {
	my ($status, $said) = end_work(begin_work({ PARLEY_DATABASE_URL => 'host=/nowhere dbname=x' }, '--once'));
	is $status, 1, 'no database';
	like $said, qr/parleyctl: the database could not be asked/, '... it says so';
	($status, $said) = end_work(begin_work({ PARLEY_DATABASE_URL => $pg->url }, '--once'));
	is $status, 1, 'a superuser';
	like $said, qr/is not bound by row level security/, '... is refused';
};

done_testing;
