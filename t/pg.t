# io/pg against a real PostgreSQL that is restarted, killed and slow.

use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use IO::Socket::UNIX;
use IPC::Open2;
use Test::More;
use Time::HiRes qw(sleep time);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::Process;

my ($client) = grep { -x } 't/unit/pg_client', "$FindBin::Bin/unit/pg_client";
plan skip_all => 't/unit/pg_client has not been built' unless $client;

my $pg = Parley::Postgres->new(migrate => 0);

# -- the client: ask() starts a statement, ended() waits for it --

my ($pid, $from, $to, %ended, @looks, $last);

sub client {
	my ($connections, $wait, $statement, $url) = @_;
	quit() if $pid;
	# Statements nobody waits for any more would be counted as this one's.
	$pg->one(q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'parley'});
	$pid = open2($from, $to, $client, $url // $pg->url, $connections, $wait, $statement);
	$to->autoflush(1);
	%ended = ();
	@looks = ();
	$last = 0;
}

sub quit {
	print $to "quit\n";
	close $to;
	waitpid $pid, 0;
	undef $pid;
	return $?;
}

sub ask {
	my ($sql, %o) = @_;
	my $id = ++$last;
	print $to join("\t", 'ask', $id, $o{use} // 'turn', $o{deadline} // 0, $sql), "\n";
	return $id;
}

sub ended {
	my ($id) = @_;
	until ($ended{$id}) {
		my $line = <$from> // die "the client has died\n";
		chomp $line;
		push(@looks, $1), next if $line =~ /^look (.*)/;
		next unless $line =~ /^(\d+) /;
		my %r;
		@r{qw(id rc fail sqlstate unknown rows ms value)} = split / /, $line, 8;
		$ended{$r{id}} = \%r;
	}
	return $ended{$id};
}

sub query { ended(ask(@_)) }

# fail, sqlstate and unknown in one word
sub how {
	my ($r) = @_;
	return "$r->{rc} $r->{fail} $r->{sqlstate} $r->{unknown}";
}

sub backends {
	return $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'parley'});
}

sub until_true {
	my ($what) = @_;
	my $end = time + 10;
	sleep 0.02 until $what->() || time > $end;
}

my $good = '0 - - 0';

# -- plain --

client(2, 2000, 5000);
my $r = query("SELECT 'bonjour'");
is how($r), $good, 'a statement is answered';
is $r->{value}, 'bonjour', '... with its row';
is_deeply \@looks, ['postgres'], 'the first look came first';
is query("SHOW client_encoding")->{value}, 'UTF8', 'the encoding is UTF-8';
is query("SELECT length(repeat('x', 3000000))::text || repeat('y', 3000000)")->{rc}, 0, 'a large row arrives';
is query("SELECT length('" . 'z' x 3000 . "')")->{value}, 3000, 'a long statement goes out';
is_deeply \@looks, ['postgres'], 'the first look came once';
is how(query('SELECT 1/0')), '-1 internal_error 22012 0', 'an error has its SQLSTATE';
is how(query('BEGIN')), $good, 'a statement that leaves a transaction open';
# The connection is closed, which the server learns in its own time.
ok +(Parley::Process::wait_for {
	!$pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'parley' AND state LIKE 'idle in%'})
} 10), '... does not leave it to the next one';
is how(query(q{DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '25006'; END $$})),
    '-1 database_unavailable 25006 0', 'a read-only server is an unavailable one';
