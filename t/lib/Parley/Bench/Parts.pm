package Parley::Bench::Parts;

# What the bench measures, part by part; each takes a Parley::Bench and adds its figures.
#
#	Parley::Bench::Parts::names();			# in the order of a whole run
#	Parley::Bench::Parts::named('speed')->($bench);

use strict;
use warnings;

use JSON::XS ();
use Time::HiRes qw(time);

use Parley::Bench;
use Parley::Bench::Flight;
use Parley::Bench::Speed;
use Parley::Bench::Stored;

my @PARTS = (
	speed => \&Parley::Bench::Speed::floor,
	secure => \&Parley::Bench::Speed::secure,
	flight => \&Parley::Bench::Flight::flight,
	tools => \&tools,
	users => \&users,
	history => \&Parley::Bench::Stored::history,
	list => \&Parley::Bench::Stored::list,
	million => \&Parley::Bench::Stored::million,
);
my %PART = @PARTS;

sub names { return grep { !ref } @PARTS }
sub named { return $PART{$_[0]} }

# Each task tool, through parley.tool_run as the worker calls it, for a user with 10,000 tasks.
sub tools {
	my ($b) = @_;
	my $have = 10_000;
	my $n = $b->quick ? 20 : 300;
	my $db = $b->pg->dbh('parley_worker');
	my @tools = (
		['add_task', sub { { title => "Task of the bench $_[0]", description => 'To be measured.' } }],
		['list_tasks', sub { { status => 'all' } }],
		['list_tasks', sub { { status => 'completed' } }],
		['update_task', sub { { task_id => 1 + ($_[0] * 7919) % $have, title => "Renamed $_[0]" } }],
		['complete_task', sub { { task_id => 1 + ($_[0] * 7919) % $have } }],
		['delete_task', sub { { task_id => 1 + ($_[0] * 7919) % $have } }],
	);

	$b->pg->dbh->do(q{INSERT INTO tasks.counters (user_id, last_id) VALUES ('bench-1', ?)}, undef, $have);
	$b->pg->dbh->do(q{INSERT INTO tasks.tasks (user_id, id, title, description, status, created_at, updated_at)
	    SELECT 'bench-1', n, 'Task number ' || n, repeat('Something about it. ', 5),
	           CASE WHEN n % 100 = 0 THEN 'completed' ELSE 'pending' END, now(), now()
	      FROM generate_series(1, ?::int) n}, undef, $have);
	$b->group('task tools, a user with 10,000 tasks');
	for (@tools) {
		my ($name, $args) = @$_;
		my @ms = _tool($db, $name, [map { $args->($_) } 1 .. $n]);
		my $which = $name eq 'list_tasks' ? "$name (" . $args->(0)->{status} . ')' : $name;
		$b->figure("$which, p99", Parley::Bench::percentile(0.99, @ms), 'ms', ['at most', 100]);
	}
}

# One turn with one step that makes all the calls.
sub _tool {
	my ($db, $name, $args) = @_;
	my $json = JSON::XS->new->canonical;
	my ($conversation, $turn) = $db->selectrow_array(
	    q{SELECT conversation_id, turn FROM parley.turn_begin('bench-1', NULL, gen_random_uuid(), false,
	        gen_random_uuid(), 'bench', NULL, NULL, 'queue', NULL, NULL, false, '{}', 50, 24000, 100000, 256, 128, 0, 0, 0, NULL)});
	my @key = ('bench-1', $conversation, $turn);
	my @calls = map { {
		id => sprintf('00000000-0000-4000-a000-%012d', $_), call_id => "c$_", tool_name => $name,
		parameters => $args->[$_],
	} } 0 .. $#$args;
	my @ms;

	$db->do(q{SELECT parley.turn_step(?, ?, ?, 1, 1, 1, gen_random_uuid(), '', '{}', NULL, NULL, 0, 0, ?, false, 0, 0)}, undef, @key,
	    $json->encode(\@calls));
	for my $i (0 .. $#calls) {
		my $at = time;
		my (undef, $is_error) = $db->selectrow_array(
		    'SELECT result, is_error FROM parley.tool_run(?, ?, ?, 1, 1, 1, ?, 262144)', undef, @key, $i);
		push @ms, 1000 * (time - $at);
		die "$name failed: " . $json->encode($args->[$i]) if $is_error;
	}
	$db->do(q{SELECT parley.turn_end(?, ?, ?, 1, 1, 'cancelled', NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, 0, 0, '{}', true, 100000, false)},
	    undef, @key);
	return @ms;
}

# 100 users and a model that takes 1.5 s: what a user sees.
sub users {
	my ($b) = @_;
	my $delay = $b->quick ? 200 : 1500;
	my $t = $b->serve($delay);

	$b->group(sprintf '100 users, %g s model', $delay / 1000);
	for (['plain turns', 'bench', 2], ['turns with one tool', 'bench:tool', 5]) {
		my ($what, $text, $most) = @$_;
		my $l = $b->load($t, concurrency => 100, requests => $b->quick ? 100 : 500, ramp => $delay, keepalive => '',
		    body => JSON::XS::encode_json({ message => $text }));
		$b->figure("$what, p95", ($l->{latency_ms}{p95} // 0) / 1000, 's',
		    $b->quick ? () : ['at most', $most]);
	}
}

1;
