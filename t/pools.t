# Statelessness: any worker of a pool, another pool, a restarted pool, each started in its own way, continues a conversation.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Process;
use Parley::Test;

my $first = Parley::Test->new(workers => 3);
my $pg = $first->pg;
my $port = Parley::Process::free_port();
my %on = (
	'spawn-fcgi and multiwatch' => $first,
	'descriptor 0 from Perl' => Parley::Test->new(pg => $pg, model => $first->model, how => 'fd'),
	'--listen unix:' => Parley::Test->new(pg => $pg, model => $first->model, how => 'listen', workers => 2),
	'--listen tcp:' => Parley::Test->new(pg => $pg, model => $first->model, how => 'listen', workers => 2,
	    listen => "tcp:127.0.0.1:$port"),
);

my $id = $first->chat('alice', 'My name is Ada')->{json}{conversation_id};
my $turns = 1;

sub remembers {
	my ($t, $name) = @_;
	my $r = $t->chat('alice', 'What is my name?', conversation_id => $id);

	like $r->{json}{response} // $r->{body}, qr/\bAda\b/, "$name remembers";
	is $r->{json}{turn}, ++$turns, '... and goes on counting';
}

# Whoever answers: the log says which worker it was.
subtest 'any worker of a pool' => sub {
	my %seen;
	for (1 .. 40) {
		# Taken workers let the others have their chance.
		my @busy = map { $first->begin_chat("other-$_", 'hello') } 1 .. 4;
		remembers($first, 'a worker');
		$_->response for @busy;
		%seen = map { $_->{pid} => 1 } grep { $_->{event} eq 'turn' && $_->{conversation_id} eq $id } $first->log;
		last if keys %seen >= 2;
	}
	cmp_ok scalar(keys %seen), '>=', 2, 'more than one of them had the conversation';
};

for my $how (sort keys %on) {
	remembers($on{$how}, $how);
	$on{$how}->pool->restart;
	$on{$how}->ready;
	remembers($on{$how}, "$how, restarted,");
}

subtest 'each reads what the others wrote' => sub {
	my @pages = map { $_->get("/api/conversations/$id?limit=100")->{json} } values %on;
	is @{$pages[0]{messages}}, 2 * $turns, 'all messages are there';
	is_deeply $_, $pages[0], 'the same page' for @pages;
};

subtest 'each makes and answers turns of one user at once' => sub {
	my @begun = map { my $t = $_; map { $t->begin_chat('bob', "add task: item $_") } 1 .. 5 } values %on;
	my @got = map { $_->response->{json} } @begun;
	is_deeply [sort { $a <=> $b } map { $_->{tool_calls}[0]{result}{task_id} } @got], [1 .. 20], 'task numbers without gaps';
};

# As parley-pool does it, for those without systemd.
subtest 'spawn-fcgi and multiwatch by conf/spawn-fcgi/parley-pool' => sub {
	my $dir = Parley::Process::tempdir();
	my %env = (PARLEY_CONF => $first->pool->conf_file, PARLEY_AUTH_SECRET => $Parley::Test::SECRET,
	    POOL_DIR => $dir, POOL_WORKERS => 2, POOL_PROGRAM => $first->pool->{program});
	system('cp', "$FindBin::Bin/../conf/spawn-fcgi/parley-pool", $dir);
	my $pool = Parley::Process->new(cmd => ["$dir/parley-pool", 'start'], dir => $dir, log => "$dir/log", env => \%env);
	my $two = Parley::Process::wait_for { $pool->children == 2 } 20;
	ok $two, 'two workers';
	my $nginx = Parley::Nginx->new(sockets => ["$dir/parley.sock"]);
	local $first->{nginx} = $nginx;
	remembers($first, 'it');

	my $ask = sub {
		my $done = Parley::Process->new(cmd => ["$dir/parley-pool", @_], dir => $dir, log => "$dir/log", env => \%env);
		return Parley::Process::wait_for { !$done->running } 30;
	};
	my %old = map { $_ => 1 } $pool->children;
	my @begun = map { $first->begin_chat("rolling-$_", 'hello') } 1 .. 5;
	ok $ask->('restart'), 'restart';
	is_deeply [grep { $_->response->{status} !~ /^20[02]$/ } @begun], [], '... sends nobody away';
	$two = Parley::Process::wait_for { (grep { !$old{$_} } $pool->children) == 2 } 20;
	ok $two, '... replaces both';
	remembers($first, 'it');
	my @now = sort $pool->children;
	ok $ask->('reload'), 'reload';
	my $read = Parley::Process::wait_for { open my $f, '<', "$dir/log"; (grep { /configuration was read again/ } <$f>) >= 2 } 10;
	ok $read, '... reaches both';
	is_deeply [sort $pool->children], \@now, '... and they stay';
	my $stopping = Parley::Process->new(cmd => ["$dir/parley-pool", 'stop'], dir => $dir, log => "$dir/log", env => \%env);
	my $gone = Parley::Process::wait_for { !$pool->running } 30;
	ok $gone, 'stop';
	$stopping->stop;
	File::Path::remove_tree($dir);
};

# A new program is what a rolling restart is for most of the time.
subtest '--listen: SIGUSR2' => sub {
	my $t = $on{'--listen unix:'};
	my %old = map { $_ => 1 } $t->pool->pids;
	my $program = $t->pool->{program};
	my $copied = $> == 0;
	# What is installed is a new file of that name, never the old one written over.
	system("cp '$program' '$program.new' && mv '$program.new' '$program'") if $copied;
	my @begun = map { $t->begin_chat("rolling-$_", 'hello') } 1 .. 5;
	kill 'USR2', $t->pool->parent_pid;
	my $two = Parley::Process::wait_for { my @new = $t->pool->pids; @new == 2 && !grep { $old{$_} } @new } 30;
	ok $two, 'two new workers';
	is_deeply [grep { $_->response->{status} !~ /^20[02]$/ } @begun], [], 'nobody was sent away';
	SKIP: {
		skip 'the program of the build is not to be replaced', 1 unless $copied;
		is_deeply [grep { readlink("/proc/$_/exe") ne $program } $t->pool->pids], [], '... who run what lies there now';
	}
	remembers($t, 'the pool');
};

done_testing;
