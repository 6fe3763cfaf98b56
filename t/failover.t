# PostgreSQL with a synchronous standby: the primary dies under load, the standby takes its place.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::UNIX;
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;

sub wait_for { &Parley::Process::wait_for }

my $pg = Parley::Postgres->new;
$pg->slow_tool;
my $standby = $pg->standby;
my $model = Parley::Model->new(scripts => {
	quick => text_reply(30, 'Quick.'),
	thinks => text_reply('I ', 700, 'think.'),
	tool => join("---\n", call_reply(add_task => { title => 'once' }), text_reply(100, 'Done.')),
	sleeps => join("---\n", call_reply(add_slowly => { title => 'never', seconds => 30 }), text_reply('Done.')),
	# Over a failover, which takes as long as it takes.
	patient => text_reply('I ', 2500, 'waited.'),
});
# The standby comes first: it must not be taken before its time.
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 2, conf => {
	'database.url' => $standby->url('parley_worker', undef, $pg),
});
my @pids = sort $t->pids;

subtest 'a late tool is stopped in the database' => sub {
	my $sleeping = sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE query ~ 'tool_run' AND wait_event = 'PgSleep'}) };
	my $late = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { 'turn.deadline' => '1500 ms' });
	my $c = $late->begin_chat('olga', 'script:sleeps');
	ok wait_for(sub { $sleeping->() }, 5), 'it runs';
	error_is($c->response, 504, 'turn_timeout', 'its turn', turn => 1);
	ok wait_for(sub { !$sleeping->() }, 1), '... and it with it';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'olga'}), 0, 'without effect';
};

# -- load --

my (@open, @got, $n);

sub begin {
	my @scripts = qw(quick thinks tool);
	my $script = $scripts[$n++ % 3];
	push @open, { user => "user-$n", script => $script, at => time, c => $t->begin_chat("user-$n", "script:$script") };
}

# Reads the answer of the oldest.
sub finish {
	my $o = shift @open or return;
	push @got, { %$o, r => $o->{c}->response, took => time - $o->{at} };
	return $got[-1];
}

my $patient = $t->begin_chat('paula', 'script:patient');
begin() for 1 .. 24;
finish(), begin() for 1 .. 12;
$pg->stop('immediate');
my $died = time;
my $before = @got;

# -- nobody is there --

my @refused = map { my $user = "ref-$_"; sleep 0.03; [time, $t->begin_chat($user, 'script:quick')] } 1 .. 12;
for (@refused) {
	my ($at, $c) = @$_;
	$_ = { r => $c->response, took => time - $at };
}
is_deeply [map { $_->{r}{body} }
	grep { $_->{r}{status} != 503 || ($_->{r}{json}{error_code} // '') ne 'database_unavailable' } @refused], [],
    'while nobody is there: 503 database_unavailable';
is scalar(grep { ($_->{r}{headers}{'retry-after'} // '') =~ /^[1-9]\d*$/ } @refused), 12, '... with Retry-After';
is_deeply [grep { $_ > 3 } map { $_->{took} } @refused], [], '... in time';

# -- the standby becomes the primary --

ok $standby->promote, 'the standby is promoted';
my $promoted = time;
my $r;
ok wait_for(sub { $r = $t->chat('nina', 'script:tool'); $r->{status} == 200 }, 10), 'new turns work'
    or diag $r->{body}, $t->log_text;
cmp_ok time - $promoted, '<', 6, sprintf '... within seconds (%.1f s)', time - $promoted;
is $r->{json}{response}, 'Done.', '... whole';
1 while finish();
$r = $patient->response;
is $r->{json}{response}, 'I waited.', 'a turn that ran all the while is stored' or diag $r->{body};
push @got, { user => 'paula', script => 'patient', r => $r };
is $t->chat("after-$_", 'script:quick')->{status}, 200, "afterwards: $_" for 1 .. 8;
is_deeply [sort $t->pids], \@pids, 'no worker was restarted';

# -- nothing that was said to be done is lost --

my @done = grep { $_->{r}{status} == 200 } @got;
my %count;
$count{$_->{r}{status}}++ for @got;
note join(', ', map { "$count{$_} times $_" } sort keys %count),
    sprintf ' (%d before, promoted after %.1f s)', $before, $promoted - $died;
cmp_ok scalar @done, '>=', 12, 'turns were acknowledged';
is_deeply [grep { $_->{r}{status} !~ /^(?:200|202|50[234])$/ || !$_->{r}{json} } @got], [], 'every answer has a shape';
my @lost;
for my $d (@done) {
	my $b = $d->{r}{json};
	my $row = $standby->rows(q{
	    SELECT t.state, (SELECT m.content FROM parley.messages m
	        WHERE m.user_id = t.user_id AND m.conversation_id = t.conversation_id
	        AND m.turn = t.turn AND m.run = t.run ORDER BY m.idx DESC LIMIT 1) AS text
	      FROM parley.turns t WHERE t.user_id = ? AND t.conversation_id = ? AND t.turn = ?},
	    $d->{user}, $b->{conversation_id}, $b->{turn})->[0];
	push @lost, "$d->{user}: " . ($row->{state} // 'none')
	    if !$row || $row->{state} ne 'done' || $row->{text} ne $b->{response};
}
is_deeply \@lost, [], scalar(@done) . ' acknowledged turns, each with its answer in the new primary';
is $standby->one(q{SELECT count(*) FROM (
    SELECT 1 FROM tasks.tasks WHERE user_id ~ '^user-' GROUP BY user_id HAVING count(*) > 1) x}), 0, 'no tool ran twice';

# -- a host that accepts and never answers --

subtest 'a mute host' => sub {
	my $dir = Parley::Process::tempdir();
	my $mute = IO::Socket::UNIX->new(Local => "$dir/.s.PGSQL.5432", Listen => 50) or die "socket: $!";
	chmod 0777, "$dir/.s.PGSQL.5432";
	my $m = Parley::Test->new(pg => $standby, model => $model, workers => 1, wait => 0, conf => {
		'database.url' => "postgresql://parley_worker@/parley?host=$dir," . $standby->socket_dir,
	});
	ok wait_for(sub { $m->pids }, 10), 'a worker';
	my $at = time;
	is $m->chat('mona', 'script:quick')->{status}, 200, 'it does not hide the one after it' or diag $m->log_text;
	cmp_ok time - $at, '<', 3, '... for long';

	# Then that one freezes as well: its connections are there and mute.
	$at = time;
	$standby->freeze;
	my @c = map { $m->begin_chat("mute-$_", 'script:quick') } 1 .. 3;
	sleep 0.5;
	$standby->thaw;
	is_deeply [grep { $_ != 200 } map { $_->response->{status} } @c], [], 'a short silence is waited out';
	cmp_ok time - $at, '<', 3, '... and no longer';
};

done_testing;
