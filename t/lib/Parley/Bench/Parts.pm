package Parley::Bench::Parts;

# What the bench measures, part by part; each takes a Parley::Bench and adds its figures.

use strict;
use warnings;

use JSON::XS ();
use List::Util qw(max);
use Time::HiRes qw(sleep time);

use Parley::Bench;
use Parley::Bench::Floor;
use Parley::Tls;

# Turns per second with a model of no delay, 64 users, against what PostgreSQL alone does with the same statements.
# Taken in turns, several times: a busy moment of the machine then spoils one ratio, not the median.
sub speed {
	my ($b) = @_;
	my $floor = Parley::Bench::Floor->new($b);
	my $rounds = $b->quick ? 1 : 3;

	for my $how (qw(new same)) {
		my (@tps, @floor, @ratio, @cpu);

		for (1 .. $rounds) {
			my $best = max map { $floor->turns_per_second($_, $b->quick ? 1 : 2, $how) } $b->quick ? 32 : (16, 32, 64);
			my $t = $b->serve(0);
			$b->load($t, concurrency => 64, requests => 640, keepalive => '', conversation => $how);
			my $before = $b->cpu_us($t->pids);
			my $l = $b->load($t, concurrency => 64, seconds => $b->quick ? 1 : 4, keepalive => '', conversation => $how);

			push @cpu, ($b->cpu_us($t->pids) - $before) / ($l->{ok} || 1);
			push @tps, $l->{rps};
			push @floor, $best;
			push @ratio, 100 * $l->{rps} / $best;
		}
		$b->group('64 users, no model delay, ' . ($how eq 'new' ? 'each turn begins a conversation' : 'conversations go on'));
		$b->figure('turns', Parley::Bench::median(@tps), '/s');
		$b->figure('pgbench with the same two statements', Parley::Bench::median(@floor), '/s');
		$b->figure('part of that', Parley::Bench::median(@ratio), '%', ['at least', 55]);
		$b->figure('worker CPU per turn', Parley::Bench::median(@cpu), 'us', ['at most', 200]);
	}
}

# Many turns in flight: latency added to the model's own, memory of the workers.
sub flight {
	my ($b) = @_;
	my @runs = $b->quick ? ([100, 500, 2, ''], [100, 500, 2, 'stream'], [100, 500, 2, 'secure'])
	    : ([1000, 2000, 3, ''], [1000, 2000, 3, 'stream'], [10_000, 5000, 2, ''], [10_000, 5000, 2, 'secure']);

	for (@runs) {
		my ($want, $delay, $waves, $how) = @$_;
		if ($how eq 'secure' && Parley::Tls::missing()) {
			$b->note(Parley::Tls::missing());
			next;
		}
		_flight($b, $b->fits($want), $want, $delay, $waves, $how);
	}
}

sub _flight {
	my ($b, $n, $want, $delay, $waves, $how) = @_;
	my $t = $how eq 'secure' ? $b->serve_securely($delay) : $b->serve($delay);
	my $idle = $b->pss_kb($t->pids);
	my ($running, $kb) = (0, 0);

	# The clients come evenly over the model's time, each asks again when it has its answer.
	my $l = $b->load($t, concurrency => $n, requests => $n * $waves, ramp => $delay, keepalive => '',
	    $how ? (stream => '') : (), meanwhile => sub {
		my $now = $b->running;
		($running, $kb) = ($now, $b->pss_kb($t->pids)) if $now > $running;
	});
	my $what = sprintf '%d turns in flight%s%s, %g s model', $n, $how ? ', streaming' : '',
	    $how eq 'secure' ? ', TLS and HTTP/2 to the model' : '', $delay / 1000;
	my $at = $l->{latency_ms} // { p50 => 0, p99 => 0 };

	$b->note("$what: at most $running turns were running at a time") if $running < 0.9 * $n && !$b->quick;
	$b->group($what);
	$b->figure('added latency, p50', $at->{p50} - $delay, 'ms', $want == 1000 ? ['at most', 5] : ());
	$b->figure('added latency, p99', $at->{p99} - $delay, 'ms', $want == 1000 ? ['at most', 15] : ());
	$b->figure('first delta after the first byte of the model, p50', $l->{first_delta_ms}{p50} - _first_byte($t), 'ms',
	    $want == 1000 ? ['at most', 3] : ()) if $how && $l->{first_delta_ms};
	$b->figure('memory of all workers (PSS) per turn', $kb / ($running || 1), 'KB',
	    $how eq 'secure' && $want == 10_000 ? ['at most', 32] : ());
	$b->figure('  of it more than idle workers have', ($kb - $idle) / ($running || 1), 'KB');
}

# Milliseconds from a turn's beginning to the first byte of the model, as half of the turns in the log had it.
sub _first_byte {
	my ($t) = @_;
	return Parley::Bench::median(map { $_->{begin_ms} + $_->{first_byte_ms} } grep { ($_->{event} // '') eq 'turn' } $t->log);
}

# A turn in a conversation of 2,000 messages, beside one in an empty conversation.
sub history {
	my ($b) = @_;
	my $pg = $b->pg;
	my $n = $b->quick ? 50 : 400;
	my @id = map { sprintf '00000000-0000-4000-9000-%012d', $_ } 1 .. $n;
	my $long = '00000000-0000-4000-9000-000000009999';
	my $t = $b->serve(0);
	my %ms;

	_conversation($pg, $long, 1000);
	# In pairs, so that both see the same machine.
	for my $i (0 .. $n) {
		for my $kind (qw(empty long)) {
			my $at = time;
			my $r = $t->chat('bench-1', 'bench', $kind eq 'long' ? (conversation_id => $long) : ());
			die "history: $r->{status} $r->{body}" unless $r->{status} == 200;
			push @{$ms{$kind}}, 1000 * (time - $at) if $i > 0;
		}
	}
	for (['empty', 'a turn in a new conversation'], ['long', 'a turn in a conversation of 2,000 messages']) {
		my ($kind, $what) = @$_;
		$b->group($what);
		$b->figure('p50', Parley::Bench::percentile(0.5, @{$ms{$kind}}), 'ms');
		$b->figure('p99', Parley::Bench::percentile(0.99, @{$ms{$kind}}), 'ms');
	}
}

sub _conversation {
	my ($pg, $id, $turns) = @_;
	my $db = $pg->dbh;

	$db->do(q{INSERT INTO parley.conversations (user_id, id, title, turns, created_at, updated_at)
	    VALUES ('bench-1', ?, 'long', ?, now(), now())}, undef, $id, $turns);
	$db->do(q{INSERT INTO parley.turns (user_id, conversation_id, turn, state, messages, tokens, started_at, deadline, ended_at)
	    SELECT 'bench-1', ?, n, 'done', 2, 120, now(), now(), now() FROM generate_series(1, ?::int) n}, undef, $id, $turns);
	$db->do(q{INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, created_at)
	    SELECT 'bench-1', ?, n, 1, i, gen_random_uuid(), CASE i WHEN 0 THEN 'user' ELSE 'assistant' END,
	           repeat('What was said in turn ' || n || '. ', 8), now()
	      FROM generate_series(1, ?::int) n, generate_series(0, 1) i}, undef, $id, $turns);
}

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
