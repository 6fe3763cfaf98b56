# ./quickstart as a newcomer runs it: in a copy of this tree, from somewhere else,
# with spaces in the path, without a terminal.  Only where the packages are there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp ();
use JSON::XS ();
use Test::More;

use Parley::Client;
use Parley::Process;

my $root = "$FindBin::Bin/..";
plan skip_all => 'not a built source tree' unless -x "$root/config.status" && -x "$root/parley.fcgi";

my $dir = File::Temp::tempdir('parley-quick-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $copy = "$dir/a clone";
chmod 0700, $dir;
mkdir $copy or die "$copy: $!";
# Logs of other tests grow meanwhile; tar would call that an error.
system 'sh', '-c', 'tar -C "$1" -cf - --exclude=./.git --exclude=./run --exclude="./parley-[0-9]*" --exclude="*.log" . 2>/dev/null | tar -C "$2" -xf -',
    'sh', $root, $copy;
chdir '/';

# The environment of a newcomer, and another project's settings that must not be ours.
delete $ENV{$_} for grep { /^(PARLEY_|OPENAI_|OPENROUTER_|AGENT_|MAKE|MFLAGS|PG)/ } keys %ENV;
$ENV{DATABASE_URL} = 'postgresql://nobody@127.0.0.1:1/not_ours';
$ENV{BETTER_AUTH_SECRET} = 'the secret of another project, long enough';
my $port = $ENV{PARLEY_PORT} = Parley::Process::free_port();

# (exit status, what was said) of ./quickstart with these arguments
sub quickstart {
	my $args = join ' ', map { quotemeta } @_;
	my $out = qx{'$copy/quickstart' $args 2>&1 </dev/null};
	return ($? >> 8, $out);
}

END {
	local $?;
	quickstart('stop') if $copy && -d $copy;
	my $state = $copy && readlink "$copy/run";
	system 'rm', '-rf', $state if $state && $state =~ m{^/var/tmp/parley-\w+$};
}

my ($code, $out) = quickstart();
is $code, 0, 'it runs' or BAIL_OUT($out);
like $out, qr/You: +Add task: Buy groceries/, '... says the question';
like $out, qr/Tool: +add_task .*Buy groceries/, '... the tool call';
like $out, qr/Parley: +\S/, '... the answer';
like $out, qr{http://127\.0\.0\.1:$port}, '... the address';
like $out, qr/curl -s .*Authorization: Bearer/s, '... and how to use curl';

($code, $out) = quickstart('status');
is $code, 0, 'status';
my %pid = $out =~ /^(\w+) +running \(pid (\d+)\)/mg;
is_deeply [sort keys %pid], [qw(model nginx postgres workers)], '... all four run';
SKIP: {
	skip 'not root', 1 if $>;
	is_deeply [grep { (stat "/proc/$_")[4] == 0 } values %pid], [], '... none as root';
}

($code, my $token) = quickstart('token', 'al ice');
is $code, 0, 'token';
like $token, qr/\A[\w-]+\.[\w-]+\.[\w-]+\n\z/, '... alone on its line';
chomp $token;
my $r = Parley::Client->new($port, 'POST', '/api/chat', '{"message":"show my tasks"}',
    { Authorization => "Bearer $token", 'Content-Type' => 'application/json' }, 30)->response;
is $r->{status}, 200, 'a turn with it';
unlike $r->{body}, qr/groceries/, "... that sees nothing of the first user's";

my $since = time;
($code, $out) = quickstart();
is $code, 0, 'a second run';
like $out, qr/Show my tasks.*Buy groceries/s, '... remembers';
cmp_ok time - $since, '<', 30, '... is quick';
($code, $out) = quickstart('status');
is_deeply { $out =~ /^(\w+) +running \(pid (\d+)\)/mg }, \%pid, '... and has started nothing anew';

{
	local $ENV{PARLEY_PORT} = my $busy = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)->sockport;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $busy, Listen => 1, ReuseAddr => 1) or die;
	($code, $out) = quickstart();
	isnt $code, 0, 'a port that is taken';
	like $out, qr/port $busy .* taken/, '... is called so';
}

my $mode = (stat(readlink("$copy/run") // "$copy/run"))[2];
is $mode & 022, 0, 'nobody else may write the state';
my $secret = "$copy/run/data/token.secret";
is +(stat $secret)[2] & 07777, 0600, 'the secret is its user\'s alone';

($code, $out) = quickstart('stop');
is $code, 0, 'stop';
ok +(Parley::Process::wait_for { !grep { Parley::Process::lives($_) } values %pid } 10), '... and all have ended';
($code, $out) = quickstart('status');
is $code, 3, 'status says so';
($code, $out) = quickstart('nonsense');
is $code, 2, 'an unknown command is refused';

done_testing;
