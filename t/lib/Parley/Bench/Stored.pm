package Parley::Bench::Stored;

# What much that is stored costs: long histories, long lists, a large database.

use strict;
use warnings;

use JSON::XS ();
use Time::HiRes qw(time);

use Parley::Bench;
use Parley::Bench::Flight;
use Parley::Bench::Speed;

my $AT_ONCE = 6;	# conversations of each length, so that none grows much while it is measured
my $ANSWER = 'ok, this is an answer of about two hundred bytes, as long as those that the demo model gives to a bench, '
    . 'and stored as those are stored, beside the message that the model sent; it says nothing at all.';

# Conversations with whole turns, as workers leave them.  user: SQL with the conversation's number c in it.
sub store {
	my ($b, $user, $mark, $conversations, $turns) = @_;
	my $from = "FROM generate_series(1, $conversations) c";
	my $id = "md5('$mark-' || c)::uuid";
	my $raw = JSON::XS->new->canonical->encode({ role => 'assistant', content => $ANSWER });

	$b->psql_at_once(<<"CONVERSATIONS", <<"TURNS", <<"MESSAGES");
INSERT INTO parley.conversations (user_id, id, title, turns, created_at, updated_at)
SELECT $user, $id, 'Conversation ' || c, $turns, now() - interval '2 days', now() - c * interval '1 ms' - interval '1 day' $from
CONVERSATIONS
INSERT INTO parley.turns (user_id, conversation_id, turn, state, messages, tokens, started_at, deadline, ended_at)
SELECT $user, $id, n, 'done', 2, 60, now() - interval '1 day', now() - interval '1 day', now() - interval '1 day'
  $from, generate_series(1, $turns) n
TURNS
INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, raw, source, model, created_at)
SELECT $user, $id, n, 1, i.idx, gen_random_uuid(), i.role, i.content, i.raw, i.source, i.model, now() - interval '1 day'
  $from, generate_series(1, $turns) n,
       (VALUES (0, 'user', 'bench', NULL, NULL, NULL),
               (1, 'assistant', '$ANSWER', '$raw'::json, 'https://model.example/v1 demo', 'demo')) i (idx, role, content, raw, source, model)
MESSAGES
}

# A turn in conversations of 50, of 2,000 and of 100,000 messages.
sub history {
	my ($b) = @_;
	my @lengths = _lengths($b);
	my $t = $b->serve(0);
	my (%p50, %p99, %ratio);

	for (1 .. $b->rounds) {
		my $ms = _turns($b, $t, @lengths);
		for my $n (@lengths) {
			push @{$p50{$n}}, Parley::Bench::percentile(0.5, @{$ms->{$n}});
			push @{$p99{$n}}, Parley::Bench::percentile(0.99, @{$ms->{$n}});
			push @{$ratio{$n}}, $p50{$n}[-1] / $p50{$lengths[0]}[-1];
		}
	}
	for my $n (@lengths) {
		$b->group('a turn in a conversation of ' . thousands($n) . ' messages');
		$b->figure('p50', Parley::Bench::median(@{$p50{$n}}), 'ms');
		$b->figure('p99', Parley::Bench::median(@{$p99{$n}}), 'ms');
		$b->figure('p50, to that of ' . $lengths[0] . ' messages', Parley::Bench::median(@{$ratio{$n}}), 'times', ['at most', 1.1])
		    if $n != $lengths[0];
	}
}

sub _lengths {
	my ($b) = @_;
	my @lengths = $b->quick ? (50, 200, 2000) : (50, 2000, 100_000);

	unless ($b->{histories}++) {
		store($b, "'bench-history'", "history-$_", $AT_ONCE, $_ / 2) for @lengths;
		$b->settle;
	}
	return @lengths;
}

# Milliseconds of turns, one kind after another, so that all see the same machine.
sub _turns {
	my ($b, $t, @lengths) = @_;
	my $n = $b->quick ? 20 : 200;
	my %ms;

	for my $i (0 .. $n) {
		for my $length (@lengths) {
			my $id = $b->pg->one(q{SELECT md5(?)::uuid}, "history-$length-" . (1 + $i % $AT_ONCE));
			my $at = time;
			my $r = $t->chat('bench-history', 'bench', conversation_id => $id);
			die "history: $r->{status} $r->{body}" unless $r->{status} == 200;
			push @{$ms{$length}}, 1000 * (time - $at) if $i > 0;
		}
	}
	return \%ms;
}

