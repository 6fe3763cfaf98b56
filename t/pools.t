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

done_testing;
