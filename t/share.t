# The connections of a worker are for all users: one whose statements wait for a lock has half of them at most.
use strict;
use warnings;

use FindBin;
use Test::More;
use lib "$FindBin::Bin/lib";

use Parley::Test;

my $t = Parley::Test->new(workers => 1, conf => { 'database.connections' => 4, 'database.wait' => '3 s' });
my $pg = $t->pg;

my $id = $t->chat('greedy', 'hello')->{json}{conversation_id};
my $lock = $pg->dbh('postgres');
$lock->begin_work;
$lock->do('SELECT FROM parley.conversations WHERE id = ? FOR UPDATE', undef, $id);

my @waiting = map { $t->begin('POST', '/api/chat', { message => "more $_", conversation_id => $id }, user => 'greedy') } 1 .. 12;
ok Parley::Process::wait_for(sub { 2 == $pg->one(q{SELECT count(*) FROM pg_stat_activity
	WHERE usename = 'parley_worker' AND wait_event_type = 'Lock'}) }, 10), 'two of four connections wait for the lock';
my @others = map { $t->chat("user $_", 'hello') } 1 .. 20;
is_deeply [map { $_->{status} } @others], [(200) x 20], 'others are served';
is $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'parley_worker' AND wait_event_type = 'Lock'}), 2,
    '... and it waits as before';
is $t->get('/api/conversations', user => 'others')->{status}, 200, 'lists are as well';
$lock->rollback;

my @seen = map { $_->response->{status} } @waiting;
is_deeply [grep { !/^(?:200|503)$/ } @seen], [], 'who waited is served or told to come again';
ok scalar(grep { $_ == 200 } @seen), '... some are served';
my ($busy) = map { $_->response } grep { $_->response->{status} == 503 } @waiting;
SKIP: {
	skip 'nobody waited for so long', 2 unless $busy;
	is $busy->{json}{error_code}, 'database_unavailable', '... told why';
	ok $busy->{headers}{'retry-after'}, '... and when';
}
is $t->chat('greedy', 'and now?', conversation_id => $id)->{status}, 200, 'afterwards all is as before';
# Whoever waits too long even for that is told so: nothing has happened, and it may be tried again.
$pg->do(q{ALTER ROLE parley_worker SET statement_timeout = '1s'});
$t->restart_pool;
$lock->begin_work;
$lock->do('SELECT FROM parley.conversations WHERE id = ? FOR UPDATE', undef, $id);
my $r = $t->chat('greedy', 'too long', conversation_id => $id);
is $r->{status}, 503, 'a lock that is held for too long';
is $r->{json}{error_code}, 'database_unavailable', '... is an error that passes';
ok $r->{headers}{'retry-after'}, '... it is said when';
$lock->rollback;
is $pg->one(q{SELECT count(*) FROM parley.messages WHERE content = 'too long'}), 0, '... and nothing is stored';
is $t->chat('greedy', 'too long', conversation_id => $id)->{status}, 200, 'said again it is';
is $t->pool->sickness, '', 'nothing crashed';

done_testing;