# The newest page of a user's 10,000 conversations.
sub list {
	my ($b) = @_;
	my $n = _listed($b);
	my $t = $b->serve(0);
	my @ms = map { [_lists($b, $t)] } 1 .. $b->rounds;

	$b->group('the list of conversations, a user with ' . thousands($n));
	$b->figure('p50', Parley::Bench::median(map { Parley::Bench::percentile(0.5, @$_) } @ms), 'ms', ['at most', 5]);
	$b->figure('p99', Parley::Bench::median(map { Parley::Bench::percentile(0.99, @$_) } @ms), 'ms');
}

sub _listed {
	my ($b) = @_;
	my $n = $b->quick ? 1000 : 10_000;

	unless ($b->{lists}++) {
		store($b, "'bench-list'", 'list', $n, 1);
		$b->settle;
	}
	return $n;
}

sub _lists {
	my ($b, $t) = @_;
	my @ms;

	for my $i (0 .. ($b->quick ? 20 : 300)) {
		my $at = time;
		my $r = $t->get('/api/conversations', user => 'bench-list');
		die "list: $r->{status} $r->{body}" unless $r->{status} == 200 && @{$r->{json}{conversations}} == 20;
		push @ms, 1000 * (time - $at) if $i > 0;
	}
	return @ms;
}

# 1,000,000 conversations of 10,000 users in a second cluster, and the main figures of both, in turns, so that both see
# the same machine.
sub million {
	my ($b) = @_;
	my ($n, $users) = $b->quick ? (5000, 100) : (1_000_000, 10_000);

	return $b->note('no room for ' . thousands($n) . ' conversations') if $b->free_mb < $n * 4 / 1000;
	my $large = Parley::Bench->new(quick => $b->quick);
	store($large, "'bench-' || 1 + c % $users", 'stored', $n, 1);
	for ($b, $large) {
		_lengths($_);
		_listed($_);
	}
	my (@without, @with);
	for (1 .. $b->rounds) {
		push @without, _main($b);
		push @with, _main($large);
	}
	$b->group(thousands($n) . ' conversations stored, '
	    . sprintf('%.1f GB', $large->pg->one(q{SELECT pg_database_size('parley')}) / 2**30));
	_compare($b, $_, \@without, \@with) for 0 .. $#{$with[0]};
}

# What one figure is with all that is stored, and what that makes of it.
sub _compare {
	my ($b, $i, $without, $with) = @_;
	my ($name, undef, $unit, $aim) = @{$with->[0][$i]};
	my @change = map {
		my ($was, $now) = ($without->[$_][$i][1], $with->[$_][$i][1]);
		($unit eq '/s' ? $was - $now : $now - $was) / ($was || 1) * 100;
	} 0 .. $#$with;

	$b->figure($name, Parley::Bench::median(map { $_->[$i][1] } @$with), $unit, $aim);
	# The slowest of a hundred differ by more than that from run to run.
	$b->figure('  worse than without by', Parley::Bench::median(@change), '%', $name =~ /p99/ ? () : ['at most', 10]);
}

# One round: [name, value, unit, target].
sub _main {
	my ($b) = @_;
	my $t = $b->serve(0);
	my ($tps, $cpu) = Parley::Bench::Speed::rate($b, $t, 64, 'new');
	my $ms = _turns($b, $t, _lengths($b));
	my $list = Parley::Bench::percentile(0.5, _lists($b, $t));
	undef $t;
	my $flight = Parley::Bench::Flight::once($b, $b->quick ? (100, 500, 2) : ($b->fits(1000), 2000, 3), 'stream');

	return [
		['turns, 64 users', $tps, '/s'],
		['worker CPU per turn', $cpu, 'us', ['at most', 120]],
		(map { ['a turn in a conversation of ' . thousands($_) . ' messages, p50', Parley::Bench::percentile(0.5, @{$ms->{$_}}), 'ms'] }
		    _lengths($b)),
		['list of ' . thousands(_listed($b)) . ' conversations, p50', $list, 'ms', ['at most', 5]],
		['added latency of a stream, 1,000 in flight, p50', $flight->{p50}, 'ms', ['at most', 5]],
		['added latency of a stream, 1,000 in flight, p99', $flight->{p99}, 'ms', ['at most', 15]],
		['first delta after the first byte, p50', $flight->{delta}, 'ms', ['at most', 3]],
		['memory of all workers per turn, 1,000 in flight', $flight->{kb}, 'KB'],
	];
}

sub thousands { return scalar reverse join ',', unpack '(A3)*', reverse $_[0] }

1;
