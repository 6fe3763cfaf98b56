# The life of workers: they start, are replaced, drain, reread, refuse.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(sleep time);
use lib "$FindBin::Bin/lib";

use Parley::Test;

my $t = Parley::Test->new(how => 'listen', workers => 2);
my ($pg, $pool) = ($t->pg, $t->pool);

sub wait_for(&;$) { goto &Parley::Process::wait_for }

# -- a pool of its own --

is scalar($t->pids), 2, 'the pool has two workers';
is $t->chat('alice', 'hello')->{status}, 200, '... that answer';
my @before = sort $t->pids;
$t->kill_worker($before[0]);
ok wait_for { my @now = $t->pids; @now == 2 && !grep { $_ == $before[0] } @now }, 'one that dies is replaced';
ok((grep { $_->{event} eq 'worker_died' && $_->{signal} eq 'KILL' } $t->log), '... and the log says so');
is $t->chat('alice', 'hello again')->{status}, 200, '... and all goes on';

# -- SIGHUP --

# A signal that comes before it is expected ends a worker: the new one has begun to expect it.
wait_for { 3 == grep { $_->{event} eq 'worker_start' && ($_->{message} // '') eq 'ready' } $t->log };
$pool->write_conf('limits.message' => 5);
kill 'HUP', $pool->parent_pid;
ok wait_for { 2 == grep { $_->{event} eq 'conf' } $t->log }, 'SIGHUP goes to every worker';
is $t->chat('alice', '123456')->{status}, 422, '... which then goes by the new configuration';
$pool->write_conf('limits.message' => 'many');
kill 'HUP', $pool->parent_pid;
ok wait_for { 2 == grep { ($_->{message} // '') =~ /old configuration stays.*message/ } $t->log },
    'one with a mistake is named';
is $t->chat('alice', '1234')->{status}, 200, '... and the old one kept';
$pool->write_conf('limits.message' => undef);

# -- the database away at the start --

$pg->stop;
$pool->restart;
ok wait_for { $t->get('/api/health', token => undef)->{status} == 503 }, 'workers start without a database';
$pg->start;
ok wait_for { $t->get('/api/health', token => undef)->{status} == 200 }, '... and find it when it is there';

# -- overload --

my $slow = Parley::Model->new(delay => 1500, scripts => {});
my $full = Parley::Test->new(how => 'listen', workers => 1, pg => $pg, model => $slow,
    conf => { 'worker.max_turns' => 2, 'worker.drain_timeout' => '20s' });
my @held = map { $full->begin_chat("user$_", 'hello') } 1 .. 2;
wait_for { 2 == @{$slow->requests} };
my $r = $full->chat('alice', 'hello');
is $r->{status}, 503, 'past worker.max_turns a request is refused';
is $r->{json}{error_code}, 'overloaded', '... as overloaded';
is $_->response->{status}, 200, '... while those before it are served' for @held;

# -- drain --

my $json = $full->begin_chat('alice', 'first');
my $stream = $full->begin_chat('bob', 'second', stream => JSON::XS::true);
wait_for { 4 == @{$slow->requests} };
my $at = time;
kill 'TERM', $full->pool->parent_pid;
$r = $json->response;
is $r->{status}, 202, 'whoever waits for a whole answer is told at once that it goes on';
is $r->{json}{status}, 'running', '... as running';
cmp_ok time - $at, '<', 3, '... without waiting for it';
my ($last, $e);
$last = $e while $e = $stream->event;
is $last->{event}, 'done', 'streams go on to their end';
# A second signal would not wait for the turn whose client got 202.
my $live = q{SELECT count(*) FROM parley.turns WHERE state IN ('queued', 'running')};
ok wait_for { $pg->one($live) == 0 }, '... and so does the other turn';
is $full->pool->stop, 0, '... and the pool ends well';
is scalar(grep { $_->{event} eq 'turn' } $full->log), 4, '... which has ended its turns itself';
is $pg->one($live), 0, 'no turn is left';
undef $full;

my $endless = Parley::Model->new(delay => 20_000, scripts => {});
my $short = Parley::Test->new(how => 'listen', workers => 1, pg => $pg, model => $endless,
    conf => { 'worker.drain_timeout' => '300ms' });
$stream = $short->begin_chat('carol', 'third', stream => JSON::XS::true);
wait_for { 1 == @{$endless->requests} };
$at = time;
is $short->pool->stop, 0, 'past worker.drain_timeout the workers end';
cmp_ok time - $at, '<', 5, '... soon';
my @events;
while (my $event = $stream->event) {
	push @events, $event->{event};
}
ok !grep({ $_ eq 'done' } @events), '... and their streams without a done';
undef $short;

# -- refusals --

sub refused {
	my (%conf) = @_;
	my $p = Parley::Pool->new(how => 'listen', workers => 2, env => { PARLEY_AUTH_SECRET => $Parley::Test::SECRET },
	    conf => { 'database.url' => $pg->url('parley_worker'), 'model.base_url' => $t->model->url, %conf });
	my $pid = $p->parent_pid;
	my $ended = wait_for { waitpid($pid, 1) == $pid };
	my $status = $ended ? $? >> 8 : -1;
	my $log = $p->log_text;
	delete $p->{process}{pid};
	return ($status, $log);
}

my ($status, $log) = refused('database.url' => $pg->url('postgres'));
is $status, 3, 'no worker works as a superuser';
like $log, qr/"postgres\\" is not bound by row level security/, '... and says why';
$pg->do('CREATE ROLE sly LOGIN BYPASSRLS');
($status, $log) = refused('database.url' => $pg->url('sly'));
is $status, 3, '... nor under a role with BYPASSRLS';
($status, $log) = refused('limits.message' => 'many', 'turn.lease' => 'long');
is $status, 2, 'mistakes in the configuration end the pool';
like $log, qr/limits.*message|message.*many/, '... which are named';
like $log, qr/lease/, '... all of them';

my $program = Parley::Pool::program('parley.fcgi');
my $said = `$program </dev/null 2>&1`;
is $? >> 8, 2, 'without a listening socket it does not start';
like $said, qr/spawn-fcgi.*--listen/s, '... and says how it would';
for (['nowhere', qr/unix:/], ['unix:relative.sock', qr{begins with /}], ['tcp:127.0.0.1', qr/host:port/], ['tcp:127.0.0.1:70000', qr/host:port/]) {
	my ($where, $why) = @$_;
	$said = `'@{[Parley::Pool::program('parley.fcgi')]}' --listen '$where' 2>&1`;
	is $? >> 8, 2, "--listen $where is a mistake";
	like $said, $why, '... that is named';
}
$said = `'@{[Parley::Pool::program('parley.fcgi')]}' --listen unix:/nowhere/parley.sock 2>&1`;
is $? >> 8, 1, 'a socket that cannot be had is a failure';
is $t->pool->sickness, '', 'nothing crashed';

done_testing;
