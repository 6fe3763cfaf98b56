# The connection to PostgreSQL is lost after a statement was committed and before its answer came, or before the statement
# arrived, for each statement of a turn: it is done exactly once, and the client gets its answer all the same.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Faults;
use Parley::Proxy;

my $pg = Parley::Postgres->new(port => 1);
Parley::Audit::counting_tool($pg);
my $proxy = Parley::Proxy->new($pg->port);
my $t = faults_test(pg => $pg, workers => 1, conf => { 'database.url' => $proxy->url('parley_worker'),
    'database.connections' => 4,
    'database.statement_timeout' => '2 s' });
my $o = Parley::Observer->new($t, patience => 20);
my ($n, $keys) = (0, 0);

# One turn with a tool: turn_begin, turn_step, tool_run, turn_end.
sub turn_with {
	my ($name, %m) = @_;
	my $label = 'once-' . ++$n;
	my $m = $o->say(user => 'alice', text => qq(bench:call count_once {"label":"$label"}), %m);

	ok $o->run(sub { $m->{end} }, 15), "$name: it ends" or return;
	is $m->{end}, 'done', '... well' or diag explain $m->{body};
	is $m->{body}{response}, 'ok', '... with its answer';
	is $m->{posts}, 1, '... to the one request';
	is $pg->one('SELECT count(*) FROM counting.effects WHERE label = ?', $label), 1, '... the tool has acted once';
	cmp_ok $m->{took}, '<', $LEASE + 5, sprintf '... in time (%.2f s)', $m->{took};
	figure sprintf '%s: %.2f s', $name, $m->{took};
}

turn_with('nothing happens');
for my $how ('after', 'before') {
	for my $statement (qw(turn_begin turn_step tool_run turn_end)) {
		for my $stream (0, 1) {
			for my $times (1, pick(1, 2) > 1 ? 2 : ()) {
				my $name = "$how $statement, $times times" . ($stream ? ', streamed' : '');
				my $cut = "cut_$how";
				$proxy->$cut("parley.$statement(", $times);
				turn_with($name, stream => $stream, $stream ? (key => 'key-' . ++$keys) : ());
				is $proxy->hits, $times, '... and it was cut';
				$proxy->pass;
			}
		}
	}
}

subtest 'a message to a conversation that there is' => sub {
	my $id = $o->say(user => 'bob', text => 'hello first');
	$o->run(sub { $id->{end} }, 5);
	for my $how (qw(cut_after cut_before)) {
		$proxy->$how('parley.turn_begin(');
		turn_with($how, user => 'bob', conversation_id => $id->{conversation_id});
	}
	is $pg->one(q{SELECT turns FROM parley.conversations WHERE user_id = 'bob'}), 3, 'each is there once';
};

subtest 'a network that stands still' => sub {
	my $m = $o->say(user => 'carol', text => 'script:slow please', stream => 1);
	ok $o->run(sub { $m->{turn} }, 5), 'a turn runs';
	$proxy->stall;
	my $r;
	my $since = time;
	$r = $t->chat('dave', 'hello');
	is "$r->{status} $r->{json}{error_code}", '503 database_unavailable', 'what comes now is told so';
	ok $r->{headers}{'retry-after'}, '... and when to come back';
	figure sprintf 'told after %.2f s', time - $since;
	cmp_ok time - $since, '<', 6, '... soon after database.statement_timeout';
	$o->run(undef, 2);
	$proxy->pass;
	ok $o->run(sub { $m->{end} }, $LEASE + 8), 'when it moves again, the turn ends';
	is $m->{end}, 'done', '... well';
};

subtest 'a network that refuses' => sub {
	my $m = $o->say(user => 'erin', text => 'script:slow please');
	ok wait_for(sub { $o->run(undef, 0.1); $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'erin'}) }, 5),
	    'a turn runs';
	$proxy->refuse;
	my $since = time;
	my $r = $t->chat('dave', 'hello again');
	is "$r->{status} $r->{json}{error_code}", '503 database_unavailable', 'what comes now is told so';
	cmp_ok time - $since, '<', 3, '... at once';
	$o->run(undef, 3);
	$proxy->pass;
	ok $o->run(sub { $m->{end} }, $LEASE + 8), 'when it answers again, the turn ends';
	is $m->{end}, 'done', '... well';
	is $t->chat('dave', 'hello at last')->{status}, 200, 'and new ones begin';
};

quiet_ok($o, $pg, 'afterwards', $LEASE + 5);
is $pg->one(q{SELECT count(*) FROM parley.messages WHERE content = 'hello again'}), 0, 'what was refused was not stored';
is $t->pool->sickness, '', 'the workers were well';
done_testing;
