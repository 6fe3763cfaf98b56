# A worker at the edges: it interrupts its own turn, the database is away, it ends while a turn is becoming its own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::SQL;
use Parley::Test;
use Parley::Turns;

my $model = Parley::Model->new(scripts => {
	long => text_reply('On ', map { (100, "and on $_ ") } 1 .. 200),
	eight => text_reply('One ', map { (1000, "and $_ ") } 2 .. 8),
});
my $t = Parley::Test->new(model => $model, workers => 1, conf => { 'worker.drain_timeout' => '100ms' });
my $pg = $t->pg;

subtest 'a turn is told at once that it is interrupted by one on its own worker' => sub {
	my @late;
	for my $n (1 .. 4) {
		my ($c, $id) = begun($t, 'ann', 'script:long');
		wait_for { speaks($pg, $id) };
		my $r = $t->chat('ann', 'My name is Ann', conversation_id => $id, on_busy => 'interrupt');
		is $r->{json}{status}, 'success', 'what interrupts is answered';
		is $c->response->{json}{status}, 'cancelled', '... the other cancelled';
		push @late, $pg->one('SELECT extract(epoch FROM ended_at - cancel_requested_at) FROM parley.turns
		    WHERE conversation_id = ? AND turn = 1', $id);
	}
	is_deeply [grep { $_ > 0.4 } @late], [], 'the pulse was not waited for' or diag "@late";
};

subtest 'the log while the database is away and somebody follows' => sub {
	my ($c, $id) = begun($t, 'bob', 'script:eight', stream => JSON::XS::true);
	my $f = follow($t, 'bob', $id, 1);
	wait_for { speaks($pg, $id) };
	my $before = length $t->log_text;
	$pg->stop('immediate');
	sleep 4;
	my $log = substr $t->log_text, $before;
	for my $event (qw(pulse_missed work_missed database_refused)) {
		my $n = () = $log =~ /$event/g;
		cmp_ok $n, '<=', 2, "$event is said now and then";
	}
	$pg->start;
	is said(events($f)), said(events($c)), 'who followed has heard all of it';
};

subtest 'a worker that ends while a turn is becoming its own' => sub {
	my $db = Parley::SQL->new($pg);
	$pg->psql(q{CREATE OR REPLACE FUNCTION parley.turn_time(p_at timestamptz, p_zone text) RETURNS text LANGUAGE plpgsql
		AS $$ BEGIN PERFORM pg_sleep(1.5); RETURN 'today'; END $$});
	my $turn = $db->begin('cat', 'script:long');
	$db->pulse(15000, $turn);
	expire($pg, $turn->{conversation_id});
	my ($pid) = $t->pids;
	ok wait_for { $pg->one(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%turn_take%' AND state = 'active'
	    AND pid <> pg_backend_pid()}) }, 'it is taking it';
	kill 'TERM', $pid;
	ok wait_for { !kill 0, $pid }, 'it has ended';
	is_deeply $pg->rows(q{SELECT t.fence, l.lease_until = '-infinity' AS released FROM parley.turns t
	    JOIN parley.live l USING (user_id, conversation_id, turn, fence) WHERE user_id = 'cat'}),
	    [{ fence => 3, released => 1 }], '... and has given it away';
};

done_testing;
