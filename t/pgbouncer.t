# PgBouncer in transaction mode between the workers and PostgreSQL, with the shipped configuration.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::PgBouncer;
use Parley::Pool;
use Parley::Test;
use Parley::Turns;

plan skip_all => Parley::PgBouncer::missing() if Parley::PgBouncer::missing();

my $POOL = 3;
my $pg = Parley::Postgres->new;
# Set on the role, as migrate does it; shorter, as nobody likes to wait.
$pg->do(q{ALTER ROLE parley_worker IN DATABASE parley SET statement_timeout = '3s'}, 'parley');
$pg->slow_tool;
my $bouncer = Parley::PgBouncer->new($pg, default_pool_size => $POOL);
my $hang = "hang\n";
my $model = Parley::Model->new(scripts => {
	quick => text_reply(30, 'Quick.'),
	slow => text_reply('One, ', 300, 'two.'),
	tool => join("---\n", call_reply(add_task => { title => 'once' }), text_reply(100, 'Done.')),
	sleeps => join("---\n", call_reply(add_slowly => { title => 'never', seconds => 30 }), text_reply('Oh.')),
	late => join("---\n", call_reply(add_slowly => { title => 'never', seconds => 30 }), text_reply('Oh.')),
	thinks => join("---\n", call_reply(add_task => { title => 'once' }), $hang, text_reply('Here I am.')),
	asks => join("---\n", call_reply(add_task => { title => 'T' }), call_reply(delete_task => { task_id => 1 }), text_reply('Gone.')),
});
my %conf = ('database.url' => $bouncer->url('parley_worker'), 'turn.lease' => '3s', 'model.retries' => 0);
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 6, conf => \%conf);
my $other = beside($t, conf => \%conf);

# Server connections of the role; those that wait in PostgreSQL for the next statement count as well.
sub held { return $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'parley_worker'}) }
sub sleeping { return $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) }

subtest 'turns' => sub {
	my $r = $t->chat('ann', 'add task: Milk');
	is $r->{status}, 200, 'a turn with a tool' or diag $r->{body}, $t->log_text, $bouncer->log_text;
	body_ok($r->{json}, 'its body');
	my $id = $r->{json}{conversation_id};
	like $t->chat('ann', 'show my tasks', conversation_id => $id)->{json}{response}, qr/Milk/, 'the next knows of it';
	is stream_ok('a stream', $t->stream('ann', 'script:slow', conversation_id => $id))->{response}, 'One, two.', '... whole';
	$r = $t->chat('abe', 'script:asks')->{json};
	is $r->{status}, 'approval_required', 'a question';
	$r = $other->post('/api/chat', { conversation_id => $r->{conversation_id},
	    approvals => { $r->{approvals_required}[0]{id} => JSON::XS::true } }, user => 'abe');
	is $r->{json}{response}, 'Gone.', '... answered' or diag $r->{body};
	is scalar @{$t->get('/api/conversations', user => 'ann')->{json}{conversations}}, 1, 'the list';
};

subtest 'a tool is stopped' => sub {
	my ($c, $id) = begun($t, 'olga', 'script:sleeps');
	ok wait_for(sub { sleeping() }, 5), 'it runs';
	my $at = time;
	is cancel($other, 'olga', $id, 1)->{status}, 202, 'the user has enough';
	ok wait_for(sub { !sleeping() }, 4), 'it is stopped in the database';
	cmp_ok time - $at, '<', 2.5, '... by us, not by its time';
	is $c->response->{json}{status}, 'cancelled', '... and its turn with it';
	my $r = $t->chat('omar', 'script:late');
	is $r->{json}{response}, 'Oh.', 'one that is late' or diag $r->{body};
	like $r->{json}{tool_calls}[0]{result}{error}, qr/took too long/, '... is stopped by the timeout of the role';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id IN ('olga', 'omar')}), 0, 'neither had an effect';
};

subtest 'takeover' => sub {
	my $one = beside($t, conf => \%conf);
	my ($c, $id) = begun($one, 'tom', 'script:thinks');
	ok wait_for(sub { (grep { ($_->{script} // '') eq 'thinks' } $model->requests) >= 2 }, 15), 'a turn hangs';
	ok wait_for(sub { $pg->one(q{SELECT count(*) FROM parley.live WHERE user_id = 'tom'}) }, 10), '... with a lease';
	$one->kill_worker;
	my $r = turn($other, 'tom', $id, 1, 20)->{json};
	is "$r->{status} $r->{response}", 'success Here I am.', 'another worker finishes it';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'tom'}), 1, 'its tool ran once';
};

subtest 'the same key at once' => sub {
	my @c = map { $_ % 2 ? $t : $other } 1 .. 12;
	@c = map { $_->begin('POST', '/api/chat', { message => 'script:tool' }, user => 'kim',
	    headers => { 'Idempotency-Key' => 'k-1' }) } @c;
	my %id = map { $_->{json}{conversation_id} // $_->{body} => 1 } map { $_->response } @c;
	is scalar keys %id, 1, 'one turn';
	is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'kim'}), 1, '... in truth';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'kim'}), 1, '... whose tool ran once';
};

