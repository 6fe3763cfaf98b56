# What the planner believes of a table may be long out of date: parley.live is empty in quiet times and has thousands of rows a moment
# later.  The statements that a worker says again and again look at a few rows for each turn all the same.
# Rows are counted, not seconds: those of tables and indexes as PostgreSQL counts them, those that joins throw away as auto_explain
# shows them.
use strict;
use warnings;

use FindBin;
use List::Util qw(sum0);
use Test::More;
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::SQL;

my $N = 400;

my $pg = Parley::Postgres->new(settings => {
	autovacuum => 'off',	# nothing is to be learnt meanwhile but what this test says
	session_preload_libraries => 'auto_explain', 'auto_explain.log_min_duration' => 0,
	'auto_explain.log_nested_statements' => 'on', 'auto_explain.log_analyze' => 'on', 'auto_explain.log_timing' => 'off',
});
my $db = Parley::SQL->new($pg);

# Rows and entries of indexes that are looked at meanwhile.
sub looked {
	my ($code) = @_;
	my $had = seen();
	$code->();
	return seen() - $had;
}

sub seen {
	# PostgreSQL 15 counts at once if it is asked to.
	$db->one(q{SELECT 1 FROM pg_proc WHERE proname = 'pg_stat_force_next_flush'})
	    ? $db->one('SELECT pg_stat_force_next_flush()') : sleep 2;
	open my $log, '<', $pg->log or die 'log: ' . $!;
	return sum0(map { /Rows Removed by Join Filter: (\d+)/ } <$log>) + $pg->one(q{
		SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'parley' AND relname IN ('live', 'turns'))
		     + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'parley' AND relname IN ('live', 'turns'))});
}

# Turns of long ago.
sub earlier {
	my ($n) = @_;
	$pg->do(qq{INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, started_at, deadline, ended_at)
	    SELECT 'earlier ' || n % 100, gen_random_uuid(), 1, 'done', 10, now(), now(), now() FROM generate_series(1, $n) n});
}

subtest 'entries of turns that have ended, before the first ANALYZE' => sub {
	earlier(60_000);
	$db->talk('heavy', "hello $_", 'Hi.') for 1 .. $N;
	# The first that passes by may meet them.
	$db->talk('heavy', 'and again', 'Hi.');
	cmp_ok looked(sub { $db->talk('heavy', 'once more', 'Hi.') }), '<', 20, 'are not met again by each turn of the user';
};

subtest 'planned when hardly anything was there' => sub {
	earlier(5000);
	$pg->do("VACUUM ANALYZE parley.$_") for qw(live turns);
	my @turns;
	# A statement that was said often enough keeps its plan.
	for my $more (1 .. 8) {
		push @turns, map { $db->begin("user $more $_", 'hello') } 1 .. $N / 8;
		$db->pulse(15000, @turns);
		$db->watch(map { { %$_, text => 't' } } @turns);
		$db->expired(orphans => 1);
	}

	cmp_ok looked(sub { $db->pulse(15000, @turns) }), '<', 10 * $N, 'the pulse of many turns';
	cmp_ok looked(sub { $db->watch(map { { %$_, text => 't' } } @turns) }), '<', 10 * $N, 'followers of all of them';
	$db->one('SELECT pg_sleep(1.1)');
	cmp_ok looked(sub { $db->expired(orphans => 1) }), '<', 20 * $N, 'a look for those without a worker';
	$pg->do('DELETE FROM parley.live');
	cmp_ok looked(sub { $db->expired(orphans => 1) }), '<', 20 * $N, '... when all leases are gone';
	is $pg->one('SELECT count(*) FROM parley.live'), $N, '... and all have one again';
	cmp_ok looked(sub { $db->end($_, 'done', 'Hi.') for @turns }), '<', 10 * $N, 'their ends';
};

done_testing;
