# TLS between the workers and PostgreSQL: believed where its certificate is good, refused with a reason where not, and
# never waited for by all.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Copy ();
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Pool;
use Parley::Process;
use Parley::Test;
use Parley::Tls;
use Parley::Turns;

plan skip_all => Parley::Tls::missing() if Parley::Tls::missing();

my $PASSWORD = 'not-to-be-told';
my $dir = Parley::Process::tempdir();
Parley::Tls::make($dir);
my $pg = Parley::Postgres->new(port => 1);
$pg->slow_tool;
{
	my $data = $pg->dir . '/data';
	my ($uid, $gid) = (stat $data)[4, 5];
	for my $name (qw(s.pem s.key)) {
		File::Copy::copy("$dir/$name", "$data/$name") or die "copy: $!";
		chown $uid, $gid, "$data/$name";
		chmod 0600, "$data/$name";
	}
	# Over TCP nobody comes in without TLS and a password.
	open my $f, '>', "$data/pg_hba.conf" or die "pg_hba.conf: $!";
	print $f "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
	close $f;
	$pg->do(qq{ALTER ROLE parley_worker PASSWORD '$PASSWORD'});
	$pg->do("ALTER SYSTEM SET $_") for q{ssl = on}, q{ssl_cert_file = 's.pem'}, q{ssl_key_file = 's.key'};
	$pg->restart;
}
sub url { return sprintf 'postgresql://parley_worker:%s@127.0.0.1:%d/parley?%s', $PASSWORD, $_[1] // $pg->port, $_[0] }
my $GOOD = "sslmode=verify-full&sslrootcert=$dir/ca.pem";
my $model = Parley::Model->new(scripts => {
	sleeps => join("---\n", call_reply(add_slowly => { title => 'never', seconds => 30 }), text_reply('Oh.')),
});
my @all;
sub parley {
	my ($url, %conf) = @_;
	push @all, my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, wait => 0,
	    conf => { 'database.url' => $url, %conf });
	wait_for { $t->get('/api/nothing', seconds => 5)->{status} == 404 } 10 or die $t->log_text;
	return $t;
}
sub check { local @ENV{qw(PARLEY_CONF PARLEY_DATABASE_URL)} = ('/dev/null', $_[0]);
	my $ctl = Parley::Pool::program('parleyctl'); return scalar qx{'$ctl' check 2>&1} }

subtest 'a certificate that can be believed' => sub {
	my $t = parley(url("$GOOD&channel_binding=require"));
	my $r = $t->chat('ann', 'add task: Milk');
	is $r->{status}, 200, 'a turn' or diag $r->{body}, $t->log_text;
	is_deeply $pg->rows(q{SELECT DISTINCT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
	    WHERE a.usename = 'parley_worker'}), [{ ssl => 1 }], 'all its connections are encrypted';
	my ($c, $id) = begun($t, 'olga', 'script:sleeps');
	my $sleeping = sub { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) };
	ok wait_for(sub { $sleeping->() }, 5), 'a long tool';
	cancel($t, 'olga', $id, 1);
	ok wait_for(sub { !$sleeping->() }, 4), '... can be stopped';
	like check(url($GOOD)), qr/^ok   database: PostgreSQL \d+/m, 'check comes in as well';
};

subtest 'an address as managed databases hand out' => sub {
	push @all, my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { 'database.url' => undef },
	    env => { DATABASE_URL => url('sslmode=require&channel_binding=require') });
	is $t->chat('dan', 'add task: Milk')->{status}, 200, 'in DATABASE_URL' or diag $t->log_text;
	is $pg->one(q{SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
	    WHERE a.usename = 'parley_worker' AND NOT s.ssl}), 0, '... encrypted';
};

for (['of another authority', "sslmode=verify-full&sslrootcert=$dir/other.pem", qr/certificate verify failed/],
    ['for another name', "host=localhost&hostaddr=127.0.0.1&$GOOD", qr/does not match host name/],
    ['without a file to judge it by', "sslmode=verify-full&sslrootcert=$dir/none.pem", qr/none\.pem.* does not exist/]) {
	my ($name, $params, $why) = @$_;
	subtest "a certificate $name" => sub {
		my $url = $params =~ /host=/ ? url($params) =~ s/127\.0\.0\.1:(\d+)\/parley\?/\/parley?port=$1&/r : url($params);
		my $t = parley($url);
		my $at = time;
		error_is($t->chat('bob', 'hi'), 503, 'database_unavailable', 'no turn');
		cmp_ok time - $at, '<', 3, '... said at once';
		my ($line) = grep { ($_->{event} // '') eq 'database_refused' } $t->log;
		like $line->{reason}, $why, 'the log says why';
		like check($url), qr/^FAIL database: .*$why/m, 'and check';
	};
}

subtest 'no TLS at all' => sub {
	my $t = parley(url('sslmode=disable'));
	error_is($t->chat('bob', 'hi'), 503, 'database_unavailable', 'no turn');
	like $t->log_text, qr/no pg_hba\.conf entry.*no encryption/, 'the log says why';
};

# One that says yes to TLS and then nothing more: the handshake lasts for ever.
subtest 'a handshake that stands still' => sub {
	my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50) or die "socket: $!";
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		my @held;
		while (my $c = $mute->accept) {
			sysread $c, my $request, 8;
			syswrite $c, 'S';
			push @held, $c;
		}
		require POSIX;
		POSIX::_exit(0);
	}
	my $t = parley(url($GOOD, $mute->sockport));
	my $at = time;
	my $c = $t->begin_chat('cleo', 'hi');
	my $longest = 0;
	for (1 .. 15) {
		my $since = time;
		$t->get('/api/nothing');
		$longest = time - $since if time - $since > $longest;
		sleep 0.05;
	}
	cmp_ok $longest, '<', 1.5, sprintf 'nobody else waits for it (%.0f ms at most)', 1000 * $longest;
	error_is($c->response, 503, 'database_unavailable', 'who does');
	cmp_ok time - $at, '<', 4, sprintf '... waits no longer than he must (%.1f s)', time - $at;
	kill 'KILL', $pid;
	waitpid $pid, 0;
};

unlike join('', map { $_->log_text } @all), qr/\Q$PASSWORD\E/, 'the password is in no log';
@all = ();
done_testing;