subtest 'many on few connections' => sub {
	my $most = 0;
	my @c = map { $t->begin_chat("many-$_", $_ % 2 ? 'add task: once' : 'script:quick') } 1 .. 60;
	for (1 .. 10) {
		my $now = held();
		$most = $now if $now > $most;
		sleep 0.05;
	}
	my %status;
	$status{$_->response->{status}}++ for @c;
	is_deeply \%status, { 200 => 60 }, 'sixty turns';
	cmp_ok $most, '<=', $POOL, "... on $most connections";
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id LIKE 'many-%'}), 30, 'each tool once';
	# As many at once as there are connections, so that each of them is asked.
	my @dbh = map { $bouncer->dbh('parley_worker') } 1 .. $POOL;
	$_->begin_work for @dbh;
	my @left = map { $_->selectrow_array(q{SELECT (SELECT count(*) FROM parley.conversations)
	    + (SELECT count(*) FROM pg_prepared_statements
	        WHERE name <> 'parley_' || left(encode(sha256(convert_to(statement, 'UTF8')), 'hex'), 32)) + (current_user <> 'parley_worker')::int
	    + (coalesce(current_setting('parley.user_id', true), '') <> '')::int}) } @dbh;
	$_->rollback for @dbh;
	is_deeply \@left, [(0) x $POOL], 'nothing of anybody stays with a connection: no user, no role, no statement that is not what its name says';
	# One that meets an unknown name prepares no more.
	cmp_ok scalar(grep { ($_->{message} // '') =~ /not prepared any more/ } $t->log), '<=', 6, 'each worker finds out once at most';
};

subtest 'parleyctl' => sub {
	my $ctl = Parley::Pool::program('parleyctl');
	my $schema = "$FindBin::Bin/../schema";
	local $ENV{PARLEY_CONF} = '/dev/null';
	local $ENV{PARLEY_DATABASE_URL} = $bouncer->url('parley_worker');
	local $ENV{PARLEY_DATABASE_OWNER_URL} = $bouncer->url('postgres');
	my $out = qx{'$ctl' migrate --schema '$schema' 2>&1};
	is $?, 0, 'migrate' or diag $out;
	like $out, qr/already there/, '... finds all there';
	is $bouncer->dbh('postgres')->selectrow_array('SHOW client_min_messages'), 'notice', '... and leaves no setting behind';
	like qx{'$ctl' check --schema '$schema' 2>&1}, qr/^ok   database: all \d+ files/m, 'check';
};

subtest 'PgBouncer restarted under load' => sub {
	my @pids = sort $t->pids;
	my (@open, @got, $n);
	my $begin = sub { $n++; push @open, ["load-$n", $t->begin_chat("load-$n", $n % 2 ? 'add task: once' : 'script:quick')] };
	my $finish = sub { my $o = shift @open or return 0; push @got, [$o->[0], $o->[1]->response]; 1 };
	my $patient = $t->begin_chat('paula', 'script:slow');
	$begin->() for 1 .. 20;
	for my $signal (qw(TERM INT TERM)) {
		$bouncer->stop($signal);
		$begin->() for 1 .. 3;
		sleep 0.3;
		$bouncer->start;
		$finish->(), $begin->() for 1 .. 12;
	}
	1 while $finish->();
	is $patient->response->{json}{response}, 'One, two.', 'a turn that ran all the while';
	my @done = grep { $_->[1]{status} == 200 } @got;
	is_deeply [map { $_->[1]{body} } grep { $_->[1]{status} !~ /^(?:200|202)$/
	    && ($_->[1]{json}{error_code} // '') ne 'database_unavailable' } @got], [], 'every other answer: 503 database_unavailable';
	cmp_ok scalar @done, '>=', 30, scalar(@done) . ' of ' . scalar(@got) . ' turns were acknowledged';
	is_deeply [grep { $pg->one(q{SELECT t.state || ' ' || m.content FROM parley.turns t JOIN parley.messages m
	    USING (user_id, conversation_id, turn, run) WHERE t.user_id = ? ORDER BY m.idx DESC LIMIT 1}, $_->[0])
	    ne "done $_->[1]{json}{response}" } @done], [], '... each has its answer stored';
	is $pg->one(q{SELECT count(*) FROM (SELECT FROM tasks.tasks WHERE user_id LIKE 'load-%' GROUP BY user_id
	    HAVING count(*) > 1) x}), 0, 'no tool ran twice';
	is $t->chat('after', 'script:quick')->{status}, 200, 'afterwards all is well';
	ok wait_for(sub { !$pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}) }, 20), 'every turn has its end';
	is_deeply [sort $t->pids], \@pids, 'no worker was restarted';
};

unlike $t->log_text, qr/\Q$Parley::PgBouncer::SECRET\E/, 'the password is in no log';
done_testing;
