# A worker with nothing but a socket of its own, as lighttpd's bin-path and FastCGI 1.0 (section 2.2) have it: who waits when
# it leaves, and what it says where nobody listens.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::UNIX;
use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Process;
use Parley::Test;

my $slow = Parley::Model->new(delay => 3000, scripts => {});
my $t = Parley::Test->new(how => 'fd', model => $slow, conf => { 'worker.drain_timeout' => '20 s' });
my $quick = Parley::Model->new;

sub connects {
	my $s = IO::Socket::UNIX->new(Peer => $t->pool->socket);
	return $s ? 1 : 0;
}

# Of that address: the one that listens, and the near ends of connections, accepted or not.
sub sockets {
	open my $fh, '<', '/proc/net/unix' or die "/proc/net/unix: $!";
	return scalar grep { /\Q@{[$t->pool->socket]}\E$/ } <$fh>;
}

subtest 'it leaves' => sub {
	my $stream = $t->begin_chat('ann', 'hello', stream => JSON::XS::true);
	$slow->wait_requests(1);
	my $pid = $t->pool->parent_pid;
	kill 'STOP', $pid;
	my @waiting = map { $t->begin('GET', '/api/conversations', undef, user => "user$_") } 1 .. 5;
	ok +(Parley::Process::wait_for { sockets() == 7 } 10), 'five wait in its line';
	kill 'TERM', $pid;
	kill 'CONT', $pid;
	is $_->response->{status}, 200, 'who waited is answered' for @waiting;
	ok !connects(), 'who comes later is refused at once, and can try another';
	ok kill(0, $pid), '... while the worker still has a turn';
	my ($last, $e);
	$last = $e while $e = $stream->event;
	is $last->{event}, 'done', '... and brings it to its end';
	is $t->pool->stop, 0, 'it ends well';
};

subtest 'without standard output and error' => sub {
	my $pool = $t->pool;
	$pool->write_conf('model.base_url' => $quick->url);
	my $plain = $pool->worker;
	open my $fh, '>', "$pool->{dir}/quiet" or die "quiet: $!";
	print $fh "#!/bin/sh\nexec '$plain' >&- 2>&-\n";
	close $fh;
	chmod 0755, "$pool->{dir}/quiet";
	$pool->{program} = "$pool->{dir}/quiet";
	$pool->start;
	$t->ready;
	my ($pid) = $pool->pids;
	is readlink("/proc/$pid/fd/$_"), '/dev/null', "descriptor $_ is nobody's" for 1, 2;
	is $t->chat('ann', "hello $_")->{status}, 200, 'it answers' for 1 .. 3;
	is $pool->stop, 0, 'it ends well';
};
done_testing;