is how(query(q{DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53200'; END $$})),
    '-1 database_unavailable 53200 0', '... and one without memory';

# -- restarts --

query('SELECT 1');
for my $mode (qw(fast immediate)) {
	$pg->restart($mode);
	$r = query("SELECT 'again'");
	is how($r), $good, "a restart ($mode) between two statements is not noticed";
}
my $backend = query('SELECT pg_backend_pid()')->{value};
$pg->one('SELECT pg_terminate_backend($1, 5000)', $backend);
is how(query('SELECT 1')), $good, 'nor is a terminated backend';

my $slow = ask('SELECT pg_sleep(20)');
until_true(sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'}) });
$pg->one(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'});
is how(ended($slow)), '-1 database_unavailable 57P01 1', 'a backend terminated in a statement: unknown';
is how(query('SELECT 1')), $good, '... and the next statement is well';

$slow = ask('SELECT pg_sleep(20)');
until_true(sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'}) });
$pg->stop('immediate');
like how(ended($slow)), qr/^-1 database_unavailable (-|57P02) 1$/, 'a crash in a statement: unknown';
my $at = time;
my @ids = map { ask('SELECT 1') } 1 .. 50;
is scalar(grep { how(ended($_)) eq '-1 database_unavailable - 0' } @ids), 50,
    'while it is down every statement fails, as one that was not sent';
cmp_ok time - $at, '<', 1.5, '... at once';
$pg->start;
sleep 0.25;
is how(query('SELECT 1')), $good, 'when it is back all is well again';

# Rows come before the commit, and the commit may fail, or never come.
$pg->do('CREATE TABLE parent (id int PRIMARY KEY)');
$pg->do('CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)');
is how(query('INSERT INTO child VALUES (1) RETURNING id')), '-1 internal_error 23503 0',
    'an error of the commit counts more than the rows before it';
$pg->do(q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$pg->do('SELECT pg_reload_conf()');
until_true(sub { $pg->one('SHOW synchronous_standby_names') });
my $waits_for_standby = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'parley'};
for my $end (sub { $pg->one($waits_for_standby =~ s/count\(\*\)/pg_terminate_backend(pid)/r) },
    sub { $pg->stop('immediate') }) {
	my $id = ask('INSERT INTO parent VALUES ((random() * 1000000)::int) RETURNING id');
	until_true(sub { $pg->one($waits_for_standby) });
	$end->();
	like how(ended($id)), qr/^-1 database_unavailable (-|57P0[12]) 1$/,
	    'a connection that ends before the standby has the commit: unknown';
}
unlink $pg->dir . '/data/postgresql.auto.conf';
$pg->start;

# -- late --

client(2, 600, 400);
$r = query('SELECT pg_sleep(3)');
is how($r), '-1 database_unavailable - 1', 'an answer that is late is not waited for';
ok $r->{ms} >= 390 && $r->{ms} < 2000, "... longer than database.statement_timeout ($r->{ms} ms)";
$r = query('SELECT pg_sleep(3)', deadline => 150);
is how($r), '-1 turn_timeout - 1', 'nor past the deadline of the job';
ok $r->{ms} >= 145 && $r->{ms} < 1000, "... ($r->{ms} ms)";
$slow = ask('SELECT pg_sleep(3)');
sleep 0.1;
print $to "stop\t$slow\tcancelled\n";
is how(ended($slow)), '-1 turn_abandoned - 1', 'nor by a job that is stopped';
is how(query('SELECT 1')), $good, 'a statement after all these is well';

# -- late tools are stopped --

sub active {
	return $pg->one(q{SELECT count(*) FROM pg_stat_activity
	    WHERE application_name = 'parley' AND query LIKE 'SELECT pg_sleep%' AND state = 'active'});
}
sub stopped { Parley::Process::wait_for { !active() } $_[0] // 1.5 }
sub tasks { my @t = glob "/proc/$pid/task/*"; return scalar @t }

client(24, 2000, 600);
$r = query('SELECT pg_sleep(8)', use => 'tool', deadline => 200);
is how($r), '-1 turn_timeout - 1', 'a tool past the deadline';
ok stopped(), '... is stopped in the server';
is how(query('SELECT pg_sleep(8)', use => 'tool')), '-1 database_unavailable - 1', 'a tool past database.statement_timeout';
ok stopped(), '... as well';
for my $how (qw(cancelled fenced drained)) {
	$slow = ask('SELECT pg_sleep(1.5)', use => 'tool');
	until_true(\&active);
	print $to "stop\t$slow\t$how\n";
	is how(ended($slow)), '-1 turn_abandoned - 1', "a tool of a turn that is $how";
	ok stopped(0.7), '... is stopped' if $how eq 'cancelled';
	ok !stopped(0.3), '... goes on' if $how ne 'cancelled';
	stopped(5);
}
query('SELECT pg_sleep(1.2)', deadline => 200);
ok !stopped(0.3), 'what is no tool goes on: its commit may be waiting for a standby';
stopped(5);

@ids = map { ask('SELECT pg_sleep(2.5)', use => 'tool', deadline => 500) } 1 .. 12;
until_true(sub { active() == 12 });
$pg->freeze;
ended($_) for @ids;
is tasks(), 9, 'a server that does not answer is told by eight threads at most';
$pg->thaw;
ok stopped(6), 'the others end by themselves';
until_true(sub { tasks() == 1 });
is tasks(), 1, '... and so do the threads';
is quit(), 0, 'the client ends well';

# -- the pool --

client(2, 600, 5000);
@ids = map { ask('SELECT pg_sleep(0.1)') } 1 .. 6;
is scalar(grep { how(ended($_)) eq $good } @ids), 6, 'six statements share two connections';
is backends(), 2, '... and never more';
cmp_ok ended($ids[5])->{ms}, '>=', 290, '... one after the other';
cmp_ok ended($ids[0])->{ms}, '<=', ended($ids[5])->{ms}, '... in the order of asking';

@ids = map { ask('SELECT pg_sleep(1)') } 1 .. 2;
my $waits = ask('SELECT 1');
$r = ended($waits);
is how($r), '-1 database_unavailable - 0', 'nobody waits for a connection';
ok $r->{ms} >= 590 && $r->{ms} < 950, "... longer than database.wait ($r->{ms} ms)";
is how(ended($_)), $good, '... while those who have one go on' for @ids;

client(4, 3000, 5000);
my @tools = map { ask('SELECT pg_sleep(0.5)', use => 'tool') } 1 .. 4;
$r = query('SELECT 1');
ok how($r) eq $good && $r->{ms} < 300, "slow tools leave half of the pool to others ($r->{ms} ms)";
is how(ended($_)), $good, '... and get their turn' for @tools;
is backends(), 3, '... on two connections and the one of the others';

client(1, 3000, 5000);
$slow = ask('SELECT pg_sleep(0.5)');
$r = query('SELECT 1', use => 'pulse');
ok how($r) eq $good && $r->{ms} < 400, "the pulse has a connection of its own ($r->{ms} ms)";
is how(query('SELECT 1', use => 'tool')), $good, 'of one connection tools may have one';
ended($slow);

$pg->do('CREATE ROLE poor LOGIN CONNECTION LIMIT 1');
client(4, 3000, 5000, $pg->url('poor'));
@ids = map { ask('SELECT pg_sleep(0.05)') } 1 .. 6;
is scalar(grep { how(ended($_)) eq $good } @ids), 6, 'one connection granted, three refused: it is shared';

# -- several hosts --

my $dir = Parley::Process::tempdir();
mkdir "$dir/$_" for qw(mute nobody);
my $silent = IO::Socket::UNIX->new(Local => "$dir/mute/.s.PGSQL.5432", Listen => 50) or die "socket: $!";

sub hosts {
	my ($role, @hosts) = @_;
	return "postgresql://$role@/parley?host=" . join(',', map { "$dir/$_" =~ s{.*/pg$}{$pg->socket_dir}er } @hosts) . '&port=5432';
}

for my $first ([qw(nobody pg)], [qw(pg mute)]) {
	client(2, 5000, 5000, hosts('postgres', @$first));
	$r = query('SELECT 1');
	ok how($r) eq $good && $r->{ms} < 900, "hosts @$first ($r->{ms} ms)";
}
client(2, 5000, 5000, hosts('postgres', qw(mute pg)));
$r = query('SELECT 1');
ok how($r) eq $good && $r->{ms} >= 900 && $r->{ms} < 1900, "a host that never answers does not hide the next ($r->{ms} ms)";
$slow = ask('SELECT pg_sleep(0.5)');
$r = query('SELECT 1');
ok how($r) eq $good && $r->{ms} < 400, "... which is asked first from then on ($r->{ms} ms)";
ended($slow);
$pg->stop;
is how(query('SELECT 1')), '-1 database_unavailable - 0', 'when that one has gone';
$pg->start;
sleep 0.25;
is how(query('SELECT 1')), $good, '... it is found again';

client(2, 5000, 5000, hosts('postgres', qw(mute mute)));
my @late;
for (1 .. 8) {
	push @late, ask('SELECT 1');
	sleep 0.3;
}
@late = map { ended($_) } @late;
is_deeply [grep { how($_) ne '-1 database_unavailable - 0' || $_->{ms} > 2900 } @late], [],
    'where no host answers, all hear of it in time' or diag explain \@late;

$pg->do('CREATE ROLE reader LOGIN');
$pg->do('ALTER ROLE reader SET default_transaction_read_only = on');
for (['a server that cannot be written to is not taken', '-1 database_unavailable - 0', hosts('reader', qw(pg pg))],
    ['... unless the string says so', $good, hosts('reader', qw(pg pg)) . '&target_session_attrs=any'],
    ['... or names but one host', $good, hosts('reader', 'pg')],
    ['ports that fit no host', '-1 database_unavailable - 0', hosts('reader', qw(pg pg pg)) . ',5432']) {
	my ($name, $how, $url) = @$_;
	client(2, 2000, 5000, $url);
	is how(query('SELECT 1')), $how, $name;
}

# -- a server that has become read-only --

client(4, 5000, 5000);
ended($_) for map { ask('SELECT pg_sleep(0.2)') } 1 .. 3;
query('SELECT 1', use => 'pulse');
is backends(), 4, 'four connections';
$slow = ask('SELECT pg_sleep(0.5)');
until_true(\&active);
is how(query(q{DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '25006'; END $$})), '-1 database_unavailable 25006 0', 'read-only';
ok +(Parley::Process::wait_for { backends() == 1 } 20), '... and all that rest are given up';
is how(ended($slow)), $good, 'one that was at work ends it';
ok +(Parley::Process::wait_for { backends() == 0 } 20), '... and is given up then';

# -- who cannot connect --

client(2, 2000, 5000, $pg->url('nobody_here'));
is how(query('SELECT 1')), '-1 database_unavailable - 0', 'an unknown role cannot connect';
my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "socket: $!";
client(2, 700, 5000, 'postgresql://x@127.0.0.1:' . $mute->sockport . '/x');
$r = query('SELECT 1');
ok how($r) eq '-1 database_unavailable - 0' && $r->{ms} >= 690 && $r->{ms} < 2500,
    "a server that never speaks is not waited for ($r->{ms} ms)";
is quit(), 0, 'the client ends well';

client(2, 700, 5000, 'postgresql://x:secret%zz@/x');
waitpid $pid, 0;
is $? >> 8, 3, 'a connection string that cannot be read is refused at the start';
undef $pid;

done_testing;
