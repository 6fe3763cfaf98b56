# PostgreSQL as somebody else's service: an owner who is no superuser, names with odd characters, a database that
# sleeps and takes its time to wake up, and a first role that stands above row level security.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Pool;
use Parley::Process;
use Parley::Proxy;
use Parley::Test;
use Parley::Turns;

my $ctl = Parley::Pool::program('parleyctl');
my $schema = "$FindBin::Bin/../schema";
my $pg = Parley::Postgres->new(port => 1, migrate => 0);
# As the service's form has made them: one that may make roles, and that no policy binds.
$pg->do(q{CREATE ROLE "acme-owner@1" LOGIN CREATEROLE BYPASSRLS}, 'postgres');
$pg->do(q{CREATE DATABASE "acme-db+chat/1" OWNER "acme-owner@1"}, 'postgres');
my ($owner, $db) = ('acme-owner%401', 'acme-db%2Bchat%2F1');
my $super = $pg->dbh('postgres', 'acme-db+chat/1');
my $model = Parley::Model->new(scripts => {});

sub ctl {
	my ($url, @args) = @_;
	local $ENV{PARLEY_CONF} = '/dev/null';
	local $ENV{PARLEY_DATABASE_URL} = $url;
	local $ENV{PARLEY_AUTH_SECRET} = $Parley::Test::SECRET;
	my $out = qx{'$ctl' @args --schema '$schema' 2>&1};
	return ($? >> 8, $out);
}

subtest 'an owner who is no superuser' => sub {
	my ($rc, $out) = ctl($pg->tcp_url($owner, $db), 'migrate');
	is $rc, 0, 'migrate' or diag $out;
	($rc, $out) = ctl($pg->tcp_url($owner, $db), 'migrate');
	unlike $out, qr/: applied/, '... and again';
	is $super->selectrow_array(q{SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'parley'}), 'parley_owner',
	    'nothing of it is his';
	is_deeply $super->selectcol_arrayref(q{SELECT setrole::regrole::text FROM pg_db_role_setting s JOIN pg_database d
	    ON d.oid = s.setdatabase WHERE d.datname = current_database()}), ['parley_worker'], 'settings are those of the worker, here';
	(undef, $out) = ctl($pg->tcp_url('parley_worker', $db), 'check');
	unlike $out, qr/^FAIL (?:database|tools)/m, 'check finds nothing wrong' or diag $out;
};

subtest 'his own role is not for workers' => sub {
	my $url = $pg->tcp_url($owner, $db);
	my $p = Parley::Pool->new(how => 'listen', workers => 1, env => { PARLEY_AUTH_SECRET => $Parley::Test::SECRET },
	    conf => { 'database.url' => $url, 'model.base_url' => $model->url });
	my $pid = $p->parent_pid;
	ok wait_for(sub { waitpid($pid, 1) == $pid }, 20), 'none stays';
	is $? >> 8, 3, '... its status says so';
	delete $p->{process}{pid};
	like $p->log_text, qr/"the database role \\"acme-owner\@1\\" is not bound by row level security, as it has BYPASSRLS: set database\.url to a role that is \(parley_worker/,
	    '... and the log why, and what to do';
	my (undef, $out) = ctl($url, 'check');
	like $out, qr/^FAIL database: the role acme-owner\@1 has BYPASSRLS.*connect as parley_worker$/m, 'as does check';
	my $rc;
	($rc, $out) = ctl($url, 'migrate', '--single-role');
	is $rc, 1, 'nor is it one for all';
};

my $proxy = Parley::Proxy->new($pg->port);
my $patient = 4;
my %conf = ('database.url' => $proxy->url('parley_worker', $db));
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => \%conf);
my $waits = Parley::Test->new(pg => $pg, model => $model, workers => 1,
    conf => { %conf, 'database.wait' => '15 s', 'database.connect_timeout' => '12 s' });

sub timed { my ($code) = @_; my $at = time; my $r = $code->(); return ($r, time - $at) }

# It closes what was idle; what comes next makes it wake up.
sub sleeps { $proxy->refuse; $proxy->stall }

subtest 'a database that sleeps' => sub {
	is $_->chat('ann', 'add task: Milk')->{status}, 200, 'awake' for $t, $waits;
	sleeps();
	my ($r, $took) = timed(sub { $t->chat('ann', 'add task: Bread') });
	error_is($r, 503, 'database_unavailable', 'as it comes: refused');
	like $r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, '... with Retry-After';
	cmp_ok $took, '<', 6, sprintf '... in time (%.1f s)', $took;
	my $at = time;
	my $c = $waits->begin_chat('bob', 'add task: Bread');
	sleep $patient;
	is $waits->get('/api/nothing')->{status}, 404, 'meanwhile others are answered';
	$proxy->pass;
	$r = $c->response;
	is $r->{status}, 200, 'with patience (database.connect_timeout): answered' or diag $r->{body}, $waits->log_text;
	cmp_ok time - $at, '<', $patient + 3, '... as soon as it is awake';
	ok wait_for(sub { $t->chat('ann', 'hello')->{status} == 200 }, 10), 'and the one that was refused works again';
};

subtest 'a database that goes to sleep' => sub {
	$proxy->refuse;
	$proxy->pass;
	my ($r, $took) = timed(sub { $t->chat('ann', 'show my tasks') });
	is $r->{status}, 200, 'connections that it closed meanwhile cost nothing' or diag $r->{body};
	$proxy->refuse;
	($r, $took) = timed(sub { $t->chat('ann', 'show my tasks') });
	error_is($r, 503, 'database_unavailable', 'one that refuses');
	cmp_ok $took, '<', 6, sprintf '... is not waited for (%.1f s)', $took;
	$proxy->pass;
	ok wait_for(sub { $t->chat('ann', 'hello')->{status} == 200 }, 10), 'and comes back';
};

($t, $waits) = ();
done_testing;
