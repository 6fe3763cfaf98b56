# Workers and PostgreSQL that are restarted between turns and in the middle of them.
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

sub wait_for { &Parley::Process::wait_for }

my $pg = Parley::Postgres->new;
$pg->slow_tool;
my $model = Parley::Model->new(scripts => {
	thinks => text_reply('I ', 1500, 'am ', 'back.'),
	tool => join("---\n", call_reply(add_slowly => { title => 'once', seconds => 2 }), text_reply('Done.')),
});
my $t = Parley::Test->new(pg => $pg, model => $model);

# All connections of workers end, as when a proxy or a firewall has had enough of them.
sub cut_all {
	# Those of now: a worker may open another at any time.
	my $pids = $pg->one(q{SELECT coalesce(string_agg(pid::text, ','), '0') FROM pg_stat_activity WHERE usename = 'parley_worker'});
	$pg->one("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid IN ($pids)");
	wait_for(sub { !$pg->one("SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids)") }) or die 'they do not end';
}

# So many at once that every worker has opened its connections.
sub everybody {
	my ($name, $n) = @_;
	my @got = map { $_->response } map { $t->begin_chat("user-$_", "add task: $name") } 1 .. ($n // 40);
	is_deeply [map { $_->{body} } grep { $_->{status} != 200 } @got], [], "$name: no request fails" or diag $t->log_text;
	is_deeply [grep { @{$_->{json}{tool_calls} // []} != 1 || $_->{json}{tool_calls}[0]{is_error} } @got], [], '... and each has its tool';
}

my $id = $t->chat('alice', 'My name is Ada')->{json}{conversation_id};
my $turn = 1;
sub goes_on {
	my ($name) = @_;
	my $r = $t->chat('alice', 'What is my name?', conversation_id => $id);
	like $r->{json}{response} // $r->{body}, qr/Ada/, "$name: the conversation goes on";
	is $r->{json}{turn}, ++$turn, '... with the next turn';
}

everybody('at first');
goes_on('at first');

subtest 'workers restart' => sub {
	$t->pool->restart;
	$t->ready;
	goes_on('workers restarted');
	my @old = $t->pids;
	$t->kill_worker($_) for @old;
	ok wait_for(sub { my %now = map { $_ => 1 } $t->pids; keys %now == 2 && !grep { $now{$_} } @old }), 'all workers killed, all replaced';
	$t->ready;
	goes_on('workers killed');
	everybody('new workers');
};

subtest 'workers restart one by one, under load' => sub {
	my (@waits, @streams);
	for my $round (1 .. 3) {
		my @old = $t->pids;
		push @waits, map { $t->begin_chat("rolled-$round-$_", 'script:thinks please') } 1 .. 6;
		push @streams, map { $t->begin_chat("streamed-$round-$_", 'script:thinks please', stream => JSON::XS::true) } 1 .. 3;
		sleep 0.3;
		for my $pid (@old) {
			kill 'TERM', $pid;
			ok wait_for(sub { my %now = map { $_ => 1 } $t->pids; keys %now == 2 && !$now{$pid} }), "round $round: one is replaced";
		}
	}
	my @got = map { $_->response } @waits;
	is_deeply [grep { !/^(?:200|202|503)$/ } map { $_->{status} } @got], [], 'each is answered or told to come back';
	my $live = q{SELECT count(*) FROM parley.turns WHERE state = 'running'};
	for (@streams) {
		1 while $_->event;
	}
	ok wait_for(sub { !$pg->one($live) }, 30), 'all come to an end';
	is $pg->one(q{SELECT count(*) FROM parley.turns t JOIN parley.messages m USING (user_id, conversation_id, turn, run)
	    WHERE user_id ~ '^(rolled|streamed)' AND m.role = 'assistant' AND m.content = 'I am back.' AND t.state = 'done'}),
	    $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id ~ '^(rolled|streamed)'}), '... with their answer';
	is $pg->one(q{SELECT max(attempts) FROM parley.turns WHERE user_id ~ '^(rolled|streamed)'}), 1, '... and none counts as a failed attempt';
};

for my $mode (qw(fast immediate)) {
	subtest "PostgreSQL restarts ($mode)" => sub {
		$pg->restart($mode);
		everybody("after a $mode restart");
		goes_on("after a $mode restart");
		is $t->get('/api/health', token => undef)->{status}, 200, 'health';
	};
}

subtest 'each connection is stale, one request at a time' => sub {
	everybody('again');
	cut_all();
	is_deeply [grep { $_->{status} != 200 } map { $t->get('/api/conversations', user => 'alice') } 1 .. 16], [], 'reads do not notice';
	cut_all();
	goes_on('connections cut');
	goes_on('once more');
};

subtest 'while the database is away' => sub {
	$pg->stop;
	error_is($t->chat('alice', 'hello', conversation_id => $id), 503, 'database_unavailable', 'a turn cannot begin');
	my $r = $t->get('/api/health', token => undef);
	is "$r->{status} $r->{json}{database}", '503 unavailable', 'health says so';
	$r = $t->get('/api/conversations', user => 'alice');
	error_is($r, 503, 'database_unavailable', 'nothing can be read');
	cmp_ok $r->{headers}{'retry-after'}, '>=', 1, '... and Retry-After';
	$pg->start;
	everybody('back');
	goes_on('back');
	is $pg->one('SELECT count(*) FROM parley.messages WHERE conversation_id = ? AND turn > ?', $id, $turn), 0, 'the refused message was not stored';
};

# Begins a turn, stops the database when the code says so, starts it again after some seconds.
sub interrupted {
	my ($user, $message, $away, $when) = @_;
	my $c = $t->begin_chat($user, $message);
	ok wait_for($when), 'it has begun';
	$pg->stop('immediate');
	sleep $away;
	$pg->start;
	my $r = $c->response;
	is $r->{status}, 200, 'the answer comes' or diag $r->{body};
	return $r;
}

sub stored {
	my ($r) = @_;
	my $b = $t->get("/api/conversations/$r->{json}{conversation_id}/turns/1", user => $_[1])->{json};
	is "$b->{status} $b->{response}", "success $_[2]", '... and is stored';
}

for my $case (['back before the model has answered', 0.2], ['away when the model answers', 3]) {
	my ($name, $away) = @$case;
	subtest $name => sub {
		my $user = "bob-$away";
		my $r = interrupted($user, 'script:thinks please', $away,
		    sub { $pg->one("SELECT count(*) FROM parley.turns WHERE user_id = ? AND state = 'running'", $user) });
		stored($r, $user, 'I am back.');
		everybody($name, 8);
	};
}

subtest 'in the middle of a tool' => sub {
	my $r = interrupted('carol', 'script:tool please', 0.5, sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) });
	stored($r, 'carol', 'Done.');
	is_deeply [map { $_->{is_error} ? 1 : 0 } @{$r->{json}{tool_calls}}], [0], 'the tool was asked again, and ran';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'carol'}), 1, '... with one effect';
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state <> 'done'}), 0, 'no turn was lost';
done_testing;
