# Workers give up what they have no use for, and do their work without it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Process;
use Parley::Test;

my $log = Parley::Process::tempdir() . '/parley.log';
my $pg = Parley::Postgres->new;
# All that could be told by the environment, and the well-known names, which do not count beside them.
my %secrets = (
	PARLEY_AUTH_SECRET => $Parley::Test::SECRET,
	PARLEY_DATABASE_URL => $pg->url('parley_worker') . '&password=hush-1',
	PARLEY_DATABASE_OWNER_URL => 'postgresql://parley:hush-2@/parley', PARLEY_DATABASE_OPS_URL => 'postgresql://ops:hush-3@/parley',
	PARLEY_MODEL_KEY => 'hush-4', PARLEY_MODEL_HEADERS => 'X-Key: hush-5', PARLEY_METRICS_TOKEN => 'hush-6',
	PARLEY_LOG_USER_KEY => 'hush-7', DATABASE_URL => 'postgresql://parley:hush-8@/parley',
	BETTER_AUTH_SECRET => 'hush-9' x 8, OPENAI_API_KEY => 'hush-10', OPENROUTER_API_KEY => 'hush-11',
);
# Whoever starts it may be careless.
my $mask = umask 0;
my $t = Parley::Test->new(pg => $pg, workers => 1, how => 'listen', conf => { 'worker.confine' => 'yes', 'log.file' => $log },
    env => \%secrets);
umask $mask;
my ($pid) = $t->pids;
my $parent = $t->pool->parent_pid;

sub file {
	open my $fh, '<', $_[0] or return;
	local $/;
	return <$fh>;
}

my ($start) = grep { /worker_start/ } split /\n/, file($log);
my ($held) = $start =~ /"confined":"([a-z ]*)"/;
like $held, qr/^privileges/, "the log says what holds: $held";

my $status = file("/proc/$pid/status");
like $status, qr/^NoNewPrivs:\s*1$/m, 'no new privileges';
SKIP: {
	skip 'built without libseccomp, or with sanitizers', 1 unless $held =~ /calls/;
	like $status, qr/^Seccomp:\s*2$/m, 'system calls are filtered';
}
SKIP: {
	skip 'built with sanitizers', 3 unless $held =~ /memory/;
	like file("/proc/$pid/limits"), qr/^Max core file size\s+0\s+0\s/m, 'no core file';
	is((stat "/proc/$_->[0]/environ")[4], 0, "only root may look into $_->[1]") for [$pid, 'it'], [$parent, 'its parent'];
}
SKIP: {
	skip 'only root may look', 1 unless $> == 0;
	my $environ = file("/proc/$pid/environ");
	like $environ, qr/^PARLEY_CONF=|\0PARLEY_CONF=/, 'its environment';
	is_deeply [grep { $environ =~ /\Q$secrets{$_}\E/ } sort keys %secrets], [], '... has no secret any more';
	unlike $environ, qr/hush-/, '... nor a part of one';
}
unlike file($log) . $t->pool->log_text, qr/hush-/, 'nor has the log';
is((stat $log)[2] & 07, 0, 'the log is not for everybody');
is((stat $t->pool->socket)[2] & 07, 0, 'nor is the socket');

# It works all the same: tools, streams, a log that was moved away, another configuration.
my $r = $t->chat('alice', 'Add task: Buy milk');
is $r->{json}{status}, 'success', 'a turn with a tool';
is(($t->stream('alice', 'hello'))[-1]{event}, 'done', 'a stream');
rename $log, "$log.1" or die $!;
$t->pool->write_conf('limits.message' => 5);
kill 'HUP', $t->pool->parent_pid;
ok Parley::Process::wait_for { (file($log) // '') =~ /"event":"conf"/ }, 'a log that was moved away is made anew';
is $t->chat('alice', '123456')->{status}, 422, '... and the configuration read again';

my $open = Parley::Test->new(pg => $t->pg, model => $t->model, workers => 1, how => 'listen', conf => { 'worker.confine' => 'no' });
($pid) = $open->pids;
like file("/proc/$pid/status"), qr/^NoNewPrivs:\s*0$/m, 'worker.confine = no: all as before';

done_testing;
