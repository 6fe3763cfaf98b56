# Workers give up what they have no use for, and do their work without it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Process;
use Parley::Test;

my $log = Parley::Process::tempdir() . '/parley.log';
my $t = Parley::Test->new(workers => 1, how => 'listen', conf => { 'worker.confine' => 'yes', 'log.file' => $log },
    env => { PARLEY_MODEL_KEY => 'a key that nobody may see' });
my ($pid) = $t->pids;

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
	skip 'built with sanitizers', 2 unless $held =~ /memory/;
	like file("/proc/$pid/limits"), qr/^Max core file size\s+0\s+0\s/m, 'no core file';
	is((stat "/proc/$pid/environ")[4], 0, 'only root may look into it');
}
SKIP: {
	skip 'only root may look', 1 unless $> == 0;
	unlike file("/proc/$pid/environ"), qr/a key that nobody may see/, 'a secret is gone from its environment';
}
is((stat $log)[2] & 07, 0, 'the log is not for everybody');

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
